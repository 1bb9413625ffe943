"""Every point at which a submission can break, and what becomes of its job."""

import asyncio
from dataclasses import replace

import pytest
from tests.unit.services.kit import World

from hpcq.domain import submission
from hpcq.domain.actions import Action
from hpcq.domain.errors import (
    AccountUnavailable,
    CircuitOpen,
    CommandFailed,
    CommandMissing,
    CommandTimedOut,
    HpcqError,
    IdempotencyKeyReused,
    OutputParseError,
    QuotaExceeded,
    SchedulerError,
    SchedulerUnavailable,
    StoreUnavailable,
    SubmissionInProgress,
    SubmissionUnclear,
)
from hpcq.domain.jobs import JobRecord, JobUid, NativeId, SubmissionKey
from hpcq.domain.principals import UNASKED
from hpcq.domain.states import FailureKind, JobState
from hpcq.services.submission.submitter import Submission

pytestmark = pytest.mark.anyio

KEY = "study-7"
SETTLED = 61
LATER = 20
"""After this, a second absence is believed."""

TIMED_OUT = CommandTimedOut(("qsub",), 30)
REFUSED = CommandFailed(("qsub",), 1, b"Unable to run job: unknown queue")
AWAY = SchedulerUnavailable("It is away.")
UNSAID = [TIMED_OUT, OutputParseError("qsub", "noise", b"Stampede3"), AWAY]


def name_of(error: object) -> str:
    return type(error).__name__


async def submitted(world: World, key: str | None = KEY) -> Submission:
    answer = await world.submitter.submit(UNASKED, world.spec, key)
    await world.runner.drain()
    return answer


async def settled(world: World) -> None:
    """Let so much time pass that whatever is absent surely is."""
    await world.tick()
    await world.tick(SETTLED)
    await world.runner.drain()
    await world.tick(1)


async def on_disk(world: World, uid: JobUid) -> JobRecord:
    record = await world.store.by_uid(uid)
    assert record is not None
    return record


def in_scheduler(world: World, uid: JobUid) -> list[NativeId]:
    """The jobs in the scheduler, queued or ended, that carry the key of a record."""
    scheduler = world.scheduler
    known = [*scheduler.queue.values(), *(j for js in scheduler.accounting.values() for j in js)]
    return [job.native_id for job in known if job.submission_key == SubmissionKey.for_uid(uid)]


# The answer of the scheduler


@pytest.mark.parametrize("error", UNSAID, ids=name_of)
async def test_submission_accepted_without_answer(world: World, error: HpcqError) -> None:
    world.scheduler.fail_next("submit", error, after_effect=True)
    record = (await submitted(world)).record
    assert in_scheduler(world, record.uid) == [record.native_id]
    assert (await on_disk(world, record.uid)).native_id == record.native_id


@pytest.mark.parametrize("error", UNSAID, ids=name_of)
@pytest.mark.parametrize("key", [KEY, None], ids=["key", "no key"])
async def test_submission_lost_repeated(world: World, error: HpcqError, key: str | None) -> None:
    world.scheduler.fail_next("submit", error)
    record = (await submitted(world, key)).record
    assert (record.native_id, record.state) == (None, JobState.UNDETERMINED)
    await world.tick(SETTLED - 2)
    await world.tick(1)
    assert world.scheduler.calls["submit"] == 1, "it may show yet"
    await settled(world)
    assert [world.job(record.uid).native_id] == in_scheduler(world, record.uid)
    assert world.scheduler.calls["submit"] == 2


async def test_submission_script_text_repeated_after_restart(world: World) -> None:
    text = "echo é\n"
    fields = {"script_file": "", "script": text}
    world.scheduler.fail_next("submit", TIMED_OUT)
    world.spec = replace(world.spec, **fields)  # type: ignore[arg-type]
    record = (await submitted(world)).record
    assert (record.native_id, world.scheduler.scripts) == (None, {})
    await world.restart()
    world.spec = replace(world.spec, **fields)  # type: ignore[arg-type]
    await settled(world)
    await settled(world)
    assert [world.job(record.uid).native_id] == in_scheduler(world, record.uid)
    assert world.scheduler.scripts == {record.key: text.encode()}
    stored = await on_disk(world, record.uid)
    assert stored.spec is not None
    assert stored.spec.script is None
    again = await submitted(world)
    assert (again.is_replay, again.record.uid) == (True, record.uid)
    world.spec = replace(world.spec, script="other")
    with pytest.raises(IdempotencyKeyReused):
        await submitted(world)


@pytest.mark.parametrize("shows_keys", [True, False], ids=["keys listed", "no keys listed"])
async def test_submission_visible_late(world: World, shows_keys: bool) -> None:
    world.scheduler.shows_keys = shows_keys
    world.scheduler.fail_next("submit", TIMED_OUT, after_effect=True)
    hidden = asyncio.create_task(submitted(world))
    world.scheduler.fail_next("find", TIMED_OUT)
    record = (await hidden).record
    late = world.scheduler.queue.pop(NativeId("1"))
    await world.tick(50)
    world.scheduler.queue[late.native_id] = late
    await settled(world)
    assert world.job(record.uid).native_id == "1"
    assert world.scheduler.calls["submit"] == 1


async def test_submission_refused_frees_key(world: World) -> None:
    world.scheduler.fail_next("submit", REFUSED)
    with pytest.raises(CommandFailed):
        await submitted(world)
    (failed,) = world.table.records()
    assert (failed.state, failed.state_reason) == (JobState.FAILED, REFUSED.detail)
    again = await submitted(world)
    assert (again.is_replay, again.record.native_id) == (False, "1")
    assert again.record.uid != failed.uid


async def test_submission_refused_but_exists(world: World) -> None:
    world.scheduler.fail_next("submit", REFUSED, after_effect=True)
    record = (await submitted(world)).record
    assert in_scheduler(world, record.uid) == [record.native_id] == ["1"]


async def test_submission_refused_unchecked(world: World) -> None:
    world.scheduler.fail_next("submit", REFUSED)
    world.scheduler.fail_next("find", AWAY)
    record = (await submitted(world)).record
    assert record.state is JobState.UNDETERMINED
    await settled(world)
    failed = world.job(record.uid)
    assert (failed.state, failed.state_reason) == (JobState.FAILED, REFUSED.detail)
    assert world.scheduler.calls["submit"] == 1
    assert not (await submitted(world)).is_replay


@pytest.mark.parametrize(
    "error", [CommandMissing("There is no qsub."), CircuitOpen("Away.")], ids=name_of
)
async def test_submission_error_before_scheduler(world: World, error: CircuitOpen) -> None:
    world.scheduler.fail_next("submit", error)
    with pytest.raises(type(error)):
        await submitted(world)
    assert world.scheduler.calls["find"] == 0
    assert not (await submitted(world)).is_replay


# The search


async def test_submission_lost_scheduler_down(world: World) -> None:
    world.scheduler.fail_next("submit", TIMED_OUT)
    record = (await submitted(world)).record
    for _ in range(5):
        world.scheduler.fail_next("find", AWAY)
        await world.tick(SETTLED)
    assert world.scheduler.calls["submit"] == 1
    assert world.job(record.uid).state is JobState.UNDETERMINED


async def test_submission_absent_once(world: World) -> None:
    """A job that has just left the queue may not be in the accounting yet."""
    world.scheduler.fail_next("submit", TIMED_OUT, after_effect=True)
    world.scheduler.fail_next("find", AWAY)
    record = (await submitted(world)).record
    world.scheduler.fail_next("find", AWAY)
    await world.tick(1)
    world.scheduler.run(NativeId("1"))
    world.scheduler.end(NativeId("1"), accounted=False)
    await world.tick(SETTLED)
    world.scheduler.account(NativeId("1"))
    await world.tick(LATER)
    assert world.scheduler.calls["submit"] == 1
    assert world.job(record.uid).native_id == "1"


async def test_submission_ended_before_found(
    world: World,
) -> None:
    world.scheduler.shows_keys = False
    world.scheduler.fail_next("submit", TIMED_OUT, after_effect=True)
    world.scheduler.fail_next("find", AWAY)
    record = (await submitted(world)).record
    world.scheduler.run(NativeId("1"))
    world.scheduler.end(NativeId("1"))
    await world.tick(5)
    await world.tick(5)
    assert (world.job(record.uid).native_id, world.job(record.uid).state) == ("1", JobState.DONE)


async def test_submission_never_accepted(world: World) -> None:
    for _ in range(20):
        world.scheduler.fail_next("submit", TIMED_OUT)
    record = (await submitted(world)).record
    for _ in range(12):
        await settled(world)
    failed = world.job(record.uid)
    assert failed.state is JobState.FAILED
    assert TIMED_OUT.detail in (failed.state_reason or "")
    assert world.scheduler.calls["submit"] == 10


async def test_submission_too_old_not_repeated(world: World) -> None:
    world.scheduler.fail_next("submit", TIMED_OUT)
    record = (await submitted(world)).record
    world.clock.forward(7 * 86400)
    await world.restart()
    await settled(world)
    assert world.job(record.uid).state is JobState.FAILED
    assert world.scheduler.calls["submit"] == 1


@pytest.mark.parametrize(
    "error", [CommandMissing("There is no qsub."), CircuitOpen("Away.")], ids=name_of
)
async def test_submission_repeated_scheduler_down(world: World, error: CircuitOpen) -> None:
    world.scheduler.fail_next("submit", TIMED_OUT)
    world.scheduler.fail_next("submit", error)
    record = (await submitted(world)).record
    await settled(world)
    assert world.job(record.uid).state is JobState.UNDETERMINED
    await settled(world)
    assert [world.job(record.uid).native_id] == in_scheduler(world, record.uid) == ["1"]


async def test_submission_repeated_refused(
    world: World,
) -> None:
    world.scheduler.fail_next("submit", TIMED_OUT)
    world.scheduler.fail_next("submit", QuotaExceeded("Too many jobs."))
    record = (await submitted(world)).record
    await settled(world)
    assert world.job(record.uid).state_reason == "Too many jobs."
    assert world.job(record.uid).failure_kind is FailureKind.SCHEDULER_ERROR


# A scheduler that knows at once what it does not have


@pytest.fixture
def certain(world: World) -> World:
    """A world whose scheduler's word is the truth, at once."""
    scheduler = world.scheduler
    scheduler.capabilities = replace(scheduler.capabilities, absence_is_certain=True)
    return world


async def test_certain_absence_interrupted_submission(
    certain: World,
) -> None:
    answer = certain.scheduler.hold_back_next("submit")
    submitting = asyncio.create_task(certain.submitter.submit(UNASKED, certain.spec, KEY))
    await answer.ready.wait()
    certain.scheduler.queue.clear()
    await certain.restart()
    submitting.cancel()
    await certain.tick()
    await certain.runner.drain()
    (record,) = certain.table.records()
    assert [record.native_id] == in_scheduler(certain, record.uid) == ["2"]


@pytest.mark.parametrize("key", [KEY, None], ids=["key", "no key"])
async def test_certain_absence_error(certain: World, key: str | None) -> None:
    certain.scheduler.fail_next("submit", AWAY)
    with pytest.raises(SchedulerUnavailable):
        await submitted(certain, key)
    assert certain.scheduler.calls["find"] == 1, "it was not looked for again"
    assert not (await submitted(certain, key)).is_replay, "the key is free"


async def test_certain_absence_accepted_without_answer(certain: World) -> None:
    certain.scheduler.fail_next("submit", AWAY, after_effect=True)
    record = (await submitted(certain)).record
    assert [record.native_id] == in_scheduler(certain, record.uid) == ["1"]


# The store


async def test_submission_disk_full_before(world: World) -> None:
    world.database.full = True
    with pytest.raises(StoreUnavailable):
        await submitted(world)
    assert world.scheduler.calls["submit"] == 0
    world.database.full = False
    assert not (await submitted(world)).is_replay


async def during(world: World, key: str | None, error: SchedulerError) -> Submission:
    """Submit; the disk fills up after the intent is on it, and the scheduler gives no answer."""
    answer = world.scheduler.hold_back_next("submit")
    submitting = asyncio.create_task(world.submitter.submit(UNASKED, world.spec, key))
    await answer.ready.wait()
    world.database.full = True
    answer.let_go(error)
    return await submitting


@pytest.mark.parametrize("shows_keys", [True, False], ids=["keys listed", "no keys listed"])
@pytest.mark.parametrize("restarts", [True, False], ids=["restart", "no restart"])
async def test_submission_disk_full_uncertain(
    world: World, shows_keys: bool, restarts: bool
) -> None:
    world.scheduler.shows_keys = shows_keys
    world.scheduler.fail_next("find", AWAY)
    record = (await during(world, KEY, TIMED_OUT)).record
    assert record.native_id is None
    with pytest.raises(SubmissionInProgress):
        await submitted(world)
    world.database.full = False
    if restarts:
        await world.restart()
    await settled(world)
    assert [world.job(record.uid).native_id] == in_scheduler(world, record.uid) == ["1"]
    again = await submitted(world)
    assert (again.is_replay, again.record.uid) == (True, record.uid)


@pytest.mark.parametrize("shows_keys", [True, False], ids=["keys listed", "no keys listed"])
async def test_submission_disk_full_uncertain_without_key(world: World, shows_keys: bool) -> None:
    world.scheduler.shows_keys = shows_keys
    world.scheduler.fail_next("find", AWAY)
    with pytest.raises(SubmissionUnclear) as caught:
        await during(world, None, TIMED_OUT)
    assert TIMED_OUT.detail in caught.value.detail
    world.database.full = False
    await settled(world)
    assert world.job("1").submitted_here, "it is looked for all the same"


async def test_submission_disk_full_refused(world: World) -> None:
    answer = world.scheduler.hold_back_next("submit")
    submitting = asyncio.create_task(world.submitter.submit(UNASKED, world.spec, KEY))
    await answer.ready.wait()
    world.scheduler.queue.clear()
    world.database.full = True
    answer.let_go(REFUSED)
    with pytest.raises(CommandFailed):
        await submitting
    (failed,) = world.table.records()
    assert failed.state is JobState.FAILED
    with pytest.raises(SubmissionInProgress):
        await submitted(world)
    world.database.full = False
    await world.tick(1)
    assert (await on_disk(world, failed.uid)).state is JobState.FAILED
    assert not (await submitted(world)).is_replay


async def test_submission_disk_full_accepted(world: World) -> None:
    world.scheduler.shows_keys = False
    answer = world.scheduler.hold_back_next("submit")
    submitting = asyncio.create_task(world.submitter.submit(UNASKED, world.spec, KEY))
    await answer.ready.wait()
    world.database.full = True
    answer.let_go()
    record = (await submitting).record
    await world.runner.drain()
    world.database.full = False
    await world.tick(1)
    assert (await on_disk(world, record.uid)).native_id == record.native_id == "1"


async def test_actions_disk_full_written_in_order(world: World) -> None:
    record = (await submitted(world)).record
    world.database.full = True
    # They are done: nobody shall ask for them a second time.
    for action in (Action.HOLD, Action.RELEASE):
        await world.changer.act(action, UNASKED, "1")
    world.database.full = False
    await world.changer.act(Action.HOLD, UNASKED, "1")
    assert (await on_disk(world, record.uid)).state is JobState.QUEUED_HELD
    await world.tick(1)
    assert (await on_disk(world, record.uid)).state is JobState.QUEUED_HELD


# The client


async def being_written(world: World) -> None:
    """Wait until something is on its way to the disk."""
    while world.database._writer is None:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0)


async def test_submission_cancelled_while_storing(
    world: World,
) -> None:
    submitting = asyncio.create_task(world.submitter.submit(UNASKED, world.spec, KEY))
    await being_written(world)
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting
    await world.runner.drain()
    again = await submitted(world)
    assert (again.is_replay, again.record.native_id) == (True, "1")


async def test_submission_key_concurrent(world: World) -> None:
    answer = world.scheduler.hold_back_next("submit")
    first = asyncio.create_task(world.submitter.submit(UNASKED, world.spec, KEY))
    await answer.ready.wait()
    with pytest.raises(SubmissionInProgress):
        await world.submitter.submit(UNASKED, world.spec, KEY)
    answer.let_go()
    record = (await first).record
    again = await submitted(world)
    assert (again.is_replay, again.record.uid, again.record.native_id) == (True, record.uid, "1")
    assert world.scheduler.calls["submit"] == 1


async def test_submission_key_repeated_during_submission(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = world.scheduler.hold_back_next("submit")
    first = asyncio.create_task(world.submitter.submit(UNASKED, world.spec, KEY))
    await answer.ready.wait()
    read = world.store.by_uid

    async def overtaken(uid: JobUid) -> JobRecord | None:
        record = await read(uid)
        answer.let_go()
        await first
        while world.runner.unwritten(uid):
            await read(uid)
        return record

    monkeypatch.setattr(world.store, "by_uid", overtaken)
    with pytest.raises(SubmissionInProgress):
        await world.submitter.submit(UNASKED, world.spec, KEY)


async def test_submission_key_many_concurrent(world: World) -> None:
    answers = await asyncio.gather(
        *(world.submitter.submit(UNASKED, world.spec, KEY) for _ in range(20)),
        return_exceptions=True,
    )
    done = [a for a in answers if isinstance(a, Submission)]
    assert {a.record.native_id for a in done} == {"1"}
    assert all(isinstance(a, Submission | SubmissionInProgress) for a in answers)
    assert list(world.scheduler.queue) == ["1"]


async def test_submission_key_other_body(world: World) -> None:
    await submitted(world)
    with pytest.raises(IdempotencyKeyReused):
        await world.submitter.submit(UNASKED, replace(world.spec, name="other"), KEY)
    assert list(world.scheduler.queue) == ["1"]


async def test_submission_key_expiry_after_restart(
    world: World,
) -> None:
    first = (await submitted(world)).record
    await world.restart()
    assert (await submitted(world)).record.uid == first.uid
    world.clock.forward(86400 + 1)
    assert not (await submitted(world)).is_replay


async def test_submission_key_repeated_without_files(world: World) -> None:
    first = (await submitted(world)).record
    (world.directory / "run.sh").unlink()
    world.runner._rejection = lambda: CircuitOpen("It is away.")
    assert (await submitted(world)).record.uid == first.uid


# Deleting what nobody has found yet


async def test_cancel_before_submission_found(world: World) -> None:
    world.scheduler.fail_next("submit", TIMED_OUT, after_effect=True)
    world.scheduler.fail_next("find", AWAY)
    record = (await submitted(world)).record
    await world.changer.cancel(UNASKED, record.uid)
    await world.tick(1)
    await world.tick(1)
    assert world.scheduler.queue == {}
    assert (await on_disk(world, record.uid)).failure_kind is FailureKind.CANCELLED


@pytest.mark.parametrize("restarts", [True, False], ids=["restart", "no restart"])
async def test_cancel_before_submission_accepted(world: World, restarts: bool) -> None:
    world.scheduler.fail_next("submit", TIMED_OUT)
    record = (await submitted(world)).record
    await world.changer.cancel(UNASKED, record.uid)
    if restarts:
        await world.restart()
    await settled(world)
    assert (await on_disk(world, record.uid)).failure_kind is FailureKind.CANCELLED
    again = await submitted(world)
    assert (again.is_replay, again.record.uid) == (True, record.uid), "its key still names it"
    assert world.scheduler.calls["submit"] == 1


async def test_cancel_during_repeated_submission(world: World) -> None:
    world.scheduler.fail_next("submit", TIMED_OUT)
    record = (await submitted(world)).record
    answer = world.scheduler.hold_back_next("submit")
    await world.tick(SETTLED)
    await world.tick(LATER)
    await answer.ready.wait()
    await world.changer.cancel(UNASKED, record.uid)
    answer.let_go()
    await world.runner.drain()
    await world.tick(1)
    await world.tick(1)
    assert world.scheduler.queue == {}
    assert (await on_disk(world, record.uid)).failure_kind is FailureKind.CANCELLED


async def test_cancel_while_storing_native_id(world: World) -> None:
    """The table may show a record from before another process learnt its id."""
    record = (await submitted(world)).record
    world.table.apply([record.changed(native_id=None)])
    await world.changer.cancel(UNASKED, record.uid)
    await world.tick(1)
    assert world.scheduler.queue == {}


# The end of the service


async def killed_during(world: World, key: str | None, *, took_it: bool) -> JobUid:
    """Have the service die while the scheduler's command runs."""
    answer = world.scheduler.hold_back_next("submit")
    dying = asyncio.create_task(world.submitter.submit(UNASKED, world.spec, key))
    await answer.ready.wait()
    (mark,) = world.scheduler.submitted
    if not took_it:
        world.scheduler.queue.clear()
    await world.restart()
    dying.cancel()
    return mark.uid


@pytest.mark.parametrize("shows_keys", [True, False], ids=["keys listed", "no keys listed"])
@pytest.mark.parametrize("key", [KEY, None], ids=["key", "no key"])
async def test_crash_submission_accepted(world: World, key: str | None, shows_keys: bool) -> None:
    world.scheduler.shows_keys = shows_keys
    uid = await killed_during(world, key, took_it=True)
    await settled(world)
    assert [world.job(uid).native_id] == in_scheduler(world, uid) == ["1"]


async def test_crash_submission_lost_with_key(
    world: World,
) -> None:
    uid = await killed_during(world, KEY, took_it=False)
    again = await submitted(world)
    assert (again.is_replay, again.record.uid, again.record.native_id) == (True, uid, None)
    await settled(world)
    assert [world.job(uid).native_id] == in_scheduler(world, uid) == ["2"]


async def test_crash_submission_lost_without_key(
    world: World,
) -> None:
    uid = await killed_during(world, None, took_it=False)
    await settled(world)
    assert world.job(uid).state is JobState.FAILED
    assert world.scheduler.calls["submit"] == 1


async def test_crash_settle_time_after_orphans_ended(
    world: World,
) -> None:
    """They may submit for as long as the scheduler could not be asked."""
    uid = await killed_during(world, KEY, took_it=False)
    ended: list[SubmissionKey] = []

    async def end_orphans(key: SubmissionKey, run_as: str | None) -> None:
        ended.append(key)

    world.recovery._end_orphans = end_orphans
    world.clock.forward(3600)
    await world.tick()
    await world.tick(LATER)
    assert ended == [SubmissionKey.for_uid(uid)]
    assert world.scheduler.calls["submit"] == 1, "the last of them may have submitted it just now"
    await settled(world)
    assert world.scheduler.calls["submit"] == 2


async def test_crash_orphan_still_running(
    world: World,
) -> None:
    await killed_during(world, KEY, took_it=False)

    async def cannot(_key: SubmissionKey, _run_as: str | None) -> None:
        raise SchedulerError("It does not end.")

    world.recovery._end_orphans = cannot
    await settled(world)
    assert world.scheduler.calls["submit"] == 1


async def test_crash_account_not_answering(world: World) -> None:
    """It can stop the process that ends its commands, for each of its jobs."""
    jobs = [
        submission.intent(
            JobUid.new(), replace(world.spec, run_as=run_as), world.clock(), by="", is_promised=True
        )
        for run_as in ("ana", "ana", "ana", None)
    ]
    asked: list[str | None] = []

    async def settle(record: JobRecord) -> None:
        asked.append(record.run_as)
        if record.run_as is not None:
            raise AccountUnavailable("It does not answer.")

    assert await world.monitor._settle(jobs, settle) == jobs[:3]
    assert asked == ["ana", None]


async def test_submission_circuit_open(
    world: World,
) -> None:
    world.runner._rejection = lambda: CircuitOpen("It is away.")
    with pytest.raises(CircuitOpen):
        await submitted(world)
    assert list(world.table.records()) == []
    assert world.scheduler.calls["submit"] == 0


async def test_submission_settled_despite_restarts(world: World) -> None:
    world.scheduler.fail_next("submit", TIMED_OUT)
    record = (await submitted(world)).record
    for _ in range(3):
        await world.restart()
        await world.tick(SETTLED // 3)
        await world.runner.drain()
        assert world.scheduler.calls["submit"] == 1, "it may show yet"
    await world.restart()
    await world.tick(SETTLED // 3)
    await world.runner.drain()
    await world.tick(1)
    assert [world.job(record.uid).native_id] == in_scheduler(world, record.uid)
    assert world.scheduler.calls["submit"] == 2
