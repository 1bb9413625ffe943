"""Slurm's accounting is away: what the controller still knows is told, and no more is claimed."""

from collections.abc import Callable

import pytest
from tests.integration.outages import PRIVATE_SLURM, Latch, command, outage

from hpcq.schedulers.testing.jobs import Jobs, Study
from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import until

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("private-slurm")]

Start = Callable[..., Service]


def _known_to_the_controller(job_id: str) -> bool:
    listed = command(PRIVATE_SLURM, "squeue", "--noheader", "--states=all", "--format=%i")
    return job_id in listed.split()


def _settled(job_id: str) -> str:
    """Return the state and exit code in Slurm's own accounting."""
    columns = ("--format=State,ExitCode", "--allocations", "--noheader", "--parsable2")
    return command(PRIVATE_SLURM, "sacct", f"--jobs={job_id}", *columns)


def test_accounting_down_end_from_controller(start_service: Start, study: Study) -> None:
    service = start_service(**PRIVATE_SLURM.settings())
    jobs = Jobs(service)
    latch = Latch(study, "job", 7)
    job_id = jobs.submit(study.job(latch.script))
    jobs.running(job_id)
    with outage(PRIVATE_SLURM, "slurmdbd"):
        latch.let_go()
        job = jobs.ended(job_id)
        assert (job["failureKind"], job["exitCode"]) == ("NON_ZERO_EXIT", 7)
        assert job["endTime"] is not None
        until(lambda: not _known_to_the_controller(job_id))
        assert jobs.read(job_id)["state"] == "FAILED"
    until(lambda: _settled(job_id) == "FAILED|7:0", lambda: _settled(job_id))
    again = jobs.read(job_id)
    assert (again["uid"], again["exitCode"]) == (job["uid"], 7)


def test_accounting_down_end_unknown_until_back(start_service: Start, study: Study) -> None:
    service = start_service(**PRIVATE_SLURM.settings())
    jobs = Jobs(service)
    latch = Latch(study, "job", 7)
    job_id = jobs.submit(study.job(latch.script))
    uid = jobs.running(job_id)["uid"]
    with outage(PRIVATE_SLURM, "slurmdbd"):
        service.stop()
        latch.let_go()
        latch.await_end()
        until(lambda: not _known_to_the_controller(job_id))
        service.start()
        lost = jobs.wait(job_id, lambda job: job["state"] == "UNDETERMINED")
        assert "the accounting could not be asked" in lost["stateReason"]
        assert (lost["status"], lost["exitCode"], lost["failureKind"]) == ("UNKNOWN", None, None)
        # Of a stranger's job that may have been, nobody can say that there is none.
        assert service.client.get("/jobs/99999").status_code == 503
    job = jobs.ended(job_id)
    assert (job["uid"], job["failureKind"], job["exitCode"]) == (uid, "NON_ZERO_EXIT", 7)
    assert "cpuSeconds" not in job["resourceUsage"]["unknown"]
    assert latch.runs == 1
