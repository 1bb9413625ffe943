"""Common parts of the built-in backends that drive a scheduler through its commands."""

import asyncio
import secrets
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, Generic, TypeVar

from hpcq.domain.errors import InvalidSpec, OutputParseError
from hpcq.domain.jobs import NativeId
from hpcq.execution.protocol import DEFAULT_OUTPUT_LIMIT_BYTES, Command, Completed, Runner
from hpcq.schedulers.base import Listing, SchedulerOptions
from hpcq.schedulers.command_errors import ErrorTable
from hpcq.schedulers.site_options import OptionRules, SiteOptions

__all__ = [
    "COMMAND_ENVIRONMENT",
    "FIELDS",
    "CommandLine",
    "CommandLineBackend",
    "ParseCache",
    "batches",
    "check_environment",
    "join_listings",
    "new_delimiter",
]

COMMAND_ENVIRONMENT = {"TZ": "UTC", "LC_ALL": "C.UTF-8"}
"""Variables of commands that make every site's print times and text alike; no job may see them."""

FIELDS = frozenset({"queue", "account", "priority", "wall_time_limit_seconds", "environment"})
FIELDS |= {"memory_limit_bytes", "stdout_path", "stderr_path", "hold", "depends_on"}
FIELDS |= {"mail_to", "mail_on", "options", "script"}
"""The optional fields of a submission that all these schedulers can express."""

_T = TypeVar("_T")
_Word = TypeVar("_Word", bound=str)


class CommandLine:
    """Runner of one scheduler's commands, with its environment, limits and errors.

    Times are asked for in UTC (``TZ=UTC``), so that no parser has to know the cluster's zone, and
    text in UTF-8, whatever the service's own locale is.
    """

    def __init__(self, options: SchedulerOptions, runner: Runner, errors: ErrorTable) -> None:
        self._runner = runner
        self._errors = errors
        self._options = options
        self._search_path = options.command_path
        self._timeout_seconds = options.command_timeout_seconds
        self._listing_limit_bytes = options.listing_limit_bytes

    def locate(self, program: str) -> str:
        """Return the path of the program that a name stands for; the name where there is none."""
        return shutil.which(program, path=self._search_path) or program

    async def run(
        self,
        argv: Collection[str],
        *,
        extra_environment: Mapping[str, str] | None = None,
        whole_environment: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        mark: str = "",
        run_as: str | None = None,
        cwd: str = "/",
        listing: bool = False,
    ) -> Completed:
        """Run a command and return what came of it, whatever its exit status.

        Args:
            argv: program and arguments.
            extra_environment: put over the scheduler's own.
            whole_environment: in place of the scheduler's own.
            stdin: what the command reads.
            mark: by which it is found when this service has died, see `Command`.
            run_as: the account in whose name it runs; None for the service's own.
            cwd: where it runs.
            listing: whether it may print as much as a whole queue does.

        Raises:
            CommandTimedOut, OutputParseError, SchedulerUnavailable: see `Runner.run`.
        """
        own = whole_environment
        if own is None:
            own = {**self._options.environment_of(run_as), **COMMAND_ENVIRONMENT}
        command = Command(
            argv=tuple(argv),
            env={**own, **(extra_environment or {})},
            search_path=self._search_path,
            cwd=cwd,
            stdin=stdin,
            mark=mark,
            run_as=run_as,
            timeout_seconds=self._timeout_seconds,
            output_limit_bytes=(
                self._listing_limit_bytes if listing else DEFAULT_OUTPUT_LIMIT_BYTES
            ),
        )
        return await self._runner.run(command)

    async def check_output(
        self,
        argv: Collection[str],
        *,
        native_id: NativeId | None = None,
        extra_environment: Mapping[str, str] | None = None,
        listing: bool = False,
    ) -> bytes:
        """Run a command that must succeed and return its standard output.

        Args:
            argv: program and arguments.
            native_id: the job that it is about.
            extra_environment: put over the scheduler's own.
            listing: whether it may print as much as a whole queue does.

        Raises:
            HpcqError: it exited with anything but 0, see `ErrorTable.check`.
        """
        done = await self.run(argv, extra_environment=extra_environment, listing=listing)
        self._errors.check(done, native_id)
        return done.stdout


class CommandLineBackend:
    """Base of the built-in backends of command-line schedulers; a plugin needs none.

    Attributes:
        errors: what the scheduler's commands say when they refuse.
        option_rules: the options of the submission command.
        version_command: the command that prints the version on its first line.
    """

    errors: ClassVar[ErrorTable]
    option_rules: ClassVar[OptionRules]
    version_command: ClassVar[Sequence[str]] = ("qstat", "--version")

    def __init__(self, options: SchedulerOptions, runner: Runner) -> None:
        self._cli = CommandLine(options, runner, self.errors)
        self._site_options = SiteOptions(options.submit_options, self.option_rules)
        self._listing = asyncio.Lock()

    async def start(self, wake: Callable[[], None]) -> None:
        """Do nothing: these schedulers do not tell when their queue changes."""

    async def stop(self) -> None:
        """Do nothing: nothing is held open."""

    async def version(self) -> str:
        """Run the version command and return its first line: ``slurm-wlm 22.05.8``.

        Old releases print it on standard error.
        """
        done = await self._cli.run(self.version_command)
        self.errors.check(done)
        first, _, _ = (done.stdout or done.stderr).decode("utf-8", "replace").partition("\n")
        if not first.strip():
            raise OutputParseError(" ".join(self.version_command), "it printed nothing", b"")
        return first.strip()


class ParseCache(Generic[_T]):
    """Memory of a listing's records: one whose bytes did not change is not parsed again.

    With many thousands of jobs nearly every record is the same from one poll to the next. Its
    parsed form is then the very same object.
    """

    def __init__(self, parse: Callable[[bytes], _T]) -> None:
        self._parse = parse
        self._known: dict[bytes, _T] = {}

    def read(self, records: Iterable[bytes], *, remember: bool = True) -> list[_T]:
        """Return the parsed form of each distinct record, in order.

        Args:
            records: those of one listing; an exception of their parser passes through.
            remember: whether it is the listing that comes again and again. The records of the
                one before, which are not in it, are then forgotten.
        """
        known = self._known
        current: dict[bytes, _T] = {}
        for record in records:
            found = known.get(record)
            current[record] = self._parse(record) if found is None else found
        if remember:
            self._known = current
        return list(current.values())


def batches(words: Iterable[_Word], size: int) -> Iterator[Sequence[_Word]]:
    """Yield ids or ranges, each once and in order, as many at a time as one command takes.

    >>> list(batches(["7", "8", "7", "9"], 2))
    [['7', '8'], ['9']]
    """
    unique = list(dict.fromkeys(words))
    for start in range(0, len(unique), size):
        yield unique[start : start + size]


def new_delimiter() -> str:
    """Return a delimiter of fields for the output of one command, with 64 random bits."""
    return f"\x1f{secrets.token_hex(8)}\x1f"


def join_listings(listings: Sequence[Listing]) -> Listing:
    """Return one listing with the records of several."""
    return Listing(
        observations=[seen for listing in listings for seen in listing.observations],
        unreadable=[bad for listing in listings for bad in listing.unreadable],
        partial_reason=next(
            (listing.partial_reason for listing in listings if listing.partial_reason), None
        ),
    )


def check_environment(environment: Mapping[str, str]) -> None:
    """Return if a process can have these variables.

    Raises:
        InvalidSpec: it cannot.
    """
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name + value:
            raise InvalidSpec(
                f"{name!r} cannot be the name of an environment variable, or its value holds a"
                " NUL character.",
                field="environment",
            )
