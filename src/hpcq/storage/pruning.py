"""Taking out of the database what is to be kept no longer, a little at a time."""

from collections.abc import Callable, Sequence
from datetime import datetime

import sqlalchemy as sa

from hpcq.storage.database import Database, Transaction
from hpcq.storage.leases import check_lease
from hpcq.storage.schema import (
    deliveries,
    events,
    finished_jobs,
    idempotency_keys,
    jobs,
    queue_samples,
    usage_samples,
    webhooks,
)

__all__ = ["Pruner"]

_AT_ONCE = 500


class Pruner:
    """Deletion of old rows, in batches.

    Every method deletes one batch of rows that are older than a moment, and returns their number;
    0 says that none is left. All raise `StoreUnavailable` when the database cannot be used, and
    `LeaseLost` when this process does not hold the lease.

    Args:
        database: where all is kept.
        holder: the name under which this process holds the lease; None where it needs none.
        at_once: the size of a batch.
    """

    def __init__(self, database: Database, holder: str | None, at_once: int = _AT_ONCE) -> None:
        self._database = database
        self._holder = holder
        self._at_once = at_once

    async def prune_jobs(self, before: datetime) -> int:
        """Delete records of our own jobs that ended then or earlier, with their samples."""
        return await self._delete_jobs(jobs.c.is_ours, before)

    async def prune_others(self, before: datetime) -> int:
        """Delete records of other people's jobs that were over, or gone, by then."""
        return await self._delete_jobs(jobs.c.is_ours.is_(sa.false()), before)

    async def prune_events(self, before: datetime) -> int:
        """Delete the oldest events, up to the first one after that moment, and their deliveries."""

        def do(transaction: Transaction) -> int:
            connection, ours = transaction.connection, self._of(transaction, events)
            oldest = sa.select(events.c.number, events.c.at).where(ours)
            rows = connection.execute(oldest.order_by(events.c.number).limit(self._at_once)).all()
            last = None
            for number, at in rows:
                if at >= before.timestamp():
                    break
                last = number
            if last is None:
                return 0
            of_ours = sa.select(webhooks.c.id).where(self._of(transaction, webhooks))
            connection.execute(
                deliveries.delete().where(
                    deliveries.c.webhook_id.in_(of_ours), deliveries.c.event_number <= last
                )
            )
            return connection.execute(events.delete().where(ours, events.c.number <= last)).rowcount

        return await self._write(do)

    async def prune_keys(self, before: datetime) -> int:
        """Delete idempotency keys that were used before that moment."""

        def do(transaction: Transaction) -> int:
            connection, ours = transaction.connection, self._of(transaction, idempotency_keys)
            old = sa.select(idempotency_keys.c.key).where(
                ours, idempotency_keys.c.created_at < before.timestamp()
            )
            keys = connection.execute(old.limit(self._at_once)).scalars().all()
            connection.execute(
                idempotency_keys.delete().where(ours, idempotency_keys.c.key.in_(keys))
            )
            return len(keys)

        return await self._write(do)

    async def prune_queue_samples(self, before: datetime) -> int:
        """Delete the oldest hour of the samples of queues that were taken before that moment."""
        minute, table = int(before.timestamp()) // 60, queue_samples

        def do(transaction: Transaction) -> int:
            connection, ours = transaction.connection, self._of(transaction, table)
            oldest = connection.execute(sa.select(sa.func.min(table.c.minute)).where(ours)).scalar()
            if oldest is None:
                return 0
            old = table.c.minute < min(minute, oldest + 60)
            return connection.execute(table.delete().where(ours, old)).rowcount

        return await self._write(do)

    async def _delete_jobs(self, whose: sa.ColumnElement[bool], before: datetime) -> int:
        def do(transaction: Transaction) -> int:
            connection = transaction.connection
            old = sa.select(jobs.c.uid).where(
                self._of(transaction, jobs),
                whose,
                jobs.c.is_settled,
                # Both, for the index to be of use.
                jobs.c.is_removed.in_([False, True]),
                jobs.c.changed_at < before.timestamp(),
            )
            uids: Sequence[str] = connection.execute(old.limit(self._at_once)).scalars().all()
            for table in (usage_samples, finished_jobs, jobs):
                connection.execute(table.delete().where(table.c.uid.in_(uids)))
            return len(uids)

        return await self._write(do)

    @staticmethod
    def _of(transaction: Transaction, table: sa.Table) -> sa.ColumnElement[bool]:
        return table.c.deployment_id == transaction.deployment_id

    async def _write(self, do: Callable[[Transaction], int]) -> int:
        def fenced(transaction: Transaction) -> int:
            if self._holder is not None:
                check_lease(transaction, self._holder)
            return do(transaction)

        return await self._database.write(fenced)
