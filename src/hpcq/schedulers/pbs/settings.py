"""Settings of PBS."""

from typing import Annotated

from pydantic import Field

from hpcq.settings import PATH, AbsolutePath, Section, setting

__all__ = ["PbsSettings"]

_RESOURCES = (
    r"^[A-Za-z][A-Za-z0-9_.]*=(?:[A-Za-z0-9_.:=+-]|\{memory(?:_per_slot)?\})*"
    r"\{slots\}(?:[A-Za-z0-9_.:=+-]|\{(?:slots|memory(?:_per_slot)?)\})*$"
)


class PbsSettings(Section):
    """Requests for slots, and the place of its server."""

    pbs_resources: Annotated[str, Field(pattern=_RESOURCES)] = setting(
        "select=1:ncpus={slots}{memory}",
        "PBS: the request of a job (`qsub -l`). `{slots}` is its number of slots; `{memory}` "
        "is `:mem=…kb` if it has a memory limit, else nothing; `{memory_per_slot}` the same "
        "divided by the slots.",
        allowed="a resource and its value, with {slots} in it",
        example="select={slots}:ncpus=1{memory_per_slot}",
    )
    pbs_conf_file: AbsolutePath | None = setting(
        None,
        "PBS: the configuration file, if it is not `/etc/pbs.conf`.",
        allowed=PATH,
        example="/opt/pbs/etc/pbs.conf",
        shown="",
        exported=True,
    )
    pbs_server: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,253}$")] | None = setting(
        None,
        "PBS: the server's host, if it is not the one in the configuration file.",
        allowed="a host name",
        example="pbs.cluster.example",
        shown="",
        exported=True,
    )
