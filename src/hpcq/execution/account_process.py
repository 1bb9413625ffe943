"""The service's side of `hpcq.execution.as_account`: processes that act in the name of an account.

A service that runs as root starts the program itself; any other through ``sudo``.
"""

import contextlib
import marshal
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpcq.domain.errors import AccountUnavailable, SchedulerError, excerpt
from hpcq.execution import as_account
from hpcq.execution.as_account import DONE, Answer, frame, receive
from hpcq.execution.descriptors import close_all, with_own_limit
from hpcq.execution.protocol import Command

__all__ = [
    "MOST_ANSWER_BYTES",
    "PROGRAM",
    "AccountProcess",
    "end_orphans_of",
    "error_of",
    "missing_means",
]

PROGRAM = Path(sysconfig.get_path("scripts")) / "hpcq-as"
"""The program as ``sudo`` starts it; it stands in sudo's rule."""

MOST_ANSWER_BYTES = 1 << 20
"""The length of the longest answer, where nothing else is said."""

_SUDO_PATH = "/usr/local/bin:/usr/bin:/bin"
_MOST_MESSAGE_BYTES = 1 << 16
_MOST_DESCRIPTORS = 2
_PATIENCE_SECONDS = 30.0
_REAP_SECONDS = 1.0
_LEAST_SECONDS = 0.001


def missing_means() -> str | None:
    """Return what this service lacks to act in the name of accounts; None if nothing."""
    if os.geteuid() == 0:
        return None
    if shutil.which("sudo", path=_SUDO_PATH) is None:
        return "It does not run as root, and this machine has no sudo."
    if not PROGRAM.exists():
        return f"Its program {PROGRAM} is missing."
    return None


def _command(account: str) -> list[str]:
    if os.geteuid() == 0:
        program = [sys.executable, "-I", "-S", "-X", "utf8", str(as_account.__file__), account]
    else:
        sudo = shutil.which("sudo", path=_SUDO_PATH) or "sudo"
        program = [sudo, "-n", "-u", account, "--", str(PROGRAM)]
    return with_own_limit(program)


def error_of(number: bytes) -> OSError:
    """Return the error that an answer tells."""
    # No number of an error is longer; what comes may be anything.
    code = int(number) if number.isdigit() and len(number) < 5 else 0
    return OSError(code, os.strerror(code))


class AccountProcess:
    """A process of the program, and the line to it; it ends with the line.

    Args:
        account: in whose name it acts.
        stdout: where standard output goes, as `subprocess.Popen` takes it.

    Attributes:
        line: the service's end.
        process: the program, or sudo before it.
        deadline: the end of the patience with it, by the monotonic clock; None for no end.

    Raises:
        AccountUnavailable: it cannot be started.
    """

    def __init__(self, account: str, stdout: int = subprocess.DEVNULL) -> None:
        self.account = account
        self.deadline: float | None = None
        self.line, theirs = socket.socketpair()
        try:
            self.process = subprocess.Popen(
                _command(account),
                stdin=theirs.fileno(),
                stdout=stdout,
                stderr=subprocess.PIPE,
                cwd="/",
                env={"PATH": os.defpath},
                start_new_session=True,
            )
        except OSError as error:
            self.line.close()
            raise AccountUnavailable(
                f"{error.filename} could not be run: {error.strerror}."
            ) from error
        finally:
            theirs.close()

    def run(self, command: Command, program: str) -> None:
        """Have it run a command.

        Args:
            command: the command.
            program: the path of its program.

        Raises:
            OSError: it has ended, or does not take the request in time.
        """
        # marshal takes text alone, and none of what is made of it: ids, keys.
        argv = [program, *map(str, command.argv[1:])]
        env = {str(name): str(value) for name, value in command.env.items()}
        self.ask({"run": (argv, env, str(command.cwd), str(command.mark))})
        self.line.sendall(frame(command.stdin))

    def ask(self, request: Any) -> None:
        """Send a request, or a question. Raises OSError as `run` does."""
        self._limit()
        self.line.sendall(frame(marshal.dumps(request)))

    def answer(
        self,
        most_bytes: int = MOST_ANSWER_BYTES,
        read: Callable[[int], bytes] | None = None,
    ) -> tuple[bytes, bytes] | None:
        """Return the letter and the value of its next answer; None when it has ended.

        The account has power over the process: what comes may be anything.

        Args:
            most_bytes: how long the answer may be.
            read: reads from the line, in place of a plain read.

        Raises:
            TimeoutError: not all of it has come within the time limit of the line.
        """
        with contextlib.suppress(ConnectionError, ValueError):
            content = receive(read or self._read, most_bytes)
            return None if content is None else (content[:1], content[1:])
        return None

    def _read(self, most_bytes: int) -> bytes:
        self._limit()
        return self.line.recv(most_bytes)

    def answer_with_descriptors(
        self, most_bytes: int
    ) -> tuple[tuple[bytes, bytes] | None, list[int]]:
        """Return what `answer` does, and the descriptors that came with it; the caller's to close.

        Raises:
            TimeoutError: as `answer` does.
        """
        received: list[int] = []

        def read(most_bytes: int) -> bytes:
            self._limit()
            data, descriptors, _, _ = socket.recv_fds(
                self.line, most_bytes, _MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
            received.extend(descriptors)
            if len(received) > _MOST_DESCRIPTORS:
                raise ValueError("too many descriptors")
            return data

        try:
            return self.answer(most_bytes, read), received
        except BaseException:
            close_all(received)
            raise

    def _limit(self) -> None:
        left = None if self.deadline is None else self.deadline - time.monotonic()
        self.line.settimeout(left if left is None else max(left, _LEAST_SECONDS))

    def leave(self) -> None:
        """Let it end without a look at what the command left behind."""
        with contextlib.suppress(OSError):
            self.line.send(DONE)

    def why_not(self, stderr: bytes = b"") -> str:
        """Return why it does not act in the name of the account, after it has ended so."""
        if not stderr and self.process.stderr is not None:
            with contextlib.suppress(OSError):
                os.set_blocking(self.process.stderr.fileno(), False)
                stderr = self.process.stderr.read(_MOST_MESSAGE_BYTES) or b""
        reason = excerpt(stderr) or "there is no answer"
        return f"The service cannot act in the name of the account {self.account!r}: {reason}."

    def kill(self) -> None:
        """End it, and what it runs; without waiting. Another thread may be reading the line."""
        with contextlib.suppress(OSError):
            # What it has said until now is still to be read.
            self.line.shutdown(socket.SHUT_WR)
        # Only root may: a process behind sudo sees the end of the line.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End it and wait for that, but not for long."""
        self.line.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_REAP_SECONDS)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def end_orphans_of(account: str, mark: str) -> None:
    """Kill every process of an account that carries a mark, see `hpcq.execution.orphans`.

    Raises:
        SchedulerError: one does not end.
        AccountUnavailable: the account cannot be asked.
    """
    process = AccountProcess(account)
    try:
        process.deadline = time.monotonic() + _PATIENCE_SECONDS
        letter, value = b"", b""
        with contextlib.suppress(ConnectionError, TimeoutError):
            process.ask({"end": str(mark)})
            letter, value = process.answer() or (b"", b"")
        if letter == Answer.FAILED:
            raise SchedulerError(excerpt(value) or "A process of the account does not end.")
        if letter != Answer.NUMBER:
            raise AccountUnavailable(process.why_not())
    finally:
        process.kill()
        process.close()
