"""Samples of usage in real databases."""

from datetime import timedelta

import pytest
import sqlalchemy as sa
from tests.unit.storage.kit import T0, Store, add, ended, job

from hpcq.domain import job_merge, sampling
from hpcq.domain.events import EventKind
from hpcq.domain.jobs import JobRecord, NativeId, Observation, Usage
from hpcq.domain.sampling import SAMPLES_AT_MOST, Sample
from hpcq.domain.states import JobState

pytestmark = pytest.mark.anyio

FULL = {
    "cpu_seconds": 1.5,
    "memory_byte_seconds": 2.0**40,
    "memory_bytes": 2.0**33,
    "max_memory_bytes": 2.0**34,
    "io_bytes": 0.0,
    "io_wait_seconds": 0.25,
}


def running(record: JobRecord, second: float, start: float = 0, **figures: float) -> JobRecord:
    at = T0 + timedelta(seconds=second)
    assert record.native_id is not None
    seen = Observation(
        native_id=record.native_id,
        state=JobState.RUNNING,
        start_time=T0 + timedelta(seconds=start),
        usage=Usage(sampled_at=at, **figures),
    )
    return job_merge.observe(record, seen, at)


async def publish(store: Store, old: JobRecord, new: JobRecord) -> JobRecord:
    taken = sampling.sample(old, new, T0)
    assert taken is not None
    (written,) = await store.jobs.publish([(old, new)], holder=None, samples=[taken])
    return written


async def seconds(store: Store, record: JobRecord) -> list[float]:
    times = [usage.sampled_at for usage in await store.jobs.samples(record.uid)]
    return [(time - T0).total_seconds() for time in times if time is not None]


async def test_samples_roundtrip(store: Store) -> None:
    (record,) = await add(store, [job(1)])
    record = await publish(store, record, running(record, 3, **FULL))
    record = await publish(store, record, running(record, 9, cpu_seconds=2.0))
    first, second = await store.jobs.samples(record.uid)
    assert first == Usage(sampled_at=T0 + timedelta(seconds=3), **FULL)
    assert second.cpu_seconds == 2.0
    assert (second.memory_bytes, second.io_bytes) == (None, FULL["io_bytes"])
    (other,) = await add(store, [job(2)])
    assert await store.jobs.samples(other.uid) == []


async def test_samples_events_of_stored(store: Store) -> None:
    (record,) = await add(store, [job(1)])
    for second in (5, 5.5, 6):
        record = await publish(store, record, running(record, second, cpu_seconds=second))
    assert await seconds(store, record) == [5, 6]
    told = [e for e in await store.jobs.events(0, 99) if e.kind is EventKind.USAGE]
    assert [e.data["cpuSeconds"] for e in told] == [5, 6]
    assert told[0].data["timeInstant"] == "2026-01-05T12:00:05.000Z"
    assert record.seen is not None
    assert record.seen.usage is not None
    assert record.seen.usage.cpu_seconds == 6


async def test_samples_thinned(store: Store) -> None:
    (record,) = await add(store, [job(1)])
    for second in range(0, 5000, 13):
        record = await publish(store, record, running(record, second, cpu_seconds=second))
    kept = await seconds(store, record)
    length = sampling.resolution(4992)
    stretches = [second // length for second in kept]
    assert sorted(set(stretches)) == stretches, "one in each"
    assert stretches == list(map(float, range(len(stretches)))), "and none left empty"
    assert 256 < len(kept) <= SAMPLES_AT_MOST


async def test_samples_of_rerun(store: Store) -> None:
    (record,) = await add(store, [job(1)])
    for second in (0, 100, 2000):
        record = await publish(store, record, running(record, second, cpu_seconds=second))
    again = running(record.changed(seen=None), 3005, start=3000, cpu_seconds=1)
    record = await publish(store, record, again)
    assert await seconds(store, record) == [3005]


async def test_samples_of_unwritten_change(store: Store) -> None:
    (record,) = await add(store, [job(1)])
    await store.jobs.change(record.uid, lambda r: ended(r, 4))
    new = running(record, 3, cpu_seconds=1.0)
    taken = sampling.sample(record, new, T0)
    assert taken is not None
    assert await store.jobs.publish([(record, new)], holder=None, samples=[taken]) == []
    assert await store.jobs.samples(record.uid) == []


async def test_samples_many_jobs(store: Store) -> None:
    records = await add(store, [job(n) for n in range(1, 701)])
    for second in (3, 4):
        changes = [(r, running(r, second, cpu_seconds=second)) for r in records]
        taken = [sampling.sample(old, new, T0) for old, new in changes]
        samples: list[Sample] = [one for one in taken if one is not None]
        records = await store.jobs.publish(changes, holder=None, samples=samples)
    count = await store.database.read(
        lambda c, _: c.execute(sa.text("SELECT count(*) FROM usage_samples")).scalar()
    )
    assert count == 1400
    assert {type(record.native_id) for record in records} == {NativeId}
