"""Commands run on this machine: own process group, limits on time and output, no shell.

Each runs in a thread of its own: there the standard library starts a process with ``vfork``, four
times as fast as an event loop does from a process of this size (``bench/spawn.py``).
"""

import asyncio
import contextlib
import os
import select
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from hpcq.domain.errors import (
    AccountUnavailable,
    CommandMissing,
    CommandTimedOut,
    InvalidSpec,
    OutputParseError,
)
from hpcq.execution.account_process import AccountProcess, error_of
from hpcq.execution.as_account import Answer
from hpcq.execution.descriptors import with_own_limit
from hpcq.execution.protocol import Command, Completed

__all__ = ["LocalRunner"]

_MOST_AT_ONCE = 64
# An account can stop the commands that run in its name: some threads are left to others.
_MOST_OF_ONE_ACCOUNT = 8
_CHUNK_BYTES = 1 << 18
# A command that has exited may leave a child that holds its output open (OpenPBS's qsub does);
# what it printed itself is in the pipe by then.
_LOOK_FOR_EXIT_SECONDS = 0.05
_REAP_SECONDS = 1.0


class LocalRunner:
    """Runner of commands as children of this process, each in a session of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_MOST_AT_ONCE, thread_name_prefix="command")
        self._places: dict[str, asyncio.Semaphore] = {}
        self._running: dict[int, Callable[[], None]] = {}
        self._closed = False
        self._lock = threading.Lock()

    async def run(self, command: Command) -> Completed:
        """See `Runner.run`. A command goes on to its end or limit when the caller is cancelled."""
        loop = asyncio.get_running_loop()
        account = command.run_as
        if account is None:
            return await loop.run_in_executor(self._threads, self._run_here, command)
        deadline = time.monotonic() + command.timeout_seconds
        places = self._places.setdefault(account, asyncio.Semaphore(_MOST_OF_ONE_ACCOUNT))
        try:
            async with asyncio.timeout(command.timeout_seconds):
                await places.acquire()
        except TimeoutError:
            raise AccountUnavailable(
                f"{command.argv[0]} was not run: {_MOST_OF_ONE_ACCOUNT} commands of the account "
                f"{account!r} take long."
            ) from None
        work = loop.run_in_executor(self._threads, self._run_as, account, command, deadline)
        work.add_done_callback(lambda _: places.release())
        return await asyncio.shield(work)

    def close(self) -> None:
        """Kill what still runs, and let the threads go."""
        with self._lock:
            self._closed = True
            for kill in self._running.values():
                kill()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _run_here(self, command: Command) -> Completed:
        deadline = time.monotonic() + command.timeout_seconds
        process = _start(command)
        output = _Output(process, command)
        try:
            with self._counted(process.pid, lambda: _kill_group(process.pid)):
                output.collect(deadline, lambda: process.poll() is not None)
                exit_code = _wait(process, deadline)
        except (TimeoutError, subprocess.TimeoutExpired):
            raise CommandTimedOut(
                command.argv, command.timeout_seconds, bytes(output.stdout), bytes(output.stderr)
            ) from None
        finally:
            _clean_up(process, kill=process.returncode is None or output.left_open)
        return Completed(
            argv=command.argv,
            exit_code=exit_code,
            stdout=bytes(output.stdout),
            stderr=bytes(output.stderr),
        )

    def _run_as(self, account: str, command: Command, deadline: float) -> Completed:
        """Run a command in the name of an account, through `hpcq.execution.as_account`.

        Its time limit counts from when it was asked for: others may hand a job over again after it.
        """
        if time.monotonic() >= deadline:
            raise AccountUnavailable(f"{command.argv[0]} was not run: too many commands run.")
        program = _locate(command)
        process = AccountProcess(account, stdout=subprocess.PIPE)
        output = _Output(process.process, command)
        outcome = _Outcome(process)
        is_over = False
        try:
            with self._counted(process.process.pid, process.kill):
                process.deadline = deadline
                # One that has ended takes no request: its last words say why.
                with contextlib.suppress(ConnectionError):
                    process.run(command, program)
                output.collect(deadline, outcome.has_come)
                exit_code = outcome.read(command, bytes(output.stderr))
            is_over = not output.left_open
        except TimeoutError:
            raise CommandTimedOut(
                command.argv, command.timeout_seconds, bytes(output.stdout), bytes(output.stderr)
            ) from None
        finally:
            if is_over:
                process.leave()
            else:
                process.kill()
            process.close()
        return Completed(
            argv=command.argv,
            exit_code=exit_code,
            stdout=bytes(output.stdout),
            stderr=bytes(output.stderr),
        )

    @contextlib.contextmanager
    def _counted(self, pid: int, kill: Callable[[], None]) -> Iterator[None]:
        with self._lock:
            self._running[pid] = kill
            if self._closed:
                # It was being started when the others were killed.
                kill()
        try:
            yield
        finally:
            with self._lock:
                del self._running[pid]


class _Output:
    """The output of a process so far.

    Attributes:
        left_open: whether the process ended while another of its group still held its output.
    """

    def __init__(self, process: subprocess.Popen[bytes], command: Command) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.left_open = False
        self._process = process
        self._command = command

    def collect(self, deadline: float, has_ended: Callable[[], bool]) -> None:
        """Read until both streams end, or the process has and nothing more comes.

        Args:
            deadline: of the command, by the monotonic clock.
            has_ended: returns whether the command has ended.

        Raises:
            TimeoutError: the deadline came first.
            OutputParseError: it printed more than it may.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ, self.stdout)  # type: ignore[arg-type]
            selector.register(self._process.stderr, selectors.EVENT_READ, self.stderr)  # type: ignore[arg-type]
            while selector.get_map():
                if time.monotonic() >= deadline:
                    raise TimeoutError
                ready = selector.select(_LOOK_FOR_EXIT_SECONDS)
                if not ready and has_ended():
                    # It may have printed between that look and its exit.
                    ready = selector.select(0)
                    if not ready:
                        self.left_open = True
                        return
                for key, _ in ready:
                    if not self._take(key.fd, key.data):
                        selector.unregister(key.fileobj)

    def _take(self, descriptor: int, into: bytearray) -> bool:
        chunk = os.read(descriptor, _CHUNK_BYTES)
        limit = self._command.output_limit_bytes
        into += chunk
        if len(into) > limit:
            raise OutputParseError(
                self._command.argv[0], f"it printed more than {limit} bytes", bytes(into)
            )
        return bool(chunk)


class _Outcome:
    """The outcome of a command that runs in the name of an account."""

    def __init__(self, process: AccountProcess) -> None:
        self._process = process
        self._is_started = False
        self._letter = self._value = b""
        self._is_over = False

    def has_come(self) -> bool:
        """Return whether the command has ended, or can have no more to say.

        Raises:
            TimeoutError: an answer has begun, and has not ended by the deadline.
        """
        while not self._is_over and select.select([self._process.line], [], [], 0)[0]:
            self._take()
        return self._is_over

    def read(self, command: Command, stderr: bytes) -> int:
        """Return the exit code.

        Raises:
            TimeoutError: it has not ended in time.
            AccountUnavailable: the account could not be used, or not for the program.
            InvalidSpec: the account cannot enter the command's folder.
            OutputParseError: its end is not known.
        """
        while not self._is_over:
            self._take()
        if not self._is_started:
            raise AccountUnavailable(self._process.why_not(stderr))
        if self._letter == Answer.NO_ENTRY:
            raise InvalidSpec(
                f"The directory {command.cwd!r} cannot be entered by the account "
                f"{command.run_as!r}: {error_of(self._value).strerror}.",
                field="workingDirectory",
            )
        if self._letter == Answer.ERROR:
            raise AccountUnavailable(
                f"{command.argv[0]} could not be run by the account {command.run_as!r}: "
                f"{error_of(self._value).strerror}."
            )
        with contextlib.suppress(ValueError):
            if self._letter == Answer.EXIT_CODE:
                return int(self._value)
        reason = "the process that ran it was killed"
        raise OutputParseError(command.argv[0], reason, stderr)

    def _take(self) -> None:
        self._letter, self._value = self._process.answer() or (b"", b"")
        if self._letter == Answer.STARTED and not self._is_started:
            self._is_started = True
        else:
            self._is_over = True


def _locate(command: Command) -> str:
    """Return the path of a command's program."""
    search_path = command.search_path or command.env.get("PATH")
    program = shutil.which(command.argv[0], path=search_path)
    if program is None:
        found = shutil.which(command.argv[0], mode=os.F_OK, path=search_path)
        if found is not None:
            error = CommandMissing(f"This account may not run {found}.")
            error.forbidden = found
            raise error
        raise CommandMissing(
            f"The command {command.argv[0]!r} was not found in {search_path!r}. "
            "Is the scheduler's client installed on this machine?"
        )
    return program


def _start(command: Command) -> subprocess.Popen[bytes]:
    program = _locate(command)
    try:
        with _input_file(command.stdin, command.mark) as stdin:
            return subprocess.Popen(
                with_own_limit([program, *command.argv[1:]]),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=command.cwd,
                env=command.env,
                # A child has it open although a shell gives it another standard input, and has
                # it for standard input although another program closes all other files.
                pass_fds=(stdin,) if command.mark else (),
                start_new_session=True,
            )
    except OSError as error:
        raise CommandMissing(f"{program} could not be run: {error.strerror}.") from error


@contextlib.contextmanager
def _input_file(content: bytes, mark: str) -> Iterator[int]:
    """Yield a descriptor to read the content from, which ``/dev/stdin`` can be opened on.

    A pipe would have to be fed while the output is read, and a socket cannot be opened.
    """
    if not content and not mark:
        yield subprocess.DEVNULL
        return
    descriptor = os.memfd_create(mark or "stdin", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _wait(process: subprocess.Popen[bytes], deadline: float) -> int:
    """Return the exit code as soon as there is one; Popen's own wait looks for it now and then.

    Raises:
        TimeoutExpired: the deadline came first.
    """
    with contextlib.suppress(OSError):  # a kernel before 5.3, or no descriptor left
        descriptor = os.pidfd_open(process.pid)
        try:
            remaining = max(0.0, deadline - time.monotonic())
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.poll(remaining * 1000)
        finally:
            os.close(descriptor)
    return process.wait(max(0.0, deadline - time.monotonic()))


def _clean_up(process: subprocess.Popen[bytes], *, kill: bool) -> None:
    if kill:
        _kill_group(process.pid)
        # One that hangs in a dead file server cannot be ended; nobody waits for it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_REAP_SECONDS)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
