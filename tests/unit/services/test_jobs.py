"""Submitting, reading, cancelling, holding: every way in which each can go."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from tests.unit.services.kit import World

from hpcq.domain.actions import Action
from hpcq.domain.errors import (
    CommandFailed,
    CommandMissing,
    CommandTimedOut,
    HpcqError,
    InvalidSpec,
    JobNotFound,
    NotAuthorized,
    OutputParseError,
    QuotaExceeded,
    SchedulerUnavailable,
    StoreUnavailable,
    UnsupportedCapability,
    WrongState,
)
from hpcq.domain.jobs import JobRecord, JobUid, NativeId
from hpcq.domain.principals import UNASKED
from hpcq.domain.states import FailureKind, JobState, JobStatus

pytestmark = pytest.mark.anyio

TIMED_OUT = CommandTimedOut(("qsub",), 30)


async def stored(world: World) -> list[JobRecord]:
    """Return what is on disk once all that is being written is there."""
    return await world.store.open_or_recent(world.clock().replace(year=2000), 1000)


# Submitting


async def test_submit_intent_stored_first(world: World) -> None:
    answer = world.scheduler.hold_back_next("submit")
    submitting = asyncio.create_task(world.submit())
    await answer.ready.wait()
    (intent,) = await stored(world)
    assert (intent.native_id, intent.state) == (None, JobState.QUEUED)
    assert list(world.scheduler.submitted) == [intent.key]
    answer.let_go()
    record = await submitting
    assert (record.uid, record.native_id) == (intent.uid, "1")
    assert (await world.jobs.find(UNASKED, "1")).record == record


@pytest.mark.parametrize(
    ("fields", "wire_name"),
    [
        ({"slots": 0}, "reservedSlots"),
        ({"working_directory": "/nowhere/at/all"}, "workingDirectory"),
        ({"script_file": "/nowhere/at/all.sh"}, "scriptFile"),
        ({"args": ("a\0",)}, "args[0]"),
    ],
)
async def test_submit_invalid_fields(world: World, fields: dict[str, Any], wire_name: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        await world.submit(**fields)
    assert caught.value.field == wire_name
    assert await stored(world) == []
    assert world.scheduler.calls["submit"] == 0


@pytest.mark.parametrize(
    ("fields", "wire_name"),
    [
        ({"queue": "all.q"}, "queue"),
        ({"account": "p1"}, "account"),
        ({"priority": 0}, "priority"),
        ({"wall_time_limit_seconds": 60}, "wallTimeLimit"),
        ({"memory_limit_bytes": 1 << 30}, "memoryLimit"),
        ({"environment": {"A": "1"}}, "environment"),
        ({"stdout_path": "out"}, "stdoutPath"),
        ({"stderr_path": "err"}, "stderrPath"),
        ({"hold": True}, "hold"),
        ({"script_file": "", "script": "true"}, "script"),
    ],
)
async def test_submit_unsupported_fields(
    world: World, fields: dict[str, Any], wire_name: str
) -> None:
    world.scheduler.capabilities = replace(world.scheduler.capabilities, fields=frozenset())
    with pytest.raises(UnsupportedCapability) as caught:
        await world.submit(**fields)
    assert (caught.value.field, caught.value.scheduler) == (wire_name, "FAKE")
    assert await stored(world) == []
    await world.submit()


async def test_submit_script_text_not_stored(
    world: World,
) -> None:
    record = await world.submit(script_file="", script="echo é\n")
    assert world.scheduler.scripts == {record.key: "echo é\n".encode()}
    assert record.spec is not None
    assert (record.spec.script, record.spec.script_file) == (None, "")
    variables = world.scheduler.submitted[record.key].environment
    assert variables == {"HPCQ_SCRIPT_DIRECTORY": str(world.directory)}


async def test_submit_script_text_error_field(world: World) -> None:
    for fields, field in (
        ({}, "scriptFile"),
        ({"script_file": "", "script": "true"}, "script"),
    ):
        world.scheduler.fail_next("submit", InvalidSpec("Line 3.", field="scriptFile"))
        with pytest.raises(InvalidSpec, match="Line 3") as refused:
            await world.submit(**fields)
        assert refused.value.field == field
    failed = [record.spec for record in await stored(world)]
    assert [spec and spec.script for spec in failed] == [None, None]


REFUSALS = [
    CommandFailed(("qsub",), 1, b"unknown queue"),
    NotAuthorized("Not yours."),
    QuotaExceeded("Too many jobs."),
    CommandMissing("There is no qsub."),
    InvalidSpec("No such queue.", field="queue"),
    UnsupportedCapability("memoryLimit", "FAKE"),
]


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
async def test_submit_refused_recorded_as_failed(world: World, error: HpcqError) -> None:
    world.scheduler.fail_next("submit", error)
    with pytest.raises(type(error)) as caught:
        await world.submit()
    assert caught.value is error
    (record,) = await stored(world)
    assert (record.state, record.state_reason) == (JobState.FAILED, error.detail)
    assert bool(world.scheduler.calls["find"]) == error.reached_scheduler, "looked for first"
    await world.restart()
    await world.tick(5)
    assert world.scheduler.calls["submit"] == 1


@pytest.mark.parametrize(
    "error",
    [TIMED_OUT, OutputParseError("qsub", "noise", b"Stampede3"), SchedulerUnavailable("Away.")],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("finding", [True, False], ids=["at once", "later"])
async def test_submit_uncertain_searched_not_repeated(
    world: World, error: HpcqError, finding: bool
) -> None:
    world.scheduler.fail_next("submit", error, after_effect=True)
    if not finding:
        world.scheduler.fail_next("find", TIMED_OUT)
    record = await world.submit()
    if finding:
        assert record.native_id == "1"
    else:
        assert (record.state, record.native_id) == (JobState.UNDETERMINED, None)
        assert error.detail in (record.state_reason or "")
        assert await stored(world) == [record]
    await world.tick(1)
    assert world.job(record.uid).native_id == "1"
    assert world.scheduler.calls["submit"] == 1


@pytest.mark.parametrize("full", [False, True], ids=["disk writable", "disk full"])
async def test_submit_request_cancelled(world: World, full: bool) -> None:
    answer = world.scheduler.hold_back_next("submit")
    submitting = asyncio.create_task(world.submit())
    await answer.ready.wait()
    world.database.full = full
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting
    world.database.full = False
    await world.tick(1)
    await world.tick(5)
    (record,) = world.table.records()
    assert (record.submitted_here, record.native_id, record.state) == (True, "1", JobState.QUEUED)


async def test_submit_adapter_exception(world: World) -> None:
    world.scheduler.fail_next("submit", ZeroDivisionError("a defect"), after_effect=True)
    with pytest.raises(ZeroDivisionError):
        await world.submit()
    await world.tick(1)
    await world.tick(5)
    assert world.job("1").submitted_here


async def test_submit_disk_full_before(world: World) -> None:
    world.database.full = True
    with pytest.raises(StoreUnavailable):
        await world.submit()
    assert world.scheduler.calls["submit"] == 0


async def test_submit_disk_full_during(
    world: World,
) -> None:
    answer = world.scheduler.hold_back_next("submit")
    submitting = asyncio.create_task(world.submit())
    await answer.ready.wait()
    world.database.full = True
    answer.let_go()
    record = await submitting
    assert record.native_id == "1"
    assert world.job("1").uid == record.uid
    await world.restart()
    await world.tick()
    await world.tick(5)
    assert world.job("1").uid == record.uid, "its key leads back to it"


@pytest.mark.parametrize("is_written", [True, False])
async def test_submit_listed_before_return(
    world: World, monkeypatch: pytest.MonkeyPatch, *, is_written: bool
) -> None:
    """A look has read of it before; the table shows its id, also before that is written."""
    read, go_on, write = asyncio.Event(), asyncio.Event(), asyncio.Event()
    task_states, record_native_id = world.store.task_states, world.runner.record_native_id

    async def read_slowly(arrays: Sequence[JobUid]) -> object:
        read.set()
        await go_on.wait()
        return await task_states(arrays)

    async def write_slowly(record: JobRecord, native_id: NativeId) -> JobRecord:
        await write.wait()
        return await record_native_id(record, native_id)

    monkeypatch.setattr(world.store, "task_states", read_slowly)
    monkeypatch.setattr(world.runner, "record_native_id", write_slowly)
    answer = world.scheduler.hold_back_next("submit")
    submitting = asyncio.create_task(world.submitter.submit(UNASKED, world.spec))
    await answer.ready.wait()
    looking = asyncio.create_task(world.monitor.look())
    await read.wait()
    answer.let_go()
    record = (await submitting).record
    if is_written:
        write.set()
        await world.runner.drain()
    go_on.set()
    await looking
    assert record.native_id == world.job("1").native_id == "1"
    entry = world.table.entry(record.uid)
    assert entry is not None
    assert entry.record.native_id == "1"
    write.set()
    await world.runner.drain()
    assert world.job("1").uid == record.uid


# Reading


async def test_find_by_uid_or_native_id(world: World) -> None:
    record = await world.submit()
    assert (await world.jobs.find(UNASKED, "1")).record == record
    assert (await world.jobs.find(UNASKED, record.uid)).record == record


@pytest.mark.parametrize(
    "job_id", ["all", "", "45[]", "1\n", "\u0661", "-1", "9" * 19, "1;2", "*", "../1", "\x00"]
)
async def test_job_id_invalid(world: World, job_id: str) -> None:
    for use in (
        world.jobs.find,
        world.changer.cancel,
        partial(world.changer.act, Action.HOLD),
        partial(world.changer.act, Action.RELEASE),
    ):
        with pytest.raises(JobNotFound):
            await use(UNASKED, job_id)
    assert set(world.scheduler.calls) <= {"jobs"}


# Cancelling


async def test_cancel_queued_job(world: World) -> None:
    await world.submit()
    await world.tick()
    record = await world.changer.cancel(UNASKED, "1")
    assert (record.state, record.status) == (JobState.FAILED, JobStatus.STOPPED)
    assert record.removed_at is not None
    await world.tick(5)
    assert world.job("1").state is JobState.FAILED
    assert (await world.jobs.find(UNASKED, "1")).record.seen == record.seen


async def test_cancel_running_job(world: World) -> None:
    await world.submit()
    world.scheduler.run(world.job("1").native_id or pytest.fail())
    await world.tick()
    answer = await world.changer.cancel(UNASKED, "1")
    assert (answer.state, answer.status) == (JobState.RUNNING, JobStatus.STOPPING)
    await world.tick(5)
    seen = world.job("1").seen
    assert world.job("1").state is JobState.FAILED
    assert seen is not None
    assert seen.failure_kind is FailureKind.CANCELLED


async def test_cancel_concurrent(world: World) -> None:
    record = await world.submit()
    await world.tick()
    slow = world.scheduler.hold_back_next("cancel")
    first = asyncio.create_task(world.changer.cancel(UNASKED, "1"))
    await slow.ready.wait()
    second = await world.changer.cancel(UNASKED, "1")
    slow.let_go()
    assert (await first).uid == second.uid == record.uid
    ended = world.job("1")
    assert (ended.state, ended.status) == (JobState.FAILED, JobStatus.STOPPED)
    assert await world.store.by_uid(record.uid) == ended
    assert (await world.changer.cancel(UNASKED, "1")) == ended


async def test_cancel_job_ended_since_poll(world: World) -> None:
    await world.submit()
    world.scheduler.run(world.job("1").native_id or pytest.fail())
    await world.tick()
    world.scheduler.lose(world.job("1").native_id or pytest.fail())
    record = await world.changer.cancel(UNASKED, "1")
    assert record.cancel_requested_at is not None
    assert record.state is JobState.RUNNING


async def test_cancel_ended_job_removed_from_listing(world: World) -> None:
    record = await world.submit()
    await world.tick()
    world.scheduler.end(world.job("1").native_id or pytest.fail())
    await world.tick(5)
    await world.changer.cancel(UNASKED, "1")
    await world.changer.cancel(UNASKED, "1")
    assert world.scheduler.calls["cancel"] == 0
    await world.restart()
    assert world.on_board() == []
    await world.tick()
    assert (await world.jobs.find(UNASKED, "1")).record.uid == record.uid
    assert (await world.changer.cancel(UNASKED, "1")).state is JobState.DONE, (
        "repeating it is harmless"
    )


async def test_cancel_ended_job_off_board(world: World) -> None:
    record = await world.submit()
    await world.tick()
    world.scheduler.end(world.job("1").native_id or pytest.fail())
    await world.tick(5)
    await world.tick(3 * 86400)
    assert world.on_board() == []
    await world.changer.cancel(UNASKED, record.uid)
    removed = await world.store.by_uid(record.uid)
    assert removed is not None
    assert removed.removed_at is not None


async def test_cancel_foreign_job_not_stored(world: World) -> None:
    queued, running, ended = (world.scheduler.enqueue() for _ in range(3))
    world.scheduler.run(running)
    await world.tick()
    world.scheduler.end(ended)
    await world.tick(5)
    for native_id in (queued, running, ended):
        assert (await world.changer.cancel(UNASKED, native_id)).native_id == native_id
    await world.tick(5)
    assert world.on_board() == []
    assert await stored(world) == []
    assert world.scheduler.calls["cancel"] == 2


async def test_cancel_foreign_job_not_authorized(world: World) -> None:
    native_id = world.scheduler.enqueue()
    await world.tick()
    before = world.job(native_id)
    world.scheduler.fail_next("cancel", NotAuthorized("It is not yours."))
    with pytest.raises(NotAuthorized):
        await world.changer.cancel(UNASKED, native_id)
    assert world.job(native_id) == before


async def test_hold_and_release_without_native_id(world: World) -> None:
    world.scheduler.fail_next("submit", TIMED_OUT)
    record = await world.submit()
    for action in (Action.HOLD, Action.RELEASE):
        with pytest.raises(WrongState):
            await world.changer.act(action, UNASKED, record.uid)


@pytest.mark.parametrize("taken", [True, False])
async def test_cancel_submission_uncertain(world: World, taken: bool) -> None:
    world.scheduler.fail_next("submit", TIMED_OUT, after_effect=taken)
    world.scheduler.fail_next("find", TIMED_OUT)
    record = await world.submit()
    await world.changer.cancel(UNASKED, record.uid)
    await world.tick(5)
    await world.tick(100)
    await world.tick(5)
    gone = (await world.jobs.find(UNASKED, record.uid)).record
    assert (gone.state, gone.failure_kind) == (JobState.FAILED, FailureKind.CANCELLED)
    assert world.scheduler.queue == {}
    assert world.scheduler.calls["submit"] == 1


# Holding


async def test_hold_and_release(world: World) -> None:
    record = await world.submit()
    await world.tick()
    assert (await world.changer.act(Action.HOLD, UNASKED, "1")).state is JobState.QUEUED_HELD
    assert await world.store.by_uid(record.uid) == world.job("1")
    await world.tick(5)
    assert world.job("1").state is JobState.QUEUED_HELD
    assert (await world.changer.act(Action.RELEASE, UNASKED, "1")).state is JobState.QUEUED
    await world.tick(5)
    assert world.job("1").state is JobState.QUEUED


async def test_hold_disk_full(world: World) -> None:
    await world.submit()
    await world.tick()
    world.database.full = True
    await world.changer.act(Action.HOLD, UNASKED, "1")
    assert world.scheduler.calls["hold"] == 1
    world.database.full = False
    await world.tick(5)
    assert world.job("1").state is JobState.QUEUED_HELD


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.SUSPENDED])
async def test_hold_and_release_started_job(world: World, state: JobState) -> None:
    native_id = world.scheduler.enqueue(state=state)
    await world.tick()
    for action in (Action.HOLD, Action.RELEASE):
        with pytest.raises(WrongState, match="Only a queued job"):
            await world.changer.act(action, UNASKED, native_id)
    assert (world.scheduler.calls["hold"], world.scheduler.calls["release"]) == (0, 0)


async def test_actions_unsupported(world: World) -> None:
    native_id = world.scheduler.enqueue()
    await world.tick()
    world.scheduler.capabilities = replace(world.scheduler.capabilities, actions=frozenset())
    for action in Action:
        with pytest.raises(UnsupportedCapability) as caught:
            await world.changer.act(action, UNASKED, native_id)
        assert caught.value.field == action


async def test_hold_refused(world: World) -> None:
    native_id = world.scheduler.enqueue()
    await world.tick()
    before = world.job(native_id)
    world.scheduler.fail_next("hold", CommandFailed(("qhold",), 1, b"no"))
    with pytest.raises(CommandFailed):
        await world.changer.act(Action.HOLD, UNASKED, native_id)
    assert world.job(native_id) == before


async def test_submit_repeated_key_id_not_stored_yet(world: World) -> None:
    answer = world.scheduler.hold_back_next("submit")
    submitting = asyncio.create_task(world.submitter.submit(UNASKED, world.spec, "key"))
    await answer.ready.wait()
    world.database.full = True
    answer.let_go()
    first = (await submitting).record
    again = await world.submitter.submit(UNASKED, world.spec, "key")
    assert again.is_replay
    assert again.record.native_id == first.native_id is not None
