"""Settings of the programs that ``GET /programs`` lists."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, model_validator

from hpcq.settings import (
    PATH,
    PATH_OR_NOTHING,
    SECONDS,
    AbsolutePath,
    Seconds,
    Section,
    setting,
)

__all__ = ["ProgramPathRule", "ProgramSettings"]


class ProgramPathRule(StrEnum):
    """The layout of the programs that ``GET /programs`` lists."""

    TUBER = "TUBER"
    PEMAWS = "PEMAWS"
    MODULES = "MODULES"


def _rule(value: object) -> object:
    if not isinstance(value, str) or isinstance(value, ProgramPathRule):
        return value
    if "/" in value:
        path = Path(os.path.expanduser(value.strip()))
        if not path.is_absolute():
            raise ValueError("the path of a catalogue file has to be absolute")
        return path
    try:
        return ProgramPathRule(value.strip().upper())
    except ValueError:
        raise ValueError("there is no such rule") from None


class ProgramSettings(Section):
    """The layout of the programs, and their folders."""

    program_path_rule: Annotated[ProgramPathRule | Path, BeforeValidator(_rule)] = setting(
        ProgramPathRule.TUBER,
        "The layout of the site's programs, or the path of a catalogue file: see "
        "[Programs](../programs.md).",
        allowed="TUBER, PEMAWS, MODULES, or the absolute path of a catalogue file",
        example="PEMAWS",
    )
    tuber_newave_root: AbsolutePath | None = setting(
        Path("/home/pem/versoes/NEWAVE"),
        "TUBER: the folder that holds one folder for each version of NEWAVE.",
        allowed=PATH_OR_NOTHING,
        example="/opt/newave",
    )
    tuber_decomp_root: AbsolutePath | None = setting(
        Path("/home/pem/versoes/DECOMP"),
        "TUBER: the folder that holds one folder for each version of DECOMP.",
        allowed=PATH_OR_NOTHING,
        example="/opt/decomp",
    )
    tuber_newave_script: AbsolutePath = setting(
        Path("/home/pem/rotinas/tuber/jobs/mpi_newave.job"),
        "TUBER: the job script that runs NEWAVE.",
        allowed=PATH,
        example="/opt/tuber/mpi_newave.job",
    )
    tuber_decomp_script: AbsolutePath = setting(
        Path("/home/pem/rotinas/tuber/jobs/mpi_decomp.job"),
        "TUBER: the job script that runs DECOMP.",
        allowed=PATH,
        example="/opt/tuber/mpi_decomp.job",
    )
    tuber_dessem_root: AbsolutePath | None = setting(
        Path("/home/SW/dessem"),
        "TUBER: the folder that holds one file `dessem_VERSION` for each version of DESSEM.",
        allowed=PATH_OR_NOTHING,
        example="/opt/dessem",
    )
    tuber_dessem_script: AbsolutePath = setting(
        Path("/home/ESTUDO/PEM/git/tuber/jobs/dessem.sh"),
        "TUBER: the job script that runs DESSEM.",
        allowed=PATH,
        example="/opt/tuber/dessem.sh",
    )
    pemaws_newave_root: AbsolutePath | None = setting(
        Path("/home/pem/versoes/NEWAVE"),
        "PEMAWS: the folder that holds one folder for each version of NEWAVE.",
        allowed=PATH_OR_NOTHING,
        example="/opt/newave",
    )
    pemaws_decomp_root: AbsolutePath | None = setting(
        Path("/home/pem/versoes/DECOMP"),
        "PEMAWS: the folder that holds one folder for each version of DECOMP.",
        allowed=PATH_OR_NOTHING,
        example="/opt/decomp",
    )
    pemaws_dessem_root: AbsolutePath | None = setting(
        Path("/home/SW/dessem"),
        "PEMAWS: the folder that holds one file `dessem_VERSION` for each version of DESSEM.",
        allowed=PATH_OR_NOTHING,
        example="/opt/dessem",
    )
    pemaws_dessem_script: AbsolutePath = setting(
        Path("/home/ESTUDO/PEM/git/tuber/jobs/dessem.sh"),
        "PEMAWS: the job script that runs DESSEM.",
        allowed=PATH,
        example="/opt/jobs/dessem.sh",
    )
    modules_cmd: AbsolutePath | None = setting(
        None,
        "MODULES: `modulecmd.tcl` of Environment Modules, which exports this variable itself.",
        allowed=PATH,
        example="/usr/lib/x86_64-linux-gnu/modulecmd.tcl",
        shown="",
    )
    lmod_cmd: AbsolutePath | None = setting(
        None,
        "MODULES: `lmod` of Lmod, which exports this variable itself. Wins over MODULES_CMD.",
        allowed=PATH,
        example="/usr/share/lmod/lmod/libexec/lmod",
        shown="",
    )
    modulepath: str | None = setting(
        None,
        "MODULES: the folders of modules; both systems export this variable.",
        allowed="folders, separated by colons",
        example="/opt/modulefiles:/usr/share/modules/modulefiles",
        shown="",
    )
    modules_script: AbsolutePath | None = setting(
        None,
        "MODULES: the job script that runs a module's program; its first argument is the module's "
        "full name (`gromacs/2024.1`).",
        allowed=PATH,
        example="/opt/jobs/module.job",
        shown="",
    )
    programs_timeout_seconds: Seconds = setting(
        5.0,
        "The time that a request waits for the folders of programs. Later parts are left out, "
        "or come from the last scan.",
        allowed=SECONDS,
        example="20",
    )

    @model_validator(mode="after")
    def _check_modules(self) -> Self:
        if self.program_path_rule is ProgramPathRule.MODULES:
            needed = {
                "MODULES_CMD or LMOD_CMD": self.modules_cmd or self.lmod_cmd,
                "MODULEPATH": self.modulepath,
                "MODULES_SCRIPT": self.modules_script,
            }
            missing = [name for name, value in needed.items() if value is None]
            if missing:
                raise ValueError(f"PROGRAM_PATH_RULE=MODULES needs {', '.join(missing)} too")
        return self
