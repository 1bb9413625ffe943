"""Sources of programs, by the rule that the settings name: folders, a catalogue, or modules."""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog

from hpcq.domain.errors import CommandTimedOut, SchedulerError, excerpt
from hpcq.execution.protocol import Command, Runner
from hpcq.programs import layouts
from hpcq.programs.catalogue import CatalogueEntry, CatalogueError, load_catalogue
from hpcq.programs.layouts import DECOMP, NEWAVE, PatternLayout, RootLayout
from hpcq.programs.modules import Signature, find_modules, signature_of
from hpcq.programs.pool import RescanInterval
from hpcq.programs.scanner import Scan, Scanner
from hpcq.programs.settings import ProgramPathRule, ProgramSettings

__all__ = ["CatalogueFile", "ModuleReader", "Source", "in_thread", "program_sources"]

_log = structlog.get_logger("hpcq.programs")

_T = TypeVar("_T")
_IN_FORCE = "The catalogue stays as it was before."
# A file system may date changes no finer than this: a younger file may change unnoticed.
_COARSEST_TIME_NS = 3 * 10**9
_MOST_BYTES = 1 << 24
# A source ends by itself before a request gives up on it, so that it tells what did not answer.
_OWN_PART = 0.8
# Lists of thousands of modules take module systems many seconds on a slow file server. Requests do
# not wait for so long: they get what was listed last.
_MODULES_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Source:
    """A place where programs are found.

    Attributes:
        name: for messages: ``NEWAVE``.
        read: looks at it, as cheaply as it can when nothing has changed.
    """

    name: str
    read: Callable[[], Awaitable[Scan]]


def program_sources(
    settings: ProgramSettings, runner: Runner
) -> "Sequence[Source] | CatalogueFile":
    """Return the sources in the order of the answer, or the catalogue file that names them.

    Raises:
        CatalogueError: the catalogue file cannot be used.
    """
    seconds = _OWN_PART * settings.programs_timeout_seconds
    rule = settings.program_path_rule
    if isinstance(rule, Path):
        return CatalogueFile(rule, seconds)
    command = settings.lmod_cmd or settings.modules_cmd
    if rule is ProgramPathRule.MODULES and command:
        return [Source("MODULES", _modules(settings, command, runner).read)]
    if rule is ProgramPathRule.PEMAWS:
        programs = [
            ("NEWAVE", settings.pemaws_newave_root, layouts.pemaws(NEWAVE)),
            ("DECOMP", settings.pemaws_decomp_root, layouts.pemaws(DECOMP)),
            ("DESSEM", settings.pemaws_dessem_root, layouts.dessem(settings.pemaws_dessem_script)),
        ]
    else:
        newave, decomp = settings.tuber_newave_script, settings.tuber_decomp_script
        programs = [
            ("NEWAVE", settings.tuber_newave_root, layouts.tuber(NEWAVE, newave)),
            ("DECOMP", settings.tuber_decomp_root, layouts.tuber(DECOMP, decomp)),
            ("DESSEM", settings.tuber_dessem_root, layouts.dessem(settings.tuber_dessem_script)),
        ]
    return [
        Source(name, in_thread(Scanner(name, RootLayout(root, look), seconds).scan))
        for name, root, look in programs
        if root is not None
    ]


def _modules(settings: ProgramSettings, command: Path, runner: Runner) -> "ModuleReader":
    path = settings.modulepath or ""
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "MODULEPATH": path}
    folders = [folder for folder in path.split(":") if folder]
    script = settings.modules_script or Path()
    return ModuleReader(runner, command, folders, environment, script, _MODULES_SECONDS)


class CatalogueFile:
    """A site's catalogue file with its programs as sources; read again when it changes.

    A file that cannot be used changes nothing: it is a problem until it can be.

    Args:
        path: of the file.
        seconds: the time limit of a scan for the versions of one program.

    Attributes:
        source: reads the file; it holds no programs itself.

    Raises:
        CatalogueError: it cannot be used.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self.source = Source(str(path), in_thread(self._read))
        self._path = path
        self._seconds = seconds
        self._seen = self._signature()
        self._scan = Scan(installations=())
        self._known = [(entry, self._source(entry)) for entry in load_catalogue(path)]

    def sources(self) -> Sequence[Source]:
        """Return the programs of the file; one that has not changed is the same object."""
        return [source for _, source in self._known]

    def _read(self) -> Scan:
        """Look whether the file has changed; return what keeps it from being in force."""
        signature = self._signature()
        if signature is None or signature != self._seen:
            self._seen = signature
            self._scan = self._take_over()
        return self._scan

    def _take_over(self) -> Scan:
        try:
            entries = load_catalogue(self._path)
        except CatalogueError as error:
            return Scan(installations=(), problems=(*error.problems, _IN_FORCE))
        known = self._known
        if [entry for entry, _ in known] != entries:
            self._known = [
                next((one for one in known if one[0] == entry), (entry, self._source(entry)))
                for entry in entries
            ]
            _log.info("programs.catalogue_changed", file=str(self._path), programs=len(entries))
        return Scan(installations=())

    def _signature(self) -> tuple[int, ...] | None:
        """Return something that differs when the file does; None when that cannot be said yet."""
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        times = status.st_mtime_ns, status.st_ctime_ns
        if time.time_ns() - max(times) < _COARSEST_TIME_NS:
            return None
        return status.st_dev, status.st_ino, status.st_size, *times

    def _source(self, entry: CatalogueEntry) -> Source:
        layout = PatternLayout(entry.name, entry.pattern, entry.make)
        return Source(entry.name, in_thread(Scanner(entry.name, layout, self._seconds).scan))


class ModuleReader:
    """Environment modules; they are listed again only when one has come, gone or changed.

    Args:
        runner: runs the command.
        command: ``modulecmd.tcl`` of Environment Modules or ``lmod`` of Lmod, with its path.
        folders: those of ``MODULEPATH``.
        environment: the whole environment of the command, ``MODULEPATH`` among it.
        script: the job script, which gets the module's full name.
        seconds: the time limit of one run; callers need not wait for it.
    """

    def __init__(
        self,
        runner: Runner,
        command: Path,
        folders: Sequence[str],
        environment: Mapping[str, str],
        script: Path,
        seconds: float,
    ) -> None:
        self._runner = runner
        self._command = str(command)
        self._look = in_thread(lambda: signature_of(folders))
        self._environment = environment
        self._script = script
        self._seconds = seconds
        self._interval = RescanInterval()
        self._known: tuple[Signature, Scan] | None = None

    async def read(self) -> Scan:
        """Return the modules that there are.

        Raises:
            SchedulerError: the command failed, or did not end in time.
        """
        if self._known is None or self._interval.is_over():
            began = time.monotonic()
            signature = await self._look()
            self._interval.restart(len(signature), began)
            if self._known is None or self._known[0] != signature:
                self._known = signature, await self._listed()
        return self._known[1]

    async def _listed(self) -> Scan:
        listed = await self._printed("-t", "avail")
        defaults = await self._printed("-t", "-d", "avail")
        return find_modules(listed, defaults, self._script)

    async def _printed(self, *arguments: str) -> bytes:
        """Return what it prints on standard error, where both print lists; never for a shell."""
        argv = (self._command, "python", *arguments)
        try:
            done = await self._runner.run(
                Command(
                    argv=argv,
                    env=self._environment,
                    timeout_seconds=self._seconds,
                    output_limit_bytes=_MOST_BYTES,
                )
            )
        except CommandTimedOut:
            raise SchedulerError(f"{self._command} was ended after {self._seconds:g} s.") from None
        if done.exit_code != 0:
            said = excerpt(done.stderr) or "nothing"
            raise SchedulerError(f"{self._command} exited with {done.exit_code} and said: {said}")
        return done.stderr


def in_thread(read: Callable[[], _T]) -> Callable[[], Awaitable[_T]]:
    """Return what runs ``read`` in a thread that the process does not wait for when it ends.

    The event loop's own threads are joined at the end, and there are few of them: those that
    hang in a file server would hold up the service's stop and everybody else's work.
    """

    def begin() -> Awaitable[_T]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()

        def settle(answer: list[_T], error: Exception | None) -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(answer[0])

        def work() -> None:
            answer: list[_T] = []
            error = None
            try:
                answer.append(read())
            except Exception as problem:
                error = problem
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(settle, answer, error)

        threading.Thread(target=work, name="hpcq-programs", daemon=True).start()
        return future

    return begin
