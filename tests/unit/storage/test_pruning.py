"""Taking out what is old: in batches, and nothing else."""

import asyncio
from datetime import timedelta

import pytest
import sqlalchemy as sa
from tests.databases import Database as Place
from tests.unit.storage.kit import (
    LONG_AGO,
    T0,
    Store,
    add,
    ended,
    foreign,
    job,
    key,
    opened,
    several,
)

from hpcq.domain.errors import LeaseLost
from hpcq.storage.leases import Lease
from hpcq.storage.migrate import Deployment
from hpcq.storage.pruning import Pruner

pytestmark = pytest.mark.anyio


async def count(store: Store, table: str) -> int:
    query = sa.text(f"SELECT count(*) FROM {table}")  # noqa: S608
    number = await store.database.read(lambda c, _: c.execute(query).scalar_one())
    return int(number)


async def test_prune_jobs_with_samples(
    store: Store,
) -> None:
    pruner = Pruner(store.database, None, at_once=2)
    old = [ended(job(n), 10) for n in range(1, 6)]
    removed = ended(job(6), 10).changed(removed_at=T0)
    kept = [ended(job(7), 20), job(8), foreign(9)]
    await add(store, [*old, removed, *kept])

    def sample(connection: sa.Connection, _deployment: int) -> None:
        statement = sa.text("INSERT INTO usage_samples (uid, second, sampled_at) VALUES (:u, 0, 0)")
        connection.execute(statement, [{"u": r.uid} for r in (old[0], kept[0])])

    await store.database.apart(sample)
    before = T0 + timedelta(seconds=20)
    assert [await pruner.prune_jobs(before) for _ in range(4)] == [2, 2, 2, 0]
    found = await store.jobs.open_or_recent(LONG_AGO, 100)
    assert {r.uid for r in found} == {r.uid for r in kept}
    assert await store.jobs.by_uid(removed.uid) is None
    assert await count(store, "usage_samples") == 1
    assert await count(store, "events") > 0, "they have a time of their own"


async def test_prune_foreign_jobs(store: Store) -> None:
    pruner = Pruner(store.database, None)
    gone, runs, over = foreign(1), foreign(2), ended(foreign(3), 10)
    ours = ended(job(4), 10)
    await add(store, [gone, runs, over, ours])
    store.now = T0 + timedelta(hours=5)
    await store.jobs.publish([], holder=None, gone=[gone.uid])
    assert await pruner.prune_others(T0 + timedelta(hours=5)) == 1
    assert await store.jobs.by_uid(over.uid) is None
    assert await count(store, "jobs") == 3
    assert await pruner.prune_others(T0 + timedelta(hours=5, seconds=1)) == 1
    assert {r.uid for r in await store.jobs.open_or_recent(LONG_AGO, 9)} == {runs.uid, ours.uid}


async def test_prune_events_oldest_first(store: Store) -> None:
    pruner = Pruner(store.database, None, at_once=2)
    await add(store, [job(n) for n in range(1, 6)])
    store.now = T0 + timedelta(days=2)
    await add(store, [job(6)])
    # The clock of another replica is behind: what is newer stays, and all after it.
    store.now = T0
    await add(store, [job(7)])
    horizon = T0 + timedelta(days=1)
    assert [await pruner.prune_events(horizon) for _ in range(4)] == [2, 2, 1, 0]
    assert [e.number for e in await store.jobs.events(0, 10)] == [6, 7]
    assert [await pruner.prune_events(T0 + timedelta(days=3)) for _ in range(2)] == [2, 0]
    await add(store, [job(8)])
    assert [e.number for e in await store.jobs.events(0, 10)] == [8]


async def test_prune_keys_expired(store: Store) -> None:
    pruner = Pruner(store.database, None, at_once=2)
    for number in range(5):
        await store.jobs.create(job(seconds=number), key(str(number)))
    before = T0 + timedelta(seconds=3)
    assert [await pruner.prune_keys(before) for _ in range(3)] == [2, 1, 0]
    claims = [await store.jobs.claim(key(str(n))) for n in range(5)]
    assert [claim is not None for claim in claims] == [False, False, False, True, True]


async def test_prune_other_deployments_kept(store: Store, database: Place) -> None:
    await add(store, [ended(job(1), 1)])
    await store.jobs.create(job(), key())
    if not store.database.is_shared:
        # One service at a time has the file.
        await store.database.close()
    never = T0 + timedelta(days=9999)
    async with opened(database.url, Deployment("2", "SLURM")) as other:
        pruner = Pruner(other.database, None)
        for prune in (
            pruner.prune_jobs,
            pruner.prune_others,
            pruner.prune_events,
            pruner.prune_keys,
        ):
            assert await prune(never) == 0


async def test_prune_without_lease(shared: Place) -> None:
    never = T0 + timedelta(days=9999)
    async with several(shared.url, 2) as (first, second):
        await add(first, [ended(job(1), 1)])
        with pytest.raises(LeaseLost):
            await Pruner(second.database, "b").prune_jobs(never)
        assert await Lease(first.database, "a", timedelta(minutes=1)).take()
        with pytest.raises(LeaseLost):
            await Pruner(second.database, "b").prune_events(never)
        assert await count(first, "jobs") == 1
        assert await Pruner(first.database, "a").prune_jobs(never) == 1


async def test_prune_batches_let_writers_in(store: Store) -> None:
    pruner = Pruner(store.database, None, at_once=1)
    await add(store, [ended(job(n), 1) for n in range(1, 51)])
    left: list[int] = []

    async def write() -> None:
        for number in range(60, 65):
            await store.jobs.create(job(number))
            left.append(await count(store, "events"))

    async def prune() -> None:
        while await pruner.prune_events(T0 + timedelta(days=1)):
            pass

    writing = asyncio.create_task(write())
    await asyncio.gather(prune(), writing)
    assert max(left) > 10, "the first write did not wait for the last batch"
