"""Ids, durations, sizes and times as PBS and its descendants print them; pure."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from hpcq.domain.jobs import NativeId

__all__ = ["JobId", "parse_duration", "parse_job_id", "parse_local_time", "parse_pbs_size"]

_JOB_ID = re.compile(r"([0-9]{1,18})(?:\[([0-9]{0,9})\])?(?:\.([A-Za-z0-9][A-Za-z0-9._-]{0,252}))?")
_SIZE = re.compile(r"([0-9]{1,19})([kmgtpe]?)([bw]?)", re.IGNORECASE)
_WORD_BYTES = 8
_DURATION = re.compile(r"(-?)((?:[0-9]{1,18}:){0,3}[0-9]{1,18}(?:\.[0-9]+)?)")
_UNITS_OF_CLOCK = (1, 60, 3600, 86400)
_LOCAL_TIME = "%a %b %d %H:%M:%S %Y"


@dataclass(frozen=True, slots=True)
class JobId:
    """One id as the commands print it: ``45.server``, ``45[].server``, ``45[2].server``.

    Attributes:
        number: the sequence number, digits.
        task: the index of a job of an array; empty for the array itself, None for a plain job.
        server: what stands after the dot; None without one.
    """

    number: str
    task: str | None = None
    server: str | None = None

    @property
    def is_array(self) -> bool:
        """Whether it names a whole array: commands must not get it where one job is meant."""
        return self.task == ""

    @property
    def short(self) -> NativeId:
        """The id without the server; an array is called by its number alone."""
        return NativeId(f"{self.number}[{self.task}]" if self.task else self.number)


def parse_job_id(text: str) -> JobId:
    """Return the parts of an id.

    Raises:
        ValueError: it is none; a word such as ``all`` never is.
    """
    match = _JOB_ID.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a job id: {text[:80]!r}")
    return JobId(match[1], match[2], match[3])


def parse_duration(text: str) -> float:
    """Return seconds: ``[[[D:]H:]M:]S``, each part as large as it likes; ``-5`` for overrun.

    Raises:
        ValueError: the text is not a duration.
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
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a size: {text[:80]!r}")
    power = " kmgtpe".index(match[2].lower() or " ")
    size = int(match[1]) << 10 * power
    return size * _WORD_BYTES if match[3].lower() == "w" else size


def parse_local_time(text: str | None) -> datetime | None:
    """Return a time of ``qstat -f`` (``Sun Nov 22 22:25:25 2026``), read as UTC, or None.

    The commands print the local time of their caller, who therefore sets ``TZ=UTC``.
    """
    try:
        moment = datetime.strptime((text or "").strip(), _LOCAL_TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
    return moment if moment.year > 1970 else None
