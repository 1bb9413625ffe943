"""The webhooks of this deployment: made, listed, and deleted."""

import secrets
from base64 import b64encode
from collections.abc import Callable, Sequence
from datetime import datetime

from hpcq.domain.errors import InvalidWebhook, NotAuthorized
from hpcq.domain.events import EventKind
from hpcq.domain.webhooks import Delivery, DeliveryStatus, Webhook, read_secret
from hpcq.services.settings import Networks
from hpcq.services.webhooks.sender import check_url
from hpcq.storage.webhooks import WebhookStore

__all__ = ["MOST_WEBHOOKS", "WebhookService"]

MOST_WEBHOOKS = 100


class WebhookService:
    """The webhooks that operators make.

    Args:
        store: where they are kept.
        networks: where messages may go; empty where the site wants no webhooks.
        clock: the present, aware.
    """

    def __init__(
        self,
        store: WebhookStore,
        networks: Networks,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._networks = networks
        self._now = clock

    async def create(
        self, url: str, kinds: frozenset[EventKind] | None, secret: str | None, user: str
    ) -> Webhook:
        """Make a webhook; it gets the events from now on.

        Args:
            url: of the receiver.
            kinds: the events that it wants; None for all.
            secret: for the signatures; None for a random one.
            user: who asks.

        Raises:
            NotAuthorized: the site wants no webhooks, or there are as many as there may be.
            InvalidWebhook: the URL or the secret is none, or the site does not allow the address.
        """
        if not self._networks:
            raise NotAuthorized(
                "This service sends no webhooks. WEBHOOK_NETWORKS says where they may go."
            )
        check_url(url, self._networks)
        if secret is None:
            secret = "whsec_" + b64encode(secrets.token_bytes(32)).decode("ascii")
        try:
            read_secret(secret)
        except ValueError as error:
            raise InvalidWebhook(
                f"This is no secret of a webhook. {error}", field="secret"
            ) from error
        if len(await self._store.all()) >= MOST_WEBHOOKS:
            raise NotAuthorized(f"There are {MOST_WEBHOOKS} webhooks; delete one of them first.")
        webhook = Webhook(
            webhook_id=secrets.token_hex(8),
            url=url,
            secret=secret,
            kinds=kinds,
            created_by=user,
            created_at=self._now(),
        )
        await self._store.add(webhook)
        return webhook

    async def all(self) -> Sequence[tuple[Webhook, int]]:
        """Return all webhooks, the oldest first, and how many messages each is owed."""
        pending = await self._store.pending()
        return [(one, pending.get(one.webhook_id, 0)) for one in await self._store.all()]

    async def read(self, webhook_id: str) -> tuple[Webhook, int]:
        """Return one webhook, and how many messages it is owed.

        Raises:
            WebhookNotFound: there is none of this id.
        """
        webhook = await self._store.find(webhook_id)
        return webhook, (await self._store.pending()).get(webhook_id, 0)

    async def delete(self, webhook_id: str) -> None:
        """Delete a webhook; what it is still owed is not sent. Raises as `read`."""
        await self._store.remove(webhook_id)

    async def deliveries(
        self, webhook_id: str, limit: int, before: int | None, status: DeliveryStatus | None
    ) -> Sequence[Delivery]:
        """Return messages of a webhook, see `WebhookStore.deliveries`. Raises as `read`."""
        await self._store.find(webhook_id)
        return await self._store.deliveries(webhook_id, limit, before, status)
