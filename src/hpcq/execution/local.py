"""Commands run on this machine: own process group, limits on time and output, no shell."""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from typing import cast

from hpcq.domain.errors import CommandTimedOut, OutputParseError, SchedulerUnavailable
from hpcq.execution.protocol import Command, Completed

__all__ = ["LocalRunner"]

_STDOUT, _STDERR = 1, 2

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

    def __init__(self, limit: int) -> None:
        self.output = {_STDOUT: bytearray(), _STDERR: bytearray()}
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.over_limit = False
        self.ended_cleanly = False
        self._limit = limit

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
    search_path = command.search_path or command.env.get("PATH")
    program = shutil.which(command.argv[0], path=search_path)
    if program is None:
        raise SchedulerUnavailable(
            f"The command {command.argv[0]!r} was not found in {search_path!r}. "
            "Is the scheduler's client installed on this machine?"
        )
    try:
        with _input_file(command.stdin) as stdin:
            return await asyncio.get_running_loop().subprocess_exec(
                lambda: _Collector(command.output_limit_bytes),
                program,
                *command.argv[1:],
                stdin=stdin,
                cwd=command.cwd,
                env=command.env,
                start_new_session=True,
            )
    except OSError as error:
        raise SchedulerUnavailable(f"{program} could not be run: {error.strerror}.") from error


@contextlib.contextmanager
def _input_file(content: bytes) -> Iterator[int]:
    """Yield a descriptor to read the content from, which ``/dev/stdin`` can be opened on.

    An event loop's own stdin is a socket, on which it cannot.
    """
    if not content:
        yield asyncio.subprocess.DEVNULL
        return
    descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
