"""The accounting file, followed as it grows: no part of it is read twice.

``$SGE_ROOT/$SGE_CELL/common/accounting``: one line a record, fields between colons, raw units
(accounting(5)). ``qacct`` reads all of it at every call.
"""

import itertools
import mmap
import os
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from hpcq.domain.errors import excerpt
from hpcq.domain.jobs import NativeId, SubmissionKey
from hpcq.domain.units import GIBIBYTE, from_epoch
from hpcq.schedulers.base import ParseFailure
from hpcq.schedulers.sge.accounting_record import AccountingRecord

__all__ = ["AccountingFile", "parse_accounting_line"]

_TAIL_BYTES = 16 << 20
_KEPT_LINES = 100_000
_ACCOUNT, _PRIORITY, _CATEGORY = 6, 7, 39
_FEWEST_FIELDS = 40
"""Up to ``category``; 6.1 has 43 fields, 6.2, 2011.11 and 8.1.9 have 45, later ones more."""


_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?")
_SLAVE = re.compile(r"NONE|[0-9]+\.[^:]+")


class AccountingFile:
    """Reader of the records of some jobs. Not async: call it in a thread.

    The last part of the file is read once and kept by job number; from then on only what was
    appended. What lies before that part is searched for a number at most once.
    A file that was replaced (rotated) or cut is read anew; records of the old one that are no
    longer kept are then left to ``qacct``.
    """

    def __init__(self, path: Path, *, tail_bytes: int = _TAIL_BYTES) -> None:
        self.path = path
        self._tail_bytes = tail_bytes
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._start = 0
        self._offset = 0
        self._lines: dict[bytes, list[bytes]] = {}
        self._count = 0
        self._searched: set[bytes] = set()

    def close(self) -> None:
        """Let go of the file; the next question opens it again."""
        with self._lock:
            if self._file is not None:
                self._file.close()
            self._file = None
            self._lines.clear()
            self._count = 0

    def records(self, numbers: Iterable[str]) -> tuple[list[AccountingRecord], list[ParseFailure]]:
        """Return the records of these job numbers, in the file's order, and the unreadable ones.

        Raises:
            OSError: the file cannot be read.
        """
        with self._lock:
            self._catch_up()
            lines = [line for number in numbers for line in self._lines_of(number.encode())]
        return _parsed(lines)

    def find(self, key: SubmissionKey, owner: str | None = None) -> NativeId | None:
        """Return the number of the job with the key as its account string; None if there is none.

        Args:
            key: what is looked for.
            owner: the account whose job it is; None for any.

        Raises:
            OSError: the file cannot be read.
        """
        mark = b":" + key.encode() + b":"
        with self._lock:
            self._catch_up()
            kept = (line for lines in self._lines.values() for line in lines if mark in line)
            for line in itertools.chain(kept, self._search_before(mark)):
                for record in _parsed([line])[0]:
                    if owner in (None, record.owner):
                        return NativeId(record.number)
        return None

    def _lines_of(self, number: bytes) -> Sequence[bytes]:
        if number not in self._searched and self._start > 0:
            if len(self._searched) > _KEPT_LINES:
                self._searched.clear()
            self._searched.add(number)
            before = [
                line
                for line in self._search_before(b":" + number + b":")
                if line.split(b":", 6)[5:6] == [number]
            ]
            if before:
                kept = [line for line in self._lines.get(number, ()) if line not in before]
                self._lines[number] = [*before, *kept]
                self._count += len(before)
        return self._lines.get(number, ())

    def _search_before(self, mark: bytes) -> Iterator[bytes]:
        """Yield the lines with the mark in the part of the file that was not kept."""
        if self._file is None or self._start == 0:
            return
        with mmap.mmap(self._file.fileno(), self._start, access=mmap.ACCESS_READ) as whole:
            found = whole.find(mark)
            while found >= 0:
                begin = whole.rfind(b"\n", 0, found) + 1
                end = whole.find(b"\n", found)
                end = self._start if end < 0 else end
                yield whole[begin:end]
                found = whole.find(mark, end)

    def _catch_up(self) -> None:
        if self._file is None:
            self._open()
            return
        was_replaced = self._was_replaced(self._file)
        self._read_on(self._file)
        if was_replaced:
            self._open()

    def _was_replaced(self, file: BinaryIO) -> bool:
        # Opened anew, so that a network file system does not answer from what it remembers.
        with self.path.open("rb") as current:
            theirs = os.fstat(current.fileno())
        ours = os.fstat(file.fileno())
        return (ours.st_dev, ours.st_ino) != (theirs.st_dev, theirs.st_ino) or (
            theirs.st_size < self._offset
        )

    def _open(self) -> None:
        file = self.path.open("rb")
        if self._file is not None:
            self._file.close()
        self._file = file
        size = os.fstat(file.fileno()).st_size
        self._start = self._offset = max(0, size - self._tail_bytes)
        self._searched.clear()
        if self._start > 0:
            # The tail begins inside a line: that one belongs to the part before.
            file.seek(self._start - 1)
            self._start = self._offset = self._start - 1 + len(file.readline())
        self._read_on(file)

    def _read_on(self, file: BinaryIO) -> None:
        """Read what was appended, up to the last whole line."""
        file.seek(self._offset)
        for line in file:
            if not line.endswith(b"\n"):
                break
            self._offset += len(line)
            fields = line.split(b":", 6)
            if len(fields) > _ACCOUNT and not line.startswith(b"#"):
                self._keep(fields[5], line.rstrip(b"\r\n"))

    def _keep(self, number: bytes, line: bytes) -> None:
        self._lines.setdefault(number, []).append(line)
        self._count += 1
        while self._count > _KEPT_LINES and len(self._lines) > 1:
            oldest = next(iter(self._lines))
            self._count -= len(self._lines.pop(oldest))
            self._searched.discard(oldest)
            self._start = max(self._start, self._offset)


def parse_accounting_line(line: bytes) -> AccountingRecord:
    """Return the record in one line of the accounting file.

    Raises:
        ValueError: it is none.
    """
    fields = line.decode("utf-8", "replace").split(":")
    if len(fields) < _FEWEST_FIELDS:
        raise ValueError(f"{len(fields)} fields where an accounting record has 45")
    fields = _with_tail(_without_stray_colons(fields))
    task = int(fields[35])
    more = fields[_CATEGORY + 1 :] + [""] * 3
    return AccountingRecord(
        number=NativeId(fields[5]),
        task=task or None,
        is_slave=_known(more[1:2]) is not None,
        queue=_known(fields[0:1]),
        host=_known(fields[1:2]),
        owner=_known(fields[3:4]),
        name=fields[4] or None,
        account=_known(fields[6:7]),
        project=_known(fields[31:32]),
        submitted=from_epoch(_seconds(fields[8])),
        started=from_epoch(_seconds(fields[9])),
        ended=from_epoch(_seconds(fields[10])),
        failed=int(fields[11]),
        exit_status=int(fields[12]),
        slots=max(1, int(fields[34])),
        cpu_seconds=_figure(fields[36]),
        memory_byte_seconds=_figure(fields[37]) * GIBIBYTE,
        io_bytes=_figure(fields[38]) * GIBIBYTE,
        category=_known(fields[_CATEGORY : _CATEGORY + 1]) or "",
        io_wait_seconds=_figure(more[0]),
        max_memory_bytes=_figure(more[2]),
    )


def _without_stray_colons(fields: list[str]) -> list[str]:
    """Join an account string that holds colons, as old releases let it.

    Five integers follow the account: priority, three times and ``failed``.
    """
    for extra in range(0, 4):
        after = fields[_PRIORITY + extra : _PRIORITY + extra + 5]
        if all(text.lstrip("-").isdecimal() for text in after):
            account = ":".join(fields[_ACCOUNT : _PRIORITY + extra])
            return [*fields[:_ACCOUNT], account, *fields[_PRIORITY + extra :]]
    raise ValueError("there are no times after the account string")


def _with_tail(fields: list[str]) -> list[str]:
    """Join a category that holds colons, as in ``-l cpu=24:00:00``.

    Behind it stand the I/O wait, the name of a slave task or ``NONE``, and the memory.
    """
    for at in range(_CATEGORY + 1, len(fields) - 2):
        wait, slave, memory = fields[at : at + 3]
        if _NUMBER.fullmatch(wait) and _SLAVE.fullmatch(slave) and _NUMBER.fullmatch(memory):
            return [*fields[:_CATEGORY], ":".join(fields[_CATEGORY:at]), *fields[at:]]
    return fields


def _parsed(lines: Iterable[bytes]) -> tuple[list[AccountingRecord], list[ParseFailure]]:
    records, unreadable = [], []
    for line in lines:
        try:
            records.append(parse_accounting_line(line))
        except ValueError as error:
            unreadable.append(ParseFailure(reason=str(error), excerpt=excerpt(line)))
    return records, unreadable


def _known(texts: Sequence[str]) -> str | None:
    return texts[0] if texts and texts[0] not in ("", "NONE") else None


def _seconds(text: str) -> float:
    value = float(text)
    while value > 1e11:  # later releases count milliseconds or microseconds
        value /= 1000
    return value


def _figure(text: str) -> float:
    """Return a figure of usage; 0, as of what was not measured, for one that cannot be read."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0 <= value < 1e30 else 0.0
