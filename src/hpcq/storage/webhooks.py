"""Webhooks, and the messages that they were sent or are owed."""

from collections.abc import Sequence

import sqlalchemy as sa

from hpcq.domain.errors import WebhookNotFound
from hpcq.domain.webhooks import Delivery, DeliveryStatus, SubscriberKind, Webhook
from hpcq.storage.database import Database, Transaction
from hpcq.storage.deliveries import read_delivery
from hpcq.storage.schema import deliveries, events, webhooks
from hpcq.storage.subscribers import new_subscriber, read_subscriber

__all__ = ["WebhookStore"]

_WEBHOOKS = webhooks.c.kind == SubscriberKind.WEBHOOK


class WebhookStore:
    """The webhooks of one deployment. Its methods raise `StoreUnavailable`.

    Args:
        database: where they are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, webhook: Webhook) -> None:
        """Write a new webhook down; it gets the events from now on."""

        def do(transaction: Transaction) -> None:
            new_subscriber(transaction, webhook)

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
            one = (_WEBHOOKS, webhooks.c.deployment_id == deployment, webhooks.c.id == webhook_id)
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
                    _WEBHOOKS,
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
            return [read_delivery(row) for row in connection.execute(query)]

        return await self._database.read(read)

    async def _select(self, where: sa.ColumnElement[bool]) -> Sequence[Webhook]:
        def read(connection: sa.Connection, deployment: int) -> Sequence[Webhook]:
            query = sa.select(webhooks).where(
                _WEBHOOKS, webhooks.c.deployment_id == deployment, where
            )
            oldest_first = query.order_by(webhooks.c.created_at, webhooks.c.id)
            return [read_subscriber(row) for row in connection.execute(oldest_first)]

        return await self._database.read(read)
