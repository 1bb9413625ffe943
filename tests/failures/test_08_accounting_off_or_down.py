"""The site keeps no accounting, or it is down, and the caller polls for ever or says nothing.

Met in: snakemake slurm executor 38; Parsl PR 3591.
Here: The service takes the end of a job from the controller as long as that knows it. Otherwise the
job is `UNDETERMINED`, and `stateReason` says that the accounting does not answer, and why. The
service asks it less and less often, and everything else goes on.
"""

import shutil
import time
from pathlib import Path

import pytest
from tests.failures.site import Site, key_of, listed, read_until, submitted, until
from tests.unit.schedulers.slurm.recorded import recorded
from tests.unit.services.kit import World

from hpcq.domain.errors import SchedulerUnavailable
from hpcq.domain.states import JobState
from hpcq.schedulers.testing.jobs import Study, assert_problem
from hpcq.schedulers.testing.service import Service


def _put_out_of_order(site: Site) -> None:
    if site.fake.scheduler == "SGE":
        # Without the file itself, qacct is asked, and that fails.
        site.fake.accounting_file.unlink()
        site.fake.behave("qacct", "fail")
        return
    if site.fake.scheduler == "TORQUE":
        shutil.rmtree(site.fake.accounting_file.parent)
        site.fake.behave("tracejob", "fail")
        return
    down = recorded("history-database-down")
    site.fake.answer("sacct", b"", question="some", stderr=down.stderr, exit_status=down.exit_code)


def test_accounting_down_state_reason(site: Site, serving: Service, study: Study) -> None:
    taken = submitted(serving, study)
    job_id, key = taken["jobId"], key_of(taken)
    site.queue(job_id, key=key)
    read_until(serving, job_id, lambda job: job["state"] == "RUNNING")
    _put_out_of_order(site)
    site.leave(job_id)
    job = read_until(serving, job_id, lambda job: job["state"] == "UNDETERMINED")
    assert "accounting could not be asked" in job["stateReason"]
    assert ("out of order" in job["stateReason"]) or ("refused" in job["stateReason"])
    another = submitted(serving, study)["jobId"]
    until(lambda: another in listed(serving))
    serving.wait_until_ready()


def test_accounting_down_unknown_id(site: Site, serving: Service) -> None:
    _put_out_of_order(site)
    assert_problem(serving.client.get("/jobs/4711"), 502, 503)


def test_accounting_down_poll_backoff(site: Site, serving: Service, study: Study) -> None:
    taken = submitted(serving, study)
    job_id = taken["jobId"]
    read_until(serving, job_id, lambda job: job["nativeState"] is not None)
    _put_out_of_order(site)
    site.leave(job_id)
    read_until(serving, job_id, lambda job: job["state"] == "UNDETERMINED")
    asked = site.fake.runs(site.accounting_command)
    site.polled(50)
    # 50 queries of the queue; at 1, 2.5, 4.8, 8.1, 13, 21, 32 and 49 intervals at the earliest.
    assert site.fake.runs(site.accounting_command) - asked <= 9


@pytest.mark.parametrize("site", ["SLURM"], indirect=True)
def test_accounting_off_end_from_controller(site: Site, serving: Service, study: Study) -> None:
    site.fake.answer(
        "sacct",
        b"",
        question="some",
        stderr=b"Slurm accounting storage is disabled\n",
        exit_status=1,
    )
    taken = submitted(serving, study)
    job_id, key = taken["jobId"], key_of(taken)
    read_until(serving, job_id, lambda job: job["nativeState"] is not None)
    ended = str(int(time.time()))
    site.queue(job_id, key=key, state="FAILED", code=3, submit=ended, start=ended, end=ended)
    site.fake.drop("squeue.all", f"5-{job_id}")
    job = read_until(serving, job_id, lambda job: job["status"] == "STOPPED")
    assert (job["state"], job["exitCode"]) == ("FAILED", 3)


@pytest.mark.anyio
async def test_accounting_off_queries_in_one_hour(
    tmp_path: Path,
) -> None:
    async with World(directory=tmp_path) as world:
        record = await world.submit()
        assert record.native_id is not None
        await world.tick(5)
        world.scheduler.lose(record.native_id)
        away = SchedulerUnavailable("slurmdbd does not answer")
        for _ in range(720):
            world.scheduler.fail_next("history", away)
            await world.tick(5)
        assert world.scheduler.calls["history"] < 100
        held = world.job(record.uid)
        assert held.state is JobState.UNDETERMINED
        assert "slurmdbd does not answer" in (held.state_reason or "")
