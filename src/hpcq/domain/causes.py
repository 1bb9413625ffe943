"""Causes of an end that a scheduler does not name: a deletion, or a limit that we know of.

Some accountings tell only of the signal. Theirs is the word wherever they say more.
"""

from dataclasses import replace

from hpcq.domain.jobs import JobRecord, Observation
from hpcq.domain.states import FailureKind, JobState

__all__ = ["attribute", "without_unearned_end"]

_SIGKILL = 9
_NEARLY = 0.9  # the peak of a job's memory is that of the last sample
_WAITED_IN_VAIN = (
    "It was cancelled before it started: a job that it depends on ended otherwise than required, "
    "or somebody deleted it."
)
_UNEXPLAINED = (FailureKind.SIGNAL, FailureKind.UNKNOWN, None)


def attribute(record: JobRecord, new: Observation) -> Observation:
    """Return what is said of a job's end, with the cause that the record knows.

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
    """Return what is said of a failed job without an exit status that it cannot have.

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
    """Whether a job that waited for others was cancelled, by nobody here, and nothing says why."""
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
