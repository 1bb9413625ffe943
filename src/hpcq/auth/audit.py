"""The audit log: a line of JSON for each request that changes something or is refused."""

import json
import logging
import logging.handlers
import os
import queue
from collections.abc import Mapping
from pathlib import Path

import structlog

__all__ = ["AuditLog"]

_log = structlog.get_logger("hpcq.audit")


class AuditLog:
    """Writes lines in a thread of its own, to a file that log rotation may move away.

    Text of a request stands in JSON strings, with everything escaped that is not plain ASCII: no
    request can write a line of its own.

    Args:
        path: the file; it is made for this account alone.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        file = _AuditFile(path, encoding="ascii")
        file.setFormatter(logging.Formatter("%(message)s"))
        lines: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
        self._writer = logging.handlers.QueueListener(lines, file)
        self._file = file
        self._queue = logging.handlers.QueueHandler(lines)
        self._writer.start()

    def write(self, entry: Mapping[str, object]) -> None:
        """Write one line; values are JSON's own."""
        text = json.dumps(entry, separators=(",", ":"))
        self._queue.handle(logging.LogRecord("audit", logging.INFO, "", 0, text, None, None))

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._writer.stop()
        self._file.close()


class _AuditFile(logging.handlers.WatchedFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        _log.error("audit.not_written", line=record.getMessage(), exc_info=True)
