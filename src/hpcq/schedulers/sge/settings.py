"""Settings of Grid Engine."""

from typing import Annotated

from pydantic import Field

from hpcq.settings import PATH, PORT, AbsolutePath, Port, Section, setting

__all__ = ["SgeSettings"]

ComplexName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")]
_COMPLEX_NAME = "a name of letters, digits and . _ -"


class SgeSettings(Section):
    """The parallel environment of Grid Engine and the place of its installation."""

    sge_parallel_environment: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.*?-]*$")] = (
        setting(
            "orte",
            "SGE: the parallel environment for slots (`qconf -spl` lists them).",
            allowed="a name of letters, digits and . _ - * ?",
            example="mpi",
        )
    )
    sge_exclusive_complex: ComplexName | None = setting(
        None,
        "SGE: the complex by which a job gets its hosts for itself (`qconf -sc`; its `relop` is "
        "`EXCL`). Unset: `exclusive` is answered with 501.",
        allowed=_COMPLEX_NAME,
        example="exclusive",
        shown="",
    )
    sge_gpu_complex: ComplexName | None = setting(
        None,
        "SGE: the complex that counts GPUs for the whole job (`qconf -sc`; its `consumable` is "
        "`JOB`; one that is `YES` would count them for each slot). Unset: `gpus` is answered with "
        "501.",
        allowed=_COMPLEX_NAME,
        example="gpu",
        shown="",
    )
    sge_root: AbsolutePath | None = setting(
        None,
        "SGE: its installation folder.",
        allowed=PATH,
        example="/opt/sge",
        shown="",
        exported=True,
    )
    sge_cell: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] | None = setting(
        None,
        "SGE: the cell's name.",
        allowed="a name of letters, digits and . _ -",
        example="default",
        shown="",
        exported=True,
    )
    sge_cluster_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] | None = setting(
        None,
        "SGE: the cluster's name.",
        allowed="a name of letters, digits and . _ -",
        example="p6444",
        shown="",
        exported=True,
    )
    sge_qmaster_port: Port | None = setting(
        None,
        "SGE: the port of sge_qmaster.",
        allowed=PORT,
        example="6444",
        shown="",
        exported=True,
    )
    sge_execd_port: Port | None = setting(
        None,
        "SGE: the port of sge_execd.",
        allowed=PORT,
        example="6445",
        shown="",
        exported=True,
    )
