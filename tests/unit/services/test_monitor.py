"""The monitor over a scheduler that does what a test tells it to."""

import asyncio
import itertools
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.services.kit import World

from hpcq.domain import job_changes
from hpcq.domain.actions import Action
from hpcq.domain.errors import (
    CommandTimedOut,
    HpcqError,
    OutputParseError,
    SchedulerUnavailable,
    StoreUnavailable,
)
from hpcq.domain.events import EventKind
from hpcq.domain.jobs import JobUid, NativeId, Usage
from hpcq.domain.principals import UNASKED
from hpcq.domain.states import FailureKind, JobState, JobStatus
from hpcq.domain.units import format_time
from hpcq.schedulers.base import ParseFailure
from hpcq.schedulers.testing.waiting import eventually

pytestmark = pytest.mark.anyio

AWAY = SchedulerUnavailable("It is away.")


# The life of a job


async def test_tick_follows_job_to_end(world: World) -> None:
    record = await world.submit()
    native_id = record.native_id
    assert native_id is not None
    assert world.job(native_id).state is JobState.QUEUED
    await world.tick()
    world.scheduler.run(native_id)
    await world.tick(5)
    assert world.job(native_id).state is JobState.RUNNING
    world.scheduler.end(native_id, exit_code=0)
    await world.tick(5)
    ended = world.job(native_id)
    assert (ended.uid, ended.state) == (record.uid, JobState.DONE)
    assert await world.store.by_uid(record.uid) == ended


async def test_tick_vanished_job_until_accounted(world: World) -> None:
    native_id = (await world.submit()).native_id
    assert native_id is not None
    world.scheduler.run(native_id)
    await world.tick()
    last_seen = world.table.as_of
    world.scheduler.end(
        native_id,
        accounted=False,
        state=JobState.FAILED,
        failure_kind=FailureKind.NON_ZERO_EXIT,
        exit_code=3,
    )
    await world.tick(5)
    gone = world.job(native_id)
    assert (gone.state, gone.status) == (JobState.UNDETERMINED, JobStatus.UNKNOWN)
    assert gone.state_reason
    assert gone.confirmed_at == last_seen
    world.scheduler.account(native_id)
    await world.tick(60)
    ended = world.job(native_id)
    assert (ended.state, ended.state_reason) == (JobState.FAILED, None)
    assert ended.seen is not None
    assert (ended.seen.exit_code, ended.seen.failure_kind) == (3, FailureKind.NON_ZERO_EXIT)


async def test_tick_job_lost_stays_undetermined(world: World) -> None:
    native_id = (await world.submit()).native_id
    assert native_id is not None
    await world.tick()
    world.scheduler.lose(native_id)
    for _ in range(30):
        await world.tick(600)
    assert world.job(native_id).state is JobState.UNDETERMINED


async def test_tick_vanished_job_listed_again(world: World) -> None:
    native_id = (await world.submit()).native_id
    assert native_id is not None
    world.scheduler.run(native_id)
    await world.tick()
    absent = world.scheduler.queue.pop(native_id)
    await world.tick(5)
    assert world.job(native_id).state is JobState.UNDETERMINED
    world.scheduler.queue[native_id] = absent
    await world.tick(5)
    assert world.job(native_id).state is JobState.RUNNING
    assert world.job(native_id).confirmed_at is None


async def test_tick_new_job_not_listed_yet(world: World) -> None:
    native_id = (await world.submit()).native_id
    assert native_id is not None
    hidden = world.scheduler.queue.pop(native_id)
    await world.tick(1)
    assert world.job(native_id).state is JobState.QUEUED
    world.scheduler.queue[native_id] = hidden
    await world.tick(5)
    assert world.job(native_id).state is JobState.QUEUED


async def test_tick_unreadable_job_in_queue(world: World) -> None:
    native_id = (await world.submit()).native_id
    assert native_id is not None
    world.scheduler.run(native_id)
    await world.tick()
    job = world.scheduler.queue.pop(native_id)
    foreign = world.scheduler.enqueue()
    world.scheduler.unreadable = [
        ParseFailure(reason="no state in it", excerpt="<job/>", native_id=native_id),
        ParseFailure(reason="no id in it", excerpt="<job>"),
    ]
    await world.tick(5)
    assert world.job(native_id).state is JobState.RUNNING
    assert world.job(foreign).state is JobState.QUEUED
    assert world.scheduler.calls["history"] == 0
    world.scheduler.queue[native_id] = job
    world.scheduler.unreadable = []
    await world.tick(5)
    assert world.job(native_id).state is JobState.RUNNING


async def test_tick_foreign_job_left_queue(world: World) -> None:
    native_id = world.scheduler.enqueue()
    await world.tick()
    assert world.on_board() == [native_id]
    world.scheduler.end(native_id)
    await world.tick(5)
    assert world.on_board() == []


async def test_tick_ended_job_retention_over(world: World) -> None:
    record = await world.submit()
    assert record.native_id is not None
    world.scheduler.end(record.native_id)
    await world.tick(11)
    await world.tick(23 * 3600)
    assert world.on_board() == [record.native_id]
    await world.tick(2 * 3600)
    assert world.on_board() == []
    assert (await world.jobs.find(UNASKED, record.native_id)).record.uid == record.uid


# An outage


async def test_tick_scheduler_down(world: World) -> None:
    native_id = (await world.submit()).native_id
    assert native_id is not None
    world.scheduler.run(native_id)
    await world.tick()
    before = world.table.listing
    for error in (AWAY, CommandTimedOut(("qstat",), 30), OutputParseError("qstat", "cut", b"<")):
        world.scheduler.fail_next("jobs", error)
        with pytest.raises(type(error)):
            await world.tick(600)
    assert world.table.listing is before
    allowed = timedelta(seconds=30)
    assert world.table.freshness(world.clock(), allowed).stale
    await world.tick(5)
    assert world.job(native_id).state is JobState.RUNNING
    assert not world.table.freshness(world.clock(), allowed).stale


async def test_tick_jobs_ended_during_outage(world: World) -> None:
    native_id = (await world.submit()).native_id
    assert native_id is not None
    world.scheduler.run(native_id)
    await world.tick()
    world.scheduler.fail_next("jobs", AWAY)
    with pytest.raises(SchedulerUnavailable):
        await world.tick(5)
    world.scheduler.end(native_id)
    await world.tick(5)
    assert world.job(native_id).state is JobState.DONE


async def test_tick_accounting_down(world: World) -> None:
    native_id = (await world.submit()).native_id
    assert native_id is not None
    world.scheduler.run(native_id)
    await world.tick()
    world.scheduler.end(native_id)
    other = world.scheduler.enqueue()
    world.scheduler.fail_next("history", SchedulerUnavailable("slurmdbd is down."))
    await world.tick(5)
    gone = world.job(native_id)
    assert gone.state is JobState.UNDETERMINED
    assert "slurmdbd is down." in (gone.state_reason or "")
    assert world.job(other).state is JobState.QUEUED
    await world.tick(60)
    assert world.job(native_id).state is JobState.DONE


@pytest.mark.parametrize("error", [AWAY, OutputParseError("x", "cut", b""), ZeroDivisionError()])
async def test_tick_other_command_failed(world: World, error: Exception) -> None:
    world.scheduler.fail_next("submit", CommandTimedOut(("qsub",), 30), after_effect=False)
    await world.submit()
    vanished, running = await world.submit(), await world.submit()
    assert vanished.native_id is not None
    assert running.native_id is not None
    await world.tick()
    world.scheduler.lose(vanished.native_id)
    world.scheduler.run(running.native_id)
    news = world.scheduler.enqueue()
    for method in ("find", "history", "details"):
        world.scheduler.fail_next(method, error)
    try:
        await world.tick(60)
    except HpcqError:
        pytest.fail("an answer beside the queue ended the tick")
    except ZeroDivisionError:
        assert not isinstance(error, HpcqError)
    assert world.job(news).state is JobState.QUEUED
    assert world.job(running.native_id).state is JobState.RUNNING
    assert world.table.as_of is not None


async def test_tick_accounting_slow(world: World) -> None:
    native_id = (await world.submit()).native_id
    assert native_id is not None
    world.scheduler.run(native_id)
    await world.tick()
    last_seen = world.table.as_of
    world.scheduler.end(native_id)
    other = world.scheduler.enqueue()
    answer = world.scheduler.hold_back_next("history")
    ticking = asyncio.create_task(world.tick(5))
    await answer.ready.wait()
    assert world.job(other).state is JobState.QUEUED
    waiting = world.job(native_id)
    assert (waiting.state, waiting.confirmed_at) == (JobState.RUNNING, last_seen)
    answer.let_go()
    await ticking
    assert world.job(native_id).state is JobState.DONE


async def test_monitor_continues_after_exceptions(world: World) -> None:
    world.interval_seconds = 0.001
    await world.restart()
    native_id = world.scheduler.enqueue()
    world.scheduler.fail_next("jobs", AWAY)
    after_outage = world.scheduler.hold_back_next("jobs")
    world.scheduler.fail_next("jobs", ZeroDivisionError("a defect"))
    after_defect = world.scheduler.hold_back_next("jobs")
    after_answer = world.scheduler.hold_back_next("jobs")
    watching = asyncio.create_task(world.monitor.run())
    health = []
    for answer in (after_outage, after_defect, after_answer):
        await answer.ready.wait()
        health.append((world.monitor.health.answered, world.monitor.health.problem))
        answer.let_go()
    watching.cancel()
    assert health == [
        (False, AWAY.detail),
        (False, "The monitor failed; its log says why."),
        (True, None),
    ]
    assert world.job(native_id).state is JobState.QUEUED


async def test_restart_stale_until_first_answer(world: World) -> None:
    record = await world.submit()
    assert record.native_id is not None
    await world.tick()
    as_of = world.table.as_of
    await world.restart()
    world.scheduler.fail_next("jobs", AWAY)
    with pytest.raises(SchedulerUnavailable):
        await world.tick()
    assert world.job(record.native_id).uid == record.uid
    assert world.table.as_of == as_of
    world.clock.forward(60)
    assert world.table.freshness(world.clock(), timedelta(seconds=30)).stale
    assert not world.monitor.health.answered
    await world.tick()
    assert world.job(record.native_id).uid == record.uid


# Races between what we do and what a listing says


async def test_tick_submission_during_listing(world: World) -> None:
    answer = world.scheduler.hold_back_next("jobs")
    ticking = asyncio.create_task(world.tick())
    await answer.ready.wait()
    record = await world.submit()
    answer.let_go()
    await ticking
    assert record.native_id is not None
    assert world.job(record.native_id).state is JobState.QUEUED
    assert world.scheduler.calls["history"] == 0


@pytest.mark.parametrize("shows_keys", [True, False])
async def test_tick_listed_before_submission_returned(world: World, shows_keys: bool) -> None:
    world.scheduler.shows_keys = shows_keys
    answer = world.scheduler.hold_back_next("submit")
    submitting = asyncio.create_task(world.submit())
    await answer.ready.wait()
    await world.tick()
    assert [record.submitted_here for record in world.table.records()] == [shows_keys]
    answer.let_go()
    record = await submitting
    assert [r.uid for r in world.table.records()] == [record.uid]
    await world.tick(5)
    assert [r.uid for r in world.table.records()] == [record.uid]
    assert world.job(record.uid).seen is not None


async def test_tick_old_listing_after_cancel(world: World) -> None:
    native_id = (await world.submit()).native_id
    assert native_id is not None
    await world.tick()
    answer = world.scheduler.hold_back_next("jobs")
    ticking = asyncio.create_task(world.tick(5))
    await answer.ready.wait()
    await world.changer.cancel(UNASKED, native_id)
    assert world.job(native_id).state is JobState.FAILED
    answer.let_go()
    await ticking
    assert world.job(native_id).state is JobState.FAILED


async def test_tick_old_listing_after_hold(world: World) -> None:
    native_id = (await world.submit()).native_id
    assert native_id is not None
    await world.tick()
    answer = world.scheduler.hold_back_next("jobs")
    ticking = asyncio.create_task(world.tick(5))
    await answer.ready.wait()
    await world.changer.act(Action.HOLD, UNASKED, native_id)
    answer.let_go()
    await ticking
    assert world.job(native_id).state is JobState.QUEUED_HELD
    await world.tick(5)
    assert world.job(native_id).state is JobState.QUEUED_HELD


async def test_tick_hold_released_by_user(world: World) -> None:
    native_id = (await world.submit()).native_id
    assert native_id is not None
    await world.tick()
    await world.changer.act(Action.HOLD, UNASKED, native_id)
    await world.scheduler.act(Action.RELEASE, native_id)  # by a user's own command
    await world.tick(5)
    assert world.job(native_id).state is JobState.QUEUED


async def test_tick_release_with_other_hold(world: World) -> None:
    native_id = world.scheduler.enqueue(state=JobState.QUEUED_HELD, native_state="hqw")
    await world.tick()
    held = world.scheduler.queue[native_id]
    await world.changer.act(Action.RELEASE, UNASKED, native_id)
    assert world.job(native_id).state is JobState.QUEUED
    world.scheduler.queue[native_id] = held
    await world.tick(5)
    assert world.job(native_id).state is JobState.QUEUED_HELD


async def test_tick_ignored_listing_then_next(world: World) -> None:
    native_id = (await world.submit()).native_id
    assert native_id is not None
    world.scheduler.run(native_id)
    await world.tick()
    world.scheduler.change(native_id, hosts=("n1", "n2"))
    answer = world.scheduler.hold_back_next("jobs")
    ticking = asyncio.create_task(world.tick(5))
    await answer.ready.wait()
    await world.changer.publisher.apply(
        world.job(native_id).uid, lambda r: job_changes.cancel_requested(r, world.clock())
    )
    answer.let_go()
    await ticking
    await world.tick(5)
    seen = world.job(native_id).seen
    assert seen is not None
    assert seen.hosts == ("n1", "n2")


async def test_tick_clock_set_back(world: World) -> None:
    native_id = (await world.submit()).native_id
    assert native_id is not None
    await world.tick()
    await world.changer.act(Action.HOLD, UNASKED, native_id)
    world.scheduler.change(native_id, state=JobState.QUEUED)
    world.scheduler.run(native_id)
    await world.tick(-3600)
    assert world.job(native_id).state is JobState.RUNNING


# Submissions without an answer


@pytest.mark.parametrize("shows_keys", [True, False])
async def test_tick_lost_submission_found_by_key(world: World, shows_keys: bool) -> None:
    world.scheduler.shows_keys = shows_keys
    world.scheduler.fail_next("submit", CommandTimedOut(("qsub",), 30), after_effect=True)
    world.scheduler.fail_next("find", AWAY)
    await world.submit()
    (record,) = world.table.records()
    assert (record.state, record.native_id) == (JobState.UNDETERMINED, None)
    await world.tick(1)
    await world.tick(5)
    (found,) = world.table.records()
    assert (found.uid, found.native_id) == (record.uid, NativeId("1"))
    assert found.state is JobState.QUEUED
    assert world.scheduler.calls["submit"] == 1
    assert await world.store.by_native_id(NativeId("1")) == found


async def test_tick_crashed_submission_found(world: World) -> None:
    answer = world.scheduler.hold_back_next("submit")
    submitting = asyncio.create_task(world.submit())
    await answer.ready.wait()
    await world.restart()  # the answer never came
    await world.tick()
    await world.tick(5)
    (record,) = world.table.records()
    assert record.submitted_here
    assert (record.native_id, record.state) == (NativeId("1"), JobState.QUEUED)
    submitting.cancel()


async def test_tick_missing_submission_repeated(world: World) -> None:
    world.scheduler.fail_next("submit", CommandTimedOut(("qsub",), 30))
    record = await world.submit()
    await world.tick(5)
    assert world.job(record.uid).state is JobState.UNDETERMINED
    assert world.scheduler.calls["submit"] == 1
    await world.tick(200)
    await world.tick(5)

    async def has_its_id() -> bool:
        return world.job(record.uid).native_id is not None

    # It is handed over beside the looks.
    await eventually(has_its_id)
    again = world.job(record.uid)
    assert (again.native_id, again.state) == ("1", JobState.QUEUED)
    assert world.scheduler.calls["submit"] == 2


async def test_tick_intent_of_dead_service_abandoned(world: World) -> None:
    world.scheduler.fail_next("submit", ZeroDivisionError("a defect"))
    with pytest.raises(ZeroDivisionError):
        await world.submit()
    (record,) = world.table.records()
    await world.tick(5)
    assert world.job(record.uid).state is JobState.UNDETERMINED
    await world.tick(200)
    lost = world.job(record.uid)
    assert lost.state is JobState.FAILED
    assert lost.state_reason
    assert world.scheduler.calls["submit"] == 1


async def test_tick_abandoned_submission_appears(world: World) -> None:
    world.scheduler.fail_next("submit", ZeroDivisionError("a defect"), after_effect=True)
    with pytest.raises(ZeroDivisionError):
        await world.submit()
    (record,) = world.table.records()
    late = world.scheduler.queue.pop(NativeId("1"))
    await world.tick(200)
    await world.tick(20)
    assert world.job(record.uid).state is JobState.FAILED
    world.scheduler.queue[NativeId("1")] = late
    await world.tick(5)
    await world.tick(5)
    assert [r.uid for r in world.table.records()] == [record.uid]
    assert world.job("1").state is JobState.QUEUED
    assert await world.store.by_uid(record.uid) == world.job("1")


# Ids used again


async def test_tick_reused_id_new_job(world: World) -> None:
    first = await world.submit()
    assert first.native_id is not None
    await world.tick()
    world.scheduler.end(first.native_id)
    await world.tick(5)
    world.scheduler.next_number = 1
    later = world.clock() + timedelta(hours=5)
    again = world.scheduler.enqueue(submit_time=later, owner="rui")
    assert again == first.native_id
    await world.tick(5 * 3600)
    assert world.job(again).uid != first.uid
    assert world.job(again).state is JobState.QUEUED
    assert world.job(first.uid).state is JobState.DONE


async def test_tick_reused_id_of_vanished_job(world: World) -> None:
    first = await world.submit()
    assert first.native_id is not None
    await world.tick()
    world.scheduler.end(first.native_id, accounted=False)
    world.scheduler.next_number = 1
    later = world.clock() + timedelta(hours=5)
    again = world.scheduler.enqueue(submit_time=later, owner="rui")
    await world.tick(5 * 3600)
    assert world.job(first.uid).state is JobState.UNDETERMINED
    newer = world.job(again)
    assert newer.uid != first.uid
    world.scheduler.account(first.native_id)
    await world.tick(60)
    assert world.job(first.uid).state is JobState.DONE
    assert world.job(again).uid == newer.uid, "the number stays with its newest job"


async def test_tick_reused_id_in_accounting(world: World) -> None:
    earlier = world.scheduler.enqueue(submit_time=world.clock() - timedelta(days=300))
    world.scheduler.end(earlier, state=JobState.FAILED, exit_code=1)
    world.scheduler.next_number = 1
    record = await world.submit()
    assert record.native_id == earlier
    await world.tick()
    world.scheduler.end(earlier, accounted=False)
    await world.tick(5)
    assert world.job(record.uid).state is JobState.UNDETERMINED
    world.scheduler.account(earlier)
    await world.tick(60)
    assert world.job(record.uid).state is JobState.DONE


# A store that cannot be written


async def test_tick_disk_full_state_change(world: World) -> None:
    native_id = (await world.submit()).native_id
    assert native_id is not None
    await world.tick()
    world.scheduler.run(native_id)
    foreign = world.scheduler.enqueue()
    world.database.full = True
    with pytest.raises(StoreUnavailable):
        await world.tick(5)
    assert world.job(native_id).state is JobState.QUEUED
    world.database.full = False
    await world.tick(5)
    assert world.job(native_id).state is JobState.RUNNING
    assert world.job(foreign).state is JobState.QUEUED
    assert await world.store.by_native_id(native_id) == world.job(native_id)


async def test_tick_disk_full_end(world: World) -> None:
    native_id = (await world.submit()).native_id
    assert native_id is not None
    await world.tick()
    world.scheduler.end(native_id)
    world.database.full = True
    with pytest.raises(StoreUnavailable):
        await world.tick(5)
    world.database.full = False
    await world.tick(60)
    assert world.job(native_id).state is JobState.DONE
    assert await world.store.by_native_id(native_id) == world.job(native_id)


async def test_tick_disk_full_cancel_written_later(world: World) -> None:
    record = await world.submit()
    assert record.native_id is not None
    await world.tick()
    world.database.full = True
    with pytest.raises(StoreUnavailable):
        await world.changer.cancel(UNASKED, record.native_id)
    world.database.full = False
    await world.tick(5)
    stored = await world.store.by_uid(record.uid)
    assert stored == world.job(record.uid)
    assert stored.state is JobState.FAILED


async def test_tick_text_not_utf8(world: World) -> None:
    record = await world.submit()
    assert record.native_id is not None
    world.scheduler.change(record.native_id, native_state="\udcff", hosts=("n\udc80",))
    foreign = world.scheduler.enqueue(name="estudo\udce7", slots=10**30)
    await world.tick(5)
    assert await world.store.by_uid(record.uid) == world.job(record.uid)
    freshness = world.table.freshness(world.clock(), timedelta(seconds=30))
    body = b"".join(await world.table.listing.json(freshness, usage=False, gzip=False))
    assert foreign.encode() in body
    await world.restart()
    assert world.job(record.uid).seen is not None


# Details


async def test_tick_usage_once_per_interval(world: World) -> None:
    native_id = (await world.submit()).native_id
    assert native_id is not None
    world.scheduler.run(native_id)
    world.scheduler.extras[native_id] = {"usage": Usage(cpu_seconds=3.0), "native_state": None}
    await world.tick()
    seen = world.job(native_id).seen
    assert seen is not None
    assert seen.usage == Usage(cpu_seconds=3.0)
    assert seen.native_state == "r", "details that tell no state leave it"
    asked = world.scheduler.calls["details"]
    await world.tick(5)
    assert world.scheduler.calls["details"] == asked
    seen = world.job(native_id).seen
    assert seen is not None
    assert seen.usage == Usage(cpu_seconds=3.0), "the queue has no word about it"
    await world.tick(15)
    assert world.scheduler.calls["details"] == asked + 1


async def test_tick_details_unchanged_same_version(world: World) -> None:
    native_id = (await world.submit()).native_id
    assert native_id is not None
    world.scheduler.run(native_id)
    world.scheduler.extras[native_id] = {"usage": Usage(cpu_seconds=3.0)}
    await world.tick()
    version = world.table.version
    await world.tick(60)
    assert world.table.version == version
    world.scheduler.extras[native_id] = {"usage": Usage(cpu_seconds=4.0)}
    await world.tick(60)
    assert world.table.version != version


async def test_tick_details_of_read_foreign_jobs_only(world: World) -> None:
    read, other = world.scheduler.enqueue(), world.scheduler.enqueue()
    for native_id in (read, other):
        world.scheduler.extras[native_id] = {"state_reason": "no slots"}
    await world.tick()
    assert world.scheduler.calls["details"] == 0
    await world.jobs.find(UNASKED, read)
    await world.tick(20)
    assert world.job(read).state_reason == "no slots"
    assert world.job(other).state_reason is None
    await world.tick(120)
    assert world.scheduler.calls["details"] == 1


async def test_tick_usage_samples(world: World) -> None:
    ours = (await world.submit()).native_id
    theirs = world.scheduler.enqueue()
    assert ours is not None
    for native_id in (ours, theirs):
        world.scheduler.run(native_id)
    await world.tick()
    world.usage.mark_all_viewed()
    for figure in (3.0, 4.0, 4.0):
        for native_id in (ours, theirs):
            world.scheduler.extras[native_id] = {"usage": Usage(cpu_seconds=figure)}
        await world.tick(20)
    samples = await world.jobs.usage_over_time(UNASKED, ours)
    assert [usage.cpu_seconds for usage in samples] == [3.0, 4.0]
    assert await world.jobs.usage_over_time(UNASKED, theirs) == []
    told = [e.kind for e in await world.store.events(0, 99)].count(EventKind.USAGE)
    assert told == 2


async def test_tick_usage_of_all_running_jobs(world: World) -> None:
    running, waiting = world.scheduler.enqueue(), world.scheduler.enqueue()
    world.scheduler.run(running)
    for native_id in (running, waiting):
        world.scheduler.extras[native_id] = {"usage": Usage(cpu_seconds=1.0)}
    world.usage.mark_all_viewed()
    await world.tick()
    first, second = world.job(running).seen, world.job(waiting).seen
    assert first is not None
    assert second is not None
    assert (first.usage, second.usage) == (Usage(cpu_seconds=1.0), None)


async def test_tick_details_after_cancel(world: World) -> None:
    native_id = (await world.submit()).native_id
    assert native_id is not None
    await world.tick()
    await world.jobs.find(UNASKED, native_id)
    world.scheduler.extras[native_id] = {"state_reason": "no slots"}
    answer = world.scheduler.hold_back_next("details")
    ticking = asyncio.create_task(world.tick(20))
    await answer.ready.wait()
    await world.changer.cancel(UNASKED, native_id)
    ended = world.job(native_id)
    answer.let_go()
    await ticking
    assert world.job(native_id) == ended


async def test_tick_change_during_publish(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    native_id = (await world.submit()).native_id
    assert native_id is not None
    world.scheduler.run(native_id)
    await world.tick()
    publish = world.store.publish

    async def meanwhile(*changes: Any, **rest: Any) -> Any:
        written = await publish(*changes, **rest)
        # As a request does that learns late what became of its submission.
        world.changer.publisher.show(world.job(native_id))
        return written

    world.scheduler.end(native_id, exit_code=0)
    with monkeypatch.context() as patched:
        patched.setattr(world.store, "publish", meanwhile)
        await world.tick(5)
    await world.tick(5)
    ended = world.job(native_id)
    assert (ended.state, ended == await world.store.by_uid(ended.uid)) == (JobState.DONE, True)


# How often


async def test_tick_missing_job_backoff(world: World) -> None:
    native_id = (await world.submit()).native_id
    assert native_id is not None
    await world.tick(20)
    world.scheduler.lose(native_id)
    asked = []
    for second in range(0, 600, 5):
        before = world.scheduler.calls["history"]
        await world.tick(5)
        if world.scheduler.calls["history"] > before:
            asked.append(second)
    waits = [b - a for a, b in itertools.pairwise(asked)]
    assert waits == sorted(waits)
    assert waits[0] <= 10
    assert 60 <= waits[-1] <= 65
    assert len(asked) < 20


async def test_monitor_wakes_merged(world: World) -> None:
    world.interval_seconds = 3600
    await world.restart()
    watching = asyncio.create_task(world.monitor.run())
    answer = world.scheduler.hold_back_next("jobs")
    await answer.ready.wait()
    for _ in range(100):
        world.monitor.wake()
    answer.let_go()
    last = world.scheduler.hold_back_next("jobs")
    await last.ready.wait()
    assert world.scheduler.calls["jobs"] == 2
    watching.cancel()


async def test_log_warnings_once(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    native_id = (await world.submit()).native_id
    assert native_id is not None
    stays = world.scheduler.queue[native_id]
    await world.tick()
    await world.changer.cancel(UNASKED, native_id)
    world.scheduler.queue[native_id] = replace(stays, state=JobState.RUNNING)
    world.scheduler.unreadable = [ParseFailure(reason="cut", excerpt="<job")]
    for _ in range(5):
        await world.tick(5)
    said = capsys.readouterr().out
    assert said.count("job.unreadable") == 1
    assert said.count("job.contradiction") == 1
    assert world.job(native_id).state is JobState.FAILED


async def test_tick_memory_bounded(
    world: World,
) -> None:
    for _ in range(5):
        for _ in range(20):
            record = await world.submit()
            assert record.native_id is not None
            await world.jobs.find(UNASKED, record.native_id)
            await world.changer.cancel(UNASKED, record.native_id)
            world.scheduler.enqueue()
        await world.tick(100)
        for native_id in list(world.scheduler.queue):
            world.scheduler.lose(native_id)
        await world.tick(2 * 86400)
        await world.tick(5)
    memory = world.monitor._memory
    assert (memory.last, memory.missing, memory.unclear) == ({}, [], [])
    assert world.changer.publisher._locally_changed == {}
    assert world.monitor._vanished._rechecks == {}
    assert world.usage._viewed_at == {}
    assert not world.runner._under_way
    assert len(world.table.entries) == 0
    assert len(world.table.by_native) == 0


async def test_uid_after_restart(world: World) -> None:
    ours = await world.submit()
    foreign = world.scheduler.enqueue()
    await world.tick()
    uids = {world.job(str(ours.native_id)).uid, world.job(foreign).uid}
    await world.restart()
    await world.tick()
    assert {r.uid for r in world.table.records()} == uids
    assert all(isinstance(uid, JobUid) for uid in uids)


async def test_tick_usage_after_accounting_outage(world: World) -> None:
    native_id = (await world.submit()).native_id
    assert native_id is not None
    world.scheduler.run(native_id)
    await world.tick()
    world.scheduler.end(native_id, exit_code=3, state=JobState.FAILED)
    world.scheduler.partial_reason = SchedulerUnavailable("slurmdbd is down.")
    await world.tick(5)
    ended = world.job(native_id)
    assert (ended.state, ended.seen and ended.seen.exit_code) == (JobState.FAILED, 3)
    (known,) = world.scheduler.accounting[native_id]
    usage = Usage(cpu_seconds=7.0, sampled_at=known.end_time)
    world.scheduler.accounting[native_id] = [replace(known, usage=usage, exit_code=4)]
    world.scheduler.partial_reason = None
    await world.tick(60)
    whole = world.job(native_id)
    assert whole.seen is not None
    assert (whole.seen.usage, whole.seen.exit_code) == (usage, 3)
    asked = world.scheduler.calls["history"]
    await world.tick(600)
    assert world.scheduler.calls["history"] == asked, "it is not asked about any more"


async def test_tick_usage_later_than_end(world: World) -> None:
    record = await world.ended_unaccounted()
    native_id = record.native_id
    assert native_id is not None
    world.scheduler.account(native_id)
    (known,) = world.scheduler.accounting[native_id]
    world.scheduler.accounting[native_id] = [replace(known, usage=Usage())]
    await world.tick(5)
    ended = world.job(native_id)
    assert (ended.state, ended.seen and ended.seen.usage) == (JobState.DONE, Usage())
    usage = Usage(cpu_seconds=7.0, sampled_at=known.end_time)
    world.scheduler.accounting[native_id] = [replace(known, usage=usage)]
    await world.tick(5)
    ended = world.job(native_id)
    assert ended.seen is not None
    assert ended.seen.usage == usage
    asked = world.scheduler.calls["history"]
    await world.tick(5)
    assert world.scheduler.calls["history"] == asked, "it is not asked about any more"


async def test_tick_usage_never_told(world: World) -> None:
    record = await world.ended_unaccounted()
    native_id = record.native_id
    assert native_id is not None
    world.scheduler.account(native_id)
    (known,) = world.scheduler.accounting[native_id]
    world.scheduler.accounting[native_id] = [replace(known, usage=Usage())]
    for _ in range(3):
        await world.tick(60)
    asked = world.scheduler.calls["history"]
    await world.tick(600)
    assert world.scheduler.calls["history"] == asked, "it is not asked about any more"


async def test_tick_never_accounted(world: World) -> None:
    record = await world.ended_unaccounted()
    await world.tick(5)
    lost = world.job(record.uid)
    assert "does not show it yet" in (lost.state_reason or "")
    await world.tick(130)
    late = world.job(record.uid)
    assert late.state is JobState.UNDETERMINED
    assert late.state_changed_at == lost.state_changed_at
    reason = late.state_reason or ""
    assert "does not show it yet" not in reason
    assert f"since {format_time(lost.state_changed_at)}" in reason
    assert "DELETE takes the job out of the listing" in reason
    revision = late.revision
    await world.tick(70)
    assert world.job(record.uid).revision == revision
    assert record.native_id is not None
    world.scheduler.account(record.native_id)
    await world.tick(70)
    assert world.job(record.uid).state is JobState.DONE


async def test_tick_reason_after_accounting_outage(world: World) -> None:
    record = await world.ended_unaccounted()
    world.scheduler.fail_next("history", SchedulerUnavailable("slurmdbd is down."))
    await world.tick(5)
    assert "could not be asked" in (world.job(record.uid).state_reason or "")
    await world.tick(10)
    assert "does not show it yet" in (world.job(record.uid).state_reason or "")


async def test_cancel_unaccounted_job(world: World) -> None:
    record = await world.ended_unaccounted()
    await world.tick(5)
    await world.changer.cancel(UNASKED, record.uid)
    assert world.job(record.uid).state is JobState.UNDETERMINED
    assert await world.table.listing.in_order() == []
    assert (await world.jobs.find(UNASKED, record.uid)).record.uid == record.uid
