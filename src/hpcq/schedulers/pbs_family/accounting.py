"""Lines of the accounting logs, ``server_priv/accounting/YYYYMMDD``, and the logs as they grow.

``date;TYPE;id;NAME=VALUE NAME=VALUE …``: nothing is escaped. An account may hold ``;``, blanks
and ``=``, even ``user=bob`` or ``Exit_status=0``; a job's name holds no blanks where ``qsub`` gave
it, and cannot change what comes after it where something else did.
"""

import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hpcq.domain.jobs import Observation

__all__ = [
    "AccountingLine",
    "AccountingLogs",
    "in_question",
    "local_moment",
    "parse_accounting_line",
    "parse_attributes",
]

_MOMENT = re.compile(r"[0-9]{2}/[0-9]{2}/[0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?")
_WRITTEN_MOMENT = "%m/%d/%Y %H:%M:%S"
_KIND = re.compile(r"[A-Za-z]{1,2}")
# PBS puts quotation marks around what may hold blanks.
_WORD = r'(?:"[^"]*"|\S*)'
_WHOSE = re.compile(
    rf"user=(?P<user>{_WORD}) group=(?P<group>{_WORD})(?: account=(?P<account>.*?))?"
    rf"(?: project=(?P<project>{_WORD}))?(?: accounting_id=(?P<accounting_id>{_WORD}))?$",
    re.DOTALL,
)
_JOB_NAME, _QUEUE = " jobname=", " queue="
_DAY = re.compile(r"[0-9]{8}")
_KINDS_OF_ENDS = "EDAR"
_KEPT_LINES = 300_000
_FIRST_READ_BYTES = 64 << 20
_OTHER_CLOCK = timedelta(minutes=10)
"""The server's clock may be so far away from this machine's."""


@dataclass(frozen=True, slots=True)
class AccountingLine:
    """One record.

    Attributes:
        moment: when it was written, by the server's local clock: ``11/22/2026 22:27:13``.
        kind: ``E`` ended, ``D`` deleted, ``A`` aborted, ``R`` run again, ``S``, ``Q`` …
        job_id: as printed: ``45[1].vm``.
        attributes: by name as printed; of a name that comes twice the one that the server wrote.
    """

    moment: str
    kind: str
    job_id: str
    attributes: Mapping[str, str]


def parse_accounting_line(line: bytes) -> AccountingLine:
    """Return the record in one line.

    Raises:
        ValueError: it is none.
    """
    text = line.replace(b"\0", "\ufffd".encode()).decode("utf-8", "replace")
    parts = text.rstrip("\r\n").split(";", 3)
    if len(parts) != 4 or not _MOMENT.fullmatch(parts[0]) or not _KIND.fullmatch(parts[1]):
        raise ValueError("it is no accounting record: date;type;id;attributes")
    return AccountingLine(parts[0], parts[1], parts[2], parse_attributes(parts[3]))


def parse_attributes(text: str) -> dict[str, str]:
    """Return the attributes in the last field of a record.

    The server writes user and group before the account and everything else after it. So user and
    group are those at the beginning, the account ends at the last ``jobname=``, the name at the
    last ``queue=``, and only what follows that is read as further attributes. A word without ``=``
    belongs to the value before.
    """
    whose, is_there, rest = text.rpartition(_JOB_NAME)
    first: dict[str, str] = {}
    if is_there:
        match = _WHOSE.match(whose)
        if match is not None:
            told = match.groupdict()
            first = {name: _unquoted(value) for name, value in told.items() if value is not None}
        name, has_queue, after = rest.rpartition(_QUEUE)
        if has_queue:
            first["jobname"] = name
        rest = _QUEUE + after if has_queue else _JOB_NAME + rest
    values: dict[str, list[str]] = {}
    value: list[str] = []
    for word in rest.split(" "):
        key, is_pair, begin = word.partition("=")
        if is_pair and key:
            value = values[key] = [begin]
        elif word:
            value.append(word)
    return {name: _unquoted(" ".join(words)) for name, words in values.items()} | first


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def local_moment(text: str) -> datetime | None:
    """Return the time of a record, by the server's local clock, which is taken for this one's."""
    try:
        return datetime.strptime(text.partition(".")[0], _WRITTEN_MOMENT).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def in_question(
    ends: Iterable[Observation], owner: str | None, since: datetime
) -> Sequence[Observation]:
    """Return the ends of jobs that may have been submitted for what is looked for.

    Args:
        ends: the jobs of its name.
        owner: the account that submits; None where that is not known.
        since: not before then, by this machine's clock.
    """
    earliest = since - _OTHER_CLOCK
    return [
        seen
        for seen in ends
        if owner in (None, seen.owner)
        and (seen.submit_time is None or seen.submit_time >= earliest)
    ]


class AccountingLogs:
    """Answers how jobs ended, from one file a day. Not async: call it in a thread.

    The newest files are read once, and from then on only what was appended to them or stands in
    new ones.

    Args:
        directory: the folder of the files.
        kinds: the letters of the records that are kept; by default those that tell of an end, a
            deletion or another run.
        first_read_bytes: how much is read at first.
    """

    def __init__(
        self,
        directory: Path,
        *,
        kinds: str = _KINDS_OF_ENDS,
        first_read_bytes: int = _FIRST_READ_BYTES,
    ) -> None:
        self.directory = directory
        self._kinds = tuple(f";{kind};".encode() for kind in kinds)
        self._first_read_bytes = first_read_bytes
        self._lock = threading.Lock()
        self._offsets: dict[str, int] = {}
        self._lines: dict[bytes, list[bytes]] = {}
        self._count = 0

    def lines(self, numbers: Iterable[str]) -> list[bytes]:
        """Return the lines about the jobs with these numbers, in the order they were written.

        The number of an array is that of all its jobs.

        Raises:
            OSError: the folder or a file cannot be read.
        """
        with self._lock:
            self._catch_up()
            return [line for number in numbers for line in self._lines.get(number.encode(), ())]

    def find(self, mark: bytes) -> bytes | None:
        """Return the first line that holds a mark, of those that are kept.

        Raises:
            OSError: the folder or a file cannot be read.
        """
        with self._lock:
            self._catch_up()
            kept = (line for lines in self._lines.values() for line in lines)
            return next((line for line in kept if mark in line), None)

    def having(self, mark: bytes) -> list[bytes]:
        """Return all lines that hold a mark, of those that are kept.

        Raises:
            OSError: the folder or a file cannot be read.
        """
        with self._lock:
            self._catch_up()
            return [line for lines in self._lines.values() for line in lines if mark in line]

    def _catch_up(self) -> None:
        days = sorted(p.name for p in self.directory.iterdir() if _DAY.fullmatch(p.name))
        sizes = {day: (self.directory / day).stat().st_size for day in days}
        if not self._offsets:
            self._begin(sizes)
        for day in days:
            offset = self._offsets.get(day, 0)
            if sizes[day] < offset:
                offset = 0  # it was cut or replaced
            if sizes[day] > offset:
                self._offsets[day] = self._read_on(self.directory / day, offset)

    def _begin(self, sizes: Mapping[str, int]) -> None:
        """Pass over the oldest files, those beyond what is read at first."""
        budget = self._first_read_bytes
        for day in sorted(sizes, reverse=True):
            budget -= sizes[day]
            if budget < 0 and day != max(sizes):
                self._offsets[day] = sizes[day]

    def _read_on(self, path: Path, offset: int) -> int:
        """Keep what was appended, up to the last whole line; return where that ends."""
        with path.open("rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                offset += len(line)
                if line[19:26].find(b";") >= 0 and any(kind in line[:32] for kind in self._kinds):
                    self._keep(line)
        return offset

    def _keep(self, line: bytes) -> None:
        job_id = line.split(b";", 3)[2]
        number = re.match(rb"[0-9]*", job_id)
        key = number[0] if number else b""
        self._lines.setdefault(key, []).append(line.rstrip(b"\r\n"))
        self._count += 1
        while self._count > _KEPT_LINES and len(self._lines) > 1:
            self._count -= len(self._lines.pop(next(iter(self._lines))))
