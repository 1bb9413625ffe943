"""The efficiency of a finished job: the share of what it reserved that it used."""

import math
from dataclasses import dataclass

from hpcq.domain.jobs import JobRecord

__all__ = ["Efficiency", "efficiency_of"]

_DIGITS = 3


@dataclass(frozen=True, slots=True)
class Efficiency:
    """Shares of a reservation; 1.0 is all of it, and None is unknown.

    Attributes:
        cpu: the CPU time over the elapsed time of all slots.
        memory: the most memory over the memory limit.
    """

    cpu: float | None = None
    memory: float | None = None


def efficiency_of(record: JobRecord) -> Efficiency | None:
    """Return the efficiency of a job that has ended; None for any other.

    A whole array has none: its tasks ran at different times, each with its own reservation.
    """
    if not record.state.is_final:
        return None
    seen = record.seen
    if seen is None or seen.usage is None or record.is_array:
        return Efficiency()
    elapsed = None
    if seen.start_time is not None and seen.end_time is not None:
        elapsed = (seen.end_time - seen.start_time).total_seconds()
    slots, limit = seen.slots, seen.memory_limit_bytes
    if record.spec is not None:
        slots = record.spec.slots or slots
        limit = record.spec.memory_limit_bytes or limit
    return Efficiency(
        cpu=_share(seen.usage.cpu_seconds, elapsed, slots),
        memory=_share(seen.usage.max_memory_bytes, limit),
    )


def _share(used: float | None, *reserved: float | None) -> float | None:
    """Return the share of a product that was used; None when any of the figures is unknown."""
    if used is None or not math.isfinite(used):
        return None
    try:
        share = used
        for factor in reserved:
            share /= factor or math.nan
    except OverflowError:
        # A scheduler printed a number of several hundred digits.
        return None
    return round(share, _DIGITS) if math.isfinite(share) else None
