"""What command-line schedulers share: how commands are run, and what a job is submitted with."""

import asyncio
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from hpcq.domain.errors import CommandFailed, InvalidSpec
from hpcq.domain.jobs import JobSpec
from hpcq.execution.protocol import DEFAULT_OUTPUT_LIMIT_BYTES, Command, Completed, Runner
from hpcq.schedulers.base import SchedulerOptions

__all__ = ["CommandLine", "check_output_folders", "read_script"]


class CommandLine:
    """Runs one scheduler's commands with its environment and limits.

    Times are asked for in UTC (``TZ=UTC``), so that no parser has to know the cluster's zone.
    """

    def __init__(self, options: SchedulerOptions, runner: Runner) -> None:
        self._runner = runner
        self._environment = {**options.environment, "TZ": "UTC"}
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
        stdin: bytes = b"",
        cwd: str = "/",
        listing: bool = False,
    ) -> Completed:
        """Run a command and return what came of it, whatever its exit status.

        Args:
            argv: program and arguments.
            extra_environment: put over the scheduler's own.
            stdin: what the command reads.
            cwd: where it runs.
            listing: whether it may print as much as a whole queue does.

        Raises:
            CommandTimedOut, OutputParseError, SchedulerUnavailable: see `Runner.run`.
        """
        command = Command(
            argv=tuple(argv),
            env={**self._environment, **(extra_environment or {})},
            search_path=self._search_path,
            cwd=cwd,
            stdin=stdin,
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


def check_output_folders(spec: JobSpec) -> None:
    """Refuse outputs in missing folders of the working directory. Not async: it looks at files.

    For schedulers that accept them, and then leave the output where nobody looks or never start
    the job. Paths elsewhere may exist on the execution hosts only.

    Raises:
        InvalidSpec: there is no such folder.
    """
    for path, wire in ((spec.stdout_path, "stdoutPath"), (spec.stderr_path, "stderrPath")):
        if path is None or path.startswith("/"):
            continue
        folder = os.path.dirname(os.path.join(spec.working_directory, path))
        if not os.path.isdir(folder):
            raise InvalidSpec(f"There is no folder {folder!r} for the {wire}.", field=wire)


async def read_script(path: str) -> bytes:
    """Return the script that is submitted.

    Raises:
        InvalidSpec: it cannot be read.
    """
    try:
        return await asyncio.to_thread(Path(path).read_bytes)
    except OSError as error:
        raise InvalidSpec(
            f"The script file {path!r} cannot be read: {error.strerror}.", field="scriptFile"
        ) from error
