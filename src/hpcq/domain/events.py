"""Events: the differences between two versions of a record, in the wire's words.

Pure. Who writes a record writes what happened with it, and gives it its number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from hpcq.domain.contradictions import Contradiction
from hpcq.domain.explanation import reason_code
from hpcq.domain.jobs import JobRecord, JobUid, NativeId, Usage
from hpcq.domain.units import format_time, gibibytes

__all__ = [
    "Event",
    "EventDraft",
    "EventKind",
    "contradiction_event",
    "diff",
    "usage_event",
]


class EventKind(StrEnum):
    """The ``event`` of a server-sent event, and the ``type`` of a webhook."""

    SUBMITTED = "job.submitted"
    """The scheduler has it: its id became known."""
    STATE = "job.state"
    """Where it is, its ``status``, or what is said of its end, changed."""
    CHANGED = "job.changed"
    """A request of it (`hpcq.domain.job_changes.CHANGEABLE`) was changed while it waited."""
    USAGE = "job.usage"
    """A sample of what it uses was taken."""
    DELETED = "job.deleted"
    """A user took it out of the listing."""
    CONTRADICTION = "job.contradiction"
    """The scheduler said something of it that cannot be; its record stayed as it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDraft:
    """One thing that happened to one job.

    Attributes:
        at: when this service learnt of it, aware.
        data: what goes over the wire: JSON's own types only, names in camelCase.
    """

    uid: JobUid
    kind: EventKind
    at: datetime
    data: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event in the database, with its number.

    Attributes:
        number: 1, 2, 3 … without gaps in each deployment.
    """

    number: int
    uid: JobUid
    kind: EventKind
    at: datetime
    data: Mapping[str, object]


def diff(old: JobRecord | None, new: JobRecord, at: datetime) -> tuple[EventDraft, ...]:
    """Return the events between two versions of a record, in order.

    An intent that no scheduler has taken yet is nothing that happened. Samples of usage are not
    among the answers: how many of them are kept is not a matter of the record, see `usage_event`.

    Args:
        old: the version before; None when there was none.
        new: the version now, of the same job.
        at: when this service learnt of the difference, aware.
    """
    kinds = []
    if new.native_id is not None and (old is None or old.native_id is None):
        kinds.append(EventKind.SUBMITTED)
    # A task of an array may be over before it is known.
    has_moved = new.state.is_final if old is None else _whereabouts(old) != _whereabouts(new)
    if has_moved:
        kinds.append(EventKind.STATE)
    if new.removed_at is not None and (old is None or old.removed_at is None):
        kinds.append(EventKind.DELETED)
    drafts = [EventDraft(uid=new.uid, kind=kind, at=at, data=_data(old, new)) for kind in kinds]
    if old is not None and old.native_id is not None and _asked(old) != _asked(new):
        data = {"jobId": _text(new.native_id), **_asked(new)}
        drafts.append(EventDraft(uid=new.uid, kind=EventKind.CHANGED, at=at, data=data))
    return tuple(drafts)


def usage_event(record: JobRecord, usage: Usage, at: datetime) -> EventDraft:
    """Return the event of a usage sample, with the figures as in ``resourceUsage``."""
    data = {
        "jobId": _text(record.native_id),
        "cpuSeconds": usage.cpu_seconds,
        "memoryCpuSeconds": gibibytes(usage.memory_byte_seconds),
        "instantTotalMemory": gibibytes(usage.memory_bytes),
        "maxTotalMemory": gibibytes(usage.max_memory_bytes),
        "processIO": gibibytes(usage.io_bytes),
        "processIOWaiting": usage.io_wait_seconds,
        "timeInstant": _time(usage.sampled_at),
    }
    return EventDraft(uid=record.uid, kind=EventKind.USAGE, at=at, data=data)


def contradiction_event(contradiction: Contradiction, at: datetime) -> EventDraft:
    """Return the event of an impossible observation."""
    data = {
        "jobId": _text(contradiction.native_id),
        "state": contradiction.held.value,
        "said": contradiction.said.value,
        "nativeState": contradiction.native_state,
        "reason": contradiction.reason,
    }
    return EventDraft(uid=contradiction.uid, kind=EventKind.CONTRADICTION, at=at, data=data)


def _asked(record: JobRecord) -> Mapping[str, object]:
    """Return what is asked for a job of that which can change."""
    spec = record.spec
    if spec is None:
        return {}
    return {
        "name": spec.name or None,
        "queue": spec.queue,
        "account": spec.account,
        "priority": spec.priority,
        "wallTimeLimit": spec.wall_time_limit_seconds,
        "memoryLimit": gibibytes(spec.memory_limit_bytes),
    }


def _whereabouts(record: JobRecord) -> tuple[object, ...]:
    seen = record.seen
    ending = (None, None) if seen is None else (seen.exit_code, seen.exit_signal)
    return (record.state, record.stage, record.status, record.failure_kind, *ending)


def _data(old: JobRecord | None, new: JobRecord) -> Mapping[str, object]:
    seen = new.seen
    failure_kind, code = new.failure_kind, reason_code(new)
    return {
        "jobId": _text(new.native_id),
        "from": None if old is None else old.state.value,
        "state": new.state.value,
        "status": new.status.value,
        "nativeState": None if seen is None else seen.native_state,
        "stateReason": new.state_reason,
        "reasonCode": None if code is None else code.value,
        "failureKind": None if failure_kind is None else failure_kind.value,
        "exitCode": None if seen is None else seen.exit_code,
        "exitSignal": None if seen is None else seen.exit_signal,
        "startTime": None if seen is None else _time(seen.start_time),
        "endTime": None if seen is None else _time(seen.end_time),
        "lastStatusUpdateTime": format_time(new.state_changed_at),
        "submittedBy": new.submitted_by,
        "cancelRequestedBy": new.cancel_requested_by,
    }


def _text(native_id: NativeId | None) -> str | None:
    # Plain text, which every encoder takes.
    return None if native_id is None else str(native_id)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)
