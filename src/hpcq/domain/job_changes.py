"""Changes to a job's record without an observation: a user asks, or the scheduler is silent.

Pure functions: each returns a new record and never changes the one it was given.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime

from hpcq.domain.actions import Action
from hpcq.domain.job_merge import attribute_end
from hpcq.domain.jobs import JobRecord, Observation
from hpcq.domain.outputs import Stream
from hpcq.domain.states import JobState

__all__ = [
    "CHANGEABLE",
    "acted_on",
    "altered",
    "altering",
    "cancel_requested",
    "last_sight",
    "left_to_scheduler",
    "missed",
    "not_altered",
    "reappeared",
    "vanished",
]

CHANGEABLE = (
    *("name", "queue", "account", "priority"),
    *("wall_time_limit_seconds", "memory_limit_bytes"),
)
"""The fields of a `JobSpec` that can be changed while a job waits."""

_TOLD = frozenset(f.name for f in fields(Observation)).intersection(CHANGEABLE)
_AFTER_ACTIONS: Mapping[Action, Mapping[JobState, JobState]] = {
    Action.HOLD: {
        JobState.QUEUED: JobState.QUEUED_HELD,
        JobState.REQUEUED: JobState.REQUEUED_HELD,
    },
    Action.RELEASE: {
        JobState.QUEUED_HELD: JobState.QUEUED,
        JobState.REQUEUED_HELD: JobState.REQUEUED,
    },
}


def reappeared(record: JobRecord, seen: Observation, at: datetime) -> JobRecord:
    """Return the record of a job that was given up, and that the scheduler has after all.

    The next observation shows its state.
    """
    return record.changed(
        native_id=seen.native_id,
        state=JobState.UNDETERMINED,
        state_reason="The scheduler has it, although it did not seem to have taken it.",
        state_changed_at=at,
    )


def missed(record: JobRecord, last_seen: datetime | None) -> JobRecord:
    """Return the record of a job that is not in the queue any more, in its last known state."""
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


def cancel_requested(record: JobRecord, at: datetime, by: str | None = None) -> JobRecord:
    """Return the record after the scheduler was asked to end the job.

    One that ended before the answer came is held to have ended for that reason.

    Args:
        record: the job.
        at: now.
        by: the user who asked.
    """
    if record.cancel_requested_at is not None:
        return record
    asked = record.changed(cancel_requested_at=at, cancel_requested_by=by)
    return asked if record.seen is None else asked.changed(seen=attribute_end(asked, record.seen))


def acted_on(record: JobRecord, action: Action, at: datetime) -> JobRecord:
    """Return the record after the scheduler was asked to hold a job, or to release it.

    A later observation shows what came of other actions.
    """
    now = _AFTER_ACTIONS.get(action, {}).get(record.state)
    return record if now is None else record.changed(state=now, state_changed_at=at)


def altering(record: JobRecord, names: Iterable[str]) -> JobRecord:
    """Return the record of a job before the request to change it.

    Args:
        record: the job.
        names: the `CHANGEABLE` fields.
    """
    return record if record.spec is None else record.changed(changing=tuple(sorted(names)))


def not_altered(record: JobRecord, before: JobRecord, unknown: Iterable[str] = ()) -> JobRecord:
    """Return the record of a job that the scheduler did not change, or not as asked.

    Args:
        record: the job.
        before: the same before the request.
        unknown: the fields that the scheduler may have changed.
    """
    if record.spec is None or before.spec is None:
        return record
    asked = {name: getattr(before.spec, name) for name in CHANGEABLE}
    spec = replace(record.spec, **asked, has_queue_time_limit=before.spec.has_queue_time_limit)
    return left_to_scheduler(record.changed(spec=spec, changing=tuple(unknown)))


def altered(
    record: JobRecord, values: Mapping[str, object], moved: Collection[Stream] = ()
) -> JobRecord:
    """Return the record after the scheduler changed what was asked for a job.

    Args:
        record: the job.
        values: the `CHANGEABLE` fields that are others now; None where one was taken back.
        moved: the outputs that go elsewhere since, to paths that the scheduler shows.
    """
    spec, seen = record.spec, record.seen
    if spec is not None:
        spec = replace(spec, **values)  # type: ignore[arg-type]
        if spec.outputs is not None:
            spec = replace(spec, outputs=replace(spec.outputs, **dict.fromkeys(moved)))
        if spec.wall_time_limit_seconds is not None:
            spec = replace(spec, has_queue_time_limit=False)
    if seen is not None:
        told = {name: value for name, value in values.items() if name in _TOLD}
        seen = replace(seen, **told)  # type: ignore[arg-type]
    return record.changed(spec=spec, seen=seen, changing=())


def left_to_scheduler(record: JobRecord) -> JobRecord:
    """Return the record of a job whose changes (`JobRecord.changing`) got no answer.

    What the scheduler tells of these fields counts, not what was asked for.
    """
    if record.spec is None or not record.changing:
        return record
    unknown = {name: "" if name == "name" else None for name in record.changing}
    spec = replace(record.spec, **unknown)  # type: ignore[arg-type]
    if "wall_time_limit_seconds" in unknown:
        spec = replace(spec, has_queue_time_limit=False)
    return record.changed(spec=spec, changing=())
