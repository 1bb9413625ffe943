"""A bounded queue of lines, with the thread that writes them: no caller waits for a slow reader."""

import queue
import threading
from collections.abc import Callable

__all__ = ["LineQueue"]

_MOST_LINES = 10_000


class LineQueue:
    """Passes lines to a thread. What finds no place is dropped, and a line says how much that was.

    Args:
        name: the thread's.
        write: writes one line, in the thread; it must not raise.
        note: returns the line that stands where so many are missing.
        most_lines: how many lines may wait.

    Attributes:
        dropped: how many lines were dropped so far.
    """

    def __init__(
        self,
        name: str,
        write: Callable[[str], None],
        note: Callable[[int], str],
        most_lines: int = _MOST_LINES,
    ) -> None:
        self.dropped = 0
        self._note = note
        self._write = write
        self._missing = 0
        self._lock = threading.Lock()
        self._lines: queue.Queue[str | None] = queue.Queue(most_lines)
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def put(self, line: str) -> None:
        """Have a line written."""
        with self._lock:
            try:
                self._tell_missing()
                self._lines.put_nowait(line)
            except queue.Full:
                self._missing += 1
                self.dropped += 1

    def flush(self, seconds: float) -> bool:
        """Wait until all lines are written; return whether they are.

        Args:
            seconds: the longest wait: the reader may be gone, the disk hang.
        """
        lines = self._lines
        with lines.all_tasks_done:
            return lines.all_tasks_done.wait_for(lambda: not lines.unfinished_tasks, seconds)

    def close(self, seconds: float) -> bool:
        """Wait as `flush` does, and end the thread when all lines are written."""
        is_written = self.flush(seconds)
        if is_written:
            self._lines.put_nowait(None)
        return is_written

    def _tell_missing(self) -> None:
        if self._missing:
            self._lines.put_nowait(self._note(self._missing))
            self._missing = 0

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            self._write(line)
            self._lines.task_done()
