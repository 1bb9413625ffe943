"""Actions on jobs of LOCAL that run."""

import asyncio
import contextlib
import os
import signal
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
from tests.integration.local_site import LocalSite

from hpcq.domain.actions import Action, Signal
from hpcq.domain.errors import SchedulerUnavailable, WrongState
from hpcq.domain.jobs import ArrayRange, NativeId
from hpcq.domain.states import FailureKind, JobState, Stage
from hpcq.schedulers.local.cgroup import JobCgroup
from hpcq.schedulers.local.job import LocalJob
from hpcq.schedulers.local.launcher_client import WaitingShepherd
from hpcq.schedulers.local.processes import descendants, send
from hpcq.schedulers.local.spool_file import NothingWritten
from hpcq.schedulers.local.spool_row import Phase
from hpcq.schedulers.testing.waiting import eventually

pytestmark = pytest.mark.anyio

LIMIT_SECONDS = 3


# Signals


def no_room_for_signals(*_: object) -> NoReturn:
    """Fail as `send` does where the kernel keeps no more signals of an account."""
    raise BlockingIOError(11, "Resource temporarily unavailable")


async def test_signal_to_all_processes(site: LocalSite) -> None:
    waits = "while [ ! -e go ]; do sleep 0.02; done\n"
    site.script(f"trap 'echo > below' USR1\necho > ready\n{waits}", "below.sh")
    native_id = await site.submit(f"trap 'echo > script' USR1\nsetsid ./below.sh &\n{waits}wait\n")
    await site.file("ready")
    await site.backend.act(Action.SIGNAL, native_id, signal=Signal.USR1)
    for receiver in ("below", "script"):
        await site.file(receiver)
    (site.work / "go").touch()
    assert (await site.ended(native_id)).state is JobState.DONE


async def test_signal_ends_script(site: LocalSite) -> None:
    native_id = await site.submit("echo > ready; exec sleep 600\n")
    await site.file("ready")
    await site.backend.act(Action.SIGNAL, native_id, signal=Signal.KILL)
    job = await site.ended(native_id)
    assert (job.failure_kind, job.exit_signal) == (FailureKind.SIGNAL, signal.SIGKILL)


async def test_signal_to_job_not_running(site: LocalSite) -> None:
    running = await site.submit("trap '' TERM; echo > ready; sleep 600\n")
    held = await site.submit(site.script("true\n", "b"), hold=True)
    ended = (await site.run(site.script("true\n", "b"))).native_id
    await site.file("ready")
    await site.backend.cancel(running)
    for native_id, why in ((held, "not started"), (ended, "has ended"), (running, "being ended")):
        with pytest.raises(WrongState, match=why):
            await site.backend.act(Action.SIGNAL, native_id, signal=Signal.USR1)


async def test_signal_to_starting_job(site: LocalSite) -> None:
    script = site.script("exec sleep 600\n")
    for _ in range(20):
        native_id = await site.submit(script)
        await site.until(lambda jobs: all(job.state is JobState.RUNNING for job in jobs))
        await site.backend.act(Action.SIGNAL, native_id, signal=Signal.INT)
        job = await site.ended(native_id)
        assert (job.failure_kind, job.exit_signal) == (FailureKind.SIGNAL, signal.SIGINT)


async def test_action_on_job_of_earlier_version(site: LocalSite) -> None:
    native_id = await site.submit("sleep 600\n")
    await site.running(native_id)
    started = site.backend._engine.jobs.by_number[int(native_id)].started
    assert started is not None
    del started["passes_signals_on"]
    with pytest.raises(WrongState, match="earlier version"):
        await site.backend.act(Action.SIGNAL, native_id, signal=Signal.USR1)
    await site.backend.cancel(native_id)
    assert (await site.ended(native_id)).failure_kind is FailureKind.CANCELLED


# Suspension


def moves(site: LocalSite, native_id: NativeId) -> list[int]:
    """Return the processes of a job that are neither stopped nor dead, nor in a frozen group."""
    groups = site.backend._engine.runs.folders.cgroups
    group = None if groups is None else groups.path / f"{native_id}.1"
    frozen = []
    if group is not None and "frozen 1" in (group / "cgroup.events").read_text():
        frozen = JobCgroup(group).members()
    pids = {process.pid for process in descendants(site.shepherd(native_id).pid)}
    return [pid for pid in pids.difference(frozen) if _may_move(pid)]


def _may_move(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return False
    # D: a shell that waits for the child that it has just made (vfork) and that is stopped.
    return state not in "TZXD"


async def stands_still(site: LocalSite, native_id: NativeId) -> None:
    async def look() -> bool:
        return not moves(site, native_id)

    await eventually(look)


async def goes_on(site: LocalSite, native_id: NativeId) -> None:
    async def look() -> bool:
        return bool(moves(site, native_id))

    await eventually(look)


def ask_in_spool(site: LocalSite, native_id: NativeId, action: Action) -> None:
    """Leave the spool as a service does that dies before it told the shepherd."""
    connection = sqlite3.connect(site.state / "local" / "spool.db")
    with connection:
        connection.execute("UPDATE job SET request = ? WHERE id = ?", (action, native_id))
    connection.close()


@pytest.mark.parametrize("groups", [True, False], ids=["as_it_is", "without_groups"])
async def test_suspend_stops_all_processes(
    site: LocalSite, monkeypatch: pytest.MonkeyPatch, groups: bool
) -> None:
    if not groups:
        monkeypatch.setattr("hpcq.schedulers.local.run_folders._claim_cgroups", lambda _: None)
        await site.restart()
    native_id = await site.submit(
        "(trap '' TERM; setsid sleep 600) & echo > ready\nwhile :; do sleep 0.01; done\n"
    )
    await site.file("ready")
    for _ in range(2):
        await site.backend.act(Action.SUSPEND, native_id)
    job = await site.seen(native_id)
    assert (job.state, job.stage, job.native_state) == (JobState.SUSPENDED, None, "suspended")
    assert job.hosts and job.start_time
    await stands_still(site, native_id)
    for _ in range(2):
        await site.backend.act(Action.RESUME, native_id)
    assert (await site.seen(native_id)).state is JobState.RUNNING
    await goes_on(site, native_id)


async def test_suspended_job_slots(site: LocalSite) -> None:
    native_id = await site.submit("echo > ready; sleep 600\n", slots=4)
    await site.file("ready")
    await site.backend.act(Action.SUSPEND, native_id)
    waiting = await site.submit(site.script("true\n", "b"))
    assert (await site.seen(waiting)).state is JobState.QUEUED
    (queue,) = await site.backend.queues()
    assert queue.slots_used == 4


async def test_suspended_job_wall_time(site: LocalSite) -> None:
    native_id = await site.submit(
        "echo > ready; exec sleep 600\n", wall_time_limit_seconds=LIMIT_SECONDS
    )
    await site.file("ready")
    await site.backend.act(Action.SUSPEND, native_id)
    await asyncio.sleep(LIMIT_SECONDS)
    assert (await site.seen(native_id)).state is JobState.SUSPENDED
    assert not moves(site, native_id)
    await site.backend.act(Action.RESUME, native_id)
    job = await site.ended(native_id)
    assert job.failure_kind is FailureKind.TIME_LIMIT
    assert job.start_time and job.end_time
    assert (job.end_time - job.start_time).total_seconds() >= 2 * LIMIT_SECONDS


async def test_suspended_job_cancelled(site: LocalSite) -> None:
    site.settings = site.settings.model_copy(update={"cancel_grace_seconds": 600.0})
    await site.restart()
    native_id = await site.submit(
        "trap 'echo > asked; exit 3' TERM; echo > ready; while :; do sleep 0.02; done\n"
    )
    await site.file("ready")
    await site.backend.act(Action.SUSPEND, native_id)
    await stands_still(site, native_id)
    await site.backend.cancel(native_id)
    job = await site.ended(native_id)
    assert (job.failure_kind, job.exit_code) == (FailureKind.CANCELLED, 3)
    assert (site.work / "asked").exists()


async def test_suspended_job_ignoring_term_killed(site: LocalSite) -> None:
    native_id = await site.submit("trap '' TERM; echo > ready; exec sleep 600\n")
    await site.file("ready")
    await site.backend.act(Action.SUSPEND, native_id)
    await site.backend.cancel(native_id)
    job = await site.ended(native_id)
    assert (job.failure_kind, job.exit_signal) == (FailureKind.CANCELLED, signal.SIGKILL)


async def test_signal_to_suspended_job(site: LocalSite) -> None:
    native_id = await site.submit("echo > ready; exec sleep 600\n")
    await site.file("ready")
    await site.backend.act(Action.SUSPEND, native_id)
    with pytest.raises(WrongState, match="is suspended"):
        await site.backend.act(Action.SIGNAL, native_id, signal=Signal.USR1)


@pytest.mark.parametrize("action", [Action.SUSPEND, Action.RESUME, Action.REQUEUE])
async def test_action_on_job_not_running(site: LocalSite, action: Action) -> None:
    running = await site.submit("trap '' TERM; echo > ready; sleep 600\n")
    held = await site.submit(site.script("true\n", "b"), hold=True)
    ended = (await site.run(site.script("true\n", "b"))).native_id
    await site.file("ready")
    await site.backend.cancel(running)
    for native_id, why in ((held, "not started"), (ended, "has ended"), (running, "being ended")):
        with pytest.raises(WrongState, match=why):
            await site.backend.act(action, native_id)


async def test_suspend_over_service_restart(site: LocalSite) -> None:
    native_id = await site.submit("echo > ready; sleep 600\n")
    await site.file("ready")
    await site.backend.act(Action.SUSPEND, native_id)
    await site.restart()
    assert (await site.seen(native_id)).state is JobState.SUSPENDED
    await stands_still(site, native_id)
    await site.backend.act(Action.RESUME, native_id)
    await site.restart()
    assert (await site.seen(native_id)).state is JobState.RUNNING
    await goes_on(site, native_id)


async def test_suspend_taken_by_dead_service(site: LocalSite) -> None:
    native_id = await site.submit("echo > ready; sleep 600\n")
    await site.file("ready")
    for action, follows in ((Action.SUSPEND, stands_still), (Action.RESUME, goes_on)):
        await site.stop()
        ask_in_spool(site, native_id, action)
        await site.start()
        await follows(site, native_id)


async def test_suspend_spool_write_fails(site: LocalSite, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: object) -> NoReturn:
        raise NothingWritten("The spool cannot be used: database or disk is full.")

    native_id = await site.submit("echo > ready; sleep 600\n")
    await site.file("ready")
    with monkeypatch.context() as patch:
        patch.setattr(site.backend._engine.spool, "request", full)
        with pytest.raises(SchedulerUnavailable, match="full"):
            await site.backend.act(Action.SUSPEND, native_id)
    assert (await site.seen(native_id)).state is JobState.RUNNING
    assert moves(site, native_id)


async def test_suspend_shepherd_unreachable(
    site: LocalSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    native_id = await site.submit("echo > ready; sleep 600\n")
    await site.file("ready")
    with monkeypatch.context() as patch:
        patch.setattr("hpcq.schedulers.local.runs.send", no_room_for_signals)
        with pytest.raises(SchedulerUnavailable, match="cannot be reached now"):
            await site.backend.act(Action.SUSPEND, native_id)
    await site.restart()
    assert (await site.seen(native_id)).state is JobState.RUNNING
    await site.backend.act(Action.SUSPEND, native_id)
    await stands_still(site, native_id)


# Requeue

RUN_TWICE = "echo run >> runs; echo > ready; [ $(wc -l < runs) = 2 ] || exec sleep 600\n"


@contextlib.contextmanager
def nothing_starts(site: LocalSite) -> Iterator[None]:
    """Let no job start meanwhile."""
    engine = site.backend._engine
    engine._pauses += 1
    yield
    engine._end_pause()


def runs_of(site: LocalSite) -> int:
    return (site.work / "runs").read_text().count("run\n")


async def test_requeue_runs_from_beginning(site: LocalSite) -> None:
    native_id = await site.submit(
        f"echo out of $$; echo $TMPDIR >> folders; : > $TMPDIR/used; ls $TMPDIR\n{RUN_TWICE}"
    )
    await site.file("ready")
    first = await site.seen(native_id)
    await site.backend.act(Action.REQUEUE, native_id)
    await site.backend.act(Action.REQUEUE, native_id)
    job = await site.ended(native_id)
    assert (job.state, job.exit_code, job.failure_kind) == (JobState.DONE, 0, None)
    assert job.start_time and first.start_time and job.start_time > first.start_time
    assert job.submit_time == first.submit_time
    assert runs_of(site) == 2
    # The output of the first run is gone.
    assert (site.work / f"job.o{native_id}").read_text().count("out of") == 1
    folders = (site.work / "folders").read_text().split()
    assert len(set(folders)) == 2
    assert not any(map(os.path.exists, folders))
    assert not (site.state / "local" / "runs" / f"{native_id}.1").exists()


async def test_requeue_state_before_queued(site: LocalSite) -> None:
    native_id = await site.submit(RUN_TWICE)
    await site.file("ready")
    with nothing_starts(site):
        await site.backend.act(Action.REQUEUE, native_id)
        job = await site.seen(native_id)
        assert (job.state, job.stage) == (JobState.RUNNING, Stage.EXITING)
        assert job.native_state == "requeueing"
        await site.until(lambda jobs: jobs[0].state is JobState.QUEUED)
        job = await site.seen(native_id)
        assert (job.start_time, job.hosts, job.usage) == (None, None, None)
    assert (await site.ended(native_id)).state is JobState.DONE


async def test_requeue_suspended_job(site: LocalSite) -> None:
    native_id = await site.submit(RUN_TWICE)
    await site.file("ready")
    await site.backend.act(Action.SUSPEND, native_id)
    await site.backend.act(Action.REQUEUE, native_id)
    assert (await site.ended(native_id)).state is JobState.DONE
    assert runs_of(site) == 2


async def test_requeue_job_ending_meanwhile(site: LocalSite) -> None:
    native_id = await site.submit(
        "echo run >> runs; trap 'exit 0' TERM; echo > ready\n"
        "[ $(wc -l < runs) = 2 ] || while :; do sleep 0.02; done\n"
    )
    await site.file("ready")
    await site.backend.act(Action.REQUEUE, native_id)
    assert (await site.ended(native_id)).exit_code == 0
    assert runs_of(site) == 2


async def test_requeue_then_cancel(site: LocalSite) -> None:
    for moment in range(4):
        script = f"trap '' TERM; echo run >> runs{moment}; echo > ready{moment}; sleep 600\n"
        native_id = await site.submit(script)
        await site.file(f"ready{moment}")
        await site.backend.act(Action.REQUEUE, native_id)
        # While it is ended, while it waits for the next run, and in that.
        await asyncio.sleep(moment * 0.4)
        await site.backend.cancel(native_id)
        job = await site.ended(native_id)
        assert job.failure_kind is FailureKind.CANCELLED
        assert await site.backend.cancel(native_id) is False


async def test_requeue_then_other_action(site: LocalSite) -> None:
    native_id = await site.submit("trap '' TERM; echo > ready; sleep 600\n")
    await site.file("ready")
    await site.backend.act(Action.REQUEUE, native_id)
    for action in (Action.SUSPEND, Action.RESUME):
        with pytest.raises(WrongState, match="being ended"):
            await site.backend.act(action, native_id)
    with pytest.raises(WrongState, match="being ended"):
        await site.backend.act(Action.SIGNAL, native_id, signal=Signal.USR1)
    with pytest.raises(WrongState, match="does not wait"):
        await site.backend.act(Action.HOLD, native_id)


async def test_requeue_then_hold(site: LocalSite) -> None:
    native_id = await site.submit(RUN_TWICE)
    await site.file("ready")
    await site.backend.act(Action.REQUEUE, native_id)

    async def held() -> bool:
        with contextlib.suppress(WrongState):
            await site.backend.act(Action.HOLD, native_id)
        return (await site.seen(native_id)).state is JobState.QUEUED_HELD

    with nothing_starts(site):
        await eventually(held)
    await site.restart()
    assert (await site.seen(native_id)).state is JobState.QUEUED_HELD
    assert runs_of(site) == 1
    await site.backend.act(Action.RELEASE, native_id)
    assert (await site.ended(native_id)).state is JobState.DONE
    assert runs_of(site) == 2


async def test_requeue_taken_by_dead_service(site: LocalSite) -> None:
    native_id = await site.submit(RUN_TWICE)
    await site.file("ready")
    await site.stop()
    ask_in_spool(site, native_id, Action.REQUEUE)
    await site.start()
    assert (await site.ended(native_id)).state is JobState.DONE
    assert runs_of(site) == 2


async def test_requeue_spool_write_uncertain(
    site: LocalSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpcq.schedulers.local.engine._PAUSE_SECONDS", 0.05)
    spool = site.backend._engine.spool
    put_back, failures = spool.put_back, [SchedulerUnavailable("The spool cannot be used.")]

    async def written(number: int) -> bool:
        is_back = await put_back(number)
        if failures:
            raise failures.pop()
        return is_back

    monkeypatch.setattr(spool, "put_back", written)
    native_id = await site.submit(RUN_TWICE)
    await site.file("ready")
    await site.backend.act(Action.REQUEUE, native_id)
    assert (await site.ended(native_id)).state is JobState.DONE
    assert runs_of(site) == 2


async def test_requeue_spool_write_fails(site: LocalSite, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: object) -> NoReturn:
        raise NothingWritten("The spool cannot be used: database or disk is full.")

    native_id = await site.submit("echo run >> runs; echo > ready; sleep 600\n")
    await site.file("ready")
    with nothing_starts(site):
        await site.backend.act(Action.REQUEUE, native_id)
        with monkeypatch.context() as patch:
            patch.setattr(site.backend._engine.spool, "withdraw_requeue", full)
            with pytest.raises(SchedulerUnavailable, match="full"):
                await site.backend.cancel(native_id)
        await site.until(lambda jobs: jobs[0].state is JobState.QUEUED)
    await site.running(native_id)
    await site.backend.act(Action.SUSPEND, native_id)
    assert (await site.seen(native_id)).state is JobState.SUSPENDED


async def test_requeue_before_machine_restart(site: LocalSite) -> None:
    native_id = await site.submit(RUN_TWICE)
    await site.file("ready")
    shepherd = site.shepherd(native_id)
    await site.stop()
    ask_in_spool(site, native_id, Action.REQUEUE)
    send(shepherd, signal.SIGKILL)
    await site.start(lambda: "another boot")
    assert (await site.ended(native_id)).state is JobState.DONE
    assert runs_of(site) == 2


class Gate:
    """A step that waits in the middle until it may go on."""

    def __init__(self) -> None:
        self.is_reached, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def wait(self) -> None:
        self.is_reached.set()
        await self.may_go_on.wait()


@pytest.mark.parametrize("dies", [False, True])
async def test_cancel_during_requeue(
    site: LocalSite, monkeypatch: pytest.MonkeyPatch, dies: bool
) -> None:
    spool, gate = site.backend._engine.spool, Gate()
    put_back = spool.put_back

    async def slowly(number: int) -> bool:
        is_back = await put_back(number)
        await gate.wait()
        return is_back

    monkeypatch.setattr(spool, "put_back", slowly)
    native_id = await site.submit(RUN_TWICE)
    await site.file("ready")
    await site.backend.act(Action.REQUEUE, native_id)
    await gate.is_reached.wait()
    assert await site.backend.cancel(native_id) is False
    if dies:
        await site.restart()
    gate.may_go_on.set()
    assert (await site.ended(native_id)).failure_kind is FailureKind.CANCELLED
    assert runs_of(site) == 1


async def test_cancel_array_during_failed_start(
    site: LocalSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpcq.schedulers.local.engine._PAUSE_SECONDS", 0.0)
    engine, gates = site.backend._engine, {1: Gate(), 2: Gate()}
    begin = engine.runs.begin

    async def fail_first(job: LocalJob, script: bytes) -> WaitingShepherd:
        if job.attempt > 1:
            return await begin(job, script)
        await gates[job.task or 0].wait()
        raise SchedulerUnavailable("The machine allows no more processes.")

    monkeypatch.setattr(engine.runs, "begin", fail_first)
    array = await site.submit(RUN_TWICE, array=ArrayRange(first=1, last=2))
    first = engine.jobs.arrays[int(array)].tasks[1]
    for gate in gates.values():
        await gate.is_reached.wait()
    cancel = asyncio.create_task(site.backend.cancel(array))
    await site.until(lambda jobs: all(job.stage is Stage.CANCELLING for job in jobs[:2]))
    gates[1].may_go_on.set()
    await site.until(lambda _: first.launching is None)
    # Time enough for another start.
    for _ in range(5):
        await asyncio.sleep(0)
    assert (first.phase, first.attempt) == (Phase.QUEUED, 1)
    gates[2].may_go_on.set()
    await cancel
    await site.until(lambda jobs: not jobs)
    assert not (site.work / "runs").exists()


async def test_cancel_send_fails(site: LocalSite, monkeypatch: pytest.MonkeyPatch) -> None:
    native_id = await site.submit("echo > ready; sleep 600\n")
    await site.file("ready")
    with monkeypatch.context() as patch:
        patch.setattr("hpcq.schedulers.local.runs.send", no_room_for_signals)
        with pytest.raises(SchedulerUnavailable, match="cannot be reached now"):
            await site.backend.cancel(native_id)
    assert (await site.seen(native_id)).native_state == "running"
    await site.backend.act(Action.SUSPEND, native_id)


async def test_requeue_result_kept_until_queued(
    site: LocalSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, gate = site.backend._engine.spool, Gate()
    put_back = spool.put_back

    async def later(number: int) -> bool:
        await gate.wait()
        return await put_back(number)

    monkeypatch.setattr(spool, "put_back", later)
    native_id = await site.submit(RUN_TWICE)
    await site.file("ready")
    await site.backend.act(Action.REQUEUE, native_id)
    await gate.is_reached.wait()
    await site.backend.cancel(native_id)
    # The service dies at this moment.
    await site.restart()
    assert (await site.ended(native_id)).failure_kind is FailureKind.CANCELLED


# Requests that meet a start


@pytest.mark.parametrize("action", [Action.HOLD, "alter"])
async def test_action_on_job_starting_meanwhile(site: LocalSite, action: str) -> None:
    with nothing_starts(site):
        native_id = await site.submit("echo run >> runs; exec sleep 600\n")
        spec = replace(site.spec("true\n"), name="other")
    # The start is due already, and comes first.
    with pytest.raises(WrongState, match="does not wait"):
        if action == "alter":
            await site.backend.alter(native_id, spec, frozenset({"name"}))
        else:
            await site.backend.act(Action.HOLD, native_id)
    job = await site.running(native_id)
    assert (job.state, job.name) == (JobState.RUNNING, "job")
    with pytest.raises(WrongState, match="does not wait"):
        await site.backend.act(Action.RELEASE, native_id)
    assert await site.file("runs") == "run\n"


async def test_release_with_concurrent_cancel(site: LocalSite) -> None:
    native_id = await site.submit("echo run >> runs\n", hold=True)
    cancelled, released = await asyncio.gather(
        site.backend.cancel(native_id),
        site.backend.act(Action.RELEASE, native_id),
        return_exceptions=True,
    )
    assert cancelled is True
    assert isinstance(released, WrongState)
    assert (await site.ended(native_id)).failure_kind is FailureKind.CANCELLED
    assert not (site.work / "runs").exists()
