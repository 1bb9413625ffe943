"""The messages that the subscribers of events are owed, written down with the events."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from hpcq.domain.events import Event, EventKind
from hpcq.domain.jobs import JobUid
from hpcq.domain.units import from_epoch
from hpcq.domain.webhooks import Delivery, DeliveryStatus, SubscriberKind, Webhook
from hpcq.storage.database import Database, Transaction
from hpcq.storage.documents import storable
from hpcq.storage.jobs import read_event
from hpcq.storage.leases import check_lease
from hpcq.storage.schema import deliveries, deployments, events, webhooks
from hpcq.storage.subscribers import (
    disable_subscriber,
    read_subscriber,
    switch_mails,
    wanted_events,
)

__all__ = ["Backlog", "DeliveryQueue", "read_delivery"]

_EVENTS_AT_ONCE = 500

# Made once: to make a statement takes longer than to execute it.
_OF_JOB = (
    deliveries.c.webhook_id == sa.bindparam("of_webhook"),
    deliveries.c.uid == sa.bindparam("of_job"),
)
_NOTE = (
    deliveries.update()
    .where(*_OF_JOB, deliveries.c.event_number == sa.bindparam("of_event"))
    .values(
        {
            name: sa.bindparam(name)
            for name in ("status", "attempts", "last_at", "last_code", "last_problem", "next_at")
        }
    )
)
_NEXT_OF_JOB = (
    deliveries.update()
    .where(
        *_OF_JOB,
        deliveries.c.event_number
        == sa.select(sa.func.min(deliveries.c.event_number))
        .where(*_OF_JOB, deliveries.c.status == DeliveryStatus.PENDING)
        .scalar_subquery(),
    )
    .values(next_at=sa.bindparam("next_at"))
)


@dataclass(frozen=True, slots=True)
class Backlog:
    """The messages that all subscribers of one kind are owed.

    Attributes:
        count: how many messages.
        oldest_at: when the oldest event among them happened; None without any.
    """

    count: int = 0
    oldest_at: datetime | None = None


class DeliveryQueue:
    """The messages that one deployment owes its subscribers. Its methods raise `StoreUnavailable`.

    Those that write raise `LeaseLost` when another replica sends the messages.

    Args:
        database: where it is kept.
        kinds: the subscribers that get events; the others have to wait.
        holder: the name under which this process holds the lease; None where it needs none.
    """

    def __init__(
        self, database: Database, kinds: Collection[SubscriberKind], holder: str | None
    ) -> None:
        self._database = database
        self._kinds = tuple(kinds)
        self._holder = holder

    async def subscribers(self) -> Sequence[Webhook]:
        """Return the subscribers that get events."""

        def read(connection: sa.Connection, deployment: int) -> Sequence[Webhook]:
            query = sa.select(webhooks).where(*self._told(deployment))
            return [read_subscriber(row) for row in connection.execute(query)]

        return await self._database.read(read)

    async def backlog(self) -> dict[SubscriberKind, Backlog]:
        """Return what is owed to the active subscribers of each kind."""

        def read(connection: sa.Connection, deployment: int) -> dict[SubscriberKind, Backlog]:
            owed = (
                sa.select(
                    webhooks.c.kind,
                    sa.func.count().label("count"),
                    sa.func.min(deliveries.c.event_number).label("oldest"),
                )
                .join(webhooks, webhooks.c.id == deliveries.c.webhook_id)
                .where(*self._told(deployment), deliveries.c.status == DeliveryStatus.PENDING)
                .group_by(webhooks.c.kind)
                .subquery()
            )
            of_oldest = (events.c.deployment_id == deployment) & (events.c.number == owed.c.oldest)
            query = sa.select(owed.c.kind, owed.c.count, events.c.at).join(events, of_oldest)
            found = {
                SubscriberKind(kind): Backlog(count, from_epoch(at))
                for kind, count, at in connection.execute(query)
            }
            return {kind: found.get(kind, Backlog()) for kind in self._kinds}

        return await self._database.read(read)

    async def switch_mails(self, at: datetime) -> None:
        """Have mails written about what happens from now on, or no more, as the kinds say."""
        is_on = SubscriberKind.MAIL in self._kinds

        def do(transaction: Transaction) -> None:
            self._check_lease(transaction)
            switch_mails(transaction, at, is_on=is_on)

        await self._database.write(do)

    async def is_behind(self) -> bool:
        """Return whether there are events that a subscriber has not seen."""

        def read(connection: sa.Connection, deployment: int) -> bool:
            newest = sa.select(deployments.c.last_event).where(deployments.c.id == deployment)
            behind = sa.select(webhooks.c.id).where(
                *self._told(deployment),
                webhooks.c.seen_event < newest.scalar_subquery(),
            )
            return connection.execute(behind.limit(1)).scalar() is not None

        return await self._database.read(read)

    async def enqueue(self, at: datetime) -> int:
        """Write down a message for each subscriber and each event that it has not seen yet.

        Args:
            at: when the messages are to be sent.

        Returns:
            How many events were looked at; 0 when all have been.
        """

        def do(transaction: Transaction) -> int:
            self._check_lease(transaction)
            connection, ours = transaction.connection, transaction.deployment_id
            of_ours = self._told(ours)
            known = connection.execute(sa.select(webhooks).where(*of_ours)).all()
            if not known:
                return 0
            seen = min(row.seen_event for row in known)
            fresh = connection.execute(
                sa.select(events)
                .where(events.c.deployment_id == ours, events.c.number > seen)
                .order_by(events.c.number)
                .limit(_EVENTS_AT_ONCE)
            ).all()
            for row in known:
                unseen = [event for event in fresh if event.number > row.seen_event]
                _owe(connection, row, wanted_events(connection, row, unseen), at)
            if fresh:
                last = fresh[-1].number
                behind = webhooks.c.seen_event < last
                connection.execute(
                    webhooks.update().where(*of_ours, behind).values(seen_event=last)
                )
            return len(fresh)

        return await self._database.write(do)

    async def due(
        self, webhook_id: str, at: datetime, limit: int
    ) -> Sequence[tuple[Delivery, Event]]:
        """Return the messages whose time has come, with their events; one for each job at most."""

        def read(connection: sa.Connection, deployment: int) -> list[tuple[Delivery, Event]]:
            of_event = (events.c.deployment_id == deployment) & (
                events.c.number == deliveries.c.event_number
            )
            query = (
                sa.select(deliveries, events.c.kind, events.c.at, events.c.data)
                .join(events, of_event)
                .where(
                    deliveries.c.webhook_id == webhook_id, deliveries.c.next_at <= at.timestamp()
                )
                .order_by(deliveries.c.next_at, deliveries.c.event_number)
                .limit(limit)
            )
            return [
                (
                    read_delivery(row),
                    read_event(row.event_number, row.uid, row.kind, row.at, row.data),
                )
                for row in connection.execute(query)
            ]

        return await self._database.read(read)

    async def note(self, delivery: Delivery) -> None:
        """Write down the outcome of an attempt; the job's next message may go when it is over."""

        def do(transaction: Transaction) -> None:
            self._check_lease(transaction)
            of_job = {"of_webhook": delivery.webhook_id, "of_job": str(delivery.uid)}
            outcome = {
                "of_event": delivery.number,
                "status": delivery.status,
                "attempts": delivery.attempts,
                "last_at": _seconds(delivery.last_attempt_at),
                "last_code": delivery.last_code,
                "last_problem": delivery.last_problem and storable(delivery.last_problem),
                "next_at": _seconds(delivery.next_attempt_at),
            }
            transaction.connection.execute(_NOTE, of_job | outcome)
            if delivery.status is not DeliveryStatus.PENDING:
                transaction.connection.execute(
                    _NEXT_OF_JOB, of_job | {"next_at": _seconds(delivery.last_attempt_at)}
                )

        await self._database.write(do)

    async def disable(self, webhook_id: str, at: datetime) -> None:
        """Send nothing more to a subscriber, whose receiver is gone for good."""

        def do(transaction: Transaction) -> None:
            self._check_lease(transaction)
            disable_subscriber(transaction.connection, webhook_id, at)

        await self._database.write(do)

    def _told(self, deployment: int) -> tuple[sa.ColumnElement[bool], ...]:
        return (
            webhooks.c.deployment_id == deployment,
            webhooks.c.kind.in_(self._kinds),
            webhooks.c.disabled_at.is_(None),
        )

    def _check_lease(self, transaction: Transaction) -> None:
        if self._holder is not None:
            check_lease(transaction, self._holder)


def _owe(connection: sa.Connection, webhook: Any, wanted: Sequence[Any], at: datetime) -> None:
    """Write down the messages of events; those about one job go one after the other."""
    if not wanted:
        return
    waiting = sa.select(deliveries.c.uid).where(
        deliveries.c.webhook_id == webhook.id,
        deliveries.c.status == DeliveryStatus.PENDING,
        deliveries.c.uid.in_({event.uid for event in wanted}),
    )
    busy = set(connection.execute(waiting).scalars())
    rows = []
    for event in wanted:
        row = {"webhook_id": webhook.id, "event_number": event.number, "uid": event.uid}
        next_at = None if event.uid in busy else at.timestamp()
        rows.append(row | {"status": DeliveryStatus.PENDING, "attempts": 0, "next_at": next_at})
        busy.add(event.uid)
    connection.execute(deliveries.insert(), rows)


def read_delivery(row: Any) -> Delivery:
    """Return the message of a row, with the kind of its event beside it."""
    return Delivery(
        webhook_id=row.webhook_id,
        number=row.event_number,
        uid=JobUid(row.uid),
        kind=None if row.kind is None else EventKind(row.kind),
        status=DeliveryStatus(row.status),
        attempts=row.attempts,
        last_attempt_at=from_epoch(row.last_at),
        last_code=row.last_code,
        last_problem=row.last_problem,
        next_attempt_at=from_epoch(row.next_at),
    )


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
