"""Commands run on this machine: own process group, limits on time and output, no shell."""

import asyncio
import contextlib
import os
import shutil
import signal
from typing import cast

from hpcq.domain.errors import CommandTimedOut, OutputParseError, SchedulerUnavailable
from hpcq.execution.protocol import Command, Completed

__all__ = ["LocalRunner"]

_STDIN, _STDOUT, _STDERR = 0, 1, 2

# A command that has exited may leave a child that holds its output open (OpenPBS's qsub does);
# what it printed itself is in the pipe by then.
_DRAIN_SECONDS = 0.25


class LocalRunner:
    """Runs commands as children of this process, each in a session of its own."""

    async def run(self, command: Command) -> Completed:
        """See `Runner.run`."""
        transport, collector = await _spawn(command)
        try:
            async with asyncio.timeout(command.timeout_seconds):
                await collector.finished
        except TimeoutError:
            raise CommandTimedOut(
                command.argv,
                command.timeout_seconds,
                bytes(collector.output[_STDOUT]),
                bytes(collector.output[_STDERR]),
            ) from None
        finally:
            if not collector.ended_cleanly:
                _kill_group(transport.get_pid())
            transport.close()
        if collector.over_limit:
            raise OutputParseError(
                command.argv[0],
                f"it printed more than {command.output_limit_bytes} bytes",
                bytes(collector.output[_STDOUT] or collector.output[_STDERR]),
            )
        return Completed(
            argv=command.argv,
            exit_code=cast(int, transport.get_returncode()),
            stdout=bytes(collector.output[_STDOUT]),
            stderr=bytes(collector.output[_STDERR]),
        )


class _Collector(asyncio.SubprocessProtocol):
    """Gathers what a process prints until it has ended or printed too much."""

    def __init__(self, stdin: bytes, limit: int) -> None:
        self.output = {_STDOUT: bytearray(), _STDERR: bytearray()}
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.over_limit = False
        self.ended_cleanly = False
        self._stdin = stdin
        self._limit = limit

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        process = cast(asyncio.SubprocessTransport, transport)
        stdin = cast(asyncio.WriteTransport, process.get_pipe_transport(_STDIN))
        if self._stdin:
            stdin.write(self._stdin)
        stdin.close()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        output = self.output[fd]
        output += data[: self._limit - len(output)]
        if len(output) >= self._limit:
            self.over_limit = True
            self._finish()

    def process_exited(self) -> None:
        asyncio.get_running_loop().call_later(_DRAIN_SECONDS, self._finish)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended_cleanly = not self.finished.done()
        self._finish()

    def _finish(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)


async def _spawn(command: Command) -> tuple[asyncio.SubprocessTransport, _Collector]:
    program = shutil.which(command.argv[0], path=command.env.get("PATH"))
    if program is None:
        raise SchedulerUnavailable(
            f"The command {command.argv[0]!r} was not found in PATH={command.env.get('PATH')!r}. "
            "Is the scheduler's client installed on this machine?"
        )
    try:
        return await asyncio.get_running_loop().subprocess_exec(
            lambda: _Collector(command.stdin, command.output_limit_bytes),
            program,
            *command.argv[1:],
            cwd=command.cwd,
            env=command.env,
            start_new_session=True,
        )
    except OSError as error:
        raise SchedulerUnavailable(f"{program} could not be run: {error.strerror}.") from error


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
