r"""The jobs in what ``qstat -f`` prints, in its delimiter format or as text.

The delimiter format (``-F dsv -D DELIMITER``) has one record a job: ``Job Id: 36.host``, and then
``NAME=VALUE`` for each attribute, all with the delimiter between them. Each call has a random
delimiter, which no user can have put into a value. A record begins with ``Job Id:`` in a new line,
an id, the delimiter and ``Job_Name=``, which is the first attribute of every job: nothing else is
believed to be a heading, although the release of June 2023 prints the byte 0xCA as a caret and a
newline. Values are printed as the server has them: no type is guessed. A backslash in them is
doubled, except before a comma or a quotation mark, which the server itself escapes in
``Variable_List``; a newline is ``\n``, a form feed ``\f`` (recordings qstat-f-dsv.*; prt_attr in
OpenPBS's qstat.c).
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from hpcq.domain.errors import OutputParseError, excerpt
from hpcq.domain.jobs import NativeId
from hpcq.schedulers.base import ParseFailure
from hpcq.schedulers.pbs.qstat_job import Record, record_of
from hpcq.schedulers.pbs_family.text import parse_text_records
from hpcq.schedulers.pbs_family.values import parse_job_id, read_job_id, restored

__all__ = ["Answer", "Reader", "read_text"]

_HEADING = re.compile(rb"^[ \t]*Job Id: ", re.MULTILINE)
_ESCAPE = re.compile(r"\\([\\nf])")
_ESCAPED = {"\\": "\\", "n": "\n", "f": "\f"}


@dataclass(frozen=True, slots=True)
class Answer:
    """Jobs in the answer of one ``qstat``."""

    records: tuple[Record, ...]
    unreadable: tuple[ParseFailure, ...]

    def only(self, names: Collection[str]) -> "Answer":
        """Return what it tells of these jobs, the ones that were asked about."""
        wanted = {parse_job_id(name).short for name in names}
        return Answer(
            tuple(r for r in self.records if r.observation.native_id in wanted),
            tuple(bad for bad in self.unreadable if bad.native_id in wanted),
        )

    @property
    def contradicted(self) -> list[NativeId]:
        """The jobs that stand in it more than once."""
        times = Counter(bad.native_id for bad in self.unreadable)
        return [native_id for native_id in times if native_id is not None and times[native_id] > 1]

    def replaced(self, native_id: NativeId, better: "Answer") -> "Answer":
        """Return this answer with what another one tells, or does not tell, of a job."""
        return Answer(
            (
                *(r for r in self.records if r.observation.native_id != native_id),
                *better.records,
            ),
            (*(bad for bad in self.unreadable if bad.native_id != native_id), *better.unreadable),
        )


class _Printed(Protocol):
    """One job as it was printed, in either form."""

    @property
    def name(self) -> str: ...
    @property
    def raw(self) -> bytes: ...
    @property
    def is_whole(self) -> bool: ...
    @property
    def attributes(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class _DelimitedJob:
    """One record of the delimiter format, NUL in place of the delimiter."""

    name: str
    raw: bytes
    is_whole: bool

    @property
    def attributes(self) -> dict[str, str]:
        """Attributes by their printed names (``Resource_List.ncpus``); of two the first counts."""
        pairs = (field.partition(b"=") for field in reversed(self.raw.split(b"\0")[1:]))
        return {name.decode("utf-8", "replace"): _value(value) for name, _, value in pairs}


def _value(raw: bytes) -> str:
    text = restored(raw).decode("utf-8", "replace")
    return _ESCAPE.sub(lambda found: _ESCAPED[found[1]], text) if "\\" in text else text


class Reader:
    """Reads the delimiter format; a job whose text did not change is not read again.

    Args:
        owner: the service's account. Only its jobs can carry a submission's key: anyone can put
            a key into the environment of a job.
        command: the program that prints it, for messages.
    """

    def __init__(self, owner: str | None, command: str = "qstat") -> None:
        self._owner = owner
        self._command = command
        self._known: dict[str, tuple[bytes, Record]] = {}

    def read(
        self, output: bytes, delimiter: str, sampled: datetime | None, *, remember: bool = False
    ) -> Answer:
        """Return the jobs of an answer, in its order; none for an empty one.

        Args:
            output: what ``qstat`` printed, with ``TZ=UTC``.
            delimiter: the text that ``qstat`` put between attributes.
            sampled: when it was asked.
            remember: whether it is the listing that comes again and again.

        Raises:
            OutputParseError: it is something else, or its end is missing: what should follow
                exists and is not known.
        """
        known: dict[str, tuple[bytes, Record]] = {}

        def read(job: _Printed) -> Record:
            seen = self._known.get(job.name)
            if seen is None or seen[0] != job.raw:
                seen = (job.raw, record_of(job.name, job.attributes, self._owner, sampled))
            known[job.name] = seen
            return seen[1]

        answer = _read_all(_split(output, delimiter, self._command), read)
        if remember:
            self._known = known
        return answer


def _split(output: bytes, delimiter: str, command: str) -> list[_DelimitedJob]:
    text = output.replace(b"\0", "\ufffd".encode()).replace(delimiter.encode(), b"\0")
    _, *pieces = (b"\n" + text).split(b"\nJob Id: ")
    raws: list[bytes] = []
    for piece in pieces:
        if b"\0Job_Name=" in piece[: piece.find(b"=") + 1]:
            raws.append(piece)
        elif raws:
            raws[-1] += b"\nJob Id: " + piece
    if text.strip() and not raws:
        raise OutputParseError(command, "no line begins with 'Job Id: ' and an id", output)
    if raws and not raws[-1].endswith(b"\n"):
        raise OutputParseError(command, "its end is missing", output[-400:])
    return [
        _DelimitedJob(raw[: raw.find(b"\0")].decode("utf-8", "replace"), raw.rstrip(b"\r\n"), True)
        for raw in raws
    ]


def read_text(
    output: bytes,
    known: Collection[str] | None,
    owner: str | None,
    sampled: datetime | None,
    *,
    is_single: bool = False,
    command: str = "qstat",
) -> Answer:
    """Return the jobs in the text of ``qstat -f``, for a PBS without the delimiter format.

    Args:
        output: what it printed, with ``TZ=UTC``.
        known: the ids that exist, from an answer that no user can add to; None for any.
        owner: the account whose jobs may carry a key; None for any.
        sampled: when it was asked.
        is_single: whether one job was asked about: then the first heading alone is its own.
        command: the program that printed it, for messages.

    Raises:
        OutputParseError: it is something else.
    """
    if output.strip() and _HEADING.search(output) is None:
        raise OutputParseError(command, "no line begins with 'Job Id: '", output)

    def read(job: _Printed) -> Record:
        if not job.is_whole:
            raise ValueError("its end is missing")
        return record_of(job.name, job.attributes, owner, sampled)

    return _read_all(parse_text_records(output, known=known, is_single=is_single), read)


def _read_all(jobs: Iterable[_Printed], read: Callable[[_Printed], Record]) -> Answer:
    """Read each job; one that cannot be read is reported beside the others.

    Two records under one id are both unreadable: one of them is made up by a user, and nobody can
    say which.
    """
    ids = ((job, read_job_id(job.name)) for job in jobs)
    named = [(job, None if job_id is None else job_id.short) for job, job_id in ids]
    times = Counter(native_id for _, native_id in named)
    records: list[Record] = []
    unreadable: list[ParseFailure] = []
    for job, native_id in named:
        try:
            if native_id is not None and times[native_id] > 1:
                raise ValueError("there is more than one record under its id")
            records.append(read(job))
        except ValueError as error:
            unreadable.append(
                ParseFailure(
                    reason=f"{excerpt(job.name, 80)}: {error}",
                    excerpt=excerpt(job.raw),
                    native_id=native_id,
                )
            )
    return Answer(tuple(records), tuple(unreadable))
