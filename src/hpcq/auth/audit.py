"""The audit log: a line of JSON for each request that changes something or is refused."""

import json
import logging
import logging.handlers
import os
from collections.abc import Mapping
from io import TextIOWrapper
from pathlib import Path

import structlog

from hpcq.domain.units import format_time, now
from hpcq.line_queue import LineQueue

__all__ = ["AuditLog"]

_log = structlog.get_logger("hpcq.audit")

_LAST_SECONDS = 5.0


class AuditLog:
    """Writes lines in a thread of its own, to a file that log rotation may move away.

    Text of a request stands in JSON strings, with everything escaped that is not plain ASCII: no
    request can write a line of its own. Should the disk hang for so long that the queue is full, a
    line with ``missing`` tells how many lines are not there.

    Args:
        path: the file; it is made for this account alone.
        most_lines: how many lines may wait.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, most_lines: int = 10_000) -> None:
        self._file = _AuditFile(path)
        self._file.setFormatter(logging.Formatter("%(message)s"))
        self._lines = LineQueue("hpcq-audit", self._write, _missing, most_lines)

    @property
    def dropped(self) -> int:
        """The number of lines that were dropped so far."""
        return self._lines.dropped

    def write(self, entry: Mapping[str, object]) -> None:
        """Write one line; values are JSON's own."""
        self._lines.put(_json(entry))

    def close(self) -> None:
        """Write what is left, and close the file; a disk that hangs holds this up for 5 s."""
        if self._lines.close(_LAST_SECONDS):
            self._file.close()

    def _write(self, line: str) -> None:
        self._file.handle(logging.LogRecord("audit", logging.INFO, "", 0, line, None, None))


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _missing(lines: int) -> str:
    return _json({"time": format_time(now()), "missing": lines})


def _json(entry: Mapping[str, object]) -> str:
    return json.dumps(entry, separators=(",", ":"))


class _AuditFile(logging.handlers.WatchedFileHandler):
    def _open(self) -> TextIOWrapper:
        """Open the file, which is not there at first and after it was moved away."""
        return open(self.baseFilename, "a", encoding="ascii", opener=_opener)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:
            # It was moved away, and its folder is gone or full.
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        _log.error("audit.not_written", line=record.getMessage(), exc_info=True)
