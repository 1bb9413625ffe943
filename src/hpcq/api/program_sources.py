"""Where programs are found, by the rule that the settings name."""

from pathlib import Path

from hpcq.config import ProgramPathRule, Settings
from hpcq.execution.protocol import Runner
from hpcq.programs import DECOMP, NEWAVE, VersionReader, dessem, pemaws, tuber
from hpcq.programs.layout import Look
from hpcq.services.catalogue_file import CatalogueFile
from hpcq.services.modules import ModuleReader
from hpcq.services.programs import Source, in_thread

__all__ = ["program_sources"]

# A source ends by itself before a request gives up on it, so that it tells what did not answer.
_OWN_PART = 0.8
# Lists of thousands of modules take module systems many seconds on a slow file server. Requests do
# not wait for so long: they get what was listed last.
_MODULES_SECONDS = 60.0


def catalogue_file(settings: Settings) -> CatalogueFile | None:
    """Return the catalogue file, which knows the places to look at, when there is one.

    Raises:
        CatalogueError: it cannot be used.
    """
    path = settings.program_path_rule
    if not isinstance(path, Path):
        return None
    return CatalogueFile(path, _OWN_PART * settings.programs_timeout_seconds)


def program_sources(settings: Settings, runner: Runner) -> list[Source]:
    """Return the places to look at, in the order of the answer."""
    seconds = _OWN_PART * settings.programs_timeout_seconds
    if isinstance(settings.program_path_rule, Path):
        return []
    command = settings.lmod_cmd or settings.modules_cmd
    if settings.program_path_rule is ProgramPathRule.MODULES and command:
        return [Source("MODULES", _modules(settings, command, runner).read)]

    programs: list[tuple[str, Path | None, Look]]
    if settings.program_path_rule is ProgramPathRule.PEMAWS:
        programs = [
            ("NEWAVE", settings.pemaws_newave_root, pemaws(NEWAVE)),
            ("DECOMP", settings.pemaws_decomp_root, pemaws(DECOMP)),
            ("DESSEM", settings.pemaws_dessem_root, dessem(settings.pemaws_dessem_script)),
        ]
    else:
        newave, decomp = settings.tuber_newave_script, settings.tuber_decomp_script
        programs = [
            ("NEWAVE", settings.tuber_newave_root, tuber(NEWAVE, newave)),
            ("DECOMP", settings.tuber_decomp_root, tuber(DECOMP, decomp)),
            ("DESSEM", settings.tuber_dessem_root, dessem(settings.tuber_dessem_script)),
        ]
    return [
        Source(name, in_thread(VersionReader(name, root, look, seconds).read))
        for name, root, look in programs
        if root is not None
    ]


def _modules(settings: Settings, command: Path, runner: Runner) -> ModuleReader:
    path = settings.modulepath or ""
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "MODULEPATH": path}
    folders = [folder for folder in path.split(":") if folder]
    script = settings.modules_script or Path()
    return ModuleReader(runner, command, folders, environment, script, _MODULES_SECONDS)
