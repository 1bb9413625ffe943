"""Mails in the database: owed for the events of jobs that ask for them, while mails are on."""

from datetime import timedelta

import pytest
from tests.unit.storage.kit import T0, Store, add, ended, execute, job

from hpcq.domain.events import EventKind
from hpcq.domain.jobs import JobRecord, MailEvent
from hpcq.domain.webhooks import SubscriberKind, Webhook
from hpcq.storage.deliveries import Backlog, DeliveryQueue
from hpcq.storage.webhooks import WebhookStore

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)
MAILS, WEBHOOKS = SubscriberKind.MAIL, SubscriberKind.WEBHOOK


def queue(store: Store, *kinds: SubscriberKind) -> DeliveryQueue:
    return DeliveryQueue(store.database, kinds, None)


def mailed(number: int) -> JobRecord:
    return job(number, mail_to="ana@site.example", mail_on=(MailEvent.END,), is_mailed_here=True)


async def finish(store: Store, *records: JobRecord) -> None:
    await store.jobs.publish([(record, ended(record, 9)) for record in records], holder=None)


async def due(mails: DeliveryQueue) -> list[tuple[str, int]]:
    """The jobs, and the events, that mails are due for."""
    (subscriber,) = await mails.subscribers()
    assert subscriber.kind is MAILS
    await mails.enqueue(T0)
    found = await mails.due(subscriber.webhook_id, T0, 100)
    return [(str(event.uid), event.number) for _, event in found]


async def test_mails_due_for_jobs_asking(store: Store) -> None:
    mails = queue(store, MAILS)
    await mails.switch_mails(T0)
    asks, does_not, is_done = await add(store, [mailed(1), job(2), mailed(3)])
    assert await due(mails) == []
    await finish(store, asks, does_not)
    assert await due(mails) == [(asks.uid, 4)]
    await finish(store, is_done)
    assert await due(mails) == [(asks.uid, 4), (is_done.uid, 6)]
    assert not await mails.is_behind()


async def test_mails_due_damaged_record(store: Store) -> None:
    mails = queue(store, MAILS)
    await mails.switch_mails(T0)
    damaged, other = await add(store, [mailed(1), mailed(2)])
    await finish(store, damaged, other)
    await execute(
        store,
        "UPDATE jobs SET document = :document WHERE uid = :uid",
        document=b"{]",
        uid=str(damaged.uid),
    )
    assert await due(mails) == [(other.uid, 4)]


async def test_mails_switched_on_twice(store: Store) -> None:
    mails = queue(store, MAILS)
    for _ in range(2):
        await mails.switch_mails(T0)
    (subscriber,) = await mails.subscribers()
    assert subscriber.kinds == frozenset({EventKind.STATE})


async def test_mails_switched_off_and_on(store: Store) -> None:
    """Nobody gets mails of weeks ago."""
    on, off = queue(store, MAILS), queue(store)
    await on.switch_mails(T0)
    first, second, third = await add(store, [mailed(1), mailed(2), mailed(3)])
    await finish(store, first)
    assert len(await due(on)) == 1
    (subscriber,) = await on.subscribers()
    await off.switch_mails(T0 + HOUR)
    assert await on.subscribers() == []
    await finish(store, second)
    assert not await on.is_behind()
    await on.switch_mails(T0 + 2 * HOUR)
    assert await on.subscribers() == [subscriber]
    assert await due(on) == []
    await finish(store, third)
    assert [uid for uid, _ in await due(on)] == [third.uid]


async def test_mails_separate_from_webhooks(store: Store) -> None:
    mails, webhooks = queue(store, MAILS), WebhookStore(store.database)
    await mails.switch_mails(T0)
    (record,) = await add(store, [mailed(1)])
    await finish(store, record)
    await due(mails)
    assert await webhooks.all() == []
    assert await webhooks.pending() == {}


async def test_backlog_of_each_kind(store: Store) -> None:
    """The oldest event counts, whichever of the webhooks waits for it."""
    both = queue(store, MAILS, WEBHOOKS)
    for name, kinds in (("a", None), ("b", frozenset({EventKind.STATE}))):
        webhook = Webhook(
            webhook_id=name, url="https://x", secret="", kinds=kinds, created_by="", created_at=T0
        )
        await WebhookStore(store.database).add(webhook)
    await both.switch_mails(T0)
    assert await both.backlog() == {MAILS: Backlog(), WEBHOOKS: Backlog()}
    (record,) = await add(store, [mailed(1)])
    store.now = T0 + HOUR
    await finish(store, record)
    await both.enqueue(T0)
    assert await both.backlog() == {
        MAILS: Backlog(1, T0 + HOUR),
        WEBHOOKS: Backlog(3, T0),
    }
    assert await queue(store, MAILS).backlog() == {MAILS: Backlog(1, T0 + HOUR)}


async def test_subscribers_paused(store: Store) -> None:
    """The site turned webhooks off for a while; nothing is missed."""
    mails, both = queue(store, MAILS), queue(store, MAILS, WEBHOOKS)
    webhook = Webhook(
        webhook_id="a", url="https://x", secret="", kinds=None, created_by="ana", created_at=T0
    )
    await WebhookStore(store.database).add(webhook)
    await mails.switch_mails(T0)
    (record,) = await add(store, [mailed(1)])
    await finish(store, record)
    assert [uid for uid, _ in await due(mails)] == [record.uid]
    assert await both.due("a", T0, 9) == []
    await both.enqueue(T0)
    assert [event.number for _, event in await both.due("a", T0, 9)] == [1]
    assert [
        one.number for one in await WebhookStore(store.database).deliveries("a", 9, None, None)
    ] == [2, 1]
