"""The tasks that send messages: what they do when the records cannot be written."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Self, cast

import pytest
from tests.unit.services.kit import T0

from hpcq.domain.errors import StoreUnavailable
from hpcq.domain.events import Event, EventKind
from hpcq.domain.jobs import JobUid
from hpcq.domain.webhooks import Delivery, DeliveryStatus, SubscriberKind, Webhook
from hpcq.services.deliveries import dispatcher as module
from hpcq.services.deliveries.dispatcher import Dispatcher
from hpcq.services.deliveries.transport import Reply
from hpcq.storage.deliveries import DeliveryQueue

UID = JobUid.new()
SUBSCRIBER = Webhook(webhook_id="w", url="", secret="", kinds=None, created_by="ana", created_at=T0)
DUE = Delivery(
    webhook_id="w",
    number=1,
    uid=UID,
    kind=EventKind.SUBMITTED,
    status=DeliveryStatus.PENDING,
    attempts=0,
    last_attempt_at=None,
    last_code=None,
    last_problem=None,
    next_attempt_at=T0,
)
EVENT = Event(number=1, uid=UID, kind=EventKind.SUBMITTED, at=T0, data={})


class FullDisk:
    """A queue with one message, which cannot be written to for some time."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.is_sent = asyncio.Event()

    async def subscribers(self) -> Sequence[Webhook]:
        return [SUBSCRIBER]

    async def due(self, *_: object) -> Sequence[tuple[Delivery, Event]]:
        return [] if self.is_sent.is_set() else [(DUE, EVENT)]

    async def note(self, delivery: Delivery) -> None:
        if self.refusals:
            self.refusals -= 1
            raise StoreUnavailable("The disk is full.")
        assert delivery.status is DeliveryStatus.DELIVERED
        self.is_sent.set()

    async def nothing(self, *_: object) -> Any:
        return None

    switch_mails = is_behind = backlog = nothing


class Mailbox:
    """A transport that counts what it delivers."""

    def __init__(self) -> None:
        self.delivered = 0

    async def deliver(self, _subscriber: Webhook, _event: Event, _at: datetime) -> Reply:
        self.delivered += 1
        return Reply()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close nothing."""


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_message_sent_once_on_full_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.001)
    queue, mailbox = FullDisk(refusals=5), Mailbox()
    dispatcher = Dispatcher(
        cast(DeliveryQueue, queue),
        {SubscriberKind.WEBHOOK: lambda: mailbox},
        is_leader=lambda: True,
        clock=lambda: T0,
    )
    running = asyncio.create_task(dispatcher.run())
    await queue.is_sent.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert mailbox.delivered == 1
