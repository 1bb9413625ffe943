"""Jobs beyond the table."""

import asyncio
import time
from datetime import timedelta

import pytest
from tests.unit.services.kit import World

from hpcq.domain import submission
from hpcq.domain.errors import JobNotFound, SchedulerUnavailable
from hpcq.domain.jobs import JobUid, NativeId
from hpcq.domain.principals import UNASKED
from hpcq.domain.states import JobState
from hpcq.domain.units import now

pytestmark = pytest.mark.anyio

AWAY = SchedulerUnavailable("slurmdbd is down.")


async def test_find_ended_foreign_job(world: World) -> None:
    native_id = world.scheduler.enqueue(owner="rui")
    world.scheduler.end(native_id)
    record = await world.lookup.find(native_id)
    assert record is not None
    assert (record.state, record.submitted_here) == (JobState.DONE, False)
    assert record.confirmed_at is not None


async def test_find_own_job_without_stored_id(world: World) -> None:
    intent = submission.intent(
        JobUid.new(), world.spec, now(), by="one that died", is_promised=True
    )
    await world.store.create(intent, None)
    native_id = world.scheduler.enqueue(submission_key=intent.key)
    world.scheduler.end(native_id, exit_code=0)
    record = await world.lookup.find(native_id)
    assert record is not None
    assert (record.uid, record.native_id, record.state) == (intent.uid, native_id, JobState.DONE)


async def test_find_concurrent_one_command(world: World) -> None:
    ids = [world.scheduler.enqueue() for _ in range(5)]
    for native_id in ids:
        world.scheduler.end(native_id)
    answer = world.scheduler.hold_back_next("history")
    first = asyncio.create_task(world.lookup.find(ids[0]))
    await answer.ready.wait()
    others = [asyncio.create_task(world.lookup.find(i)) for i in ids * 20]
    # The store answers in turn: when it has answered these, the others wait for the accounting.
    await asyncio.gather(*(world.store.by_native_id(i) for i in ids * 21))
    again = world.scheduler.hold_back_next("history")
    answer.let_go()
    await again.ready.wait()
    again.let_go()
    records = await asyncio.gather(first, *others)
    assert all(record is not None for record in records)
    assert world.scheduler.calls["history"] == 2


async def test_find_unknown_job_cached(world: World) -> None:
    for _ in range(10):
        assert await world.lookup.find(NativeId("99")) is None
    assert world.scheduler.calls["history"] == 1


async def test_find_rate_limit(world: World) -> None:
    began = time.monotonic()
    while time.monotonic() < began + 0.7:
        await asyncio.gather(*(world.lookup.find(NativeId("99")) for _ in range(10)))
    took = time.monotonic() - began
    assert 1 <= world.scheduler.calls["details"] <= took / 0.3 + 1


async def test_find_cache_expired(world: World) -> None:
    world.interval_seconds = 0.0
    await world.restart()
    assert await world.lookup.find(NativeId("1")) is None
    native_id = world.scheduler.enqueue()
    world.scheduler.end(native_id)
    assert await world.lookup.find(native_id) is not None


@pytest.mark.parametrize("error", [AWAY, ZeroDivisionError("a defect")])
async def test_find_failure_not_cached(world: World, error: Exception) -> None:
    world.scheduler.fail_next("history", error)
    answers = await asyncio.gather(
        *(world.lookup.find(NativeId("1")) for _ in range(5)), return_exceptions=True
    )
    # Those who asked after the failure have an answer of their own.
    assert error in answers
    assert set(answers) <= {error, None}
    assert await world.lookup.find(NativeId("1")) is None


async def test_find_one_waiting_reader_cancelled(world: World) -> None:
    native_id = world.scheduler.enqueue()
    world.scheduler.end(native_id)
    answer = world.scheduler.hold_back_next("history")
    leaves, stays = (asyncio.create_task(world.lookup.find(native_id)) for _ in range(2))
    await answer.ready.wait()
    leaves.cancel()
    answer.let_go()
    record = await stays
    assert record is not None
    assert record.state is JobState.DONE


async def test_find_reused_id_gives_newest(world: World) -> None:
    for days, exit_code in ((1, 1), (300, 300)):
        world.scheduler.next_number = 1
        submitted = world.clock() - timedelta(days=days)
        native_id = world.scheduler.enqueue(submit_time=submitted)
        world.scheduler.end(native_id, exit_code=exit_code)
    record = await world.lookup.find(NativeId("1"))
    assert record is not None
    assert record.seen is not None
    assert record.seen.exit_code == 1


async def test_find_cache_size_limit(world: World) -> None:
    ids = [NativeId(str(number)) for number in range(1, 10_102)]
    await asyncio.gather(*map(world.lookup.find, ids))
    assert len(world.lookup._answers) == 10_000
    assert len(world.lookup._asked_at) == 10_000


async def test_find_uid_without_scheduler(world: World) -> None:
    assert await world.lookup.find(JobUid.new()) is None
    assert world.scheduler.calls["history"] == 0


# What the service makes of it


async def test_find_foreign_job_accounting_late(world: World) -> None:
    native_id = world.scheduler.enqueue()
    world.scheduler.run(native_id)
    await world.tick()
    uid = world.job(native_id).uid
    world.scheduler.end(native_id, accounted=False)
    await world.tick(5)
    record = (await world.jobs.find(UNASKED, native_id)).record
    assert (record.uid, record.state) == (uid, JobState.UNDETERMINED)
    assert record.state_reason


async def test_find_foreign_job_accounting_down(world: World) -> None:
    native_id = world.scheduler.enqueue()
    await world.tick()
    world.scheduler.end(native_id)
    await world.tick(5)
    world.scheduler.fail_next("history", AWAY)
    assert (await world.jobs.find(UNASKED, native_id)).record.state is JobState.UNDETERMINED
    assert (await world.jobs.find(UNASKED, native_id)).record.state is JobState.DONE


async def test_find_foreign_job_with_reused_own_id(
    world: World,
) -> None:
    first = await world.submit()
    assert first.native_id is not None
    world.scheduler.end(first.native_id)
    await world.tick(11)
    world.scheduler.next_number = 1
    again = world.scheduler.enqueue(submit_time=world.clock() + timedelta(hours=3), owner="rui")
    await world.tick(3 * 3600)
    world.scheduler.end(again, exit_code=7)
    await world.tick(5)
    record = (await world.jobs.find(UNASKED, again)).record
    assert record.seen is not None
    assert (record.seen.owner, record.seen.exit_code) == ("rui", 7)
    assert (await world.jobs.find(UNASKED, first.uid)).record.native_id == again


async def test_find_unknown_needs_queue_and_accounting(world: World) -> None:
    with pytest.raises(SchedulerUnavailable):
        await world.jobs.find(UNASKED, "99")
    await world.tick()
    with pytest.raises(JobNotFound):
        await world.jobs.find(UNASKED, "99")
    world.scheduler.fail_next("history", AWAY)
    with pytest.raises(SchedulerUnavailable):
        await world.jobs.find(UNASKED, "100")


async def test_find_unknown_with_partial_accounting(world: World) -> None:
    known = world.scheduler.enqueue()
    world.scheduler.end(known)
    await world.tick()
    world.scheduler.partial_reason = AWAY
    assert (await world.jobs.find(UNASKED, known)).record.state is JobState.DONE
    with pytest.raises(SchedulerUnavailable):
        await world.jobs.find(UNASKED, "99")
    world.scheduler.partial_reason = None
    with pytest.raises(JobNotFound):
        await world.jobs.find(UNASKED, "99")
