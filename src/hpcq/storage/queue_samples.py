"""Samples of the load of queues, one a minute."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

import sqlalchemy as sa

from hpcq.domain.queue_load import LoadPoint, QueueLoad
from hpcq.storage.database import Database, Transaction
from hpcq.storage.leases import check_lease
from hpcq.storage.schema import queue_samples as table

__all__ = ["QueueSamples"]

_MINUTE_SECONDS = 60
_LARGEST = 2**31 - 1
_FIGURES = ("slots_total", "slots_used", "slots_queued", "jobs_running", "jobs_queued")


class QueueSamples:
    """Writes samples and reads their means.

    Methods raise `StoreUnavailable` when the database cannot be used.

    Args:
        database: where all is kept.
        holder: the name under which this process holds the lease; None where it needs none.
    """

    def __init__(self, database: Database, holder: str | None) -> None:
        self._database = database
        self._holder = holder

    async def write(self, loads: Sequence[QueueLoad], at: datetime) -> None:
        """Write the load of all queues at one moment, in place of what its minute had.

        Raises:
            LeaseLost: that is another replica's task now.
        """
        minute = _minute(at)

        def do(transaction: Transaction) -> None:
            if self._holder is not None:
                check_lease(transaction, self._holder)
            ours = table.c.deployment_id == transaction.deployment_id
            transaction.connection.execute(table.delete().where(ours, table.c.minute == minute))
            rows = [
                {**_row(load), "deployment_id": transaction.deployment_id, "minute": minute}
                for load in loads
            ]
            if rows:
                transaction.connection.execute(table.insert(), rows)

        await self._database.write(do)

    async def has(self, queue: str) -> bool:
        """Return whether there is any sample of a queue."""

        def do(connection: sa.Connection, deployment_id: int) -> bool:
            some = sa.select(table.c.minute).where(*_of(deployment_id, queue)).limit(1)
            return connection.execute(some).first() is not None

        return await self._database.read(do)

    async def read(
        self, queue: str, since: datetime, until: datetime, step_minutes: int
    ) -> Sequence[LoadPoint]:
        """Return the mean load of a queue for each step that has samples, the oldest first.

        Args:
            queue: its name.
            since: the first step begins in this minute.
            until: not included.
            step_minutes: the length of a step.
        """
        first = _minute(since)
        step = ((table.c.minute - first) // step_minutes).label("step")
        means = [sa.func.avg(table.c[name]) for name in _FIGURES]

        def do(connection: sa.Connection, deployment_id: int) -> Sequence[LoadPoint]:
            rows = connection.execute(
                sa.select(step, *means)
                .where(
                    *_of(deployment_id, queue),
                    table.c.minute >= first,
                    table.c.minute < _minute(until),
                )
                .group_by(step)
                .order_by(step)
            )
            return [_point(first + number * step_minutes, *means) for number, *means in rows]

        return await self._database.read(do)


def _of(deployment_id: int, queue: str) -> tuple[sa.ColumnElement[bool], ...]:
    return table.c.deployment_id == deployment_id, table.c.queue == queue


def _minute(at: datetime) -> int:
    return int(at.timestamp()) // _MINUTE_SECONDS


def _row(load: QueueLoad) -> dict[str, object]:
    figures = asdict(load)
    return {
        name: min(value, _LARGEST) if isinstance(value, int) else value
        for name, value in figures.items()
    }


def _point(minute: int, slots_total: object, *means: object) -> LoadPoint:
    # PostgreSQL gives decimals.
    used, queued, running, waiting = (round(float(str(mean)), 2) for mean in means)
    return LoadPoint(
        at=datetime.fromtimestamp(minute * _MINUTE_SECONDS, UTC),
        slots_total=None if slots_total is None else round(float(str(slots_total)), 2),
        slots_used=used,
        slots_queued=queued,
        jobs_running=running,
        jobs_queued=waiting,
    )
