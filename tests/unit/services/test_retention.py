"""Retention of records, events and keys."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.unit.services.kit import World

from hpcq.domain.errors import CommandTimedOut, SchedulerUnavailable
from hpcq.domain.jobs import JobUid
from hpcq.services import retention

pytestmark = pytest.mark.anyio


async def finished(world: World) -> JobUid:
    record = await world.submit()
    assert record.native_id is not None
    world.scheduler.run(record.native_id)
    world.scheduler.end(record.native_id)
    await world.tick(30)
    await world.runner.drain()
    assert world.job(str(record.uid)).state.is_final
    return record.uid


async def test_records_kept_by_default(world: World) -> None:
    uid = await finished(world)
    world.clock.forward(10 * 365 * 86400)
    await world.retention.sweep()
    assert await world.store.by_uid(uid) is not None
    assert await world.store.events(0, 9) == []


@pytest.fixture
async def tidy(tmp_path: Path) -> AsyncIterator[World]:
    """A service that keeps records for three days."""
    async with World(directory=tmp_path, settings={"records_kept_days": 3}) as world:
        yield world


async def test_records_pruned_open_jobs_kept(tidy: World) -> None:
    uid = await finished(tidy)
    still_open = await tidy.submit()
    await tidy.runner.drain()
    tidy.clock.forward(2 * 86400)
    await tidy.retention.sweep()
    assert await tidy.store.by_uid(uid) is not None
    tidy.clock.forward(86400)
    with capture_logs() as logs:
        await tidy.retention.sweep()
    assert await tidy.store.by_uid(uid) is None
    assert await tidy.store.by_uid(still_open.uid) is not None
    assert [(log["event"], log["what"], log["count"]) for log in logs] == [
        ("retention.deleted", "records", 1)
    ]


class _Kept:
    """The records that a scheduler keeps of its own, as `KeepsRecords` has it."""

    def __init__(self, *ended: datetime) -> None:
        self.ended = list(ended)

    async def forget(self, before: datetime) -> int:
        old = [at for at in self.ended if at < before][:1]
        self.ended = [at for at in self.ended if at not in old]
        return len(old)


async def test_scheduler_records_pruned(tidy: World, monkeypatch: pytest.MonkeyPatch) -> None:
    now = tidy.clock()
    old, older, recent = (now - timedelta(days=days) for days in (4, 5, 2))
    kept = _Kept(old, older, recent)
    monkeypatch.setattr(tidy.scheduler, "forget", kept.forget, raising=False)
    with capture_logs() as logs:
        await tidy.retention.sweep()
    assert kept.ended == [recent]
    assert [(log["what"], log["count"]) for log in logs] == [("scheduler", 2)]


async def test_scheduler_records_kept_open_submission(
    tidy: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tidy.scheduler.fail_next("submit", CommandTimedOut(["qsub"], 30.0))
    tidy.scheduler.fail_next("find", SchedulerUnavailable("It is away."))
    began = tidy.clock()
    await tidy.submit()
    tidy.clock.forward(10 * 86400)
    kept = _Kept(began - timedelta(days=1), began + timedelta(days=1))
    monkeypatch.setattr(tidy.scheduler, "forget", kept.forget, raising=False)
    await tidy.retention.sweep()
    assert kept.ended == [began + timedelta(days=1)]


async def test_records_kept_while_listed(tmp_path: Path) -> None:
    async with World(directory=tmp_path, settings={"records_kept_days": 1 / 86400}) as world:
        uid = await finished(world)
        world.clock.forward(86000)
        await world.retention.sweep()
        assert await world.store.by_uid(uid) is not None
        world.clock.forward(500)
        await world.retention.sweep()
        assert await world.store.by_uid(uid) is None


async def test_sweep_retried_after_full_disk(tidy: World) -> None:
    uid = await finished(tidy)
    tidy.clock.forward(4 * 86400)
    tidy.database.full = True
    with capture_logs() as logs:
        await tidy.retention.sweep_and_report()
    assert [log["event"] for log in logs] == ["retention.behind"]
    tidy.database.full = False
    await tidy.retention.sweep_and_report()
    assert await tidy.store.by_uid(uid) is None


async def test_sweep_soon_after_start(tidy: World, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = await finished(tidy)
    tidy.clock.forward(4 * 86400)
    monkeypatch.setattr(retention, "_FIRST", timedelta())
    running = asyncio.create_task(tidy.retention.run())
    while await tidy.store.by_uid(uid) is not None:
        assert not running.done()
    running.cancel()
