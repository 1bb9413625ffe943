"""Webhooks, and the messages that they are owed."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from hpcq.domain.errors import WebhookNotFound
from hpcq.domain.events import Event, EventKind
from hpcq.domain.jobs import JobUid
from hpcq.domain.units import from_epoch
from hpcq.domain.webhooks import Delivery, DeliveryStatus, Webhook
from hpcq.storage.database import Database, Transaction
from hpcq.storage.jobs import read_event
from hpcq.storage.leases import check_lease
from hpcq.storage.schema import deliveries, deployments, events, webhooks

__all__ = ["WebhookStore"]

_EVENTS_AT_ONCE = 500


class WebhookStore:
    """The webhooks of one deployment. Its methods raise `StoreUnavailable`.

    Args:
        database: where they are kept.
        holder: the name under which this process holds the lease; None where it needs none.
    """

    def __init__(self, database: Database, holder: str | None) -> None:
        self._database = database
        self._holder = holder

    async def add(self, webhook: Webhook) -> None:
        """Write a new webhook down; it is told of what happens from now on."""

        def do(transaction: Transaction) -> None:
            connection, deployment = transaction.connection, transaction.deployment_id
            newest = sa.select(deployments.c.last_event).where(deployments.c.id == deployment)
            row = {
                "id": webhook.webhook_id,
                "deployment_id": deployment,
                "url": webhook.url,
                "secret": webhook.secret,
                "kinds": None if webhook.kinds is None else " ".join(sorted(webhook.kinds)),
                "created_by": webhook.created_by,
                "created_at": webhook.created_at.timestamp(),
                "seen_event": connection.execute(newest).scalar_one(),
            }
            connection.execute(webhooks.insert(), row)

        await self._database.write(do)

    async def all(self) -> Sequence[Webhook]:
        """Return all webhooks, the oldest first."""
        return await self._select(sa.true())

    async def find(self, webhook_id: str) -> Webhook:
        """Return one webhook.

        Raises:
            WebhookNotFound: there is none of this id.
        """
        found = await self._select(webhooks.c.id == webhook_id)
        if not found:
            raise WebhookNotFound(webhook_id)
        return found[0]

    async def remove(self, webhook_id: str) -> None:
        """Delete a webhook, and what it is owed.

        Raises:
            WebhookNotFound: there is none of this id.
        """

        def do(transaction: Transaction) -> int:
            connection, deployment = transaction.connection, transaction.deployment_id
            one = (webhooks.c.deployment_id == deployment, webhooks.c.id == webhook_id)
            if connection.execute(sa.select(webhooks.c.id).where(*one)).scalar() is None:
                return 0
            connection.execute(deliveries.delete().where(deliveries.c.webhook_id == webhook_id))
            return connection.execute(webhooks.delete().where(*one)).rowcount

        if not await self._database.write(do):
            raise WebhookNotFound(webhook_id)

    async def pending(self) -> dict[str, int]:
        """Return how many messages each webhook is owed, by its id; those without are absent."""

        def read(connection: sa.Connection, deployment: int) -> dict[str, int]:
            count = (
                sa.select(deliveries.c.webhook_id, sa.func.count())
                .join(webhooks, webhooks.c.id == deliveries.c.webhook_id)
                .where(
                    webhooks.c.deployment_id == deployment,
                    deliveries.c.status == DeliveryStatus.PENDING,
                )
                .group_by(deliveries.c.webhook_id)
            )
            return {row[0]: row[1] for row in connection.execute(count)}

        return await self._database.read(read)

    async def deliveries(
        self, webhook_id: str, limit: int, before: int | None, status: DeliveryStatus | None
    ) -> Sequence[Delivery]:
        """Return messages of a webhook, those of the newest events first.

        Args:
            webhook_id: of the webhook.
            limit: at most so many.
            before: those of earlier events than this one; None for all.
            status: those alone; None for all.
        """

        def read(connection: sa.Connection, deployment: int) -> Sequence[Delivery]:
            of_event = (events.c.deployment_id == deployment) & (
                events.c.number == deliveries.c.event_number
            )
            query = (
                sa.select(deliveries, events.c.kind)
                .join(events, of_event, isouter=True)
                .where(deliveries.c.webhook_id == webhook_id)
                .order_by(deliveries.c.event_number.desc())
                .limit(limit)
            )
            if before is not None:
                query = query.where(deliveries.c.event_number < before)
            if status is not None:
                query = query.where(deliveries.c.status == status)
            return [_delivery(row) for row in connection.execute(query)]

        return await self._database.read(read)

    async def is_behind(self) -> bool:
        """Return whether there are events that a webhook has not seen."""

        def read(connection: sa.Connection, deployment: int) -> bool:
            newest = sa.select(deployments.c.last_event).where(deployments.c.id == deployment)
            behind = sa.select(webhooks.c.id).where(
                webhooks.c.deployment_id == deployment,
                webhooks.c.disabled_at.is_(None),
                webhooks.c.seen_event < newest.scalar_subquery(),
            )
            return connection.execute(behind.limit(1)).scalar() is not None

        return await self._database.read(read)

    async def enqueue(self, at: datetime) -> int:
        """Write down a message for each webhook and each event that it has not seen yet.

        Args:
            at: when the messages are to be sent.

        Returns:
            How many events were looked at; 0 when all have been.

        Raises:
            LeaseLost: another replica does this.
        """

        def do(transaction: Transaction) -> int:
            self._check_lease(transaction)
            connection, ours = transaction.connection, transaction.deployment_id
            of_ours = (webhooks.c.deployment_id == ours, webhooks.c.disabled_at.is_(None))
            known = connection.execute(sa.select(webhooks).where(*of_ours)).all()
            if not known:
                return 0
            seen = min(row.seen_event for row in known)
            fresh = connection.execute(
                sa.select(events.c.number, events.c.uid, events.c.kind)
                .where(events.c.deployment_id == ours, events.c.number > seen)
                .order_by(events.c.number)
                .limit(_EVENTS_AT_ONCE)
            ).all()
            for row in known:
                unseen = [event for event in fresh if event.number > row.seen_event]
                _owe(connection, row, unseen, at)
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
                    _delivery(row),
                    read_event(row.event_number, row.uid, row.kind, row.at, row.data),
                )
                for row in connection.execute(query)
            ]

        return await self._database.read(read)

    async def note(self, delivery: Delivery) -> None:
        """Write down the outcome of an attempt; the job's next message may go when it is over.

        Raises:
            LeaseLost: another replica sends the messages.
        """

        def do(transaction: Transaction) -> None:
            self._check_lease(transaction)
            connection = transaction.connection
            of_job = (
                deliveries.c.webhook_id == delivery.webhook_id,
                deliveries.c.uid == str(delivery.uid),
            )
            connection.execute(
                deliveries.update()
                .where(*of_job, deliveries.c.event_number == delivery.number)
                .values(
                    status=delivery.status,
                    attempts=delivery.attempts,
                    last_at=_seconds(delivery.last_attempt_at),
                    last_code=delivery.last_code,
                    last_problem=delivery.last_problem,
                    next_at=_seconds(delivery.next_attempt_at),
                )
            )
            if delivery.status is not DeliveryStatus.PENDING:
                following = sa.select(sa.func.min(deliveries.c.event_number)).where(
                    *of_job, deliveries.c.status == DeliveryStatus.PENDING
                )
                connection.execute(
                    deliveries.update()
                    .where(*of_job, deliveries.c.event_number == following.scalar_subquery())
                    .values(next_at=_seconds(delivery.last_attempt_at))
                )

        await self._database.write(do)

    async def disable(self, webhook_id: str, at: datetime) -> None:
        """Send nothing more to a webhook, whose receiver is gone for good.

        Raises:
            LeaseLost: another replica sends the messages.
        """

        def do(transaction: Transaction) -> None:
            self._check_lease(transaction)
            connection = transaction.connection
            connection.execute(
                webhooks.update()
                .where(webhooks.c.id == webhook_id)
                .values(disabled_at=at.timestamp())
            )
            connection.execute(
                deliveries.update()
                .where(
                    deliveries.c.webhook_id == webhook_id,
                    deliveries.c.status == DeliveryStatus.PENDING,
                )
                .values(status=DeliveryStatus.FAILED, next_at=None)
            )

        await self._database.write(do)

    def _check_lease(self, transaction: Transaction) -> None:
        if self._holder is not None:
            check_lease(transaction, self._holder)

    async def _select(self, where: sa.ColumnElement[bool]) -> Sequence[Webhook]:
        def read(connection: sa.Connection, deployment: int) -> Sequence[Webhook]:
            query = sa.select(webhooks).where(webhooks.c.deployment_id == deployment, where)
            oldest_first = query.order_by(webhooks.c.created_at, webhooks.c.id)
            return [_webhook(row) for row in connection.execute(oldest_first)]

        return await self._database.read(read)


def _owe(connection: sa.Connection, webhook: Any, unseen: Sequence[Any], at: datetime) -> None:
    """Write down the messages of unseen events; those about one job go one after the other."""
    kinds = None if webhook.kinds is None else set(webhook.kinds.split())
    wanted = [event for event in unseen if kinds is None or event.kind in kinds]
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


def _webhook(row: Any) -> Webhook:
    kinds = None if row.kinds is None else frozenset(map(EventKind, row.kinds.split()))
    return Webhook(
        webhook_id=row.id,
        url=row.url,
        secret=row.secret,
        kinds=kinds,
        created_by=row.created_by,
        created_at=datetime.fromtimestamp(row.created_at, UTC),
        disabled_at=from_epoch(row.disabled_at),
    )


def _delivery(row: Any) -> Delivery:
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
