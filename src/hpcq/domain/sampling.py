"""Samples of a running job's usage: at most 513 are kept, however long it runs.

Pure. The longer a job runs, the further apart its samples stand: by its resolution, a power of two
of seconds. Each stretch of that length has room for one sample, the first that came.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from hpcq.domain.jobs import JobRecord, Usage
from hpcq.domain.states import JobState

__all__ = ["SAMPLES_AT_MOST", "Sample", "resolution", "sample", "thinned"]

_STRETCHES = 512
SAMPLES_AT_MOST = _STRETCHES + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The usage of a job at one moment of its run.

    Attributes:
        record: the job.
        usage: the figures, with their time.
        taken_at: when they were taken, by the scheduler's clock if it said so; aware.
        began_at: when this run of the job began, by the same clock.
        second: the beginning of its stretch, in seconds since then.
        resolution: the length of its stretch, in seconds.
    """

    record: JobRecord
    usage: Usage
    taken_at: datetime
    began_at: datetime
    second: int
    resolution: int


def resolution(elapsed_seconds: float) -> int:
    """Return how far apart samples stand: the smallest power of two of at least 1/512 of the time.

    Args:
        elapsed_seconds: since the run began.

    >>> resolution(3600)
    8
    """
    length = 1
    while length * _STRETCHES < elapsed_seconds:
        length *= 2
    return length


def sample(old: JobRecord | None, new: JobRecord, at: datetime) -> Sample | None:
    """Return the sample that a new figure makes, or None when there is none.

    Only running jobs of ours are sampled.

    Args:
        old: the job's record before.
        new: the record now.
        at: the present, aware; for figures without a time.
    """
    seen = new.seen
    if (
        seen is None
        or seen.usage is None
        or not new.submitted_here
        or new.state is not JobState.RUNNING
    ):
        return None
    if old is not None and old.seen is not None and old.seen.usage == seen.usage:
        return None
    taken_at = seen.usage.sampled_at or at
    began_at = seen.start_time or new.submit_time
    elapsed = max(0.0, (taken_at - began_at).total_seconds())
    length = resolution(elapsed)
    return Sample(
        record=new,
        usage=replace(seen.usage, sampled_at=taken_at),
        taken_at=taken_at,
        began_at=began_at,
        second=int(elapsed // length) * length,
        resolution=length,
    )


def thinned(seconds: list[int], length: int) -> list[int]:
    """Return those of a job's samples that stay when the resolution has become coarser.

    Args:
        seconds: where they stand, in ascending order.
        length: the new resolution.

    >>> thinned([0, 1, 2, 3, 5], 2)
    [0, 2, 5]
    """
    first: dict[int, int] = {}
    for second in seconds:
        first.setdefault(second // length, second)
    return list(first.values())
