"""Actions on jobs of LOCAL that run."""

import asyncio
import signal
import sqlite3
from pathlib import Path
from typing import NoReturn

import pytest
from tests.integration.local_site import LocalSite

from hpcq.domain.actions import Action, Signal
from hpcq.domain.errors import SchedulerUnavailable, WrongState
from hpcq.domain.jobs import NativeId
from hpcq.domain.states import FailureKind, JobState
from hpcq.schedulers.local.processes import descendants
from hpcq.schedulers.local.spool import NothingWritten
from hpcq.schedulers.testing.waiting import eventually

pytestmark = pytest.mark.anyio

LIMIT_SECONDS = 3


# Signals


async def test_signal_reaches_all_processes_of_a_job(site: LocalSite) -> None:
    waits = "while [ ! -e go ]; do sleep 0.02; done\n"
    site.script(f"trap 'echo > below' USR1\necho > ready\n{waits}", "below.sh")
    native_id = await site.submit(f"trap 'echo > script' USR1\nsetsid ./below.sh &\n{waits}wait\n")
    await site.file("ready")
    await site.backend.act(Action.SIGNAL, native_id, signal=Signal.USR1)
    for receiver in ("below", "script"):
        await site.file(receiver)
    (site.work / "go").touch()
    assert (await site.ended(native_id)).state is JobState.DONE


async def test_signal_that_ends_the_script_is_its_end(site: LocalSite) -> None:
    native_id = await site.submit("echo > ready; exec sleep 600\n")
    await site.file("ready")
    await site.backend.act(Action.SIGNAL, native_id, signal=Signal.KILL)
    job = await site.ended(native_id)
    assert (job.failure_kind, job.exit_signal) == (FailureKind.SIGNAL, signal.SIGKILL)


async def test_signal_to_a_job_that_does_not_run_is_refused(site: LocalSite) -> None:
    running = await site.submit("trap '' TERM; echo > ready; sleep 600\n")
    held = await site.submit(site.script("true\n", "b"), hold=True)
    ended = (await site.run(site.script("true\n", "b"))).native_id
    await site.file("ready")
    await site.backend.cancel(running)
    for native_id, why in ((held, "not started"), (ended, "has ended"), (running, "being ended")):
        with pytest.raises(WrongState, match=why):
            await site.backend.act(Action.SIGNAL, native_id, signal=Signal.USR1)


async def test_signal_to_a_job_that_starts_reaches_it(site: LocalSite) -> None:
    script = site.script("exec sleep 600\n")
    for _ in range(20):
        native_id = await site.submit(script)
        await site.until(lambda jobs: all(job.state is JobState.RUNNING for job in jobs))
        await site.backend.act(Action.SIGNAL, native_id, signal=Signal.INT)
        job = await site.ended(native_id)
        assert (job.failure_kind, job.exit_signal) == (FailureKind.SIGNAL, signal.SIGINT)


async def test_job_of_an_earlier_version_can_only_be_ended(site: LocalSite) -> None:
    native_id = await site.submit("sleep 600\n")
    await site.running(native_id)
    started = site.backend._engine.jobs[int(native_id)].started
    assert started is not None
    del started["passes_signals_on"]
    with pytest.raises(WrongState, match="earlier version"):
        await site.backend.act(Action.SIGNAL, native_id, signal=Signal.USR1)
    await site.backend.cancel(native_id)
    assert (await site.ended(native_id)).failure_kind is FailureKind.CANCELLED


# Suspension


def states_of(site: LocalSite, native_id: NativeId) -> set[str]:
    """Return how the processes of a job are: stopped, frozen, or something else."""
    found = set()
    for process in descendants(site.shepherd(native_id).pid):
        status = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        group = Path(f"/proc/{process.pid}/cgroup").read_text()
        is_frozen = "hpcq-" in group and "frozen 1" in _events(site, native_id)
        found.add("still" if status == "T" or is_frozen else status)
    return found


def _events(site: LocalSite, native_id: NativeId) -> str:
    groups = site.backend._engine.runs._cgroups
    assert groups is not None
    return (groups.path / f"{native_id}.1" / "cgroup.events").read_text()


async def stands_still(site: LocalSite, native_id: NativeId) -> None:
    async def look() -> bool:
        return states_of(site, native_id) == {"still"}

    await eventually(look)


async def goes_on(site: LocalSite, native_id: NativeId) -> None:
    async def look() -> bool:
        return "still" not in states_of(site, native_id)

    await eventually(look)


def ask_in_spool(site: LocalSite, native_id: NativeId, action: Action) -> None:
    """Leave the spool as a service does that dies before it told the shepherd."""
    connection = sqlite3.connect(site.state / "local" / "spool.db")
    with connection:
        connection.execute("UPDATE job SET request = ? WHERE id = ?", (action, native_id))
    connection.close()


@pytest.mark.parametrize("groups", [True, False], ids=["as_it_is", "without_groups"])
async def test_suspended_job_stands_still_with_all_its_processes(
    site: LocalSite, monkeypatch: pytest.MonkeyPatch, groups: bool
) -> None:
    if not groups:
        monkeypatch.setattr("hpcq.schedulers.local.runs._claim_cgroups", lambda _: None)
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


async def test_suspended_job_keeps_its_slots(site: LocalSite) -> None:
    native_id = await site.submit("echo > ready; sleep 600\n", slots=4)
    await site.file("ready")
    await site.backend.act(Action.SUSPEND, native_id)
    waiting = await site.submit(site.script("true\n", "b"))
    assert (await site.seen(waiting)).state is JobState.QUEUED
    (queue,) = await site.backend.queues()
    assert queue.slots_used == 4


async def test_suspended_job_uses_up_no_wall_time(site: LocalSite) -> None:
    native_id = await site.submit(
        "echo > ready; exec sleep 600\n", wall_time_limit_seconds=LIMIT_SECONDS
    )
    await site.file("ready")
    await site.backend.act(Action.SUSPEND, native_id)
    await asyncio.sleep(LIMIT_SECONDS)
    assert (await site.seen(native_id)).state is JobState.SUSPENDED
    assert states_of(site, native_id) == {"still"}
    await site.backend.act(Action.RESUME, native_id)
    job = await site.ended(native_id)
    assert job.failure_kind is FailureKind.TIME_LIMIT
    assert job.start_time and job.end_time
    assert (job.end_time - job.start_time).total_seconds() >= 2 * LIMIT_SECONDS


async def test_suspended_job_ends_in_good_order_when_cancelled(site: LocalSite) -> None:
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


async def test_suspended_job_that_ignores_term_is_killed(site: LocalSite) -> None:
    native_id = await site.submit("trap '' TERM; echo > ready; exec sleep 600\n")
    await site.file("ready")
    await site.backend.act(Action.SUSPEND, native_id)
    await site.backend.cancel(native_id)
    job = await site.ended(native_id)
    assert (job.failure_kind, job.exit_signal) == (FailureKind.CANCELLED, signal.SIGKILL)


async def test_signal_to_a_suspended_job_is_refused(site: LocalSite) -> None:
    native_id = await site.submit("echo > ready; exec sleep 600\n")
    await site.file("ready")
    await site.backend.act(Action.SUSPEND, native_id)
    with pytest.raises(WrongState, match="is suspended"):
        await site.backend.act(Action.SIGNAL, native_id, signal=Signal.USR1)


@pytest.mark.parametrize("action", [Action.SUSPEND, Action.RESUME])
async def test_suspension_of_a_job_that_does_not_run_is_refused(
    site: LocalSite, action: Action
) -> None:
    running = await site.submit("trap '' TERM; echo > ready; sleep 600\n")
    held = await site.submit(site.script("true\n", "b"), hold=True)
    ended = (await site.run(site.script("true\n", "b"))).native_id
    await site.file("ready")
    await site.backend.cancel(running)
    for native_id, why in ((held, "not started"), (ended, "has ended"), (running, "being ended")):
        with pytest.raises(WrongState, match=why):
            await site.backend.act(action, native_id)


async def test_suspension_outlives_the_service(site: LocalSite) -> None:
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


async def test_suspension_that_a_dead_service_took_is_carried_out(site: LocalSite) -> None:
    native_id = await site.submit("echo > ready; sleep 600\n")
    await site.file("ready")
    for action, follows in ((Action.SUSPEND, stands_still), (Action.RESUME, goes_on)):
        await site.stop()
        ask_in_spool(site, native_id, action)
        await site.start()
        await follows(site, native_id)


async def test_suspension_that_cannot_be_recorded_is_refused(
    site: LocalSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> NoReturn:
        raise NothingWritten("The spool cannot be used: database or disk is full.")

    native_id = await site.submit("echo > ready; sleep 600\n")
    await site.file("ready")
    with monkeypatch.context() as patch:
        patch.setattr(site.backend._engine.spool, "request", full)
        with pytest.raises(SchedulerUnavailable, match="full"):
            await site.backend.act(Action.SUSPEND, native_id)
    assert (await site.seen(native_id)).state is JobState.RUNNING
    assert "still" not in states_of(site, native_id)


async def test_suspension_that_the_shepherd_cannot_be_told_is_withdrawn(
    site: LocalSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> NoReturn:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    native_id = await site.submit("echo > ready; sleep 600\n")
    await site.file("ready")
    with monkeypatch.context() as patch:
        patch.setattr("hpcq.schedulers.local.runs.send", full)
        with pytest.raises(SchedulerUnavailable, match="cannot be reached now"):
            await site.backend.act(Action.SUSPEND, native_id)
    await site.restart()
    assert (await site.seen(native_id)).state is JobState.RUNNING
    await site.backend.act(Action.SUSPEND, native_id)
    await stands_still(site, native_id)
