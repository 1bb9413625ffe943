"""Arrays of LOCAL, with real processes."""

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.integration.local_site import LocalSite, new_key
from tests.submitting import submit_to

from hpcq.domain.actions import Action, Signal
from hpcq.domain.errors import JobNotFound, SchedulerUnavailable, WrongState
from hpcq.domain.jobs import (
    ArrayRange,
    Dependency,
    DependencyCondition,
    JobUid,
    NativeId,
    Observation,
)
from hpcq.domain.states import FailureKind, JobState, ReasonCode
from hpcq.schedulers.local.files import Result
from hpcq.schedulers.local.spool import Spool

pytestmark = pytest.mark.anyio

UNTIL_GO = 'until [ -e go ] || [ -e "go$HPCQ_ARRAY_TASK_ID" ]; do sleep 0.05; done\n'
RECORD = 'echo "$HPCQ_ARRAY_TASK_ID" >> ran\n'
FAILURE, ANY = DependencyCondition.FAILURE, DependencyCondition.ANY
SUCCESS, STARTED = DependencyCondition.SUCCESS, DependencyCondition.STARTED


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def tasks(last: int, max_running: int | None = None) -> ArrayRange:
    return ArrayRange(first=1, last=last, max_running=max_running)


def task(array: NativeId, number: int) -> NativeId:
    return NativeId(f"{array}[{number}]")


def ran(site: LocalSite) -> list[str]:
    path = site.work / "ran"
    return path.read_text().split() if path.exists() else []


async def listed(site: LocalSite) -> dict[str, Observation]:
    return {job.native_id: job for job in (await site.backend.jobs()).observations}


async def ends(site: LocalSite, array: NativeId) -> dict[str, Observation]:
    """Wait for the end of an array; return it and its tasks."""
    await site.until(lambda jobs: array not in {job.native_id for job in jobs})
    return {job.native_id: job for job in (await site.backend.history([array])).observations}


async def after(site: LocalSite, first: NativeId, condition: DependencyCondition) -> NativeId:
    needs = Dependency(native_id=first, uid=JobUid.new(), condition=condition)
    return await site.submit("true\n", depends_on=(needs,))


async def test_array_task_numbers_and_files(site: LocalSite) -> None:
    variables = "HPCQ_ARRAY_TASK_ID SGE_TASK_ID SLURM_ARRAY_TASK_ID PBS_ARRAY_INDEX PBS_ARRAYID"
    body = f"for n in {variables} HPCQ_JOB_ID JOB_ID; do eval echo \\$$n; done | xargs echo\n"
    array = await site.submit(body, array=ArrayRange(first=0, last=4, step=2))
    found = await ends(site, array)
    assert found.keys() == {array, *(task(array, number) for number in (0, 2, 4))}
    assert found[array].state is JobState.DONE
    assert found[array].usage is not None
    for number in (0, 2, 4):
        one = found[task(array, number)]
        assert (one.array_job_id, one.array_task_id, one.exit_code) == (array, number, 0)
        out = site.work / f"job.o{array}.{number}"
        assert one.stdout_path == str(out)
        assert out.read_text().split() == [str(number)] * 5 + [array] * 2
    following = await site.submit("true\n")
    assert int(following) == int(array) + 4
    with pytest.raises(JobNotFound):
        await site.backend.cancel(NativeId(str(int(array) + 1)))


async def test_array_key_concurrent_submissions(site: LocalSite) -> None:
    spec, key = site.spec(RECORD, array=tasks(3)), new_key()
    ids = await asyncio.gather(*(submit_to(site.backend, spec, key) for _ in range(3)))
    (array,) = set(ids)
    assert (await ends(site, array)).keys() == {array, *(task(array, n) for n in (1, 2, 3))}
    assert await site.backend.find(key) == array
    assert await submit_to(site.backend, spec, key) == array
    assert sorted(ran(site)) == ["1", "2", "3"]


async def test_array_max_running_tasks_over_restart(tmp_path: Path) -> None:
    site = await LocalSite(tmp_path, slots=4).start()
    array = await site.submit(RECORD + UNTIL_GO, array=tasks(5, max_running=2))
    await site.running(task(array, 1))
    await site.running(task(array, 2))
    await site.restart()
    waits = (await listed(site))[task(array, 3)]
    assert (waits.state, waits.reason_code) == (JobState.QUEUED, ReasonCode.LIMIT_REACHED)
    # Others go before those that wait for their turn.
    await site.run("true\n")
    (site.work / "go2").touch()
    await site.running(task(array, 3))
    seen = await listed(site)
    assert [seen[task(array, n)].native_state for n in (1, 3, 4)] == ["running"] * 2 + ["queued"]
    assert task(array, 2) not in seen
    assert seen[array].state is JobState.RUNNING
    (site.work / "go").touch()
    await site.until(lambda jobs: not jobs)
    await site.stop()
    assert sorted(ran(site)) == ["1", "2", "3", "4", "5"]


async def test_array_end_over_restart(site: LocalSite) -> None:
    body = UNTIL_GO + '[ "$HPCQ_ARRAY_TASK_ID" != 2 ] || exit 7\n'
    array = await site.submit(body, array=tasks(3))
    (site.work / "go2").touch()
    assert (await site.ended(task(array, 2))).exit_code == 7
    await site.restart()
    seen = await listed(site)
    assert seen.keys() == {array, task(array, 1), task(array, 3)}
    assert (await site.seen(array)).state is JobState.RUNNING
    (site.work / "go").touch()
    whole = (await ends(site, array))[array]
    assert (whole.state, whole.failure_kind) == (JobState.FAILED, FailureKind.NON_ZERO_EXIT)
    assert (whole.exit_code, whole.state_reason is not None) == (7, True)
    await site.restart()
    assert (await site.backend.history([task(array, 2)])).observations[0].exit_code == 7


async def test_hold_and_release_array_and_task(site: LocalSite) -> None:
    array = await site.submit(RECORD + UNTIL_GO, array=tasks(3), hold=True)
    assert (await site.seen(array)).state is JobState.QUEUED_HELD
    await site.backend.act(Action.RELEASE, task(array, 2))
    await site.running(task(array, 2))
    assert (await site.seen(array)).state is JobState.RUNNING
    await site.backend.act(Action.HOLD, array)
    await site.backend.act(Action.RELEASE, array)
    await site.running(task(array, 3))
    with pytest.raises(WrongState):
        await site.backend.act(Action.HOLD, task(array, 3))
    (site.work / "go").touch()
    assert (await ends(site, array))[array].state is JobState.DONE


async def test_action_on_array_running_tasks(tmp_path: Path) -> None:
    site = await LocalSite(tmp_path, slots=2).start()
    body = "trap 'exit 9' USR1\n" + RECORD + UNTIL_GO
    array = await site.submit(body, array=tasks(3))
    while len(ran(site)) < 2:  # noqa: ASYNC110 - two writers
        await asyncio.sleep(0.02)
    await site.backend.act(Action.SUSPEND, array)
    seen = await listed(site)
    states = [seen[task(array, number)].state for number in (1, 2, 3)]
    assert states == [JobState.SUSPENDED, JobState.SUSPENDED, JobState.QUEUED]
    with pytest.raises(WrongState, match=rf"^Job {array}\[3\] has not started"):
        await site.backend.act(Action.SUSPEND, task(array, 3))
    with pytest.raises(WrongState, match=rf"^Job {array}\[1\] is suspended"):
        await site.backend.act(Action.SIGNAL, task(array, 1), signal=Signal.USR1)
    await site.backend.act(Action.RESUME, array)
    await site.backend.act(Action.SIGNAL, array, signal=Signal.USR1)
    for number in (1, 2):
        assert (await site.ended(task(array, number))).exit_code == 9
    (site.work / "go").touch()
    found = await ends(site, array)
    await site.stop()
    assert found[task(array, 3)].exit_code == 0


async def test_requeue_task_order(site: LocalSite) -> None:
    array = await site.submit(RECORD + UNTIL_GO, array=tasks(3, max_running=1))
    assert await site.file("ran") == "1\n"
    await site.backend.act(Action.REQUEUE, array)
    await site.running(task(array, 2))
    (site.work / "go").touch()
    found = await ends(site, array)
    assert {job.state for job in found.values()} == {JobState.DONE}
    assert sorted(ran(site)) == ["1", "1", "2", "3"]


async def test_cancel_array_with_requeued_task(site: LocalSite) -> None:
    array = await site.submit(RECORD + UNTIL_GO, array=tasks(2, max_running=1))
    assert await site.file("ran") == "1\n"
    await site.backend.act(Action.REQUEUE, task(array, 1))
    await site.backend.cancel(array)
    found = await ends(site, array)
    assert {job.failure_kind for job in found.values()} == {FailureKind.CANCELLED}
    assert ran(site) == ["1"]


async def test_held_tasks_skipped(site: LocalSite) -> None:
    array = await site.submit(RECORD, array=tasks(3, max_running=1), hold=True)
    for number in (3, 2):
        await site.backend.act(Action.RELEASE, task(array, number))
        await site.ended(task(array, number))
    await site.backend.act(Action.RELEASE, array)
    await ends(site, array)
    assert ran(site) == ["3", "2", "1"]


async def test_cancel_one_task_then_rest(tmp_path: Path) -> None:
    site = await LocalSite(tmp_path, slots=1).start()
    array = await site.submit(RECORD + "exec sleep 600\n", array=tasks(4))
    assert await site.file("ran") == "1\n"
    assert await site.backend.cancel(task(array, 3))
    assert not await site.backend.cancel(task(array, 3)), "it is over"
    assert not await site.backend.cancel(array)
    found = await ends(site, array)
    assert {job.failure_kind for job in found.values()} == {FailureKind.CANCELLED}
    assert [found[task(array, n)].start_time is None for n in (1, 2, 3, 4)] == [False] + [True] * 3
    assert not await site.backend.cancel(array), "it is over"
    assert ran(site) == ["1"]
    with pytest.raises(JobNotFound):
        await site.backend.cancel(task(array, 5))
    await site.stop()


async def test_cancel_some_tasks(tmp_path: Path) -> None:
    site = await LocalSite(tmp_path, slots=1).start()
    array = await site.submit(RECORD + "exec sleep 600\n", array=tasks(5))
    assert await site.file("ran") == "1\n"
    some = {number: task(array, number) for number in (1, 3, 4)}
    assert set(await site.backend.cancel_tasks(array, some)) == {some[3], some[4]}
    for native_id in some.values():
        assert (await site.ended(native_id)).failure_kind is FailureKind.CANCELLED
    assert list(await site.backend.cancel_tasks(array, some)) == []
    assert (await listed(site)).keys() == {array, task(array, 2), task(array, 5)}
    await site.backend.cancel(array)
    await ends(site, array)
    await site.stop()


async def test_cancel_array_spool_write_fails(
    site: LocalSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = await site.submit(RECORD, array=tasks(3), hold=True)

    async def full(self: Spool, numbers: Sequence[int], result: Result) -> None:
        raise SchedulerUnavailable("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "finish", full)
        with pytest.raises(SchedulerUnavailable):
            await site.backend.cancel(array)
    await site.backend.act(Action.RELEASE, array)
    assert (await ends(site, array))[array].state is JobState.DONE


async def test_dependency_on_array_and_on_task(site: LocalSite) -> None:
    body = UNTIL_GO + '[ "$HPCQ_ARRAY_TASK_ID" != 1 ] || exit 7\n'
    array = await site.submit(body, array=tasks(2), hold=True)
    started = await after(site, array, STARTED)
    assert (await site.seen(started)).native_state == "waiting"
    await site.backend.act(Action.RELEASE, array)
    assert (await site.ended(started)).state is JobState.DONE
    assert (await site.ended(await after(site, array, STARTED))).state is JobState.DONE
    of_task, whole = await after(site, task(array, 1), FAILURE), await after(site, array, FAILURE)
    in_vain = await after(site, array, SUCCESS)
    (site.work / "go1").touch()
    assert (await site.ended(of_task)).state is JobState.DONE
    await site.restart()
    assert (await site.seen(whole)).depends_on == (array,)
    assert (await site.ended(await after(site, array, STARTED))).state is JobState.DONE
    (site.work / "go").touch()
    assert (await site.ended(whole)).state is JobState.DONE
    end = await site.ended(in_vain)
    assert end.reason_code is ReasonCode.DEPENDENCY_NEVER_SATISFIED
    assert (await site.ended(await after(site, array, FAILURE))).state is JobState.DONE


async def test_dependency_of_array_met_or_impossible(site: LocalSite) -> None:
    first = await site.submit(UNTIL_GO + "exit 3\n")
    fields = {
        condition: (Dependency(native_id=first, uid=JobUid.new(), condition=condition),)
        for condition in (SUCCESS, ANY)
    }
    vain = await site.submit(RECORD, array=tasks(3), depends_on=fields[SUCCESS])
    behind = await after(site, vain, ANY)
    good = await site.submit(RECORD, array=tasks(2), depends_on=fields[ANY])
    seen = await site.seen(good)
    assert (seen.state, seen.reason_code) == (JobState.QUEUED, ReasonCode.WAITING_FOR_DEPENDENCY)
    assert seen.depends_on == (first,)
    (site.work / "go").touch()
    found = await ends(site, vain)
    assert {job.reason_code for one, job in found.items() if one != vain} == {
        ReasonCode.DEPENDENCY_NEVER_SATISFIED
    }
    assert found[vain].failure_kind is FailureKind.CANCELLED
    assert (await site.ended(behind)).state is JobState.DONE
    assert (await ends(site, good))[good].state is JobState.DONE
    assert sorted(ran(site)) == ["1", "2"]


async def test_task_lost_other_tasks_go_on(site: LocalSite) -> None:
    array = await site.submit(RECORD + UNTIL_GO, array=tasks(2))
    for number in (1, 2):
        await site.running(task(array, number))
    os.kill(site.shepherd(task(array, 1)).pid, signal.SIGKILL)
    lost = await site.ended(task(array, 1))
    assert lost.failure_kind is FailureKind.SCHEDULER_ERROR
    (site.work / "go").touch()
    assert (await site.ended(task(array, 2))).state is JobState.DONE


async def test_change_array_after_first_task(site: LocalSite) -> None:
    array = await site.submit(RECORD, array=tasks(2), hold=True)
    await site.backend.act(Action.RELEASE, task(array, 1))
    await site.ended(task(array, 1))
    spec = site.spec(RECORD, name="other")
    with pytest.raises(WrongState, match="have started already"):
        await site.backend.alter(array, spec, frozenset({"name"}))
    assert {job.name for job in (await listed(site)).values()} == {"job"}
