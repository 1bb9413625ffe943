"""Single fields of Slurm's answers: ids, times, sizes, node lists."""

import functools
import itertools
import re
from collections.abc import Iterator
from datetime import UTC, datetime

from hpcq.domain.errors import excerpt
from hpcq.domain.jobs import NativeId
from hpcq.domain.units import from_epoch, parse_clock, parse_size

__all__ = [
    "MAX_HOSTS",
    "array_of",
    "base_id",
    "decode",
    "dependencies",
    "exit_status",
    "expand_hosts",
    "integer",
    "is_job_id",
    "known",
    "limit_seconds",
    "moment",
    "tres",
    "tres_bytes",
    "unreadable_excerpt",
]

# What the commands print where there is nothing to say (squeue(1), sacct(1), opt_time_str).
_NOTHING = frozenset(
    {
        "",
        "(null)",
        "N/A",
        "NONE",
        "None",
        "None assigned",
        "Unknown",
        "UNLIMITED",
        "NOT_SET",
        "INVALID",
        "INVALID TIME",
        "Partition_Limit",
        "Partition Limit",
    }
)
MAX_HOSTS = 10_000
"""A list that stands for more than this is left as printed."""

_PART = re.compile(r"[^,\[]*(?:\[[^\]]*\][^,\[]*)*")
_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_JOB_ID = re.compile(r"([1-9][0-9]{0,9})(?:([_+])([0-9]{1,9}))?")
_LARGEST_JOB_ID = 0xFFFF_FFFD
"""The numbers behind it are marks of Slurm's (NO_VAL in slurm.h); sacct takes 2^32 for all jobs."""
_YEAR_SECONDS = 365 * 86400
_DEPENDENCY_ID = re.compile(r"[:?,]([0-9]+(?:_[0-9]+)?)(?![0-9])")


def decode(data: bytes) -> str:
    r"""Return text that can go into JSON; a byte that is not UTF-8 becomes ``\xNN``."""
    return data.decode("utf-8", "backslashreplace")


def unreadable_excerpt(data: bytes) -> str:
    """Return the beginning of a record that could not be read, printable."""
    return excerpt(data, 120)


def known(text: str) -> str | None:
    """Return the text; None for each of Slurm's ways to say nothing."""
    return None if text in _NOTHING else text


def integer(text: str) -> int | None:
    """Return a count; None when there is none or it has a suffix we do not know."""
    return int(text) if text.isascii() and text.isdigit() else None


@functools.lru_cache(maxsize=4096)
def moment(text: str) -> datetime | None:
    """Return an aware time; None for nothing and for nonsense.

    Args:
        text: epoch seconds (``SLURM_TIME_FORMAT=%s``), or ISO 8601 in UTC (``TZ=UTC``), which
            versions print that do not know the former.

    >>> str(moment("1704971753"))
    '2024-01-11 11:15:53+00:00'
    """
    if text.isascii() and text.isdigit():
        return from_epoch(int(text)) if len(text) < 14 else None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        return None


@functools.lru_cache(maxsize=4096)
def limit_seconds(text: str) -> int | None:
    """Return squeue's time limit (``1-00:00:00``, ``2:00``); None for no limit.

    A job that asked for none, and that backfill starts, is given 365 days (seen in 22.05 to 26.11).

    >>> limit_seconds("1-00:00:00")
    86400
    """
    if known(text) is None:
        return None
    try:
        seconds = int(parse_clock(text))
    except ValueError:
        return None
    return None if seconds == _YEAR_SECONDS else seconds


def tres(text: str) -> dict[str, str]:
    """Return trackable resources by name: ``cpu=2,mem=200M,fs/disk=7`` (tres in sacct(1)).

    >>> tres("cpu=2,mem=200M")
    {'cpu': '2', 'mem': '200M'}
    """
    return dict(item.split("=", 1) for item in text.split(",") if "=" in item)


def tres_bytes(resources: dict[str, str], name: str) -> float | None:
    """Return one resource that is a size, in bytes; None when absent or unreadable."""
    try:
        return parse_size(resources[name])
    except (KeyError, ValueError):
        return None


def is_job_id(text: str) -> bool:
    """Return whether a text can be the id of one job, task or component.

    Slurm's commands take others for something else: ``0`` for all jobs, ``9[2]`` for job 92.

    >>> is_job_id("12_3"), is_job_id("9[2]")
    (True, False)
    """
    match = _JOB_ID.fullmatch(text)
    return match is not None and int(match[1]) <= _LARGEST_JOB_ID


def base_id(text: str) -> str:
    """Return the id that sbatch printed: ``12`` of the task ``12_3``, the component ``12+1``."""
    return re.split(r"[_+]", text, maxsplit=1)[0]


def array_of(native_id: NativeId) -> tuple[str | None, int | None]:
    """Return the whole's id and the task's number: ``12_3`` is task 3 of ``12``, ``12+1`` is 1.

    >>> array_of(NativeId("12_3")), array_of(NativeId("12"))
    (('12', 3), (None, None))
    """
    match = _JOB_ID.fullmatch(native_id)
    return (None, None) if match is None or match[2] is None else (match[1], int(match[3]))


def exit_status(text: str) -> tuple[int, int]:
    """Return exit code and signal.

    Args:
        text: ``CODE:SIGNAL`` (sacct, and squeue since 23.02), or the status as wait(2) gives it
            (squeue until 22.05).

    >>> exit_status("0:9"), exit_status("256")
    ((0, 9), (1, 0))
    """
    code, has_signal, signal = text.partition(":")
    if has_signal:
        return integer(code) or 0, integer(signal) or 0
    status = integer(text) or 0
    return (0, status & 0x7F) if status & 0x7F else (status >> 8, 0)


def dependencies(text: str) -> tuple[str, ...] | None:
    """Return the ids of the jobs that a job waits for.

    >>> dependencies("afterok:12(unfulfilled),afterany:13_1(unfulfilled)")
    ('12', '13_1')
    """
    if text in _NOTHING:
        return None
    return tuple(_DEPENDENCY_ID.findall(text)) or None


@functools.lru_cache(maxsize=4096)
def expand_hosts(text: str) -> tuple[str, ...]:
    """Return the single names in a node list, in order; the text where it is no such list.

    Several brackets in a name multiply out (``r[1-2]n[1-2]``); leading zeros are kept.

    >>> expand_hosts("n[08-10,7],gpu1")
    ('n08', 'n09', 'n10', 'n7', 'gpu1')
    """
    if "[" not in text:
        return tuple(text.split(","))
    try:
        names = tuple(itertools.islice(_expand(text), MAX_HOSTS + 1))
    except ValueError:
        return (text,)
    return names if len(names) <= MAX_HOSTS else (text,)


def _expand(text: str) -> Iterator[str]:
    position = 0
    while position <= len(text):
        match = _PART.match(text, position)
        if match is None or (match.end() < len(text) and text[match.end()] != ","):
            raise ValueError(f"not a node list: {text!r}")
        yield from _multiply(match[0])
        position = match.end() + 1


def _multiply(part: str) -> Iterator[str]:
    pieces = re.split(r"\[([^\]]*)\]", part)
    choices = [_numbers(p) if i % 2 else [p] for i, p in enumerate(pieces)]
    return map("".join, itertools.product(*choices))


def _numbers(ranges: str) -> list[str]:
    names: list[str] = []
    for item in ranges.split(","):
        match = _RANGE.fullmatch(item)
        if match is None:
            raise ValueError(f"not a range: {item!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last - first > MAX_HOSTS:
            raise ValueError(f"too long a range: {item!r}")
        names.extend(str(number).zfill(len(match[1])) for number in range(first, last + 1))
    return names
