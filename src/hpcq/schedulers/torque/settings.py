"""Settings of Torque."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from hpcq.schedulers.torque.resources import check_template
from hpcq.settings import PATH, AbsolutePath, Section, setting

__all__ = ["TorqueSettings"]


class TorqueSettings(Section):
    """Requests for slots, and the place of its server."""

    torque_resources: Annotated[str, AfterValidator(check_template)] = setting(
        "nodes={nodes}:ppn={ppn}",
        "TORQUE: how slots are asked for (`qsub -l`). `{slots}` is their number, `{nodes}` on how "
        "many hosts they are by TORQUE_SLOTS_PER_NODE, `{ppn}` how many on each. `nodes={slots}` "
        "asks for as many hosts, `procs={slots}` for slots anywhere.",
        allowed="a resource list with {slots}, {nodes} or {ppn} in it",
        example="procs={slots}",
    )
    torque_slots_per_node: Annotated[int, Field(ge=1, le=10**6)] | None = setting(
        None,
        "TORQUE: how many slots one host has. Unset: the slots of a job are always on one host.",
        allowed="a whole number from 1 to 1000000",
        example="24",
        shown="",
    )
    torque_home: AbsolutePath = setting(
        Path("/var/spool/torque"),
        "TORQUE: the folder of the server (`PBS_HOME`), whose accounting logs are read where that "
        "is allowed.",
        allowed=PATH,
        example="/opt/torque/spool",
    )
    pbs_default: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:,-]*$")] | None = setting(
        None,
        "TORQUE: the host of the server, when the client's `server_name` does not say so.",
        allowed="a host name",
        example="head.cluster.example",
        shown="",
        exported=True,
    )
