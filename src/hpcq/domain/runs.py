"""Runs of a job: a job that is put back runs again under the same id.

Accounting may lag, show the run before last first, or show all of them. All times compared here
are the scheduler's own. Its hosts' clocks may differ, so the nearest start tells which run it is.
An end after the newest start that is known is the newest run's, whatever start comes with it.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from hpcq.domain.arrays import is_whole_array
from hpcq.domain.identity import same_job, surely_same_job
from hpcq.domain.jobs import JobRecord, Observation
from hpcq.domain.states import JobState

__all__ = ["begins_again", "goes_on", "is_of_earlier_run", "is_of_later_run", "newest"]

# A listing shows whole seconds where accounting may have milliseconds.
_RESOLUTION = timedelta(seconds=1)
# No two clocks of a cluster are further apart: an end before this is another run's.
_CLOCKS_APART = timedelta(minutes=5)
# Another submission time, not another rounding.
_SUBMITTED_ANEW = timedelta(seconds=2)

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def newest(record: JobRecord, answers: Iterable[Observation]) -> Observation | None:
    """Return the answer about the newest run of the record's job.

    Args:
        record: the job.
        answers: what accounting has under its id, in its order: runs of it and other jobs.

    Returns:
        None when there is none, or only of runs that are known to be over.
    """
    ours = [one for one in answers if same_job(record, one) and not is_of_earlier_run(record, one)]
    # Of equals, as without times, the last in the order of the accounting.
    return max(reversed(ours), key=_age, default=None)


def _age(seen: Observation) -> datetime:
    return seen.start_time or seen.end_time or seen.submit_time or _LONG_AGO


def is_of_earlier_run(record: JobRecord, seen: Observation) -> bool:
    """Return whether an observation is about a run that is known to have ended."""
    known = record.seen
    if known is None:
        return False
    over, current = record.earlier_start, known.start_time
    began, ended = seen.start_time, seen.end_time
    if current is not None and ended is not None and ended > current:
        # An array begins with its first task, and may be known by the start of a later one.
        return False
    if _anew(seen, known):
        return True
    if began is None:
        # It was ended while it waited.
        return over is not None and ended is not None and ended < over
    if current is not None and began < current - _CLOCKS_APART:
        return True
    if over is None:
        return False
    if current is None:
        return began < over + _RESOLUTION
    return began - over < current - began


def is_of_later_run(record: JobRecord, seen: Observation) -> bool:
    """Return whether an observation proves that a finished job was requeued since."""
    known = record.seen
    if known is None or not surely_same_job(record, seen) or is_of_earlier_run(record, seen):
        return False
    if _anew(known, seen):
        return True
    if known.start_time is None:
        # It ended while it waited, by our own clock perhaps; this may be from before that.
        return False
    if seen.state.is_queued:
        return seen.state in (JobState.REQUEUED, JobState.REQUEUED_HELD)
    if seen.start_time is None or known.end_time is None:
        return False
    return seen.start_time > known.end_time and begins_again(known, seen)


def begins_again(known: Observation, seen: Observation) -> bool:
    """Return whether a job is seen in another run than before, without having been seen to wait.

    Of an array that began earlier only the newest tasks may be seen.
    """
    if is_whole_array(seen):
        return False
    if known.start_time is None or seen.start_time is None:
        return False
    return seen.start_time >= known.start_time + _RESOLUTION


def goes_on(start: datetime | None, seen: Observation) -> bool:
    """Return whether a job is seen in the run that began at ``start``."""
    if start is None or seen.start_time is None:
        return False
    return abs(seen.start_time - start) < _RESOLUTION


def _anew(old: Observation, new: Observation) -> bool:
    """Return whether ``new`` was put back, or submitted, after ``old`` was."""
    if old.submit_time is None or new.submit_time is None:
        return False
    return new.submit_time > old.submit_time + _SUBMITTED_ANEW
