"""A log handler that never waits for whoever reads the log."""

import contextlib
import logging
import os
import queue
import threading

__all__ = ["LogWriter"]

_MOST_LINES = 10_000
_LONGEST_LINE = 16_384
_LAST_SECONDS = 2.0


class LogWriter(logging.Handler):
    """Writes lines in a thread. What finds no place while nobody reads is dropped and counted.

    Args:
        descriptor: where to write, a pipe mostly. A write to a full pipe waits for its reader, and
            must not do so in the event loop.
        most_lines: how many lines may wait.
    """

    def __init__(self, descriptor: int, most_lines: int = _MOST_LINES) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes] = queue.Queue(most_lines)
        self._dropped = 0
        threading.Thread(target=self._write, name="hpcq-log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Have a line written."""
        try:
            line = self.format(record).encode("utf-8", "backslashreplace")
        except Exception:
            self.handleError(record)
            return
        # The handler's lock is held: no other thread puts or counts.
        try:
            if self._dropped:
                self._lines.put_nowait(self._note())
                self._dropped = 0
            self._lines.put_nowait(line[:_LONGEST_LINE] + b"\n")
        except queue.Full:
            self._dropped += 1

    def flush(self) -> None:
        """Wait until all lines are written; two seconds at most, for nobody may be reading."""
        with self._lines.all_tasks_done:
            self._lines.all_tasks_done.wait_for(
                lambda: not self._lines.unfinished_tasks, _LAST_SECONDS
            )

    def _write(self) -> None:
        while True:
            self._write_whole(self._lines.get())
            self._lines.task_done()

    def _note(self) -> bytes:
        message = f"{self._dropped} lines of the log are missing here: nobody read it."
        record = logging.LogRecord("hpcq.log", logging.WARNING, "", 0, message, None, None)
        return self.format(record).encode("utf-8", "backslashreplace") + b"\n"

    def _write_whole(self, line: bytes) -> None:
        # Not through a stream: the interpreter would wait for its lock when it ends.
        with contextlib.suppress(OSError):
            while line:
                line = line[os.write(self._descriptor, line) :]
