"""A log handler that never waits for the reader of the log."""

import contextlib
import logging
import os

from hpcq.line_queue import LineQueue

__all__ = ["LogWriter"]

_LONGEST_LINE = 16_384
_LAST_SECONDS = 2.0


class LogWriter(logging.Handler):
    """Writes lines in a thread. What finds no place is dropped and counted.

    Args:
        descriptor: where to write, a pipe mostly. A write to a full pipe waits for its reader, and
            must not do so in the event loop.
        most_lines: how many lines may wait.
    """

    def __init__(self, descriptor: int, most_lines: int = 10_000) -> None:
        self._descriptor = descriptor
        self._lines = LineQueue("hpcq-log", self._write, self._note, most_lines)
        # Python flushes a handler at its end as soon as it is known.
        super().__init__()

    @property
    def dropped(self) -> int:
        """The number of lines that were dropped so far."""
        return self._lines.dropped

    def emit(self, record: logging.LogRecord) -> None:
        """Have a line written."""
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
            return
        self._lines.put(line[:_LONGEST_LINE])

    def flush(self) -> None:
        """Wait until all lines are written; two seconds at most, for there may be no reader."""
        self._lines.flush(_LAST_SECONDS)

    def _note(self, missing: int) -> str:
        message = f"{missing} lines of the log are missing here: nobody read it."
        record = logging.LogRecord("hpcq.log", logging.WARNING, "", 0, message, None, None)
        return self.format(record)

    def _write(self, line: str) -> None:
        left = line.encode("utf-8", "backslashreplace")[:_LONGEST_LINE] + b"\n"
        # Not through a stream: the interpreter would wait for its lock when it ends.
        with contextlib.suppress(OSError):
            while left:
                left = left[os.write(self._descriptor, left) :]
