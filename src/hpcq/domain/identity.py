"""Identity: the job that an observation is about.

Schedulers use ids again (openpbs PR 686); so a key, the submission time, the owner or the name
has to agree as well.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hpcq.domain.jobs import JobRecord, Observation
from hpcq.domain.states import JobState

__all__ = ["is_task_of", "same_job", "surely_same_job"]

# A scheduler's clock may be five minutes away from ours (apel 153), and a command takes its time.
_OTHER_CLOCK = timedelta(minutes=10)
# Its own answers agree, but for rounding.
_SAME_CLOCK = timedelta(seconds=2)
_ANY_TIME = datetime.min.replace(tzinfo=UTC)
_PUT_BACK = (JobState.REQUEUED, JobState.REQUEUED_HELD)


def same_job(record: JobRecord, seen: Observation) -> bool:
    """Return whether an observation is about the record's job, as far as it is known."""
    if record.native_id is not None and seen.native_id != record.native_id:
        return False
    if _is_another_accounts(record, seen):
        return False
    if seen.submission_key is not None:
        return record.submitted_here and seen.submission_key == record.key
    if seen.is_keyless and record.submitted_here:
        return False
    known = record.seen
    if known is not None and known.owner and seen.owner and known.owner != seen.owner:
        return False
    if seen.submit_time is None:
        return known is None or not _is_another_run_of_another_name(known, seen)
    earliest, latest = _submitted_between(record)
    # Slurm and Grid Engine note a job that is put back as submitted at that moment.
    was_put_back = seen.state in _PUT_BACK and not record.state.is_final
    return earliest <= seen.submit_time and (was_put_back or seen.submit_time <= latest)


def surely_same_job(record: JobRecord, seen: Observation) -> bool:
    """Return whether an observation proves to be about the record's job.

    Its key does so, or its id, owner and submission time together.
    """
    if not same_job(record, seen):
        return False
    if seen.submission_key is not None:
        return True
    known = record.seen
    if known is None or known.owner is None or known.owner != seen.owner:
        return False
    return _same_time(known.submit_time, seen.submit_time)


def is_task_of(parent: JobRecord, seen: Observation) -> bool:
    """Return whether an observation is about a task of the record's array, as far as is known.

    A task carries its array's key where the scheduler shows any; a script may have made an array
    of a job that was submitted as one job.
    """
    if seen.array_task_id is None or parent.parent_uid is not None:
        return False
    if parent.native_id is not None and seen.array_job_id != parent.native_id:
        return False
    if _is_another_accounts(parent, seen):
        return False
    if seen.submission_key is not None:
        return parent.submitted_here and seen.submission_key == parent.key
    if parent.native_id is None:
        return False
    submitted = seen.submit_time
    if not parent.state.is_final and submitted is not None:
        # Its number is in use; a task that was put back, or made late, is submitted later.
        submitted = min(submitted, parent.submit_time)
    return same_job(parent, replace(seen, native_id=parent.native_id, submit_time=submitted))


def _is_another_accounts(record: JobRecord, seen: Observation) -> bool:
    """Return whether the observed job is not of the account that the record's is.

    Whoever can see the key of a job can give it to one of their own.
    """
    return record.run_as is not None and seen.owner not in (None, record.run_as)


def _same_time(one: datetime | None, other: datetime | None) -> bool:
    return one is not None and other is not None and abs(one - other) <= _SAME_CLOCK


def _is_another_run_of_another_name(known: Observation, seen: Observation) -> bool:
    """Return whether a sight without a submission time shows neither the name nor the start known.

    Grid Engine lists running jobs so. A job may be renamed, but its start then stays.
    """
    if known.name is None or seen.name is None or known.name == seen.name:
        return False
    return not _same_time(known.start_time, seen.start_time)


def _submitted_between(record: JobRecord) -> tuple[datetime, datetime]:
    """Return the earliest and the latest that the job may be said to have been submitted."""
    known = record.seen
    if known is not None and known.submit_time is not None:
        return known.submit_time - _SAME_CLOCK, known.submit_time + _SAME_CLOCK
    earliest = record.created_at - _OTHER_CLOCK if record.submitted_here else _ANY_TIME
    latest = record.created_at
    if known is not None:
        latest = max(latest, known.start_time or latest)
    elif record.confirmed_at is not None:
        # It was handed over, perhaps long after it was written down, and before it had an id.
        latest = max(latest, record.confirmed_at)
    return earliest, latest + _OTHER_CLOCK
