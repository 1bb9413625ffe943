"""The first read of a job tells all that the scheduler knows; a new job is looked for there."""

import asyncio
from datetime import timedelta
from functools import partial

import pytest
from tests.unit.services.kit import World

from hpcq.domain.actions import Action
from hpcq.domain.arrays import summarize_array
from hpcq.domain.errors import InvalidSpec, JobNotFound, SchedulerUnavailable
from hpcq.domain.jobs import DependencyCondition, NativeId, Observation
from hpcq.domain.principals import UNASKED
from hpcq.domain.states import JobState
from hpcq.schedulers.sge.backend import _CAPABILITIES as SGE
from hpcq.services.monitoring import job_details
from hpcq.services.submission.dependencies import DependencyRequest

pytestmark = pytest.mark.anyio

AWAY = SchedulerUnavailable("It is away.")


async def test_details_first_read_of_listed_job(world: World) -> None:
    native_id = world.scheduler.enqueue(owner="rui")
    world.scheduler.extras[native_id] = {"working_directory": "/srv/study", "slots": 4}
    await world.tick()
    seen = (await world.jobs.read(UNASKED, native_id)).record.seen
    assert seen is not None
    assert (seen.working_directory, seen.slots) == ("/srv/study", 4)
    asked = world.scheduler.calls["details"]
    await world.jobs.read(UNASKED, native_id)
    assert world.scheduler.calls["details"] == asked


async def test_details_after_start_estimate_passed(world: World) -> None:
    native_id = world.scheduler.enqueue(owner="rui")
    await world.tick()
    estimate = world.clock() + timedelta(seconds=60)
    world.scheduler.extras[native_id] = {"start_estimate": estimate}
    record = (await world.jobs.read(UNASKED, native_id)).record
    assert record.seen is not None
    assert record.seen.start_estimate == estimate
    later = estimate + timedelta(hours=1)
    world.scheduler.extras[native_id] = {"start_estimate": later}
    asked = world.scheduler.calls["details"]
    await world.jobs.read(UNASKED, native_id)
    assert world.scheduler.calls["details"] == asked
    world.clock.forward(61)
    world.jobs.details_reader._asked_at.clear()
    record = (await world.jobs.read(UNASKED, native_id)).record
    assert record.seen is not None
    assert record.seen.start_estimate == later


async def test_details_concurrent_first_reads(world: World) -> None:
    ids = [world.scheduler.enqueue() for _ in range(50)]
    await world.tick()
    before = world.scheduler.calls["details"]
    answer = world.scheduler.hold_back_next("details")
    reads = [asyncio.create_task(world.jobs.read(UNASKED, i)) for i in ids * 4]
    await answer.ready.wait()
    answer.let_go()
    await asyncio.gather(*reads)
    assert world.scheduler.calls["details"] - before <= 2


async def test_details_slow_scheduler(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_details, "_PATIENCE_SECONDS", 0.05)
    native_id = world.scheduler.enqueue(owner="rui")
    world.scheduler.extras[native_id] = {"working_directory": "/srv/study"}
    await world.tick()
    answer = world.scheduler.hold_back_next("details")
    seen = (await world.jobs.read(UNASKED, native_id)).record.seen
    assert seen is not None
    assert (seen.owner, seen.working_directory) == ("rui", None)
    asking = world.jobs.details_reader._batcher._asking
    assert asking is not None
    answer.let_go()
    await asking
    seen = (await world.jobs.read(UNASKED, native_id)).record.seen
    assert seen is not None
    assert seen.working_directory == "/srv/study"


async def test_details_scheduler_failed(world: World) -> None:
    native_id = world.scheduler.enqueue(owner="rui")
    await world.tick()
    world.scheduler.fail_next("details", AWAY)
    assert (await world.jobs.read(UNASKED, native_id)).record.native_id == native_id


async def test_read_own_job_before_next_listing(world: World) -> None:
    await world.tick()
    record = await world.submit()
    assert record.native_id is not None
    world.scheduler.run(record.native_id)
    read = (await world.jobs.read(UNASKED, record.uid)).record
    assert read.state is JobState.RUNNING
    assert read.seen is not None
    assert read.seen.owner == "ana"
    assert await world.store.by_uid(record.uid) == read


async def test_read_foreign_job_before_next_listing(
    world: World,
) -> None:
    await world.tick()
    native_id = world.scheduler.enqueue(owner="rui")
    world.scheduler.extras[native_id] = {"working_directory": "/srv/study"}
    record = (await world.jobs.read(UNASKED, native_id)).record
    assert (record.submitted_here, record.state) == (False, JobState.QUEUED)
    assert record.seen is not None
    assert record.seen.working_directory == "/srv/study"


async def test_read_foreign_job_after_unknown(world: World) -> None:
    await world.tick()
    with pytest.raises(JobNotFound):
        await world.jobs.read(UNASKED, "1")
    native_id = world.scheduler.enqueue()
    assert (await world.jobs.read(UNASKED, native_id)).record.native_id == native_id


async def test_cancel_foreign_job_before_next_listing(world: World) -> None:
    await world.tick()
    native_id = world.scheduler.enqueue()
    await world.changer.cancel(UNASKED, native_id)
    assert world.scheduler.cancelled == [native_id]


async def test_hold_foreign_job_before_next_listing(world: World) -> None:
    await world.tick()
    native_id = world.scheduler.enqueue()
    await world.changer.act(Action.HOLD, UNASKED, native_id)
    assert world.scheduler.queue[native_id].state is JobState.QUEUED_HELD


async def test_dependency_on_foreign_job_before_next_listing(world: World) -> None:
    await world.tick()
    native_id = world.scheduler.enqueue()
    request = DependencyRequest(job_id=native_id, condition=DependencyCondition.ANY)
    record = (await world.submitter.submit(UNASKED, world.spec, depends_on=[request])).record
    assert record.spec is not None
    assert [job.native_id for job in record.spec.depends_on] == [native_id]
    unknown = DependencyRequest(job_id="99", condition=DependencyCondition.ANY)
    with pytest.raises(InvalidSpec):
        await world.submitter.submit(UNASKED, world.spec, depends_on=[unknown])


async def test_read_foreign_job_accounting_down(world: World) -> None:
    await world.tick()
    native_id = world.scheduler.enqueue()
    world.scheduler.fail_next("history", AWAY)
    assert (await world.jobs.read(UNASKED, native_id)).record.native_id == native_id


async def test_look_up_one_id_spoils_batch(world: World) -> None:
    await world.tick()
    ids = [world.scheduler.enqueue() for _ in range(4)]
    answer = world.scheduler.hold_back_next("history")
    first = asyncio.create_task(world.lookup.look_up(NativeId("99")))
    await answer.ready.wait()
    world.scheduler.fail_next("history", ZeroDivisionError("one of them"))
    others = [asyncio.create_task(world.lookup.look_up(i)) for i in ids]
    await asyncio.sleep(0)
    answer.let_go()
    assert await first is None
    assert all(await asyncio.gather(*others))


@pytest.mark.parametrize("spelling", ["9.1-3:1", "9"])
async def test_array_id_as_printed(world: World, spelling: str) -> None:
    world.scheduler.capabilities = SGE
    await world.tick()
    task = Observation(
        native_id=NativeId("9[1]"),
        state=JobState.RUNNING,
        array_job_id="9",
        array_task_id=1,
        owner="rui",
    )
    world.scheduler.queue[NativeId("9")] = summarize_array(NativeId("9"), [task])
    assert (await world.jobs.read(UNASKED, spelling)).record.native_id == "9"
    await world.tick(5)
    assert (await world.jobs.read(UNASKED, spelling)).record.native_id == "9"


@pytest.mark.parametrize("job_id", ["1.1-3:1", "9_9", "9+1", "1[]", "all"])
async def test_array_id_spelling_of_other_job(world: World, job_id: str) -> None:
    world.scheduler.capabilities = SGE
    native_id = world.scheduler.enqueue()
    await world.tick()
    for action in (world.jobs.read, world.changer.cancel, partial(world.changer.act, Action.HOLD)):
        with pytest.raises(JobNotFound):
            await action(UNASKED, job_id)
    assert world.scheduler.cancelled == []
    assert world.scheduler.queue[native_id].state is JobState.QUEUED
