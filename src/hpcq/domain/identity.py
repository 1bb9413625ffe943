"""Which job an observation is about.

Schedulers use ids again (openpbs PR 686); so a key, the submission time, the owner or the name
has to agree as well.
"""

from datetime import datetime, timedelta

from hpcq.domain.jobs import JobRecord, Observation
from hpcq.domain.states import JobState

__all__ = ["same_job", "surely_same_job"]

# A scheduler's clock may be five minutes away from ours (apel 153), and a command takes its time.
_OTHER_CLOCK = timedelta(minutes=10)
# Its own answers agree, but for rounding.
_SAME_CLOCK = timedelta(seconds=2)


def same_job(record: JobRecord, seen: Observation) -> bool:
    """Whether an observation is about the record's job, as far as it can be told."""
    if record.native_id is not None and seen.native_id != record.native_id:
        return False
    if seen.submission_key is not None:
        return record.is_ours and seen.submission_key == record.key
    known = record.seen
    if known is not None and known.owner and seen.owner and known.owner != seen.owner:
        return False
    if seen.submit_time is None:
        return known is None or not _is_another_run_of_another_name(known, seen)
    if known is None or known.submit_time is None:
        return _may_have_been_submitted(record, seen.submit_time)
    later = seen.submit_time - known.submit_time
    # Slurm and Grid Engine note a job that is put back as submitted at that moment.
    return abs(later) <= _SAME_CLOCK or (_is_put_back(seen) and later > timedelta(0))


def surely_same_job(record: JobRecord, seen: Observation) -> bool:
    """Whether an observation proves to be about the record's job.

    Its key does so, or its id, owner and submission time together.
    """
    if not same_job(record, seen):
        return False
    if seen.submission_key is not None:
        return True
    known = record.seen
    return known is not None and None not in (
        known.owner,
        seen.owner,
        known.submit_time,
        seen.submit_time,
    )


def _is_put_back(seen: Observation) -> bool:
    return seen.state in (JobState.REQUEUED, JobState.REQUEUED_HELD)


def _is_another_run_of_another_name(known: Observation, seen: Observation) -> bool:
    """Whether a sight without a submission time shows neither the name nor the start known.

    Grid Engine lists running jobs so. A job may be renamed, but its start then stays.
    """
    if known.name is None or seen.name is None or known.name == seen.name:
        return False
    if known.start_time is None or seen.start_time is None:
        return True
    return abs(known.start_time - seen.start_time) > _SAME_CLOCK


def _may_have_been_submitted(record: JobRecord, moment: datetime) -> bool:
    """Whether a job whose submission time was not known may have been submitted then."""
    known = record.seen
    latest = record.created_at
    if known is not None:
        latest = max(latest, known.start_time or latest)
    elif record.confirmed_at is not None:
        # It was handed over, perhaps long after it was written down, and before it had an id.
        latest = max(latest, record.confirmed_at)
    if moment > latest + _OTHER_CLOCK:
        return False
    return not record.is_ours or moment >= record.created_at - _OTHER_CLOCK
