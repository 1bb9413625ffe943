"""Rows of jobs, and of the idempotency keys under which they were asked for."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from hpcq.domain.errors import RecordDamaged
from hpcq.domain.events import diff, usage_event
from hpcq.domain.jobs import JobRecord, JobUid
from hpcq.domain.principals import Person
from hpcq.domain.sampling import Sample
from hpcq.domain.submission import IdempotencyKey
from hpcq.storage.database import Transaction
from hpcq.storage.documents import decode, encode, storable
from hpcq.storage.finished_jobs import write_finished
from hpcq.storage.samples import write_samples
from hpcq.storage.schema import deployments, idempotency_keys, jobs

__all__ = [
    "Claim",
    "find_claim",
    "free_key",
    "ids_in_parts",
    "keep_samples",
    "mark_as_gone",
    "read_one",
    "read_record",
    "select_ended",
    "select_records",
    "still_current",
    "write_answer_of_scheduler",
    "write_claim",
    "write_records",
]

_IDS_IN_ONE_QUERY = 500


def select_records(*where: sa.ColumnElement[bool]) -> sa.Select[tuple[str, int, bytes]]:
    """Return a query for records, each row as `read_record` takes it."""
    return sa.select(jobs.c.uid, jobs.c.revision, jobs.c.document).where(*where)


def select_ended(
    deployment: int, person: Person | None = None
) -> sa.Select[tuple[str, int, bytes]]:
    """Return a query for the listed jobs that have ended, the newest end first.

    Args:
        deployment: the owner of the records.
        person: the one whose jobs; None for everybody's.
    """
    names = () if person is None else person.names
    theirs = [
        sa.and_(jobs.c.belongs_to == name.name, jobs.c.is_ours != name.is_account) for name in names
    ]
    whose = (sa.or_(*theirs),) if theirs else ()
    return select_records(
        jobs.c.deployment_id == deployment, *whose, jobs.c.is_settled, ~jobs.c.is_removed
    ).order_by(jobs.c.changed_at.desc(), jobs.c.uid.desc())


def read_record(row: Any) -> JobRecord:
    """Return the record of a row.

    Raises:
        RecordDamaged: it cannot be read.
    """
    try:
        record = decode(row.document)
    except ValueError as error:
        raise RecordDamaged(row.uid, str(error)) from error
    # A copy takes half as long as the reading, and only few records differ.
    return record if record.revision == row.revision else replace(record, revision=row.revision)


def read_one(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> JobRecord | None:
    """Return the record that a condition selects, or None. Raises as `read_record` does."""
    row = connection.execute(select_records(*where)).one_or_none()
    return None if row is None else read_record(row)


def ids_in_parts(uids: Iterable[str]) -> Iterator[Sequence[str]]:
    """Yield uids in parts, each small enough for one query."""
    ids = [str(uid) for uid in uids]
    for start in range(0, len(ids), _IDS_IN_ONE_QUERY):
        yield ids[start : start + _IDS_IN_ONE_QUERY]


def _row(transaction: Transaction, record: JobRecord) -> dict[str, Any]:
    return {
        "uid": str(record.uid),
        "deployment_id": transaction.deployment_id,
        "native_id": record.native_id and str(record.native_id),
        "is_ours": record.submitted_here,
        "is_settled": record.is_settled,
        "is_removed": record.removed_at is not None,
        "changed_at": record.state_changed_at.timestamp(),
        "created_at": record.created_at.timestamp(),
        "revision": record.revision,
        "change": transaction.change,
        "document": encode(record),
        "belongs_to": record.belongs_to and record.belongs_to.name,
        "array_uid": record.parent_uid and str(record.parent_uid),
        "task_state": record.parent_uid and str(record.state),
    }


_UPDATE = (
    jobs.update()
    .where(jobs.c.uid == sa.bindparam("new_uid"))
    .values({c.name: sa.bindparam(f"new_{c.name}") for c in jobs.c if c.name != "uid"})
)


def write_records(
    transaction: Transaction,
    changes: Sequence[tuple[JobRecord | None, JobRecord]],
    at: datetime,
) -> None:
    """Write records, and what their change means to those who follow them."""
    connection = transaction.connection
    new = [_row(transaction, record) for old, record in changes if old is None]
    changed = [
        {f"new_{name}": value for name, value in _row(transaction, record).items()}
        for old, record in changes
        if old is not None
    ]
    if new:
        connection.execute(jobs.insert(), new)
    if changed:
        connection.execute(_UPDATE, changed)
    write_finished(connection, transaction.deployment_id, changes)
    for old, record in changes:
        if record.submitted_here:
            transaction.event_drafts += diff(old, record, at)


def still_current(
    transaction: Transaction, changes: Sequence[tuple[JobRecord | None, JobRecord]]
) -> list[tuple[JobRecord | None, JobRecord]]:
    """Return the changes of records that no other process has changed, with their next revision."""
    written: dict[str, Any] = {}
    for ids in ids_in_parts(new.uid for _, new in changes):
        query = sa.select(
            jobs.c.uid, jobs.c.revision, (~jobs.c.is_ours & jobs.c.is_removed).label("is_forgotten")
        ).where(jobs.c.uid.in_(ids))
        written.update((row.uid, row) for row in transaction.connection.execute(query))
    fresh: list[tuple[JobRecord | None, JobRecord]] = []
    for old, new in changes:
        row = written.get(str(new.uid))
        if row is None:
            if old is None:
                fresh.append((None, new))
        elif row.is_forgotten:
            # Another user's job that had left the queue, and is in it again.
            fresh.append((new, new.changed(revision=row.revision + 1)))
        elif old is not None and old.revision == row.revision:
            fresh.append((old, new.changed(revision=row.revision + 1)))
    return fresh


def keep_samples(
    transaction: Transaction,
    samples: Sequence[Sample],
    written: Sequence[tuple[JobRecord | None, JobRecord]],
    at: datetime,
) -> None:
    """Write the samples of records that were written, as far as there is room, and their events."""
    uids = {record.uid for _, record in written}
    wanted = [sample for sample in samples if sample.record.uid in uids]
    for kept in write_samples(transaction, wanted):
        transaction.event_drafts.append(usage_event(kept.record, kept.usage, at))


def mark_as_gone(transaction: Transaction, gone: Iterable[JobUid], at: datetime) -> None:
    """Mark other people's jobs that left the queue; their records stay until they are pruned."""
    for ids in ids_in_parts(gone):
        transaction.connection.execute(
            jobs.update()
            .where(jobs.c.uid.in_(ids), ~jobs.c.is_ours)
            .values(
                is_settled=True,
                is_removed=True,
                changed_at=at.timestamp(),
                change=transaction.change,
            )
        )


def write_answer_of_scheduler(
    transaction: Transaction, as_of: datetime | None, problem: str | None
) -> None:
    """Write when the scheduler answered, or why it did not; nothing if it was not asked."""
    if as_of is None and problem is None:
        return
    values: dict[str, Any] = {"problem": problem and storable(problem)}
    if as_of is not None:
        values["as_of"] = as_of.timestamp()
    transaction.connection.execute(
        deployments.update().where(deployments.c.id == transaction.deployment_id).values(values)
    )


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that was submitted under an idempotency key before."""

    uid: JobUid
    fingerprint: str


def find_claim(
    connection: sa.Connection, deployment: int, key: IdempotencyKey, horizon: datetime
) -> Claim | None:
    """Return the job that was submitted under a key since ``horizon``, or None.

    A key of a time when nobody was asked who they are is everybody's: its client sends it again
    after the change.
    """
    row = connection.execute(
        sa.select(idempotency_keys.c.uid, idempotency_keys.c.fingerprint)
        .where(
            idempotency_keys.c.deployment_id == deployment,
            idempotency_keys.c.user.in_({key.user, ""}),
            idempotency_keys.c.key == key.text,
            idempotency_keys.c.created_at >= horizon.timestamp(),
        )
        .order_by(idempotency_keys.c.user.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else Claim(JobUid(row[0]), row[1])


def write_claim(transaction: Transaction, key: IdempotencyKey, record: JobRecord) -> None:
    """Write that a key names a job; an older job of that key has had its time."""
    connection = transaction.connection
    # One that is no longer remembered may be there still.
    connection.execute(
        idempotency_keys.delete().where(
            idempotency_keys.c.deployment_id == transaction.deployment_id,
            idempotency_keys.c.user == key.user,
            idempotency_keys.c.key == key.text,
        )
    )
    connection.execute(
        idempotency_keys.insert(),
        {
            "deployment_id": transaction.deployment_id,
            "user": key.user,
            "key": key.text,
            "fingerprint": key.fingerprint,
            "uid": str(record.uid),
            "created_at": record.created_at.timestamp(),
        },
    )


def free_key(transaction: Transaction, uid: JobUid) -> None:
    """Let the key of a job be used again."""
    transaction.connection.execute(
        idempotency_keys.delete().where(idempotency_keys.c.uid == str(uid))
    )
