"""How a job's record grows: what we did and what a scheduler says become one history.

How it got to the scheduler is told in `hpcq.domain.submission`.

Pure functions; every one returns a new record and never changes the one it was given.
"""

from dataclasses import fields, replace
from datetime import UTC, datetime

from hpcq.domain import runs
from hpcq.domain.arrays import is_whole
from hpcq.domain.causes import attribute, without_unearned_end
from hpcq.domain.events import Contradiction
from hpcq.domain.identity import is_task_of, same_job
from hpcq.domain.jobs import JobRecord, JobUid, NativeId, Observation
from hpcq.domain.states import FailureKind, JobState
from hpcq.domain.transitions import WAITS_AGAIN, may_move

__all__ = [
    "cancel_requested",
    "completed",
    "contradiction",
    "first_sight",
    "held",
    "is_task_of",
    "lacks_usage",
    "last_sight",
    "missed",
    "observe",
    "released",
    "removed_while_queued",
    "same_job",
    "task_of",
    "turned_up",
    "vanished",
    "with_details",
]

# What a new answer does not mention stays as it was, except what belongs to one sight of the job
# and what a job that is not at its end, or waits to be started (again), cannot have.
_OF_ONE_SIGHT = frozenset({"native_state", "stage", "state_reason"})
_OF_THE_END = frozenset({"end_time", "exit_code", "exit_signal", "failure_kind"})
_OF_A_RUN = frozenset({"start_time", "hosts", "usage"})
_KEPT = tuple(f.name for f in fields(Observation) if f.name not in _OF_ONE_SIGHT | _OF_THE_END)
_KEPT_IN_QUEUE = tuple(name for name in _KEPT if name not in _OF_A_RUN)
# What only a job that was started can be.
_STARTED = frozenset(
    {JobState.RUNNING, JobState.SUSPENDED, JobState.REQUEUED, JobState.REQUEUED_HELD}
)
_NOT_SAID = (None, None)


def first_sight(cluster_id: str, seen: Observation, at: datetime) -> JobRecord:
    """Return the record of a job that was not submitted through this service."""
    seen = _possible(without_unearned_end(seen))
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


def task_of(parent: JobRecord, native_id: NativeId, number: int, at: datetime) -> JobRecord:
    """Return the record of a task of an array of ours of which nothing was seen yet.

    What was asked for is its array's, and so is a wish to end the array.

    Args:
        parent: the array, which came through this service.
        native_id: the task's own id.
        number: its number in the array.
        at: now, aware.
    """
    if parent.spec is None:
        raise ValueError("only an array that came through this service has tasks of ours")
    return JobRecord(
        uid=parent.uid.of_task(number),
        native_id=native_id,
        # Nobody submits it again: its variables need not be kept once more.
        spec=replace(parent.spec, array=None, environment={}),
        seen=None,
        state=JobState.UNDETERMINED,
        created_at=parent.created_at,
        state_changed_at=at,
        cancel_requested_at=parent.cancel_requested_at,
        removed_at=parent.removed_at,
        parent_uid=parent.uid,
    )


def observe(record: JobRecord, new: Observation, at: datetime) -> JobRecord:
    """Return the record after the scheduler said something of its job.

    A run that is known to be over is no news. A final state stays, unless the scheduler shows
    that it put the same job back: then the job waits again, and the next word says what came of
    it. What cannot be is not taken in; `contradiction` says what that is.

    Args:
        record: the job.
        new: about the same job (`same_job`).
        at: when the scheduler was asked, aware.
    """
    if record.state.is_final:
        return _reopened(record, new, at) if runs.is_of_later_run(record, new) else record
    if new.state.is_final and runs.is_of_earlier_run(record, new):
        return record
    state = _waits_again(record, new) if _has_run(record) else new.state
    if not may_move(record.state, state):
        return record
    return _moved(record, replace(attribute(record, new), state=state), at)


def with_details(record: JobRecord, seen: Observation, at: datetime) -> JobRecord:
    """Return the record with what a detailed answer adds; where it is, the queue has told."""
    if record.state.is_final or record.state is JobState.UNDETERMINED or record.seen is None:
        return record
    adds = replace(
        seen,
        state=record.state,
        stage=record.stage,
        native_state=seen.native_state or record.seen.native_state,
        state_reason=seen.state_reason or record.state_reason,
        start_time=seen.start_time or record.seen.start_time,
    )
    known = observe(record, adds, at)
    return known.changed(state_changed_at=record.state_changed_at, confirmed_at=record.confirmed_at)


def _waits_again(record: JobRecord, new: Observation) -> JobState:
    """Return what a state means of a job that has been started before."""
    if new.state.is_queued and (is_whole(new) or record.is_array):
        # Some of its tasks are over, and the others wait.
        return JobState.RUNNING
    return WAITS_AGAIN.get(new.state, new.state)


def _moved(record: JobRecord, new: Observation, at: datetime) -> JobRecord:
    merged = _overlay(record.seen, new)
    moved = (merged.state, merged.stage) != (record.state, record.stage)
    return record.changed(
        native_id=record.native_id or new.native_id,
        seen=merged,
        state=merged.state,
        stage=merged.stage,
        state_reason=merged.state_reason,
        state_changed_at=_moment_of(merged, at) if moved else record.state_changed_at,
        confirmed_at=at if merged.state.is_final else None,
        abandoned_at=None,
        # A wish to end it from before it was known to be there is still to be carried out.
        hand_over=None if record.cancel_requested_at is None else record.hand_over,
        earlier_start=_earlier_start(record, new),
    )


def _reopened(record: JobRecord, new: Observation, at: datetime) -> JobRecord:
    """Return the record of a job that ended and was put back; our wish to end it is fulfilled."""
    held = new.state in (JobState.QUEUED_HELD, JobState.REQUEUED_HELD)
    waits = replace(
        new,
        state=JobState.REQUEUED_HELD if held else JobState.REQUEUED,
        stage=None,
    )
    return _moved(record.changed(cancel_requested_at=None), waits, at)


def _has_run(record: JobRecord) -> bool:
    known = record.seen
    return (
        record.earlier_start is not None
        or record.state in _STARTED
        or (known is not None and (known.state in _STARTED or known.start_time is not None))
    )


def _earlier_start(record: JobRecord, new: Observation) -> datetime | None:
    """Return when the newest run that is over began, given the newest word."""
    known = record.seen
    if known is None or new.state.is_final:
        return record.earlier_start
    if new.state.is_queued or runs.begins_again(known, new):
        return known.start_time or record.earlier_start
    if known.start_time is None and runs.goes_on(record.earlier_start, new):
        # It was taken for over too early.
        return None
    return record.earlier_start


def _overlay(old: Observation | None, new: Observation) -> Observation:
    if old is None:
        return _possible(without_unearned_end(new))
    waits = new.state.is_queued
    again = not new.state.is_final and runs.begins_again(old, new)
    names = _KEPT_IN_QUEUE if waits or again else _KEPT
    kept = {name: getattr(old, name) for name in names if getattr(new, name) is None}
    if is_whole(new) and old.start_time is not None and new.start_time is not None:
        # Its first tasks may be over and gone.
        kept["start_time"] = min(old.start_time, new.start_time)
    merged = replace(new, **kept) if kept else new
    has_run = old.state in _STARTED or old.start_time is not None
    return _possible(merged if has_run else without_unearned_end(merged))


def _possible(seen: Observation) -> Observation:
    """Return what is said without what cannot be: an end of what goes on, a run of what waits."""
    if not seen.state.is_final:
        never = _OF_THE_END | _OF_A_RUN if seen.state.is_queued else _OF_THE_END
        said = [name for name in never if getattr(seen, name) is not None]
        return replace(seen, **dict.fromkeys(said)) if said else seen  # type: ignore[arg-type]
    began, end = seen.start_time or seen.submit_time, seen.end_time
    if began is not None and end is not None and end < began:
        # The clocks of two hosts, or ours and the scheduler's.
        return replace(seen, end_time=began)
    return seen


def _moment_of(seen: Observation, at: datetime) -> datetime:
    if seen.state.is_final and seen.end_time is not None:
        return seen.end_time
    return at


def lacks_usage(record: JobRecord) -> bool:
    """Whether a job ran to its end, and what it used in all was never said."""
    seen = record.seen
    if seen is None or not record.state.is_final or seen.start_time is None:
        return False
    sampled_at = None if seen.usage is None else seen.usage.sampled_at
    return sampled_at is None or (seen.end_time is not None and sampled_at < seen.end_time)


def completed(record: JobRecord, seen: Observation) -> JobRecord:
    """Return the record of an ended job with the usage that accounting tells later.

    How it ended stays as it is known.
    """
    if record.seen is None or seen.usage is None or not lacks_usage(record):
        return record
    return record.changed(seen=replace(record.seen, usage=seen.usage))


def turned_up(record: JobRecord, seen: Observation, at: datetime) -> JobRecord:
    """Return the record of a job that was held never to have been taken, and now is seen.

    Where it is, the next sight tells.
    """
    return record.changed(
        native_id=seen.native_id,
        state=JobState.UNDETERMINED,
        state_reason="The scheduler has it, although it did not seem to have taken it.",
        state_changed_at=at,
    )


def missed(record: JobRecord, last_seen: datetime | None) -> JobRecord:
    """Return the record of a job that is not in the queue any more; where it is, is not said."""
    if record.confirmed_at is not None:
        return record
    return record.changed(confirmed_at=last_seen or record.state_changed_at)


def vanished(
    record: JobRecord, reason: str, *, last_seen: datetime | None, at: datetime
) -> JobRecord:
    """Return the record of a job that left the queue and is not in the accounting (yet)."""
    if record.state is JobState.UNDETERMINED or record.state.is_final:
        return record
    confirmed = record.changed(confirmed_at=record.confirmed_at or last_seen)
    return confirmed.changed(
        state=JobState.UNDETERMINED,
        stage=None,
        state_reason=reason + last_sight(confirmed),
        state_changed_at=at,
    )


def last_sight(record: JobRecord) -> str:
    """Return a sentence on when, and how, a job that left the queue was last seen in it.

    It begins with a blank; empty when that is not known.
    """
    if record.seen is None or record.confirmed_at is None:
        return ""
    return (
        f" All that is known of it is this service's own last sight: {record.seen.state} at"
        f" {record.confirmed_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC."
    )


def cancel_requested(record: JobRecord, at: datetime) -> JobRecord:
    """Return the record after the scheduler was asked to end the job.

    One that ended before the answer came is held to have ended for that reason.
    """
    if record.cancel_requested_at is not None:
        return record
    asked = record.changed(cancel_requested_at=at)
    return asked if record.seen is None else asked.changed(seen=attribute(asked, record.seen))


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
    if record.seen is None:
        return _moved(record, gone, at)
    waited = _possible(replace(record.seen, state=JobState.QUEUED))
    return _moved(record.changed(seen=waited), gone, at)


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


def contradiction(record: JobRecord, seen: Observation) -> Contradiction | None:
    """Return what is impossible about an observation, or None when a legal life explains it.

    `observe` leaves the record as it is. A run of the job that is known to be over is none, nor
    is a submission that was given up and turns up.

    Args:
        record: the job whose key the observation carries, or whose id.
        seen: from the queue, from accounting or from details.
    """
    reason = _impossible(record, seen)
    if reason is None:
        return None
    return Contradiction(
        uid=record.uid,
        native_id=seen.native_id,
        held=record.state,
        said=seen.state,
        native_state=seen.native_state,
        reason=reason,
    )


def _impossible(record: JobRecord, seen: Observation) -> str | None:
    if record.is_ours and seen.submission_key == record.key and not same_job(record, seen):
        return (
            f"The job {seen.native_id} carries the key of this one, to which the scheduler had "
            f"given the id {record.native_id}."
        )
    if not record.state.is_final or record.native_id is None or not same_job(record, seen):
        return None
    if runs.is_of_earlier_run(record, seen) or runs.is_of_later_run(record, seen):
        return None
    if not seen.state.is_final:
        return (
            f"It had ended, as {record.state}, and is now said to be {seen.state}; nothing shows "
            "that it was put back into the queue."
        )
    held, said = _ending_of(record.seen), _ending_of(seen)
    differs = held != said and _NOT_SAID not in (held, said)
    if seen.state is record.state and not differs:
        return None
    return (
        f"It had ended, as {_in_words(record.state, held)}, and is now said to have ended as "
        f"{_in_words(seen.state, said)}."
    )


def _ending_of(seen: Observation | None) -> tuple[int | None, int | None]:
    return _NOT_SAID if seen is None else (seen.exit_code, seen.exit_signal)


def _in_words(state: JobState, ending: tuple[int | None, int | None]) -> str:
    code, signal = ending
    if signal is not None:
        return f"{state} by signal {signal}"
    return str(state) if code is None else f"{state} with exit code {code}"
