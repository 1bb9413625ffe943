"""Ids, durations, sizes and times as PBS and its descendants print them; pure."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from hpcq.domain.ids import IdForm
from hpcq.domain.jobs import NativeId, Usage
from hpcq.domain.units import from_epoch

__all__ = [
    "ID_FORMS",
    "JobId",
    "hosts_in",
    "parse_duration",
    "parse_job_id",
    "parse_local_time",
    "parse_pbs_size",
    "parse_whole",
    "path_of",
    "predecessors",
    "printable",
    "read_figure",
    "read_job_id",
    "restored",
    "slots_in",
    "usage_of",
]

_Figure = TypeVar("_Figure", int, float)

_SERVER = r"(?:\.[A-Za-z][A-Za-z0-9.-]{0,252})?"
ID_FORMS = (
    IdForm(re.compile(rf"([0-9]+(?:\[[0-9]+\])?){_SERVER}")),
    IdForm(re.compile(rf"([0-9]+)\[\]{_SERVER}"), is_array=True),
)
"""``45``, ``45[2]`` and the array ``45[]``, each with the server's name or without."""

_JOB_ID = re.compile(
    r"([0-9]{1,18})(?:\[([0-9]{0,9})\]|-([0-9]{1,9}))?"
    r"(?:\.([A-Za-z0-9][A-Za-z0-9._-]{0,252}))?(?::[0-9]{1,5})?"
)
_SIZE = re.compile(r"([0-9]{1,19})([kmgtpe]?)([bw]?)", re.IGNORECASE)
_WORD_BYTES = 8
_DURATION = re.compile(r"(-?)((?:[0-9]{1,18}:){0,3}[0-9]{1,18}(?:\.[0-9]+)?)")
_UNITS_OF_CLOCK = (1, 60, 3600, 86400)
_LOCAL_TIME = re.compile(
    r"[A-Z][a-z]{2} +([A-Z][a-z]{2}) +([0-9]{1,2}) +([0-9]{2}):([0-9]{2}):([0-9]{2})"
    r"(?: +(?:UTC|GMT))? +([0-9]{4})"
)
_MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"
_EPOCH = re.compile(r"[0-9]{1,12}")
_WHOLE = re.compile(r"(-?[0-9]{1,18})(?:\.[0-9]*)?")
_SLOTS = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9})|\*([0-9]{1,9}))?")
_AFTER = re.compile(r"(?:^|,)after[a-z]*:([^,]*)")
# PBS prints a byte that is no printable ASCII as ^ and the byte 64 higher; the first byte of three
# or four may become printable so, but then one that cannot be follows.
_CARETED = re.compile(rb"\^([\x00-\x1f\x80-\xff]|[\x20-\x34](?=\^[\xc0-\xff]))")
_UNPRINTABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class JobId:
    """One id as the commands print it: ``45.server``, ``45[].server``, ``45[2].server``.

    Attributes:
        number: the sequence number, digits.
        task: the index of a job of an array; empty for the array itself, None for a plain job.
        server: what stands after the dot, without a port; None without one.
    """

    number: str
    task: str | None = None
    server: str | None = None

    @property
    def is_array(self) -> bool:
        """True for a whole array: commands must not get it where one job is meant."""
        return self.task == ""

    @property
    def short(self) -> NativeId:
        """The id without the server; an array is called by its number alone."""
        return NativeId(f"{self.number}[{self.task}]" if self.task else self.number)

    @property
    def array_job_id(self) -> str | None:
        """The array that a job belongs to."""
        return self.number if self.task else None

    @property
    def array_task_id(self) -> int | None:
        """The index of a job of an array as a number."""
        return int(self.task) if self.task else None


def parse_job_id(text: str) -> JobId:
    """Return the parts of an id; Torque wrote a task as ``45-2`` before 2.5.

    Raises:
        ValueError: it is none; a word such as ``all`` never is.

    >>> parse_job_id("45[2].server").short, parse_job_id("45-2").short
    ('45[2]', '45[2]')
    """
    match = _JOB_ID.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a job id: {text[:80]!r}")
    number, task, dashed, server = match.groups()
    return JobId(number, task if dashed is None else dashed, server)


def read_job_id(text: str) -> JobId | None:
    """Return the parts of an id; None for what is none."""
    try:
        return parse_job_id(text)
    except ValueError:
        return None


def parse_duration(text: str) -> float:
    """Return seconds: ``[[[D:]H:]M:]S``, each part as large as it likes; ``-5`` for overrun.

    Raises:
        ValueError: the text is not a duration.

    >>> parse_duration("1:30:00"), parse_duration("90")
    (5400.0, 90.0)
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a duration: {text[:80]!r}")
    parts = reversed(match[2].split(":"))
    seconds = sum(float(part) * unit for part, unit in zip(parts, _UNITS_OF_CLOCK, strict=False))
    return -seconds if match[1] else seconds


def parse_pbs_size(text: str) -> int:
    """Return bytes: ``4720kb``, ``2gb``, ``209715200b``, ``1000000``, ``16mw`` (words of 8 bytes).

    Raises:
        ValueError: the text is not a size.

    >>> parse_pbs_size("4720kb"), parse_pbs_size("2w")
    (4833280, 16)
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a size: {text[:80]!r}")
    power = " kmgtpe".index(match[2].lower() or " ")
    size = int(match[1]) << 10 * power
    return size * _WORD_BYTES if match[3].lower() == "w" else size


def parse_local_time(text: str | None) -> datetime | None:
    """Return a time of ``qstat -f`` (``Sun Nov 22 22:25:25 2026``), read as UTC, or None.

    The commands print the local time of their caller, who therefore sets ``TZ=UTC``, in English
    whatever the locale. Some write seconds since 1970.

    >>> str(parse_local_time("Sun Nov 22 22:25:25 2026"))
    '2026-11-22 22:25:25+00:00'
    """
    text = (text or "").strip()
    match = _LOCAL_TIME.fullmatch(text)
    if match is None:
        return from_epoch(int(text)) if _EPOCH.fullmatch(text) else None
    month, remainder = divmod(_MONTHS.find(match[1]), 3)
    day, hour, minute, second, year = map(int, match.groups()[1:])
    try:
        moment = datetime(
            year, 0 if remainder else month + 1, day, hour, minute, second, tzinfo=UTC
        )
    except ValueError:
        return None
    return moment if moment.year > 1970 else None


def read_figure(parse: Callable[[str], _Figure], text: str | None) -> _Figure | None:
    """Return a figure; None where it is missing, cannot be read, or is negative.

    One that cannot be read is not known, and costs nothing of what stands beside it.

    >>> read_figure(parse_duration, "0:10"), read_figure(parse_duration, "soon")
    (10.0, None)
    """
    try:
        figure = None if text is None else parse(text)
    except ValueError:
        return None
    return None if figure is None or figure < 0 else figure


def usage_of(attributes: Mapping[str, str], at: datetime | None) -> Usage:
    """Return what a job used by then; ``mem`` is the most resident memory so far.

    Args:
        attributes: as printed: ``resources_used.cput``.
        at: when it was sampled.
    """
    return Usage(
        cpu_seconds=read_figure(parse_duration, attributes.get("resources_used.cput")),
        max_memory_bytes=read_figure(parse_pbs_size, attributes.get("resources_used.mem")),
        sampled_at=at,
    )


def parse_whole(text: str | None) -> int | None:
    """Return a number without its fraction; None for anything else."""
    match = _WHOLE.fullmatch((text or "").strip())
    return None if match is None else int(match[1])


def hosts_in(exec_host: str | None) -> tuple[str, ...] | None:
    """Return the hosts in an ``exec_host``, each once, without the ports of ``exec_host2``.

    >>> hosts_in("a/0-1+b/0*4+a/7")
    ('a', 'b')
    """
    parts = (exec_host or "").split("+")
    names = (part.partition("/")[0].partition(":")[0].strip(" ()") for part in parts)
    return tuple(dict.fromkeys(filter(None, names))) or None


def slots_in(exec_host: str | None) -> int | None:
    """Return the number of slots in an ``exec_host``.

    >>> slots_in("a/0-1+b/0*4+c/7")
    7
    """
    return sum(map(_slots_of_host, filter(None, (exec_host or "").split("+")))) or None


def _slots_of_host(part: str) -> int:
    ranges = part.rpartition("/")[2].split(",")
    return sum(
        int(match[3] or 1) if match[2] is None else max(int(match[2]) - int(match[1]) + 1, 0)
        for match in map(_SLOTS.fullmatch, ranges)
        if match is not None
    )


def path_of(text: str | None) -> str | None:
    """Return the path of ``host:/path``, or of a path alone, which may hold colons."""
    host, colon, path = (text or "").partition(":")
    return (path if colon and path and "/" not in host else text) or None


def predecessors(depend: str | None) -> tuple[str, ...] | None:
    """Return the short ids of the jobs that come before this one; those of ``before…`` wait for it.

    >>> predecessors("afterok:160.host@host:161.host@host,beforeany:162.host")
    ('160', '161')
    """
    ids: list[str] = []
    for group in _AFTER.findall(depend or ""):
        for job in group.split(":"):
            job_id = read_job_id(job.partition("@")[0])
            ids += [] if job_id is None else [job_id.short]
    return tuple(dict.fromkeys(ids)) or None


def restored(raw: bytes) -> bytes:
    r"""Return the bytes that PBS was given; it prints ``ção`` as ``^\x03^\xe7^\x03^\xe3o``.

    Seen on 23.06.06 in every format and locale (recordings dsv.C, json.C). What does not become
    UTF-8 by that is left as it is.
    """
    if b"^" not in raw:
        return raw
    told = _CARETED.sub(lambda found: bytes([(found[1][0] - 64) % 256]), raw)
    try:
        told.decode("utf-8")
    except UnicodeDecodeError:
        return raw
    return told


def printable(text: str) -> str:
    """Return a text that every store and protocol takes: no NUL, no half of a character."""
    if _UNPRINTABLE.search(text) is None:
        return text
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return joined.replace("\0", "\ufffd")
