"""What every command-line scheduler shares: one way to run its commands."""

from collections.abc import Collection, Mapping

from hpcq.domain.errors import CommandFailed
from hpcq.execution.protocol import DEFAULT_OUTPUT_LIMIT_BYTES, Command, Completed, Runner
from hpcq.schedulers.base import SchedulerOptions

__all__ = ["CommandLine"]


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
