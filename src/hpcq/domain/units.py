"""Bytes, durations and times: parsed and printed."""

import re
from datetime import UTC, datetime

__all__ = [
    "GIBIBYTE",
    "format_clock",
    "format_share",
    "format_time",
    "from_epoch",
    "gibibytes",
    "now",
    "parse_clock",
    "parse_size",
]

GIBIBYTE = 2**30

_SIZE = re.compile(r"^([0-9]+(?:\.[0-9]*)?)\s*([KMGTPE]?)I?B?S?$", re.IGNORECASE)
_MULTIPLIER: dict[str, int] = {
    unit: 1 << 10 * power for power, unit in enumerate(["", "K", "M", "G", "T", "P", "E"])
}
# Nineteen digits are more than any clock shows, and fit a float.
_CLOCK = re.compile(
    r"^(?:([0-9]{1,19})-)?(?:(?:([0-9]{1,19}):)?([0-9]{1,19}):)?([0-9]{1,19}(?:\.[0-9]+)?)$"
)


def now() -> datetime:
    """Return the present, aware, in UTC."""
    return datetime.now(UTC)


def parse_size(text: str) -> float:
    """Return a size in bytes: ``"1.5G"``, ``"614.456MB"``, ``"12kb"``, ``"7"``.

    Multiples are binary (1K = 1024), as every scheduler here prints them.

    Raises:
        ValueError: the text is not a size.

    >>> parse_size("1.5K")
    1536.0
    """
    match = _SIZE.match(text.strip())
    if match is None:
        raise ValueError(f"not a size: {text!r}")
    return float(match[1]) * float(_MULTIPLIER[match[2].upper()])


def parse_clock(text: str) -> float:
    """Return a duration in seconds: ``"[D-][[HH:]MM:]SS[.fff]"``, hours unbounded.

    Raises:
        ValueError: the text is not a duration.

    >>> parse_clock("1-02:00:30")
    93630.0
    """
    match = _CLOCK.match(text.strip())
    if match is None:
        raise ValueError(f"not a duration: {text!r}")
    days, hours, minutes, seconds = match.groups()
    whole = int(days or 0) * 86400 + int(hours or 0) * 3600 + int(minutes or 0) * 60
    return whole + float(seconds)


def format_clock(seconds: int) -> str:
    """Return ``H:MM:SS`` with unbounded hours, as Grid Engine, PBS and Slurm take it.

    >>> format_clock(93630)
    '26:00:30'
    """
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def from_epoch(seconds: float | None) -> datetime | None:
    """Return an aware UTC time; None for None, zero or anything no clock can mean.

    Schedulers print 0 and huge sentinels for "never" (accounting(5), squeue(1)).
    """
    if seconds is None or not 0 < seconds < 253402300800:
        return None
    return datetime.fromtimestamp(seconds, UTC)


def format_time(moment: datetime) -> str:
    """Return RFC 3339 in UTC with milliseconds.

    Raises:
        ValueError: the time is naive.

    >>> format_time(datetime(2024, 1, 11, 11, 15, 53, tzinfo=UTC))
    '2024-01-11T11:15:53.000Z'
    """
    if moment.tzinfo is None:
        raise ValueError("a time without a zone cannot be put on the wire")
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"


def format_local_time(moment: datetime) -> str:
    """Return ISO 8601 in this machine's zone, which it does not name: ``2024-01-11T08:15:53``.

    Microseconds follow where there are any.

    Raises:
        ValueError: the time is naive.
    """
    if moment.tzinfo is None:
        raise ValueError("a time without a zone cannot be put on the wire")
    return moment.astimezone().replace(tzinfo=None).isoformat()


def format_share(share: float | None) -> str | None:
    """Return a share of 1 in percent; None stays None.

    >>> format_share(0.256)
    '26%'
    """
    return None if share is None else f"{share:.0%}"


def gibibytes(size_bytes: float | None) -> float | None:
    """Return a size in GB as the contract counts them (2**30 bytes); None stays None."""
    return None if size_bytes is None else size_bytes / GIBIBYTE
