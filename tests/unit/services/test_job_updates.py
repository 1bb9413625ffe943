"""Changes of queued jobs: what the scheduler is told, and what the records say of it for ever."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.services.kit import WIRE, World

from hpcq.domain.errors import (
    CommandFailed,
    CommandTimedOut,
    HpcqError,
    InvalidSpec,
    JobNotFound,
    NotAuthorized,
    PartlyChanged,
    SchedulerUnavailable,
    UnsupportedCapability,
    WrongState,
)
from hpcq.domain.events import EventKind
from hpcq.domain.jobs import ArrayRange, JobRecord, NativeId, Observation
from hpcq.domain.outputs import output_path
from hpcq.domain.principals import UNASKED
from hpcq.domain.states import JobState

pytestmark = pytest.mark.anyio

ASKED: Mapping[str, Any] = {
    "name": "first",
    "queue": "batch",
    "priority": 3,
    "wall_time_limit_seconds": 3600,
    "memory_limit_bytes": 1 << 30,
}
WANTED: Mapping[str, Any] = {
    "name": "second",
    "queue": "long",
    "priority": -3,
    "wall_time_limit_seconds": 7200,
    "memory_limit_bytes": 1 << 31,
}


async def submitted(world: World, **fields: Any) -> NativeId:
    """Submit a job that the queue shows as it was asked for."""
    asked = {**ASKED, **fields}
    native_id = (await world.submit(**asked)).native_id
    assert native_id is not None
    told = {name: value for name, value in ASKED.items() if name != "priority"}
    world.scheduler.change(native_id, **told)
    await world.tick(5)
    return native_id


async def update(world: World, job_id: str, **values: Any) -> JobRecord:
    return (await world.changer.update(UNASKED, job_id, values)).record


def shown(record: JobRecord) -> tuple[object, ...]:
    """Return what an answer tells of the fields that can change."""
    job = WIRE._job(record, usage=False)
    return (job.name, job.queue, job.wall_time_limit, job.memory_limit)


async def test_update_passes_job_and_changed_fields(
    world: World,
) -> None:
    job_id = await submitted(world, slots=4)
    record = await update(world, job_id, **WANTED)
    ((spec, fields),) = world.scheduler.altered
    assert fields == frozenset(WANTED)
    assert record.spec is not None
    assert (spec, spec.slots) == (record.spec, 4)
    assert spec == replace(world.spec, **WANTED, slots=4, outputs=spec.outputs)
    assert shown(record) == ("second", "long", 7200, 2.0)


async def test_update_kept_after_poll_restart_and_end(world: World) -> None:
    job_id = await submitted(world)
    await update(world, job_id, **WANTED)
    await world.tick(5)
    assert shown(world.job(job_id)) == ("second", "long", 7200, 2.0)
    await world.restart()
    await world.tick(5)
    assert shown(world.job(job_id)) == ("second", "long", 7200, 2.0)
    world.scheduler.run(job_id)
    await world.tick(5)
    world.scheduler.end(job_id)
    await world.tick(5)
    await world.restart()
    ended = (await world.jobs.find(UNASKED, job_id)).record
    assert (ended.state, shown(ended)) == (JobState.DONE, ("second", "long", 7200, 2.0))


async def test_update_removes_fields(world: World) -> None:
    job_id = await submitted(world)
    record = await update(
        world, job_id, wall_time_limit_seconds=None, memory_limit_bytes=None, priority=None
    )
    assert shown(record) == ("first", "batch", None, None)
    await world.tick(5)
    assert shown(world.job(job_id)) == ("first", "batch", None, None)


async def test_update_then_submission_with_same_key(world: World) -> None:
    first = await world.submitter.submit(UNASKED, world.spec, "key")
    await world.runner.drain()
    await world.tick(5)
    await update(world, str(first.record.uid), name="second")
    again = await world.submitter.submit(UNASKED, world.spec, "key")
    assert again.is_replay
    assert again.record.uid == first.record.uid
    assert len(world.scheduler.submitted) == 1


async def test_update_one_event(world: World) -> None:
    job_id = await submitted(world)
    for _ in range(2):
        await update(world, job_id, **WANTED)
    told = [e for e in await world.store.events(0, 99) if e.kind is EventKind.CHANGED]
    assert [event.data for event in told] == [
        {
            "jobId": job_id,
            "name": "second",
            "queue": "long",
            "account": None,
            "priority": -3,
            "wallTimeLimit": 7200,
            "memoryLimit": 2.0,
        }
    ]


async def test_update_empty(world: World) -> None:
    job_id = await submitted(world)
    before = world.job(job_id)
    assert (await update(world, job_id)).spec == before.spec
    assert world.scheduler.calls["alter"] == 0


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": None}, "name"),
        ({"queue": None}, "queue"),
        ({"queue": "a b"}, "queue"),
        ({"account": "-x"}, "account"),
        ({"wall_time_limit_seconds": 0}, "wallTimeLimit"),
        ({"memory_limit_bytes": 1}, "memoryLimit"),
        ({"priority": 1 << 40}, "priority"),
        ({"name": "a\nb"}, "name"),
    ],
)
async def test_update_invalid_values(world: World, values: Mapping[str, Any], field: str) -> None:
    job_id = await submitted(world)
    with pytest.raises(InvalidSpec) as caught:
        await update(world, job_id, **{"name": "second", **values})
    assert caught.value.field == field
    assert world.scheduler.calls["alter"] == 0


async def test_update_unsupported_field(world: World) -> None:
    job_id = await submitted(world)
    world.scheduler.capabilities = replace(
        world.scheduler.capabilities,
        changes=frozenset({"name", "memory_limit_bytes"}),
        removals=frozenset(),
    )
    for values in ({"wall_time_limit_seconds": 60}, {"memory_limit_bytes": None}):
        with pytest.raises(UnsupportedCapability) as caught:
            await update(world, job_id, name="second", **values)
        assert caught.value.field in ("wallTimeLimit", "memoryLimit")
    assert world.scheduler.calls["alter"] == 0


async def test_update_started_or_ended_since_poll(world: World) -> None:
    job_id = await submitted(world)
    world.scheduler.run(job_id)
    with pytest.raises(WrongState, match="RUNNING"):
        await update(world, job_id, name="second")
    world.scheduler.end(job_id)
    with pytest.raises(WrongState, match="queue any more"):
        await update(world, job_id, name="second")
    await world.tick(5)
    with pytest.raises(WrongState, match="DONE"):
        await update(world, job_id, name="second")
    assert world.scheduler.calls["alter"] == 0


async def test_update_job_left_queue(world: World) -> None:
    job_id = await submitted(world)
    world.scheduler.fail_next("alter", JobNotFound(job_id))
    with pytest.raises(WrongState, match="queue any more"):
        await update(world, job_id, name="second")


@pytest.mark.parametrize(
    "error", [CommandFailed(("qalter",), 1, b"no"), NotAuthorized("no"), InvalidSpec("no")]
)
async def test_update_refused(world: World, error: HpcqError) -> None:
    job_id = await submitted(world)
    before = world.job(job_id)
    world.scheduler.fail_next("alter", error)
    with pytest.raises(type(error)):
        await update(world, job_id, **WANTED)
    assert world.job(job_id).spec == before.spec
    assert shown(world.job(job_id)) == ("first", "batch", 3600, 1.0)


async def test_update_partial(world: World) -> None:
    job_id = await submitted(world)

    async def move_alone(native_id: NativeId, *_: object) -> None:
        world.scheduler.change(native_id, queue="long", wall_time_limit_seconds=7200)
        raise NotAuthorized("A higher priority is for operators.", scheduler_message="denied")

    world.scheduler.alter = move_alone  # type: ignore[assignment, method-assign]
    with pytest.raises(PartlyChanged) as caught:
        await update(world, job_id, **WANTED)
    assert caught.value.changed == ("queue", "wallTimeLimit")
    assert "A higher priority is for operators." in caught.value.detail
    assert caught.value.scheduler_message == "denied"
    for _ in range(2):
        assert shown(world.job(job_id)) == ("first", "long", 7200, 1.0)
        await world.restart()
        await world.tick(5)


@pytest.mark.parametrize(
    "error", [CommandTimedOut(("qalter",), 30), SchedulerUnavailable("The answer was lost.")]
)
async def test_update_applied_without_answer(world: World, error: HpcqError) -> None:
    job_id = await submitted(world)
    world.scheduler.fail_next("alter", error)
    with pytest.raises(type(error)):
        await update(world, job_id, **WANTED)
    # It was still under way.
    told = {name: value for name, value in WANTED.items() if name != "priority"}
    world.scheduler.change(job_id, **told)
    await world.tick(5)
    assert shown(world.job(job_id)) == ("second", "long", 7200, 2.0)


async def test_update_moves_output_files(world: World) -> None:
    job_id = await submitted(world)
    placed = output_path(world.job(job_id), "stderr")
    world.scheduler.extras[job_id] = {"stdout_path": "/x/first.log", "stderr_path": "/x/err"}
    alter = world.scheduler.alter

    async def move(native_id: NativeId, *more: Any) -> None:
        await alter(native_id, *more)
        world.scheduler.extras[job_id]["stdout_path"] = "/x/second.log"

    world.scheduler.alter = move  # type: ignore[assignment, method-assign]
    record = await update(world, job_id, name="second")
    assert output_path(record, "stdout") == "/x/second.log"
    assert output_path(record, "stderr") == placed


async def test_update_interrupted_by_crash(
    world: World,
) -> None:
    job_id = await submitted(world)
    answer = world.scheduler.hold_back_next("alter")
    updating = asyncio.create_task(update(world, job_id, **WANTED))
    await answer.ready.wait()
    updating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await updating
    await world.restart()
    await world.tick(5)
    assert shown(world.job(job_id)) == ("second", "long", 7200, 2.0)
    await world.restart()
    assert shown(world.job(job_id)) == ("second", "long", 7200, 2.0)


async def test_updates_concurrent(world: World) -> None:
    job_id = await submitted(world)
    answer = world.scheduler.hold_back_next("alter")
    first = asyncio.create_task(update(world, job_id, name="second", memory_limit_bytes=1 << 31))
    await answer.ready.wait()
    second = asyncio.create_task(update(world, job_id, name="third"))
    await world.tick(5)
    answer.let_go()
    await asyncio.gather(first, second)
    assert [spec.name for spec, _ in world.scheduler.altered] == ["second", "third"]
    assert world.scheduler.altered[1][0].memory_limit_bytes == 1 << 31
    assert shown(world.job(job_id)) == ("third", "batch", 3600, 2.0)


async def test_update_foreign_job(world: World) -> None:
    job_id = world.scheduler.enqueue(queue="batch", slots=8)
    await world.tick()
    record = await update(world, job_id, queue="long", memory_limit_bytes=1 << 31)
    assert (record.spec, shown(record)) == (None, ("job", "long", None, 2.0))
    ((spec, _),) = world.scheduler.altered
    assert (spec.slots, spec.queue, spec.memory_limit_bytes) == (8, "long", 1 << 31)


async def test_update_array_and_task(world: World) -> None:
    array = await world.submit(array=ArrayRange(first=1, last=2), name="first")
    assert array.native_id is not None
    tasks = [
        Observation(
            native_id=NativeId(f"{array.native_id}_{number}"),
            state=JobState.QUEUED,
            submit_time=world.clock(),
            array_job_id=array.native_id,
            array_task_id=number,
            submission_key=array.key,
        )
        for number in (1, 2)
    ]
    for task in tasks:
        world.scheduler.queue[task.native_id] = task
    await world.tick(5)
    with pytest.raises(WrongState, match="whole array"):
        await update(world, tasks[0].native_id, name="second")
    await update(world, array.native_id, name="second", wall_time_limit_seconds=60)
    for job_id in (array.native_id, *(task.native_id for task in tasks)):
        spec = world.job(job_id).spec
        assert spec is not None
        assert (spec.name, spec.wall_time_limit_seconds) == ("second", 60)
