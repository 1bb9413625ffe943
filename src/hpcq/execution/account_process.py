"""The service's side of `hpcq.execution.as_account`: processes that act in the name of an account.

A service that runs as root starts the program itself; any other through ``sudo``.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hpcq.domain.errors import AccountUnavailable, SchedulerError, excerpt
from hpcq.execution import as_account
from hpcq.execution.descriptors import with_own_limit
from hpcq.execution.protocol import Command

__all__ = ["PROGRAM", "AccountFiles", "AccountProcess", "end_orphans_of", "missing_means"]

PROGRAM = Path(sysconfig.get_path("scripts")) / "hpcq-as"
"""The program as ``sudo`` starts it; it stands in sudo's rule."""

_SUDO_PATH = "/usr/local/bin:/usr/bin:/bin"
_MOST_ANSWER_BYTES = 1 << 20
_MOST_MESSAGE_BYTES = 1 << 16
_PATIENCE_SECONDS = 30.0
_REAP_SECONDS = 1.0


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


class AccountProcess:
    """A process of the program, and the line to it; it ends with the line.

    Args:
        account: in whose name it acts.
        stdout: where standard output goes, as `subprocess.Popen` takes it.

    Attributes:
        line: the service's end.
        process: the program, or sudo before it.

    Raises:
        AccountUnavailable: it cannot be started.
    """

    def __init__(self, account: str, stdout: int = subprocess.DEVNULL) -> None:
        self.account = account
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
        request = {
            "argv": [program, *command.argv[1:]],
            "env": dict(command.env),
            "cwd": command.cwd,
            "mark": command.mark,
        }
        as_account.send(self.line, {"run": request})
        as_account.send(self.line, command.stdin)

    def answer(self) -> dict[str, Any] | None:
        """Return its next answer; None when it has ended.

        Raises:
            TimeoutError: none has come in time.
        """
        # The account has power over the process: what comes may be anything.
        with contextlib.suppress(ConnectionError, ValueError):
            content = as_account.receive(self.line, _MOST_ANSWER_BYTES)
            answer = None if content is None else json.loads(content)
            if isinstance(answer, dict):
                return answer
        return None

    def leave(self) -> None:
        """Let it end without a look at what the command left behind."""
        with contextlib.suppress(OSError):
            self.line.send(as_account.DONE)

    def why_not(self, stderr: bytes = b"") -> str:
        """Return why it does not act in the name of the account, after it has ended so."""
        if not stderr and self.process.stderr is not None:
            with contextlib.suppress(OSError):
                os.set_blocking(self.process.stderr.fileno(), False)
                stderr = self.process.stderr.read(_MOST_MESSAGE_BYTES) or b""
        reason = excerpt(stderr) or "it ended without a word"
        return f"The service cannot act in the name of the account {self.account!r}: {reason}"

    def kill(self) -> None:
        """End it, and what it runs; without waiting. Another thread may be reading the line."""
        with contextlib.suppress(OSError):
            self.line.shutdown(socket.SHUT_RDWR)
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


class AccountFiles:
    """Files as an account sees them; see `hpcq.execution.files.Files`. One thread uses it.

    Args:
        account: in whose name files are looked at.
        seconds: how long the process may take to start.

    Raises:
        AccountUnavailable: it does not start.
    """

    def __init__(self, account: str, seconds: float) -> None:
        self._process = AccountProcess(account)
        self._process.line.settimeout(seconds)
        try:
            as_account.send(self._process.line, {"look": True})
            if self._process.answer() is None:
                raise AccountUnavailable(self._process.why_not())
        except OSError as error:
            raise AccountUnavailable(self._process.why_not(str(error).encode())) from None
        except AccountUnavailable:
            self._process.kill()
            self._process.close()
            raise
        # A file system may take as long as it likes; whoever waits does not wait for this.
        self._process.line.settimeout(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.close()

    def mode(self, path: str) -> int:
        return int(self._ask("mode", path))

    def may(self, path: str, access: int) -> bool:
        return bool(self._ask("may", path, access))

    def link(self, path: str) -> str:
        return str(self._ask("link", path))

    def real_path(self, path: str) -> str:
        return str(self._ask("real_path", path))

    def read_folder(self, path: str) -> None:
        self._ask("read_folder", path)

    def read(self, path: str, most_bytes: int, within: Sequence[str] = ()) -> bytes | None:
        content = self._ask("read", path, most_bytes, list(within), most_bytes=most_bytes)
        return content if isinstance(content, bytes) else None

    def _ask(self, question: str, *arguments: object, most_bytes: int = 0) -> Any:
        line = self._process.line
        with contextlib.suppress(ConnectionError, ValueError):
            as_account.send(line, json.dumps([question, *arguments]).encode("ascii"))
            answer = self._process.answer()
            if answer is not None and isinstance(answer.get("errno"), int):
                raise OSError(answer["errno"], os.strerror(answer["errno"]))
            if answer is not None and answer.get("follows"):
                content = as_account.receive(line, most_bytes)
                if content is not None:
                    return content
            elif answer is not None:
                return answer.get("answer")
        raise AccountUnavailable(self._process.why_not())


def end_orphans_of(account: str, mark: str) -> None:
    """Kill every process of an account that carries a mark, see `hpcq.execution.orphans`.

    Raises:
        SchedulerError: one does not end, or the account cannot be asked.
    """
    process = AccountProcess(account)
    try:
        process.line.settimeout(_PATIENCE_SECONDS)
        as_account.send(process.line, {"end": mark})
        answer = process.answer()
        if answer is None or "ended" not in answer:
            told = None if answer is None else answer.get("error")
            raise SchedulerError(told if isinstance(told, str) else process.why_not())
    except OSError as error:
        raise SchedulerError(process.why_not(str(error).encode())) from None
    finally:
        process.kill()
        process.close()
