"""The explanation of a job in one plain sentence, the same for every scheduler."""

from collections.abc import Mapping

from hpcq.domain.jobs import JobRecord
from hpcq.domain.states import FailureKind, JobState, ReasonCode
from hpcq.domain.units import gibibytes

__all__ = ["explain", "reason_code"]

# `{queue}` is empty, or " in the queue 'batch'"; `{jobs}` empty, or ": 12, 13".
_WAITS: Mapping[ReasonCode, str] = {
    ReasonCode.WAITING_FOR_RESOURCES: "It waits until what it asks for is free: {slots}{queue}.",
    ReasonCode.WAITING_FOR_PRIORITY: "It waits for jobs that come before it{queue}.",
    ReasonCode.WAITING_FOR_DEPENDENCY: "It waits for other jobs{jobs}.",
    ReasonCode.DEPENDENCY_NEVER_SATISFIED: (
        "It never starts: a job that it depends on did not end as required."
    ),
    ReasonCode.HELD_BY_USER: "It is held by a user until it is released.",
    ReasonCode.HELD_BY_OPERATOR: "It is held by an operator of the cluster, who has to release it.",
    ReasonCode.LIMIT_REACHED: "It waits because a limit on jobs or on what they use is reached.",
    ReasonCode.QUEUE_CLOSED: "It waits because no jobs are started{queue}.",
    ReasonCode.NOT_BEFORE_TIME: "It waits for the time before which it is not to start.",
    ReasonCode.NODES_UNAVAILABLE: "It waits for hosts that are not available.",
    ReasonCode.CANNOT_RUN: "It cannot start: it asks for more than it can have{queue}.",
    ReasonCode.REQUEUED: "It ran before, and waits to be run again{queue}.",
}


def reason_code(record: JobRecord) -> ReasonCode | FailureKind | None:
    """Return why a job waits or failed, for a program; None when that is not known."""
    seen, state = record.seen, record.state
    # The service may have held or released it since the scheduler last spoke.
    told = seen.reason_code if seen is not None and seen.state is state else None
    if state is JobState.FAILED:
        return told or record.failure_kind
    if not state.is_queued or told is not None:
        return told
    if state.is_held:
        return None if seen is None or seen.state is state else ReasonCode.HELD_BY_USER
    return ReasonCode.REQUEUED if state is JobState.REQUEUED else None


def explain(record: JobRecord) -> str | None:
    """Return why a job waits or failed, in one sentence; None for one that does neither."""
    if record.state.is_queued:
        code = reason_code(record)
        sentence = _WAITS.get(code) if isinstance(code, ReasonCode) else None
        return sentence.format_map(_facts(record)) if sentence else record.state_reason
    if record.state is JobState.FAILED and not record.is_array:
        return _failure(record) or record.state_reason
    return record.state_reason


def _facts(record: JobRecord) -> Mapping[str, str]:
    spec, seen = record.spec, record.seen
    slots = (spec and spec.slots) or (seen and seen.slots)
    queue = (seen and seen.queue) or (spec and spec.queue)
    depends_on = (seen and seen.depends_on) or ()
    if spec is not None and not depends_on:
        depends_on = tuple(job.native_id for job in spec.depends_on)
    return {
        "slots": f"{slots} slot{'s' if slots > 1 else ''}" if slots else "its resources",
        "queue": f" in the queue {queue!r}" if queue else "",
        "jobs": f": {', '.join(depends_on)}" if depends_on else "",
    }


def _failure(record: JobRecord) -> str | None:
    """Return the sentence for a failure; None where the scheduler's own package knows better."""
    seen = record.seen
    match reason_code(record):
        case ReasonCode.DEPENDENCY_NEVER_SATISFIED:
            return "It never started: a job that it depends on did not end as required."
        case FailureKind.NON_ZERO_EXIT if seen is not None and seen.exit_code is not None:
            return f"It ended with exit code {seen.exit_code}."
        case FailureKind.SIGNAL if seen is not None and seen.exit_signal is not None:
            return f"It was ended by signal {seen.exit_signal}."
        case FailureKind.OUT_OF_MEMORY:
            limit = (record.spec and record.spec.memory_limit_bytes) or (
                seen and seen.memory_limit_bytes
            )
            return (
                f"It ran out of its memory limit of {gibibytes(limit):.4g} GB." if limit else None
            )
        case FailureKind.CANCELLED if record.cancel_requested_by is not None:
            return f"It was cancelled by {record.cancel_requested_by}."
        case _:
            return None
