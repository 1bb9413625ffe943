"""Single fields of Slurm's answers: ids, times, sizes, paths."""

import functools
import re
from datetime import UTC, datetime

from hpcq.domain.errors import excerpt
from hpcq.domain.jobs import NativeId
from hpcq.domain.units import from_epoch, parse_clock, parse_size

__all__ = [
    "array_of",
    "base_id",
    "decode",
    "dependencies",
    "exit_status",
    "expand_output_path",
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
_JOB_ID = re.compile(r"([1-9][0-9]{0,9})(?:([_+])([0-9]{1,9}))?")
_LARGEST_JOB_ID = 0xFFFF_FFFD
"""The numbers behind it are marks of Slurm's (NO_VAL in slurm.h); sacct takes 2^32 for all jobs."""
_YEAR_SECONDS = 365 * 86400
_DEPENDENCY_ID = re.compile(r"[:?,]([0-9]+(?:_[0-9]+)?)(?![0-9])")
_SUBSTITUTE = re.compile(r"%(?:([0-9]+)?([AajuxNJnstb%])|(.?))")


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
    """
    if known(text) is None:
        return None
    try:
        seconds = int(parse_clock(text))
    except ValueError:
        return None
    return None if seconds == _YEAR_SECONDS else seconds


def tres(text: str) -> dict[str, str]:
    """Return trackable resources by name: ``cpu=2,mem=200M,fs/disk=7`` (tres in sacct(1))."""
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
    """
    match = _JOB_ID.fullmatch(text)
    return match is not None and int(match[1]) <= _LARGEST_JOB_ID


def base_id(text: str) -> str:
    """Return the id that sbatch printed: ``12`` of the task ``12_3``, the component ``12+1``."""
    return re.split(r"[_+]", text, maxsplit=1)[0]


def array_of(native_id: NativeId) -> tuple[str | None, int | None]:
    """Return the whole's id and the task's number: ``12_3`` is task 3 of ``12``, ``12+1`` is 1."""
    match = _JOB_ID.fullmatch(native_id)
    return (None, None) if match is None or match[2] is None else (match[1], int(match[3]))


def exit_status(text: str) -> tuple[int, int]:
    """Return exit code and signal.

    Args:
        text: ``CODE:SIGNAL`` (sacct, and squeue since 23.02), or the status as wait(2) gives it
            (squeue until 22.05).
    """
    code, has_signal, signal = text.partition(":")
    if has_signal:
        return integer(code) or 0, integer(signal) or 0
    status = integer(text) or 0
    return (0, status & 0x7F) if status & 0x7F else (status >> 8, 0)


def dependencies(text: str) -> tuple[str, ...] | None:
    """Return the ids a job waits for: ``afterok:12(unfulfilled),afterany:13_1``."""
    if text in _NOTHING:
        return None
    return tuple(_DEPENDENCY_ID.findall(text)) or None


def expand_output_path(
    pattern: str,
    native_id: NativeId,
    raw_id: str,
    name: str,
    owner: str | None,
    directory: str | None = None,
) -> str | None:
    """Return the path that an output file gets (sbatch(1), FILENAME PATTERN).

    Args:
        pattern: as squeue prints it; with patterns and relative by version.
        native_id: the job, as users know it.
        raw_id: the number that Slurm gives each array task.
        name: the job's name.
        owner: the user's name.
        directory: where a relative one begins.

    None when it depends on more than that, such as the node.
    """
    if known(pattern) is None:
        return None
    if not pattern.startswith("/"):
        path = expand_output_path(f"/{pattern}", native_id, raw_id, name, owner, None)
        return None if path is None or directory is None else directory.rstrip("/") + path
    if "\\" in pattern:
        return re.sub(r"\\(.?)", r"\1", pattern)
    _, task = array_of(native_id)
    values = {
        "A": base_id(native_id),
        "a": str(task or 0),
        "j": raw_id,
        "x": name,
        "u": owner,
        "%": "%",
    }
    parts, position = [], 0
    for match in _SUBSTITUTE.finditer(pattern):
        value = values.get(match[2])
        if value is None and match[2] is not None:
            return None
        width = min(int(match[1] or 0), 10)
        text = match[0] if value is None else value.zfill(width) if match[2] in "Aaj" else value
        parts += [pattern[position : match.start()], text]
        position = match.end()
    return "".join([*parts, pattern[position:]])
