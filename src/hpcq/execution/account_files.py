"""Files as the account of a job sees them: asked from a process that acts in its name."""

import contextlib
import os
import socket
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from hpcq.domain.errors import AccountUnavailable
from hpcq.execution.account_process import MOST_ANSWER_BYTES, AccountProcess, error_of
from hpcq.execution.as_account import Answer
from hpcq.execution.descriptors import close_all

__all__ = ["AccountFiles"]


class AccountFiles:
    """Files as an account sees them; see `hpcq.execution.protocol.Files`. One thread uses it.

    Args:
        account: in whose name files are looked at.
        seconds: how long the process may take to start.

    Raises:
        AccountUnavailable: it does not start.
    """

    def __init__(self, account: str, seconds: float) -> None:
        self._process = AccountProcess(account)
        self._process.deadline = time.monotonic() + seconds
        has_started = False
        # One that has ended takes no request: its last words say why.
        with contextlib.suppress(ConnectionError, TimeoutError):
            self._process.ask({"look": True})
            has_started = self._process.answer() == (Answer.STARTED, b"")
        if not has_started:
            reason = self._process.why_not()
            self._process.kill()
            self._process.close()
            raise AccountUnavailable(reason)
        # A file system may take as long as it likes; whoever waits calls `kill` some time.
        self._process.deadline = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # The account may have stopped it.
        self._process.kill()
        if os.geteuid() == 0:
            # One that does not end of that is kept by a file system, and keeps its place there.
            self._process.process.wait()
        self._process.close()

    def kill(self) -> None:
        """End the process, without waiting; may be called by another thread before the exit."""
        self._process.kill()
        # One behind sudo may be stopped: whoever reads waits no longer for what it says.
        with contextlib.suppress(OSError):
            self._process.line.shutdown(socket.SHUT_RD)

    def mode(self, path: str) -> int:
        return self._number("mode", path)

    def may(self, path: str, access: int) -> bool:
        return bool(self._number("may", path, access))

    def link(self, path: str) -> str:
        return self._ask("link", path)[1].decode("utf-8", "surrogateescape")

    def real_path(self, path: str) -> str:
        return self._ask("real_path", path)[1].decode("utf-8", "surrogateescape")

    def read_folder(self, path: str) -> None:
        self._ask("read_folder", path)

    def read(self, path: str, most_bytes: int, within: Sequence[str] = ()) -> bytes | None:
        letter, content = self._ask(
            "read", path, most_bytes, list(within), most_bytes=most_bytes + 1
        )
        return content if letter == Answer.BYTES else None

    def open_below(self, folder: str, names: Sequence[str]) -> tuple[int, int]:
        base, found, _ = self._below("open_below", folder, list(names))
        return base, found

    def list_below(self, folder: str, names: Sequence[str], most: int) -> tuple[int, int, bytes]:
        # A name has at most 255 bytes (NAME_MAX), and a few numbers before it.
        return self._below("list_below", folder, list(names), most, most_bytes=(most + 2) * 320)

    def _below(
        self, question: str, *arguments: object, most_bytes: int = MOST_ANSWER_BYTES
    ) -> tuple[int, int, bytes]:
        answer: tuple[bytes, bytes] | None = None
        descriptors: list[int] = []
        with contextlib.suppress(ConnectionError):
            self._process.ask([question, *arguments])
            answer, descriptors = self._process.answer_with_descriptors(most_bytes)
        if answer is not None and answer[0] == Answer.DESCRIPTORS and len(descriptors) == 2:
            return descriptors[0], descriptors[1], answer[1]
        close_all(descriptors)
        if answer is not None and answer[0] == Answer.ERROR:
            raise error_of(answer[1])
        raise AccountUnavailable(self._process.why_not())

    def _number(self, question: str, *arguments: object) -> int:
        with contextlib.suppress(ValueError):
            return int(self._ask(question, *arguments)[1])
        raise AccountUnavailable(self._process.why_not())

    def _ask(
        self, question: str, *arguments: object, most_bytes: int = MOST_ANSWER_BYTES
    ) -> tuple[bytes, bytes]:
        """Return the letter and the value of the answer.

        Raises:
            OSError: the account's own.
            AccountUnavailable: there is no answer.
        """
        answer = None
        with contextlib.suppress(ConnectionError):
            self._process.ask([question, *arguments])
            answer = self._process.answer(most_bytes)
        if answer is not None and answer[0] == Answer.ERROR:
            raise error_of(answer[1])
        if answer is not None:
            return answer
        raise AccountUnavailable(self._process.why_not())
