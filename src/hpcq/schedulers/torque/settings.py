"""Settings of Torque."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from hpcq.settings import PATH, AbsolutePath, Section, setting

__all__ = ["TorqueSettings", "check_template"]

_PLACEHOLDERS = frozenset({"slots", "nodes", "ppn"})
_TEMPLATE = re.compile(r"[A-Za-z0-9_=:+,.{}#-]+")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def check_template(template: str) -> str:
    """Return the template of a request for slots if it can be used.

    Raises:
        ValueError: it says in words why not.
    """
    names = set(_PLACEHOLDER.findall(template))
    rest = _PLACEHOLDER.sub("", template)
    if names - _PLACEHOLDERS or "{" in rest or "}" in rest:
        raise ValueError("it may hold {slots}, {nodes} and {ppn}, and no other braces")
    if not names:
        raise ValueError("it holds none of {slots}, {nodes} and {ppn}: every job would be alike")
    if _TEMPLATE.fullmatch(template) is None or template.startswith("-"):
        raise ValueError("it is not a resource list such as nodes={nodes}:ppn={ppn}")
    return template


class TorqueSettings(Section):
    """Requests for slots, and the place of its server."""

    torque_resources: Annotated[str, AfterValidator(check_template)] = setting(
        "nodes={nodes}:ppn={ppn}",
        "TORQUE: the request for slots (`qsub -l`). `{slots}` is their number, `{nodes}` the "
        "number of hosts by TORQUE_SLOTS_PER_NODE, `{ppn}` the slots on each host. "
        "`nodes={slots}` asks for as many hosts, `procs={slots}` for slots anywhere.",
        allowed="a resource list with {slots}, {nodes} or {ppn} in it",
        example="procs={slots}",
    )
    torque_slots_per_node: Annotated[int, Field(ge=1, le=10**6)] | None = setting(
        None,
        "TORQUE: the number of slots of one host. Unset: the slots of a job are always on one "
        "host.",
        allowed="a whole number from 1 to 1000000",
        example="24",
        shown="",
    )
    torque_home: AbsolutePath = setting(
        Path("/var/spool/torque"),
        "TORQUE: the folder of the server (`PBS_HOME`). The service reads its accounting logs "
        "if it may.",
        allowed=PATH,
        example="/opt/torque/spool",
    )
    pbs_default: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:,-]*$")] | None = setting(
        None,
        "TORQUE: the host of the server, if the client's `server_name` does not name it.",
        allowed="a host name",
        example="head.cluster.example",
        shown="",
        exported=True,
    )
