"""Tasks of arrays that came through this service are jobs of ours, to their end and after it."""

import asyncio
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.services.kit import World

from hpcq.domain.arrays import summarize_array
from hpcq.domain.errors import JobNotFound
from hpcq.domain.events import EventKind
from hpcq.domain.jobs import ArrayRange, JobRecord, NativeId, Observation
from hpcq.domain.principals import UNASKED
from hpcq.domain.states import FailureKind, JobState
from hpcq.services.listing.job_entry import Freshness

pytestmark = pytest.mark.anyio

FORMS = ["{}_{}", "{}[{}]", "{}+{}"]


def _task(
    world: World, array: JobRecord, number: int, form: str = "{}_{}", **fields: Any
) -> Observation:
    """Return the queue's observation of a task; it carries its array's key."""
    assert array.native_id is not None
    parent = world.scheduler.queue.get(array.native_id)
    task = Observation(
        native_id=NativeId(form.format(array.native_id, number)),
        state=JobState.RUNNING,
        native_state="R",
        owner="ana",
        submit_time=None if parent is None else parent.submit_time,
        array_job_id=array.native_id,
        array_task_id=number,
        submission_key=array.key,
    )
    return replace(task, **fields)


def _show(world: World, *tasks: Observation) -> None:
    """Have the queue show tasks, and their array as a whole."""
    for task in tasks:
        world.scheduler.queue[task.native_id] = task
    parent = NativeId(tasks[0].array_job_id or "")
    together = summarize_array(parent, tasks)
    world.scheduler.queue[parent] = replace(together, name="study")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shows_keys", [True, False])
async def test_task_of_own_array(world: World, form: str, shows_keys: bool) -> None:
    array = await world.submit(args=("a", "b"), environment={"SECRET": "1"})
    world.scheduler.shows_keys = shows_keys
    _show(world, *(_task(world, array, number, form) for number in (1, 2)))
    await world.tick(5)
    tasks = [world.job(form.format(array.native_id, number)) for number in (1, 2)]
    for number, task in enumerate(tasks, start=1):
        assert task.submitted_here
        assert (task.uid, task.parent_uid) == (array.uid.of_task(number), array.uid)
        assert task.spec is not None
        assert (task.spec.args, task.spec.array) == (("a", "b"), None)
        assert task.spec.environment == {}
        assert task.state is JobState.RUNNING
        assert await world.store.by_uid(task.uid) == task
    assert world.job(array.uid).state is JobState.RUNNING


async def test_task_with_array_key_no_contradiction(world: World) -> None:
    array = await world.submit()
    _show(world, _task(world, array, 1), _task(world, array, 2))
    await world.tick(5)
    await world.tick(5)
    events = await world.store.events(0, 100)
    assert EventKind.CONTRADICTION not in {event.kind for event in events}
    assert {e.uid for e in events if e.kind is EventKind.SUBMITTED} == {
        array.uid,
        array.uid.of_task(1),
        array.uid.of_task(2),
    }


async def test_task_ended_still_listed(world: World) -> None:
    array = await world.submit(args=("a",))
    first, second = _task(world, array, 1), _task(world, array, 2)
    _show(world, first, second)
    await world.tick(5)
    world.scheduler.end(first.native_id, state=JobState.FAILED, exit_code=3)
    await world.tick(5)
    task = world.job(first.native_id)
    assert (task.state, task.seen and task.seen.exit_code) == (JobState.FAILED, 3)
    assert task.spec is not None
    assert task.spec.args == ("a",)
    listed = [entry.record.uid for entry in await world.table.listing.in_order()]
    assert listed == [array.uid, array.uid.of_task(1), array.uid.of_task(2)]
    await world.restart()
    assert world.job(first.native_id).seen == task.seen


async def test_task_seen_before_array_id(world: World) -> None:
    """The queue was listed while the submission had not returned, without keys."""
    world.scheduler.shows_keys = False
    answer = world.scheduler.hold_back_next("submit")
    submitting = asyncio.create_task(world.submit())
    await answer.ready.wait()
    native_id = NativeId("1")
    stranger = replace(world.scheduler.queue[native_id], submission_key=None)
    task = replace(stranger, native_id=NativeId("1_1"), array_job_id=native_id, array_task_id=1)
    world.scheduler.queue[task.native_id] = task
    await world.tick(5)
    assert not world.job("1_1").submitted_here
    answer.let_go()
    array = await submitting
    await world.tick(5)
    assert world.job("1_1").uid == array.uid.of_task(1)
    assert len(world.on_board()) == 2


async def test_task_of_foreign_array_with_reused_id(world: World) -> None:
    array = await world.submit()
    assert array.native_id is not None
    await world.tick(5)
    world.scheduler.end(array.native_id)
    await world.tick(5)
    later = replace(
        _task(world, array, 1), submission_key=None, owner="rui", submit_time=world.clock()
    )
    world.scheduler.queue[later.native_id] = later
    await world.tick(3600)
    assert not world.job(later.native_id).submitted_here


async def test_cancel_one_task(world: World) -> None:
    array = await world.submit()
    first, second = _task(world, array, 1), _task(world, array, 2)
    _show(world, first, second)
    await world.tick(5)
    await world.changer.cancel(UNASKED, first.native_id)
    assert world.scheduler.cancelled == [first.native_id]
    _show(world, second)
    await world.tick(5)
    task = world.job(first.native_id)
    assert task.failure_kind is FailureKind.CANCELLED
    assert world.job(second.native_id).cancel_requested_at is None
    assert world.job(array.uid).cancel_requested_at is None
    assert world.job(array.uid).state is JobState.RUNNING


async def test_cancel_array_and_tasks(world: World) -> None:
    array = await world.submit()
    first, second = _task(world, array, 1), _task(world, array, 2, state=JobState.QUEUED)
    _show(world, first, second)
    await world.tick(5)
    await world.changer.cancel(UNASKED, array.uid)
    assert world.scheduler.cancelled == [array.native_id]
    for task in (first, second):
        assert world.job(task.native_id).cancel_requested_at is not None
        assert world.job(task.native_id).removed_at is not None
    # One that nobody had seen yet.
    third = _task(world, array, 3)
    world.scheduler.queue[third.native_id] = third
    await world.tick(5)
    assert world.job(third.native_id).cancel_requested_at is not None


async def test_task_only_in_accounting(world: World) -> None:
    array = await world.submit()
    assert array.native_id is not None
    await world.tick(5)
    tasks = [
        _task(world, array, n, state=JobState.FAILED, exit_code=n, start_time=world.clock())
        for n in (1, 2)
    ]
    del world.scheduler.queue[array.native_id]
    world.scheduler.accounting[array.native_id] += [summarize_array(array.native_id, tasks), *tasks]
    await world.tick(5)
    assert world.job(array.uid).state is JobState.FAILED
    ended = [world.job(task.native_id) for task in tasks]
    assert [task.parent_uid for task in ended] == [array.uid, array.uid]
    assert [task.seen and task.seen.exit_code for task in ended] == [1, 2]
    kinds = {e.kind for e in await world.store.events(0, 100, ended[0].uid)}
    assert kinds == {EventKind.SUBMITTED, EventKind.STATE}


async def test_array_over_after_all_tasks_ended(world: World) -> None:
    """Also where the accounting knows nothing of the array as one job."""
    array = await world.submit(array=ArrayRange(first=1, last=2))
    tasks = [_task(world, array, number) for number in (1, 2)]
    _show(world, *tasks)
    await world.tick(5)
    assert array.native_id is not None
    world.scheduler.lose(array.native_id)
    world.scheduler.end(tasks[0].native_id, exit_code=0)
    await world.tick(5)
    assert not world.job(array.uid).state.is_final
    world.scheduler.end(tasks[1].native_id, state=JobState.FAILED, exit_code=4)
    await world.tick(60)
    await world.tick(60)
    record = world.job(array.uid)
    assert (record.state, record.seen and record.seen.exit_code) == (JobState.FAILED, 4)


async def test_cancel_tasks_already_over(world: World) -> None:
    array = await world.submit(array=ArrayRange(first=1, last=3))
    tasks = [_task(world, array, number, "{}[{}]") for number in (1, 2, 3)]
    _show(world, *tasks)
    await world.tick(5)
    world.scheduler.end(tasks[0].native_id, exit_code=0)
    await world.tick(5)
    for _ in range(2):
        await world.changer.cancel_tasks(UNASKED, array.uid, [1, 2])
        await world.tick(5)
    assert world.scheduler.cancelled == [tasks[1].native_id]
    done, cancelled, other = (world.job(task.native_id) for task in tasks)
    assert (done.state, done.removed_at) == (JobState.DONE, None)
    assert cancelled.failure_kind is FailureKind.CANCELLED
    assert cancelled.removed_at is not None
    assert (other.state, other.cancel_requested_at) == (JobState.RUNNING, None)
    assert world.job(array.uid).cancel_requested_at is None


async def test_cancel_tasks_unknown_task(world: World) -> None:
    array = await world.submit(array=ArrayRange(first=1, last=3))
    _show(world, _task(world, array, 1, "{}[{}]"))
    await world.tick(5)
    with pytest.raises(JobNotFound, match=re.escape(f"{array.native_id}[4]")):
        await world.changer.cancel_tasks(UNASKED, array.uid, [1, 4])
    assert world.scheduler.cancelled == []


async def test_cancel_tasks_waiting_unlisted(world: World) -> None:
    """As in Grid Engine, which tells the tasks apart of a short range alone."""
    array = await world.submit(array=ArrayRange(first=1, last=2000))
    _show(world, _task(world, array, 1, "{}[{}]"))
    await world.tick(5)
    unseen = NativeId(f"{array.native_id}[1500]")
    world.scheduler.queue[unseen] = _task(world, array, 1500, "{}[{}]", state=JobState.QUEUED)
    await world.changer.cancel_tasks(UNASKED, array.uid, [1500])
    assert world.scheduler.cancelled == [unseen]
    task = world.job(unseen)
    assert (task.uid, task.parent_uid) == (array.uid.of_task(1500), array.uid)
    assert task.failure_kind is FailureKind.CANCELLED
    assert task.seen is not None
    assert (task.seen.array_job_id, task.seen.array_task_id) == (array.native_id, 1500)
    assert await world.store.by_uid(task.uid) == task


async def test_cancel_tasks_foreign_array(world: World) -> None:
    foreign = world.scheduler.enqueue(is_array=True)
    tasks = [
        world.scheduler.enqueue(array_job_id=foreign, array_task_id=number) for number in (1, 2)
    ]
    await world.tick(5)
    await world.changer.cancel_tasks(UNASKED, foreign, [2])
    assert world.scheduler.cancelled == [tasks[1]]


async def test_cancel_tasks_single_command(world: World) -> None:
    commands: list[tuple[NativeId, dict[int, NativeId]]] = []

    async def cancel_tasks(
        array: NativeId, tasks: Mapping[int, NativeId], run_as: str | None = None
    ) -> Collection[NativeId]:
        commands.append((array, dict(tasks)))
        return ()

    array = await world.submit(array=ArrayRange(first=1, last=3))
    tasks = [_task(world, array, number) for number in (1, 2, 3)]
    _show(world, *tasks)
    await world.tick(5)
    world.scheduler.cancel_tasks = cancel_tasks  # type: ignore[attr-defined]
    await world.changer.cancel_tasks(UNASKED, array.uid, [1, 3])
    assert commands == [(array.native_id, {1: tasks[0].native_id, 3: tasks[2].native_id})]
    assert world.scheduler.cancelled == []
    assert world.job(tasks[2].native_id).cancel_requested_at is not None


async def _counts(world: World, job_id: str) -> dict[str, int] | None:
    """Return the counts of an array, as its JSON tells them and without zeros."""
    entry = await world.jobs.find(UNASKED, job_id)
    told = json.loads(entry.json(Freshness(world.clock(), stale=False)))["tasks"]
    if told is None:
        return None
    assert told["total"] == sum(told["byState"].values())
    assert told["byState"].keys() == set(JobState)
    return {state: count for state, count in told["byState"].items() if count}


async def test_counts_per_state(world: World) -> None:
    array = await world.submit(array=ArrayRange(first=1, last=3))
    assert await _counts(world, array.uid) == {"QUEUED": 3}
    tasks = [_task(world, array, n, state=JobState.QUEUED) for n in (1, 2, 3)]
    _show(world, *tasks)
    await world.tick(5)
    version = world.table.listing.version
    world.scheduler.run(tasks[0].native_id)
    await world.tick(5)
    assert await _counts(world, array.uid) == {"RUNNING": 1, "QUEUED": 2}
    assert world.table.listing.version != version
    world.scheduler.end(tasks[0].native_id, accounted=False)
    await world.tick(5)
    assert await _counts(world, array.uid) == {"UNDETERMINED": 1, "QUEUED": 2}
    world.scheduler.account(tasks[0].native_id)
    await world.tick(60)
    assert await _counts(world, array.uid) == {"DONE": 1, "QUEUED": 2}
    assert await _counts(world, tasks[0].native_id) is None


async def test_counts_tasks_ended_long_ago(world: World) -> None:
    array = await world.submit(array=ArrayRange(first=1, last=2))
    tasks = [_task(world, array, number) for number in (1, 2)]
    _show(world, *tasks)
    await world.tick(5)
    world.scheduler.end(tasks[0].native_id, exit_code=0)
    await world.tick(5)
    await world.tick(2 * 86_400)
    assert array.uid.of_task(1) not in world.table.entries
    for _ in range(2):
        assert await _counts(world, array.uid) == {"DONE": 1, "RUNNING": 1}
        await world.restart()
    world.scheduler.accounting[NativeId(str(array.native_id))].append(
        summarize_array(NativeId(str(array.native_id)), [tasks[0], tasks[1]])
    )
    world.scheduler.lose(NativeId(str(array.native_id)))
    world.scheduler.end(tasks[1].native_id, state=JobState.FAILED, exit_code=1)
    await world.tick(5)
    await world.tick(60)
    await world.changer.cancel(UNASKED, tasks[1].native_id)
    await world.tick(2 * 86_400)
    assert await _counts(world, array.uid) == {"DONE": 1, "FAILED": 1}


async def test_counts_foreign_array(world: World) -> None:
    foreign = world.scheduler.enqueue(is_array=True)
    first, second = (
        world.scheduler.enqueue(array_job_id=foreign, array_task_id=number) for number in (1, 2)
    )
    world.scheduler.run(first)
    await world.tick(5)
    assert await _counts(world, foreign) == {"RUNNING": 1, "QUEUED": 1}
    world.scheduler.lose(first)
    await world.tick(5)
    assert await _counts(world, foreign) == {"QUEUED": 1}
    world.scheduler.lose(foreign)
    world.scheduler.lose(second)
    await world.tick(5)
    assert not world.table._arrays._states


async def test_counts_not_array(world: World) -> None:
    alone = await world.submit()
    await world.tick(5)
    assert await _counts(world, alone.uid) is None
