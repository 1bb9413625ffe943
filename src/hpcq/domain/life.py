"""How a job's record grows: our own intent and a scheduler's words become one history.

Pure functions; every one returns a new record and never changes the one it was given.
"""

from dataclasses import fields, replace
from datetime import datetime, timedelta

from hpcq.domain.jobs import JobRecord, JobSpec, JobUid, NativeId, Observation
from hpcq.domain.states import FailureKind, JobState

__all__ = [
    "cancel_requested",
    "first_sight",
    "held",
    "intent",
    "missed",
    "observe",
    "released",
    "removed_while_queued",
    "same_job",
    "submission_failed",
    "submission_uncertain",
    "submitted",
    "turned_up",
    "vanished",
]

# What a new answer does not mention stays as it was, except what belongs to one sight of the job
# and what a job that is not at its end, or waits to be started (again), cannot have.
_OF_ONE_SIGHT = frozenset({"native_state", "stage", "state_reason"})
_OF_THE_END = frozenset({"end_time", "exit_code", "exit_signal", "failure_kind"})
_OF_A_RUN = frozenset({"start_time", "hosts", "usage"})
_KEPT = tuple(f.name for f in fields(Observation) if f.name not in _OF_ONE_SIGHT | _OF_THE_END)
_KEPT_IN_QUEUE = tuple(name for name in _KEPT if name not in _OF_A_RUN)

# A scheduler's clock may be minutes away from ours (apel 153); its own two answers agree.
_OTHER_CLOCK = timedelta(minutes=10)
_SAME_CLOCK = timedelta(seconds=2)

_TAKEN_AFTER_ALL = "The scheduler took it; it has not said yet where it is."


def intent(uid: JobUid, spec: JobSpec, at: datetime) -> JobRecord:
    """Return the record of a job that is about to be handed to the scheduler."""
    return JobRecord(
        uid=uid,
        native_id=None,
        spec=spec,
        seen=None,
        state=JobState.QUEUED_HELD if spec.hold else JobState.QUEUED,
        state_reason="It is being handed to the scheduler.",
        created_at=at,
        state_changed_at=at,
    )


def submitted(record: JobRecord, native_id: NativeId, at: datetime) -> JobRecord:
    """Return the record after the scheduler took the job and gave it an id."""
    unclear = record.state is JobState.UNDETERMINED
    return record.changed(
        native_id=native_id,
        state_reason=_TAKEN_AFTER_ALL if unclear else None,
        confirmed_at=at,
    )


def submission_failed(record: JobRecord, reason: str, at: datetime) -> JobRecord:
    """Return the record of a job that the scheduler surely did not take."""
    return record.changed(
        state=JobState.FAILED, state_reason=reason, state_changed_at=at, confirmed_at=at
    )


def submission_uncertain(record: JobRecord, reason: str, at: datetime) -> JobRecord:
    """Return the record of a job that the scheduler may or may not have taken."""
    return record.changed(state=JobState.UNDETERMINED, state_reason=reason, state_changed_at=at)


def first_sight(cluster_id: str, seen: Observation, at: datetime) -> JobRecord:
    """Return the record of a job that was not submitted through this service."""
    return JobRecord(
        uid=JobUid.of_foreign(cluster_id, seen.native_id, seen.submit_time, seen.owner),
        native_id=seen.native_id,
        spec=None,
        seen=seen,
        state=seen.state,
        stage=seen.stage,
        state_reason=seen.state_reason,
        created_at=seen.submit_time or at,
        state_changed_at=seen.end_time or seen.start_time or seen.submit_time or at,
    )


def observe(record: JobRecord, new: Observation, at: datetime) -> JobRecord:
    """Return the record after the scheduler said something of the job.

    A final state stays: a scheduler's later word to the contrary is about another job or a
    mistake, and the caller reports it.
    """
    if record.state.is_final:
        return record
    merged = _overlay(record.seen, _blame_ourselves(record, new))
    moved = (merged.state, merged.stage) != (record.state, record.stage)
    return record.changed(
        native_id=record.native_id or new.native_id,
        seen=merged,
        state=merged.state,
        stage=merged.stage,
        state_reason=merged.state_reason,
        state_changed_at=_moment_of(merged, at) if moved else record.state_changed_at,
        confirmed_at=at if merged.state.is_final else None,
    )


def _overlay(old: Observation | None, new: Observation) -> Observation:
    if old is None:
        return new
    names = _KEPT_IN_QUEUE if new.state.is_queued else _KEPT
    kept = {name: getattr(old, name) for name in names if getattr(new, name) is None}
    return replace(new, **kept) if kept else new


def _blame_ourselves(record: JobRecord, new: Observation) -> Observation:
    """Call a job cancelled that a signal ended after we asked for it; some schedulers do not."""
    if (
        record.cancel_requested_at is not None
        and new.state is JobState.FAILED
        and new.failure_kind in (FailureKind.SIGNAL, FailureKind.UNKNOWN, None)
    ):
        return replace(new, failure_kind=FailureKind.CANCELLED)
    return new


def _moment_of(seen: Observation, at: datetime) -> datetime:
    if seen.state.is_final and seen.end_time is not None:
        return seen.end_time
    return at


def turned_up(record: JobRecord, seen: Observation, at: datetime) -> JobRecord:
    """Return the record of a job that was held never to have been taken, and now is seen."""
    return observe(record.changed(native_id=seen.native_id, state=JobState.UNDETERMINED), seen, at)


def missed(record: JobRecord, last_seen: datetime | None) -> JobRecord:
    """Return the record of a job that is not in the queue any more; where it is, is not said."""
    if record.confirmed_at is not None:
        return record
    return record.changed(confirmed_at=last_seen or record.state_changed_at)


def vanished(
    record: JobRecord, reason: str, *, last_seen: datetime | None, at: datetime
) -> JobRecord:
    """Return the record of a job that left the queue and is not in the accounting (yet)."""
    if record.state in (JobState.UNDETERMINED, JobState.DONE, JobState.FAILED):
        return record
    return record.changed(
        state=JobState.UNDETERMINED,
        stage=None,
        state_reason=reason,
        state_changed_at=at,
        confirmed_at=record.confirmed_at or last_seen,
    )


def cancel_requested(record: JobRecord, at: datetime) -> JobRecord:
    """Return the record after the scheduler was asked to end the job.

    One that ended before the answer came is held to have ended for that reason.
    """
    if record.cancel_requested_at is not None:
        return record
    asked = record.changed(cancel_requested_at=at)
    return (
        asked if record.seen is None else asked.changed(seen=_blame_ourselves(asked, record.seen))
    )


def removed_while_queued(record: JobRecord, at: datetime) -> JobRecord:
    """Return the record of a job that the scheduler deleted before it ever started."""
    if record.state.is_final or record.native_id is None:
        return record
    gone = Observation(
        native_id=record.native_id,
        state=JobState.FAILED,
        failure_kind=FailureKind.CANCELLED,
        state_reason="It was cancelled before it started.",
        end_time=at,
    )
    return observe(record, gone, at)


def held(record: JobRecord, at: datetime) -> JobRecord:
    """Return the record after the scheduler was asked to keep a queued job from starting."""
    now = {
        JobState.QUEUED: JobState.QUEUED_HELD,
        JobState.REQUEUED: JobState.REQUEUED_HELD,
    }.get(record.state)
    return record if now is None else record.changed(state=now, state_changed_at=at)


def released(record: JobRecord, at: datetime) -> JobRecord:
    """Return the record after the scheduler was asked to let a held job start."""
    now = {
        JobState.QUEUED_HELD: JobState.QUEUED,
        JobState.REQUEUED_HELD: JobState.REQUEUED,
    }.get(record.state)
    return record if now is None else record.changed(state=now, state_changed_at=at)


def same_job(record: JobRecord, seen: Observation) -> bool:
    """Whether an observation under the record's native id is about the record's job.

    Schedulers use ids again (openpbs PR 686); a key, the submission time or the owner tells.
    """
    if seen.submission_key is not None:
        return record.is_ours and seen.submission_key == record.key
    known = record.seen
    if known is not None and known.owner and seen.owner and known.owner != seen.owner:
        return False
    if seen.submit_time is None:
        return True
    if known is not None and known.submit_time is not None:
        return abs(known.submit_time - seen.submit_time) <= _SAME_CLOCK
    return abs(record.created_at - seen.submit_time) <= _OTHER_CLOCK
