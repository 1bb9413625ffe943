"""Jobs of LOCAL that wait for others, with real processes."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.integration.local_site import LocalSite, gone, new_key
from tests.submitting import submit_to

from hpcq.domain.actions import Action
from hpcq.domain.errors import InvalidSpec, SchedulerUnavailable
from hpcq.domain.jobs import Dependency, DependencyCondition, JobUid, NativeId
from hpcq.domain.states import FailureKind, JobState, ReasonCode
from hpcq.schedulers.local import job_control
from hpcq.schedulers.local.files import Result
from hpcq.schedulers.local.spool import Spool

pytestmark = pytest.mark.anyio

UNTIL_GO = "until [ -e go ]; do sleep 0.05; done\n"
SUCCESS, FAILURE = DependencyCondition.SUCCESS, DependencyCondition.FAILURE
ANY, STARTED = DependencyCondition.ANY, DependencyCondition.STARTED


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def on(native_id: str, condition: DependencyCondition = SUCCESS) -> Dependency:
    return Dependency(native_id=NativeId(native_id), uid=JobUid.new(), condition=condition)


async def after(
    site: LocalSite, first: NativeId, condition: DependencyCondition = SUCCESS, **fields: object
) -> NativeId:
    """Submit a job that waits for another."""
    depends_on = (on(first, condition),)
    script = site.script('echo "$HPCQ_JOB_ID" >> ran\n', "second.sh")
    return await site.submit(script, depends_on=depends_on, **fields)


def ran(site: LocalSite) -> list[str]:
    path = site.work / "ran"
    return path.read_text().split() if path.exists() else []


async def assert_in_vain(site: LocalSite, native_id: NativeId) -> None:
    job = await site.ended(native_id)
    assert (job.state, job.failure_kind) == (JobState.FAILED, FailureKind.CANCELLED)
    assert job.reason_code is ReasonCode.DEPENDENCY_NEVER_SATISFIED
    assert job.start_time is None


async def test_dependency_held_job_released_after_met(site: LocalSite) -> None:
    first = await site.submit(UNTIL_GO)
    second = await after(site, first, hold=True)
    (site.work / "go").touch()
    await site.ended(first)
    seen = await site.seen(second)
    assert (seen.state, seen.reason_code) == (JobState.QUEUED_HELD, ReasonCode.HELD_BY_USER)
    await site.backend.act(Action.RELEASE, second)
    assert (await site.ended(second)).state is JobState.DONE


async def test_dependency_held_job_released_before_met(site: LocalSite) -> None:
    first = await site.submit(UNTIL_GO)
    second = await after(site, first, hold=True)
    await site.backend.act(Action.RELEASE, second)
    seen = await site.seen(second)
    assert (seen.state, seen.reason_code) == (
        JobState.QUEUED,
        ReasonCode.WAITING_FOR_DEPENDENCY,
    )
    await site.backend.act(Action.HOLD, second)
    assert (await site.seen(second)).state is JobState.QUEUED_HELD
    await site.backend.act(Action.RELEASE, second)
    assert (await site.seen(second)).native_state == "waiting"
    (site.work / "go").touch()
    assert (await site.ended(second)).state is JobState.DONE


async def test_dependency_on_requeued_job(site: LocalSite) -> None:
    first = await site.submit(
        'echo "run" >> ran; echo > ready; [ $(wc -l < ran) = 2 ] || exec sleep 600\n'
    )
    success, failure = await after(site, first), await after(site, first, FAILURE)
    await site.file("ready")
    await site.backend.act(Action.REQUEUE, first)
    assert (await site.ended(first)).state is JobState.DONE
    assert (await site.ended(success)).state is JobState.DONE
    await assert_in_vain(site, failure)
    assert ran(site) == ["run", "run", success]


async def test_dependency_on_cancelled_waiting_job(site: LocalSite) -> None:
    first = await site.submit(UNTIL_GO)
    second = await after(site, first)
    third = await after(site, second)
    anyway = await after(site, third, ANY)
    assert await site.backend.cancel(second)
    end = await site.ended(second)
    assert (end.failure_kind, end.reason_code) == (FailureKind.CANCELLED, None)
    await assert_in_vain(site, third)
    assert (await site.ended(anyway)).state is JobState.DONE
    (site.work / "go").touch()
    assert (await site.ended(first)).state is JobState.DONE
    assert ran(site) == [anyway]


async def test_dependency_long_chain(site: LocalSite) -> None:
    first = last = await site.submit(UNTIL_GO)
    script = site.script(": > ran\n", "second.sh")
    for _ in range(1000):
        last = await site.submit(script, depends_on=(on(last),))
    await site.backend.cancel(first)
    await assert_in_vain(site, last)
    await site.until(lambda jobs: not jobs)
    assert ran(site) == []


async def test_dependency_start_of_running_job(site: LocalSite) -> None:
    first = await site.submit(UNTIL_GO)
    await site.running(first)
    assert (await site.ended(await after(site, first, STARTED))).state is JobState.DONE
    (site.work / "go").touch()


async def test_dependency_start_of_held_job(site: LocalSite) -> None:
    first = await site.submit("true\n", hold=True)
    second = await after(site, first, STARTED)
    assert (await site.seen(second)).native_state == "waiting"
    await site.backend.act(Action.RELEASE, first)
    assert (await site.ended(second)).state is JobState.DONE


async def test_dependency_on_ended_job(site: LocalSite) -> None:
    first = (await site.run("exit 3\n")).native_id
    for condition in (FAILURE, ANY, STARTED):
        assert (await site.ended(await after(site, first, condition))).state is JobState.DONE
    with pytest.raises(InvalidSpec, match=f"job {first} is FAILED") as refused:
        await after(site, first)
    assert refused.value.field == "dependsOn"
    with pytest.raises(InvalidSpec, match="no job 99 any more"):
        await after(site, NativeId("99"), ANY)


async def test_dependency_queue_position_kept(tmp_path: Path) -> None:
    site = await LocalSite(tmp_path, slots=1).start()
    first = await site.submit(UNTIL_GO)
    second = await after(site, first)
    third = await site.submit('echo "$HPCQ_JOB_ID" >> ran\n')
    (site.work / "go").touch()
    await site.until(lambda jobs: not jobs)
    await site.stop()
    assert ran(site) == [second, third]


async def test_dependency_waiting_job_blocks_no_other(tmp_path: Path) -> None:
    site = await LocalSite(tmp_path, slots=1).start()
    first = await site.submit("true\n", hold=True)
    second = await after(site, first)
    third = await site.run('echo "$HPCQ_JOB_ID" >> ran\n')
    await site.backend.act(Action.RELEASE, first)
    await site.until(lambda jobs: not jobs)
    await site.stop()
    assert ran(site) == [third.native_id, second]


async def test_dependency_over_restart(site: LocalSite) -> None:
    first = await site.submit(UNTIL_GO + "exit 3\n")
    await site.running(first)
    good = await after(site, first, FAILURE)
    vain = await after(site, first)
    behind = await after(site, vain)
    held = await after(site, first, ANY, hold=True)
    await site.restart()
    assert (await site.seen(good)).depends_on == (first,)
    assert (await site.seen(good)).native_state == "waiting"
    (site.work / "go").touch()
    assert (await site.ended(good)).state is JobState.DONE
    await assert_in_vain(site, vain)
    await assert_in_vain(site, behind)
    await site.restart()
    await site.backend.act(Action.RELEASE, held)
    assert (await site.ended(held)).state is JobState.DONE


async def test_dependency_ended_while_service_stopped(site: LocalSite) -> None:
    first = await site.submit(UNTIL_GO + "exit 3\n")
    await site.running(first)
    good, vain = await after(site, first, FAILURE), await after(site, first)
    shepherd = site.shepherd(first).pid
    await site.stop()
    (site.work / "go").touch()
    await gone(shepherd)
    await site.start()
    assert (await site.ended(good)).state is JobState.DONE
    await assert_in_vain(site, vain)
    assert ran(site) == [good]


async def test_dependency_forgotten_by_spool(site: LocalSite) -> None:
    over = await site.run("true\n")
    first = await site.submit(UNTIL_GO)
    second = await site.submit("true\n", depends_on=(on(over.native_id), on(first)))
    assert await site.backend.forget(datetime.now(UTC) + timedelta(seconds=1)) == 1
    await site.restart()
    assert (await site.seen(second)).depends_on == (first,)
    (site.work / "go").touch()
    assert (await site.ended(second)).state is JobState.DONE


async def test_dependency_impossible_disk_full(
    site: LocalSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_control, "_PAUSE_SECONDS", 0.01)
    first = await site.submit(UNTIL_GO)
    second = await after(site, first)
    finish, failures = Spool.finish, 0

    async def failing(self: Spool, numbers: Sequence[int], result: Result) -> None:
        nonlocal failures
        if int(second) in numbers and failures < 3:
            failures += 1
            raise SchedulerUnavailable("The disk is full.")
        await finish(self, numbers, result)

    monkeypatch.setattr(Spool, "finish", failing)
    await site.backend.cancel(first)
    await assert_in_vain(site, second)
    assert failures == 3


async def test_dependency_failed_later_same_key(site: LocalSite) -> None:
    first = await site.submit(UNTIL_GO + "exit 3\n")
    spec, key = site.spec("true\n", depends_on=(on(first),)), new_key()
    second = await submit_to(site.backend, spec, key)
    (site.work / "go").touch()
    await assert_in_vain(site, second)
    assert await submit_to(site.backend, spec, key) == second
