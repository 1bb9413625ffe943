"""Samples of the load of queues, in each kind of database."""

from datetime import timedelta

import pytest
from tests.databases import Database as Place
from tests.unit.storage.kit import T0, Store, opened, several

from hpcq.domain.errors import LeaseLost
from hpcq.domain.queue_load import QueueLoad
from hpcq.storage.leases import Lease
from hpcq.storage.migrate import Deployment
from hpcq.storage.pruning import Pruner
from hpcq.storage.queue_samples import QueueSamples

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)


def load(queue: str = "batch", used: int = 8, total: int | None = 64) -> QueueLoad:
    return QueueLoad(
        queue=queue,
        slots_total=total,
        slots_used=used,
        slots_queued=2 * used,
        jobs_running=1,
        jobs_queued=2,
    )


async def filled(store: Store, minutes: int) -> QueueSamples:
    samples = QueueSamples(store.database, None)
    for n in range(minutes):
        await samples.write([load(used=n), load("long", total=None)], T0 + n * MINUTE)
    return samples


async def test_samples_oldest_first(store: Store) -> None:
    samples = await filled(store, 3)
    points = await samples.read("batch", T0, T0 + 3 * MINUTE, 1)
    assert [(p.at, p.slots_used, p.slots_queued) for p in points] == [
        (T0 + n * MINUTE, n, 2 * n) for n in range(3)
    ]
    assert {(p.slots_total, p.jobs_running, p.jobs_queued) for p in points} == {(64, 1, 2)}
    (first, *_) = await samples.read("long", T0, T0 + 3 * MINUTE, 1)
    assert first.slots_total is None


async def test_samples_mean_per_step(store: Store) -> None:
    samples = await filled(store, 10)
    points = await samples.read("batch", T0 + MINUTE, T0 + 9 * MINUTE, 3)
    assert [(p.at, p.slots_used) for p in points] == [
        (T0 + MINUTE, 2.0),
        (T0 + 4 * MINUTE, 5.0),
        (T0 + 7 * MINUTE, 7.5),
    ]


async def test_samples_missing_steps(store: Store) -> None:
    samples = QueueSamples(store.database, None)
    await samples.write([load()], T0)
    await samples.write([load()], T0 + 60 * MINUTE)
    points = await samples.read("batch", T0 - 100 * MINUTE, T0 + 61 * MINUTE, 10)
    assert [p.at for p in points] == [T0, T0 + 60 * MINUTE]


async def test_samples_same_minute_replaced(store: Store) -> None:
    samples = QueueSamples(store.database, None)
    await samples.write([load(used=1), load("gone")], T0)
    await samples.write([load(used=2**40)], T0 + MINUTE / 2)
    (point,) = await samples.read("batch", T0, T0 + MINUTE, 1)
    assert point.slots_used == 2**31 - 1
    assert [await samples.has(name) for name in ("batch", "gone", "none")] == [True, False, False]


async def test_samples_of_other_deployments(database: Place) -> None:
    async with opened(database.url) as one:
        await filled(one, 1)
    async with opened(database.url, Deployment("2", "LOCAL")) as other:
        samples = QueueSamples(other.database, None)
        assert not await samples.has("batch")
        assert await samples.read("batch", T0, T0 + MINUTE, 1) == []


async def test_samples_pruned_hourly(store: Store) -> None:
    samples = await filled(store, 130)
    pruner = Pruner(store.database, None)
    before = T0 + 125 * MINUTE
    deleted = [await pruner.prune_queue_samples(before) for _ in range(4)]
    assert deleted == [2 * 60, 2 * 60, 2 * 5, 0]
    points = await samples.read("batch", T0, T0 + 130 * MINUTE, 1)
    assert [p.at for p in points] == [T0 + n * MINUTE for n in range(125, 130)]


async def test_samples_without_lease(shared: Place) -> None:
    async with several(shared.url, 2) as (one, _):
        assert await Lease(one.database, "one", timedelta(minutes=1)).take()
        await QueueSamples(one.database, "one").write([load()], T0)
        with pytest.raises(LeaseLost):
            await QueueSamples(one.database, "other").write([load()], T0)
