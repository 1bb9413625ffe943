"""The way of a job to its scheduler, as steps of its record; pure functions.

A record with a hand-over (`JobRecord.hand_over`) is on its way; without one it has arrived, or
surely never will. It is *unclear* when an attempt ended without an answer that decides.

============  ===========================================  =====================================
Before        Event                                        After
============  ===========================================  =====================================
(nothing)     a request is accepted                        QUEUED, on its way: `intent`
on its way    the scheduler gives an id                    QUEUED, arrived: `submitted`
on its way    the scheduler surely refused                 FAILED: `failed`; the key is free
on its way    no answer decides                            UNDETERMINED, unclear: `mark_unclear`
on its way    its process died                             as unclear, once no command runs
unclear       the key is found                             arrived: `submitted`; a request to
                                                           cancel it is carried out
unclear       the key is surely absent, and the client     QUEUED, on its way, one attempt
              counts on the job: `promised`                more: `handed_over_again`
unclear       the key is surely absent otherwise: not      FAILED: `failed`
              promised, refused, cancelled, too long
              ago, or ten attempts
unclear       the key is absent, but the job may have      UNDETERMINED, unclear: `doubted`
              run and been forgotten
FAILED        the queue shows it after all                 UNDETERMINED, arrived:
                                                           `job_changes.reappeared`
============  ===========================================  =====================================
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from datetime import datetime
from typing import Any

from hpcq.domain.jobs import HandOver, JobRecord, JobSpec, JobUid, NativeId
from hpcq.domain.principals import Principal
from hpcq.domain.states import JobState

__all__ = [
    "IdempotencyKey",
    "doubted",
    "failed",
    "handed_over_again",
    "intent",
    "is_set",
    "mark_unclear",
    "promised",
    "submitted",
    "task_of",
]

_HANDING_OVER = "It is being handed to the scheduler."
_AGAIN = "It is being handed to the scheduler again, which surely did not have it."
_TAKEN_AFTER_ALL = "The scheduler took it; it has not said yet where it is."


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A client's name for one submission, however often it has to be sent.

    Attributes:
        text: as in the ``Idempotency-Key`` header.
        fingerprint: of what is to be submitted: 64 hexadecimal digits.
        user: who chose it. Equal texts of two users are two keys.
    """

    text: str
    fingerprint: str
    user: str = ""

    @classmethod
    def of(
        cls, text: str, spec: JobSpec, outside_spec: Mapping[str, Any] | None = None, user: str = ""
    ) -> "IdempotencyKey":
        """Return the key for a submission. A field with its default counts as left out.

        Args:
            text: as in the header.
            spec: what is to be submitted.
            outside_spec: content of the request that ``spec`` does not hold yet.
            user: who chose it.
        """
        said = {f.name: getattr(spec, f.name) for f in fields(spec)}
        asked = {name: value for name, value in said.items() if is_set(value)}
        document = json.dumps({**asked, **(outside_spec or {})}, sort_keys=True, default=_plain)
        return cls(text, hashlib.sha256(document.encode()).hexdigest(), user)


def intent(
    uid: JobUid,
    spec: JobSpec,
    at: datetime,
    *,
    by: str,
    is_promised: bool,
    principal: Principal | None = None,
) -> JobRecord:
    """Return the record of a job that is about to be handed to the scheduler.

    Args:
        uid: its permanent id.
        spec: what is to run.
        at: now.
        by: the process that hands it over.
        is_promised: whether it is to be handed over again should that fail without an answer.
        principal: who asked for it.
    """
    return JobRecord(
        uid=uid,
        native_id=None,
        spec=spec,
        seen=None,
        state=_waiting(spec),
        state_reason=_HANDING_OVER,
        created_at=at,
        state_changed_at=at,
        hand_over=HandOver(began_at=at, by=by, is_promised=is_promised),
        submitted_by=None if principal is None else principal.user or None,
        submitted_through=None if principal is None else principal.method.value,
    )


def task_of(parent: JobRecord, native_id: NativeId, number: int, at: datetime) -> JobRecord:
    """Return the first record of a task of an array that was submitted here.

    The task takes what was asked for from its array, and a request to cancel too.

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
        # It is never submitted again: its variables need not be kept once more.
        spec=replace(parent.spec, array=None, environment={}, script=None),
        seen=None,
        state=JobState.UNDETERMINED,
        created_at=parent.created_at,
        state_changed_at=at,
        cancel_requested_at=parent.cancel_requested_at,
        removed_at=parent.removed_at,
        parent_uid=parent.uid,
        submitted_by=parent.submitted_by,
        submitted_through=parent.submitted_through,
        cancel_requested_by=parent.cancel_requested_by,
    )


def submitted(record: JobRecord, native_id: NativeId, at: datetime) -> JobRecord:
    """Return the record after the scheduler took the job and gave it an id."""
    if record.hand_over is None:
        return record
    unclear = record.state is JobState.UNDETERMINED
    return record.changed(
        native_id=native_id,
        spec=_without_script(record.spec),
        state_reason=_TAKEN_AFTER_ALL if unclear else None,
        confirmed_at=at,
        # A request to cancel it that came before it was found is still to be carried out.
        hand_over=None if record.cancel_requested_at is None else record.hand_over,
    )


def mark_unclear(
    record: JobRecord, reason: str, at: datetime, *, is_promised: bool, refusal: str | None = None
) -> JobRecord:
    """Return the record of a job that the scheduler may or may not have taken, as unclear.

    Args:
        record: a job that was being handed over.
        reason: why it is not known, in words.
        at: when the command that handed it over had ended.
        is_promised: whether its client may count on it.
        refusal: what the scheduler's command said, if it said no.
    """
    if is_promised:
        record = promised(record)
    if record.hand_over is None:
        return record
    return record.changed(
        state=JobState.UNDETERMINED,
        state_reason=reason,
        state_changed_at=at,
        hand_over=record.hand_over.changed(uncertain_since=at, refusal=refusal),
    )


def doubted(record: JobRecord, reason: str, at: datetime) -> JobRecord:
    """Return the record of a job that may have run under an unknown id."""
    return record.changed(state=JobState.UNDETERMINED, state_reason=reason, state_changed_at=at)


def promised(record: JobRecord) -> JobRecord:
    """Return the record of a job on which its client may count."""
    if record.hand_over is None or record.hand_over.is_promised:
        return record
    return record.changed(hand_over=record.hand_over.changed(is_promised=True))


def handed_over_again(record: JobRecord, spec: JobSpec, at: datetime, *, by: str) -> JobRecord:
    """Return the record of a job that the scheduler surely does not have, and gets once more.

    Args:
        record: the job.
        spec: as it is handed over now.
        at: now.
        by: the process that does so.
    """
    if record.hand_over is None:
        return record
    return record.changed(
        spec=spec,
        state=_waiting(spec),
        state_reason=_AGAIN,
        state_changed_at=at,
        hand_over=HandOver(
            began_at=at,
            by=by,
            is_promised=record.hand_over.is_promised,
            attempts=record.hand_over.attempts + 1,
        ),
    )


def failed(record: JobRecord, reason: str, at: datetime) -> JobRecord:
    """Return the record of a job that the scheduler surely did not take."""
    if record.hand_over is None:
        return record
    return record.changed(
        spec=_without_script(record.spec),
        state=JobState.FAILED,
        state_reason=reason,
        state_changed_at=at,
        confirmed_at=at,
        hand_over=None,
    )


def _without_script(spec: JobSpec | None) -> JobSpec | None:
    """Return what was asked for without the script's text, which has served its purpose."""
    return spec if spec is None or spec.script is None else replace(spec, script=None)


def _plain(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value)} has no JSON form")


def is_set(value: object) -> bool:
    """Return whether a field of a submission asks for anything: not None, False or empty."""
    return value is not None and value is not False and value not in ((), {})


def _waiting(spec: JobSpec) -> JobState:
    return JobState.QUEUED_HELD if spec.hold else JobState.QUEUED
