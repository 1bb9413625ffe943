"""The feed of events: none missed and none twice, wherever a reader begins and however it lags."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.unit.storage.kit import T0, Store, add, ended, job, opened

from hpcq.domain.errors import EventsGone
from hpcq.domain.jobs import JobUid
from hpcq.services import event_feed as module
from hpcq.services.event_feed import EventFeed
from hpcq.storage.pruning import Pruner

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(f"sqlite:///{tmp_path}/jobs.sqlite3") as store:
        yield store


@pytest.fixture
async def feed(store: Store, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EventFeed]:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.001)
    monkeypatch.setattr(module, "_AT_ONCE", 3)
    feed = EventFeed(store.jobs)
    running = asyncio.create_task(feed.run())
    yield feed
    running.cancel()


async def read(feed: EventFeed, after: int, count: int, uid: JobUid | None = None) -> list[int]:
    """Return the numbers of the next so many events."""
    numbers: list[int] = []
    followed = feed.follow(after, uid)
    async for batch in followed:
        numbers += [event.number for event in batch]
        if len(numbers) >= count:
            break
    await followed.aclose()  # type: ignore[attr-defined]
    return numbers


async def test_events_before_and_after_reader_start(store: Store, feed: EventFeed) -> None:
    await add(store, [job(n) for n in range(1, 8)])
    reading = asyncio.create_task(read(feed, 2, 12))
    for number in range(8, 15):
        await add(store, [job(number)])
        await asyncio.sleep(0.002)
    assert await reading == list(range(3, 15))


async def test_events_slow_readers(store: Store, feed: EventFeed) -> None:
    """Some begin in the records, some in memory, and all pause where they like."""

    async def lagging(after: int, pause: float) -> list[int]:
        numbers: list[int] = []
        async for batch in feed.follow(after):
            numbers += [event.number for event in batch]
            if numbers and numbers[-1] == 60:
                return numbers
            await asyncio.sleep(pause)
        return numbers

    await add(store, [job(n) for n in range(1, 21)])
    readers = [
        asyncio.create_task(lagging(after, pause))
        for after in (0, 7, 20)
        for pause in (0, 0.001, 0.02)
    ]
    for number in range(21, 61):
        await add(store, [job(number)])
        if number % 5 == 0:
            await asyncio.sleep(0.004)
    for reader, after in zip(readers, (0, 0, 0, 7, 7, 7, 20, 20, 20), strict=True):
        assert await reader == list(range(after + 1, 61))


async def test_events_after_pause_without_readers(store: Store, feed: EventFeed) -> None:
    await add(store, [job(1), job(2)])
    assert await read(feed, 0, 2) == [1, 2]
    await add(store, [job(n) for n in range(3, 12)])
    assert await read(feed, 1, 10) == list(range(2, 12))


async def test_events_first_read_not_in_feed_yet(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They reach a reader who waits already, though the feed has not looked since."""
    monkeypatch.setattr(module, "_QUIET_SECONDS", 600.0)
    feed = EventFeed(store.jobs)
    waiting = feed.follow(0)
    assert await anext(waiting) == ()
    reading = asyncio.ensure_future(anext(waiting))
    await asyncio.sleep(0)
    await add(store, [job(1)])
    assert await read(feed, 0, 1) == [1]
    async with asyncio.timeout(30):
        assert [event.number for event in await reading] == [1]


async def test_events_of_one_job(store: Store, feed: EventFeed) -> None:
    records = await add(store, [job(n) for n in range(1, 8)])
    reading = asyncio.create_task(read(feed, 0, 2, records[3].uid))
    await asyncio.sleep(0.01)
    await store.jobs.publish([(records[5], ended(records[5], 9))], holder=None)
    await store.jobs.publish([(records[3], ended(records[3], 9))], holder=None)
    assert await reading == [4, 9]


async def test_reader_start_position(store: Store, feed: EventFeed) -> None:
    assert await feed.start_of(None) == 0
    await add(store, [job(n) for n in range(1, 4)])
    store.now = T0 + timedelta(hours=2)
    await add(store, [job(4)])
    await Pruner(store.database, None, at_once=2).prune_events(T0 + timedelta(hours=1))
    assert await feed.start_of(None) == 4
    assert await feed.start_of(None, all_kept=True) == 2
    assert await feed.start_of(2) == 2
    assert await feed.start_of(4) == 4
    for gone in (0, 1, 5):
        with pytest.raises(EventsGone, match="from 3 to 4 are kept"):
            await feed.start_of(gone)


async def test_feed_closed(store: Store, feed: EventFeed) -> None:
    reading = asyncio.create_task(read(feed, 0, 1))
    await asyncio.sleep(0.01)
    assert not reading.done()
    feed.close()
    assert await reading == []
