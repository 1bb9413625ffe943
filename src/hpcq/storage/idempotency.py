"""Idempotency keys: the names that clients give to their submissions."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from hpcq.domain.jobs import JobRecord, JobUid
from hpcq.domain.submission import IdempotencyKey
from hpcq.storage.database import Transaction
from hpcq.storage.schema import idempotency_keys

__all__ = ["Claim", "find_claim", "free_key", "write_claim"]


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that was submitted under an idempotency key before."""

    uid: JobUid
    fingerprint: str


def find_claim(
    connection: sa.Connection, deployment: int, key: str, horizon: datetime
) -> Claim | None:
    """Return the job that was submitted under a key since ``horizon``, or None."""
    row = connection.execute(
        sa.select(idempotency_keys.c.uid, idempotency_keys.c.fingerprint).where(
            idempotency_keys.c.deployment_id == deployment,
            idempotency_keys.c.key == key,
            idempotency_keys.c.created_at >= horizon.timestamp(),
        )
    ).one_or_none()
    return None if row is None else Claim(JobUid(row[0]), row[1])


def write_claim(transaction: Transaction, key: IdempotencyKey, record: JobRecord) -> None:
    """Write that a key names a job; an older job of that key has had its time."""
    connection = transaction.connection
    # One that is no longer remembered may be there still.
    connection.execute(
        idempotency_keys.delete().where(
            idempotency_keys.c.deployment_id == transaction.deployment_id,
            idempotency_keys.c.key == key.text,
        )
    )
    connection.execute(
        idempotency_keys.insert(),
        {
            "deployment_id": transaction.deployment_id,
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
