"""Webhooks in the database: each event once for each, and one message of a job at a time."""

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.unit.storage.kit import T0, Store, add, ended, job

from hpcq.domain.errors import WebhookNotFound
from hpcq.domain.events import EventKind
from hpcq.domain.jobs import JobRecord
from hpcq.domain.webhooks import Delivery, DeliveryStatus, SubscriberKind, Webhook
from hpcq.storage.deliveries import DeliveryQueue
from hpcq.storage.pruning import Pruner
from hpcq.storage.webhooks import WebhookStore

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


def webhook(name: str = "a", kinds: frozenset[EventKind] | None = None) -> Webhook:
    return Webhook(
        webhook_id=name,
        url="https://portal.example",
        secret="whsec_",  # noqa: S106
        kinds=kinds,
        created_by="ana",
        created_at=T0,
    )


class Webhooks(WebhookStore, DeliveryQueue):
    """The webhooks, and what they are owed."""

    def __init__(self, store: Store) -> None:
        DeliveryQueue.__init__(self, store.database, list(SubscriberKind), None)


@pytest.fixture
def webhooks(store: Store) -> Webhooks:
    return Webhooks(store)


async def finish(store: Store, record: JobRecord) -> None:
    await store.jobs.publish([(record, ended(record, 9))], holder=None)


async def due(webhooks: Webhooks, name: str = "a") -> list[int]:
    return [event.number for _, event in await webhooks.due(name, T0, 100)]


async def note(webhooks: Webhooks, number: int, status: DeliveryStatus) -> Delivery:
    delivery = next(
        one for one in await webhooks.deliveries("a", 100, None, None) if one.number == number
    )
    noted = replace(
        delivery,
        status=status,
        attempts=delivery.attempts + 1,
        last_attempt_at=T0,
        next_attempt_at=T0 + HOUR if status is DeliveryStatus.PENDING else None,
    )
    await webhooks.note(noted)
    return noted


async def test_webhook_roundtrip(webhooks: Webhooks) -> None:
    every, some = webhook("a"), webhook("b", frozenset({EventKind.STATE, EventKind.DELETED}))
    await webhooks.add(every)
    await webhooks.add(some)
    assert await webhooks.all() == [every, some]
    assert await webhooks.find("b") == some
    for missing in (webhooks.find("c"), webhooks.remove("c")):
        with pytest.raises(WebhookNotFound, match="'c'"):
            await missing


async def test_webhook_earlier_events(store: Store, webhooks: Webhooks) -> None:
    (record,) = await add(store, [job(1)])
    await webhooks.add(webhook())
    assert not await webhooks.is_behind()
    await finish(store, record)
    assert await webhooks.is_behind()
    assert await webhooks.enqueue(T0) == 1
    assert not await webhooks.is_behind()
    assert await due(webhooks) == [2]


async def test_webhook_events_enqueued_once(store: Store, webhooks: Webhooks) -> None:
    await webhooks.add(webhook("a"))
    await add(store, [job(1), job(2)])
    assert await webhooks.enqueue(T0) == 2
    await webhooks.add(webhook("b"))
    (third,) = await add(store, [job(3)])
    assert await webhooks.enqueue(T0) == 1
    assert await webhooks.enqueue(T0) == 0
    assert await due(webhooks, "a") == [1, 2, 3]
    assert await due(webhooks, "b") == [3]
    assert await webhooks.pending() == {"a": 3, "b": 1}
    assert third.native_id == "3"


async def test_webhook_unwanted_events(store: Store, webhooks: Webhooks) -> None:
    await webhooks.add(webhook("a", frozenset({EventKind.STATE})))
    (record,) = await add(store, [job(1)])
    assert await webhooks.enqueue(T0) == 1
    assert await due(webhooks) == []
    assert not await webhooks.is_behind()
    await finish(store, record)
    await webhooks.enqueue(T0)
    assert await due(webhooks) == [2]


@pytest.mark.parametrize("end", [DeliveryStatus.DELIVERED, DeliveryStatus.FAILED])
@pytest.mark.parametrize("together", [True, False])
async def test_webhook_messages_of_one_job_in_order(
    store: Store, webhooks: Webhooks, together: bool, end: DeliveryStatus
) -> None:
    await webhooks.add(webhook())
    one, other = await add(store, [job(1), job(2)])
    if not together:
        await webhooks.enqueue(T0)
    await finish(store, one)
    await finish(store, other)
    await webhooks.enqueue(T0)
    assert await due(webhooks) == [1, 2]
    await note(webhooks, 1, DeliveryStatus.PENDING)
    assert await due(webhooks) == [2]
    await note(webhooks, 1, end)
    assert await due(webhooks) == [2, 3]
    await note(webhooks, 3, end)
    assert await due(webhooks) == [2]
    assert await webhooks.pending() == {"a": 2}


async def test_deliveries_newest_first(store: Store, webhooks: Webhooks) -> None:
    await webhooks.add(webhook())
    await add(store, [job(1), job(2), job(3)])
    await webhooks.enqueue(T0)
    noted = await note(webhooks, 2, DeliveryStatus.DELIVERED)
    listed = await webhooks.deliveries("a", 2, None, None)
    assert [one.number for one in listed] == [3, 2]
    assert listed[1] == noted
    assert listed[1].kind is EventKind.SUBMITTED
    older = await webhooks.deliveries("a", 2, 2, None)
    assert [one.number for one in older] == [1]
    (done,) = await webhooks.deliveries("a", 9, None, DeliveryStatus.DELIVERED)
    assert done.number == 2


async def test_delivery_problem_any_text(store: Store, webhooks: Webhooks) -> None:
    await webhooks.add(webhook())
    await add(store, [job(1)])
    await webhooks.enqueue(T0)
    ((delivery, _),) = await webhooks.due("a", T0, 1)
    await webhooks.note(replace(delivery, last_problem="N\0o\udce9 é"))
    (noted,) = await webhooks.deliveries("a", 9, None, None)
    assert noted.last_problem == "No? é"


async def test_webhook_removed(store: Store, webhooks: Webhooks) -> None:
    await webhooks.add(webhook("a"))
    await add(store, [job(1)])
    await webhooks.enqueue(T0)
    await webhooks.remove("a")
    assert await due(webhooks) == []
    assert await webhooks.pending() == {}
    assert await webhooks.enqueue(T0) == 0


async def test_webhook_disabled(store: Store, webhooks: Webhooks) -> None:
    await webhooks.add(webhook())
    await add(store, [job(1)])
    await webhooks.enqueue(T0)
    await webhooks.disable("a", T0 + HOUR)
    await add(store, [job(2)])
    assert not await webhooks.is_behind()
    assert await due(webhooks) == []
    assert (await webhooks.find("a")).disabled_at == T0 + HOUR
    (given_up,) = await webhooks.deliveries("a", 9, None, None)
    assert given_up.status is DeliveryStatus.FAILED


async def test_deliveries_pruned_with_events(store: Store, webhooks: Webhooks) -> None:
    await webhooks.add(webhook())
    await add(store, [job(1)])
    store.now = T0 + 2 * HOUR
    await add(store, [job(2)])
    await webhooks.enqueue(T0)
    assert await Pruner(store.database, None).prune_events(T0 + HOUR) == 1
    assert [one.number for one in await webhooks.deliveries("a", 9, None, None)] == [2]
