"""The lease: of several services before one scheduler, one at a time asks it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from tests.databases import Database as Place
from tests.unit.storage.kit import Store, add, ended, execute, job, several

from hpcq.domain.errors import LeaseLost
from hpcq.storage.leases import Lease

pytestmark = pytest.mark.anyio


@pytest.fixture
async def stores(shared: Place) -> AsyncIterator[list[Store]]:
    async with several(shared.url, 2) as stores:
        yield stores


def lease(store: Store, holder: str) -> Lease:
    return Lease(store.database, holder, timedelta(seconds=60))


async def run_out(store: Store) -> None:
    """Let the time of the lease pass."""
    await execute(store, "UPDATE leases SET until = until - 3600")


async def test_lease_held_until_given_back(stores: list[Store]) -> None:
    first, second = lease(stores[0], "a"), lease(stores[1], "b")
    assert await first.take()
    assert not await second.take()
    assert await first.take(), "renewed"
    await second.give_back()
    assert not await second.take(), "only who has it can give it back"
    await first.give_back()
    assert await second.take()
    assert not await first.take()


async def test_lease_expired(stores: list[Store]) -> None:
    first, second = lease(stores[0], "a"), lease(stores[1], "b")
    assert await first.take()
    await run_out(stores[0])
    assert await second.take()
    assert not await first.take()


async def test_lease_renewed(stores: list[Store]) -> None:
    first, second = lease(stores[0], "a"), lease(stores[1], "b")
    assert await first.take()
    await run_out(stores[0])
    assert await first.take(), "nobody else wanted it"
    assert not await second.take()


async def test_lease_concurrent(stores: list[Store]) -> None:
    taken = await asyncio.gather(*(lease(stores[n % 2], str(n)).take() for n in range(20)))
    assert taken.count(True) == 1


async def test_publish_without_lease(stores: list[Store]) -> None:
    first, second = stores
    (record,) = await add(first, [job(1)])
    before = await first.jobs.news(None)
    for holder in ("a", "b"):
        with pytest.raises(LeaseLost):
            await first.jobs.publish([(record, ended(record, 1))], holder=holder)
    assert await lease(first, "a").take()
    with pytest.raises(LeaseLost):
        await second.jobs.publish([(record, ended(record, 2))], holder="b", problem="away")
    assert await first.jobs.by_uid(record.uid) == record, "nothing was written"
    assert await first.jobs.news(before.change) == before
    (written,) = await first.jobs.publish([(record, ended(record, 3))], holder="a")
    assert await second.jobs.by_uid(record.uid) == written


async def test_publish_after_lease_lost(stores: list[Store]) -> None:
    first, second = stores
    (record,) = await add(first, [job(1)])
    assert await lease(first, "a").take()
    await run_out(first)
    with pytest.raises(LeaseLost):
        await first.jobs.publish([(record, ended(record, 1))], holder="a")
    assert await lease(second, "b").take()
    outcomes = await asyncio.gather(
        first.jobs.publish([(record, ended(record, 1))], holder="a"),
        first.jobs.create(job(2)),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], LeaseLost)
    assert outcomes[1] is None, "what shared its transaction was written"
    assert await second.jobs.by_uid(record.uid) == record
    assert len(await second.jobs.events(0, 10)) == 2
