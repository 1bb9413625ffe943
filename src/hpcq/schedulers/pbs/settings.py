"""Settings of PBS: those of this service, and PBS's own in ``pbs.conf``."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from hpcq.settings import PATH, AbsolutePath, Section, setting

__all__ = ["PbsSettings", "command_path", "read_conf"]

_RESOURCES = (
    r"^[A-Za-z][A-Za-z0-9_.]*=(?:[A-Za-z0-9_.:=+-]|\{memory(?:_per_slot)?\})*"
    r"\{slots\}(?:[A-Za-z0-9_.:=+-]|\{(?:slots|memory(?:_per_slot)?)\})*$"
)
_DEFAULT_CONF = "/etc/pbs.conf"
_CONF_LINE = re.compile(r"^[ \t]*(PBS_[A-Z0-9_]+)=[\"']?([^\s\"']+)", re.MULTILINE)


class PbsSettings(Section):
    """Settings of PBS: its requests for slots, its configuration file and its server."""

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


def read_conf(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the values in ``pbs.conf``; none where there is no such file.

    Args:
        environment: ``PBS_CONF_FILE`` says where it is.
    """
    path = Path(environment.get("PBS_CONF_FILE") or _DEFAULT_CONF)
    try:
        return dict(_CONF_LINE.findall(path.read_text(encoding="utf-8", errors="replace")))
    except OSError:
        return {}


def command_path(search_path: str, environment: Mapping[str, str]) -> str:
    """Return the folders in which commands are looked for, the one of PBS itself first.

    Its packages put its commands into a folder of their own, ``/opt/pbs/bin``, which only login
    shells know. Another scheduler's ``qstat`` may stand in the usual folders.

    Args:
        search_path: the usual folders, as in ``PATH``.
        environment: ``PBS_CONF_FILE`` says where PBS is configured.
    """
    installed = read_conf(environment).get("PBS_EXEC")
    return search_path if installed is None else f"{installed}/bin:{search_path}"
