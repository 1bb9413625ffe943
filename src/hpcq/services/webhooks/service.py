"""The webhooks of this deployment: made, listed, deleted, and served."""

import asyncio
import secrets
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

import structlog

from hpcq.domain.errors import InvalidWebhook, LeaseLost, NotAuthorized, StoreUnavailable
from hpcq.domain.events import Event, EventKind
from hpcq.domain.webhooks import (
    Delivery,
    DeliveryStatus,
    Webhook,
    body_of,
    headers_of,
    next_attempt,
    read_secret,
)
from hpcq.services.settings import Networks
from hpcq.services.webhooks.sender import WebhookSender, check_url
from hpcq.storage.webhooks import WebhookStore

__all__ = ["MOST_WEBHOOKS", "WebhookService"]

_log = structlog.get_logger("hpcq.webhooks")

MOST_WEBHOOKS = 100
_LOOK_SECONDS = 0.5
_AT_ONCE = 8
_LONGEST_REST_SECONDS = 60.0
_GONE = 410


class WebhookService:
    """Webhooks, and the tasks that send their messages.

    A message about a job goes only when the one before about the same job has arrived or was given
    up; those about different jobs go side by side. Each arrives at least once.

    Args:
        store: where they are kept.
        networks: where messages may go; empty where the site wants no webhooks.
        is_leader: says whether this replica is the one that sends.
        clock: the present, aware.
    """

    def __init__(
        self,
        store: WebhookStore,
        networks: Networks,
        is_leader: Callable[[], bool],
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._networks = networks
        self._is_leader = is_leader
        self._now = clock

    async def create(
        self, url: str, kinds: frozenset[EventKind] | None, secret: str | None, user: str
    ) -> Webhook:
        """Make a webhook; it is told of what happens from now on.

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

    async def run(self) -> None:
        """Send messages until cancelled."""
        if not self._networks:
            return
        async with WebhookSender(self._networks) as sender:
            senders: dict[str, asyncio.Task[None]] = {}
            try:
                while True:
                    try:
                        await self._look(sender, senders)
                    except (StoreUnavailable, LeaseLost) as error:
                        _log.warning("webhooks.behind", problem=str(error))
                    except Exception:
                        _log.exception("webhooks.failed")
                    await asyncio.sleep(_LOOK_SECONDS)
            finally:
                await _end(list(senders.values()))

    async def _look(self, sender: WebhookSender, senders: dict[str, asyncio.Task[None]]) -> None:
        """Write down what is owed, and give each webhook a task of its own."""
        known: dict[str, Webhook] = {}
        if self._is_leader():
            while await self._store.is_behind() and await self._store.enqueue(self._now()):
                pass
            known = {one.webhook_id: one for one in await self._store.all()}
        gone = [name for name, task in senders.items() if name not in known or task.done()]
        await _end([senders.pop(name) for name in gone])
        for name, webhook in known.items():
            if webhook.disabled_at is None and name not in senders:
                senders[name] = asyncio.create_task(self._serve(webhook, sender))

    async def _serve(self, webhook: Webhook, sender: WebhookSender) -> None:
        failures = 0
        while True:
            due = await self._store.due(webhook.webhook_id, self._now(), _AT_ONCE)
            done = await asyncio.gather(
                *(self._attempt(webhook, sender, *message) for message in due)
            )
            if any(delivery.last_code == _GONE for delivery in done):
                _log.warning("webhook.disabled", webhook=webhook.webhook_id)
                await self._store.disable(webhook.webhook_id, self._now())
                return
            has_failed = bool(done) and not any(
                delivery.status is DeliveryStatus.DELIVERED for delivery in done
            )
            failures = failures + 1 if has_failed else 0
            if has_failed:
                # Whoever does not answer is not asked for each of ten thousand jobs.
                await asyncio.sleep(min(2.0**failures, _LONGEST_REST_SECONDS))
            elif not done:
                await asyncio.sleep(_LOOK_SECONDS)

    async def _attempt(
        self, webhook: Webhook, sender: WebhookSender, delivery: Delivery, event: Event
    ) -> Delivery:
        """Send a message once; return the delivery as it was then written down."""
        body = body_of(event)
        headers = headers_of(webhook, event.number, body, self._now())
        reply = await sender.send(webhook.url, headers, body)
        at, attempts = self._now(), delivery.attempts + 1
        status, again = DeliveryStatus.DELIVERED, None
        if reply.problem is not None:
            again = next_attempt(attempts, event.at, at, reply.pause)
            status = DeliveryStatus.FAILED if again is None else DeliveryStatus.PENDING
        noted = replace(
            delivery,
            status=status,
            attempts=attempts,
            last_attempt_at=at,
            last_code=reply.code,
            last_problem=reply.problem,
            next_attempt_at=again,
        )
        await self._store.note(noted)
        return noted


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            _log.warning("webhooks.behind", problem=str(outcome) or repr(outcome))
