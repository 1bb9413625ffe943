"""The merge of what a scheduler says of a job into its record.

Pure functions: each returns a new record and never changes the one it was given. The records of
submissions are made in `hpcq.domain.submission`; changes that no observation brings are in
`hpcq.domain.job_changes`.
"""

from dataclasses import fields, replace
from datetime import datetime

from hpcq.domain import runs
from hpcq.domain.arrays import is_whole_array
from hpcq.domain.jobs import JobRecord, JobUid, Observation, Usage
from hpcq.domain.states import WAITS_AGAIN, FailureKind, JobState, may_move

__all__ = [
    "attribute_end",
    "completed",
    "foreign_record",
    "lacks_usage",
    "observe",
    "removed_while_queued",
    "with_details",
]

# What a new answer does not mention stays as it was, except what belongs to one sight of the job
# and what a job that is not at its end, or waits to be started (again), cannot have.
_OF_ONE_SIGHT = frozenset(
    {"native_state", "native_reason", "stage", "start_estimate", "state_reason", "reason_code"}
    | {"waiting_tasks"}
)
_OF_THE_END = frozenset({"end_time", "exit_code", "exit_signal", "failure_kind"})
_OF_A_RUN = frozenset({"start_time", "hosts", "usage"})
_OF_THE_WAIT = frozenset({"start_estimate"})
# Of a job's usage, what only grows while it runs.
_CUMULATIVE = tuple(f.name for f in fields(Usage) if f.name not in {"memory_bytes", "sampled_at"})
_KEPT = tuple(f.name for f in fields(Observation) if f.name not in _OF_ONE_SIGHT | _OF_THE_END)
_KEPT_IN_QUEUE = tuple(name for name in _KEPT if name not in _OF_A_RUN)
# What only a job that was started can be.
_STARTED = frozenset(
    {JobState.RUNNING, JobState.SUSPENDED, JobState.REQUEUED, JobState.REQUEUED_HELD}
)
_SIGKILL = 9
_NEARLY = 0.9  # the peak of a job's memory is that of the last sample
_WAITED_IN_VAIN = (
    "It was cancelled before it started: a job that it depends on ended otherwise than required, "
    "or somebody deleted it."
)
_UNEXPLAINED = (FailureKind.SIGNAL, FailureKind.UNKNOWN, None)


def foreign_record(cluster_id: str, seen: Observation, at: datetime) -> JobRecord:
    """Return the record of a job that was not submitted through this service."""
    seen = _sanitized(without_unearned_end(seen))
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
    """Return the record after the scheduler said something of its job.

    A run that is known to be over is no news. A final state stays, unless the scheduler shows
    that it put the same job back: then the job waits again, and the next word says what came of
    it. What cannot be is not taken in; `find_contradiction` names it.

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
    return _moved(record, replace(attribute_end(record, new), state=state), at)


def with_details(record: JobRecord, seen: Observation, at: datetime) -> JobRecord:
    """Return the record with what a detailed answer adds; its state is the queue's to say."""
    if record.state.is_final or record.state is JobState.UNDETERMINED or record.seen is None:
        return record
    adds = replace(
        seen,
        state=record.state,
        stage=record.stage,
        native_state=seen.native_state or record.seen.native_state,
        native_reason=seen.native_reason or record.seen.native_reason,
        state_reason=seen.state_reason or record.state_reason,
        reason_code=seen.reason_code or record.seen.reason_code,
        start_time=seen.start_time or record.seen.start_time,
    )
    known = observe(record, adds, at)
    return known.changed(state_changed_at=record.state_changed_at, confirmed_at=record.confirmed_at)


def _waits_again(record: JobRecord, new: Observation) -> JobState:
    """Return the state of a job that was started before."""
    if new.state.is_queued and (is_whole_array(new) or record.is_array):
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
        # A request to cancel it that came before it was found is still to be carried out.
        hand_over=None if record.cancel_requested_at is None else record.hand_over,
        earlier_start=_earlier_start(record, new),
    )


def _reopened(record: JobRecord, new: Observation, at: datetime) -> JobRecord:
    """Return the record of a job that ended and was put back; our request to cancel is done."""
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
        return _sanitized(without_unearned_end(new))
    waits = new.state.is_queued
    again = not new.state.is_final and runs.begins_again(old, new)
    names = _KEPT_IN_QUEUE if waits or again else _KEPT
    kept = {name: getattr(old, name) for name in names if getattr(new, name) is None}
    if old.usage is not None and new.usage is not None and not (waits or again):
        kept["usage"] = _grown(old.usage, new.usage)
    if is_whole_array(new) and old.start_time is not None and new.start_time is not None:
        # Its first tasks may be over and gone.
        kept["start_time"] = min(old.start_time, new.start_time)
    merged = replace(new, **kept) if kept else new
    has_run = old.state in _STARTED or old.start_time is not None
    return _sanitized(merged if has_run else without_unearned_end(merged))


def _grown(old: Usage, new: Usage) -> Usage:
    """Return the newest usage of a run, in which what only grows is not lost and never falls.

    Accounting may tell the figures of a job's steps one after another, and of some none at all.
    """
    figures = {
        name: max(known, default=None)
        for name in _CUMULATIVE
        if (known := [f for f in (getattr(old, name), getattr(new, name)) if f is not None])
    }
    return replace(new, **figures, sampled_at=new.sampled_at or old.sampled_at)


def _sanitized(seen: Observation) -> Observation:
    """Drop what contradicts the state: the end of a running job, the run of a waiting one."""
    if not seen.state.is_final:
        never = _OF_THE_END | (_OF_A_RUN if seen.state.is_queued else _OF_THE_WAIT)
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
    """Return whether a job ran to its end and its final usage is missing."""
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
    known = record.seen.usage
    usage = seen.usage if known is None else _grown(known, seen.usage)
    return record if usage == known else record.changed(seen=replace(record.seen, usage=usage))


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
    waited = _sanitized(replace(record.seen, state=JobState.QUEUED))
    return _moved(record.changed(seen=waited), gone, at)


def attribute_end(record: JobRecord, new: Observation) -> Observation:
    """Return the observation of an end, with the cause that the record knows.

    Args:
        record: the job as known before.
        new: the newest word of it.
    """
    if new.failure_kind is FailureKind.CANCELLED and _waited_in_vain(record, new):
        return replace(new, state_reason=_WAITED_IN_VAIN)
    if new.state is not JobState.FAILED or new.failure_kind not in _UNEXPLAINED:
        return new
    reached = _reached_limit(record, new)
    if reached is not None:
        kind, reason = reached
        return replace(new, failure_kind=kind, state_reason=reason)
    if record.cancel_requested_at is not None:
        return replace(new, failure_kind=FailureKind.CANCELLED)
    return new


def without_unearned_end(seen: Observation) -> Observation:
    """Remove an exit status that a failed job cannot have.

    A job that never had a host, nor a start, ran no script: what some schedulers note as its exit
    status is their own.
    """
    if seen.state is not JobState.FAILED or seen.start_time is not None or seen.hosts:
        return seen
    kinds = {
        FailureKind.NON_ZERO_EXIT: FailureKind.SCHEDULER_ERROR,
        FailureKind.SIGNAL: FailureKind.CANCELLED,
    }
    kind = seen.failure_kind and kinds.get(seen.failure_kind)
    if kind is None and seen.exit_code is None and seen.exit_signal is None:
        return seen
    return replace(
        seen,
        exit_code=None,
        exit_signal=None,
        failure_kind=kind or seen.failure_kind,
        state_reason="It ended before it was started." if kind else seen.state_reason,
    )


def _waited_in_vain(record: JobRecord, new: Observation) -> bool:
    """Return whether a job that waited for others was cancelled elsewhere, for no known reason."""
    began = new.start_time or (record.seen and record.seen.start_time)
    if record.spec is None or not record.spec.depends_on or began is not None:
        return False
    is_said = "depend" in (new.state_reason or "").lower()
    return record.cancel_requested_at is None and not is_said


def _reached_limit(record: JobRecord, new: Observation) -> tuple[FailureKind, str] | None:
    """Return which of its limits a job had reached that was killed by SIGKILL."""
    if new.exit_signal != _SIGKILL:
        return None
    known, spec = record.seen, record.spec
    limit = (known and known.wall_time_limit_seconds) or (spec and spec.wall_time_limit_seconds)
    began, ended = new.start_time, new.end_time
    if limit and began and ended and (ended - began).total_seconds() >= limit:
        return FailureKind.TIME_LIMIT, f"It was ended at its wall time limit of {limit} s."
    memory = (known and known.memory_limit_bytes) or (spec and spec.memory_limit_bytes)
    peak = new.usage and new.usage.max_memory_bytes
    if memory and peak and peak >= _NEARLY * memory:
        reason = f"It was ended at its memory limit of {memory} bytes."
        return FailureKind.OUT_OF_MEMORY, reason
    return None
