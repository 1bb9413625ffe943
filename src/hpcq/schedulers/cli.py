"""What command-line schedulers share: how commands are run, and what a job is submitted with."""

import os
import shutil
import stat
from collections.abc import Collection, Mapping

from hpcq.domain.errors import CommandFailed, InvalidSpec
from hpcq.execution.protocol import DEFAULT_OUTPUT_LIMIT_BYTES, Command, Completed, Runner
from hpcq.schedulers.base import SchedulerOptions

__all__ = ["CommandLine", "read_script"]


class CommandLine:
    """Runs one scheduler's commands with its environment and limits.

    Times are asked for in UTC (``TZ=UTC``), so that no parser has to know the cluster's zone, and
    text in UTF-8, whatever the service's own locale is.
    """

    def __init__(self, options: SchedulerOptions, runner: Runner) -> None:
        self._runner = runner
        self._environment = {**options.environment, "TZ": "UTC", "LC_ALL": "C.UTF-8"}
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
            cwd: where it runs.
            listing: whether it may print as much as a whole queue does.

        Raises:
            CommandTimedOut, OutputParseError, SchedulerUnavailable: see `Runner.run`.
        """
        own = self._environment if whole_environment is None else whole_environment
        command = Command(
            argv=tuple(argv),
            env={**own, **(extra_environment or {})},
            search_path=self._search_path,
            cwd=cwd,
            stdin=stdin,
            mark=mark,
            timeout_seconds=self._timeout_seconds,
            output_limit_bytes=(
                self._listing_limit_bytes if listing else DEFAULT_OUTPUT_LIMIT_BYTES
            ),
        )
        return await self._runner.run(command)

    async def check(
        self, argv: Collection[str], *, stdin: bytes = b"", listing: bool = False
    ) -> bytes:
        """Run a command that must succeed and return its standard output.

        Raises:
            CommandFailed: it exited with anything but 0.
        """
        done = await self.run(argv, stdin=stdin, listing=listing)
        if done.exit_code != 0:
            raise CommandFailed(done.argv, done.exit_code, done.stderr, done.stdout)
        return done.stdout


def read_script(path: str, most_bytes: int = 64 << 20) -> bytes:
    """Return the content of a job's script, as it is now. Not for the event loop: it reads a file.

    Args:
        path: the script file.
        most_bytes: the size of the largest script that the scheduler takes.

    Raises:
        InvalidSpec: it is no readable file of such a size.
    """
    try:
        # A FIFO would otherwise wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InvalidSpec(f"The script {path!r} is not a file.", field="scriptFile")
            script = file.read(most_bytes + 1)
    except OSError as error:
        raise InvalidSpec(
            f"The script {path!r} cannot be read: {error.strerror}.", field="scriptFile"
        ) from None
    if len(script) > most_bytes:
        raise InvalidSpec(
            f"The script {path!r} is larger than the {most_bytes} bytes that the scheduler takes.",
            field="scriptFile",
        )
    return script
