"""Jobs that are put back into the queue: one record throughout, and the outcome of the last run."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.backends import BACKENDS
from tests.integration.outages import command

from hpcq.schedulers.testing.jobs import Jobs, Json, Study
from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import until

SLURM, SGE = BACKENDS["SLURM"], BACKENDS["SGE"]
Start = Callable[..., Service]


class Rerunnable:
    """A job that counts its runs; each ends when it is told to, with 2 more than their number."""

    def __init__(self, service: Service, study: Study, **fields: object) -> None:
        self.jobs = Jobs(service)
        self._directory = study.directory
        script = study.script(
            "#$ -r y\necho >> runs\nrun=$(wc -l < runs)\n"
            'until [ -e "go-$run" ]; do sleep 0.1; done\nexit $((run + 2))\n'
        )
        self.job_id = self.jobs.submit(study.job(script, **fields))
        self.uid = self.read()["uid"]

    def read(self) -> Json:
        return self.jobs.read(self.job_id)

    def reaches(self, *states: str) -> Json:
        job = self.jobs.wait(self.job_id, lambda job: job["state"] in states)
        assert job["uid"] == self.uid
        return job

    def runs_for_the(self, number: int) -> None:
        """Wait until it runs for that time, and the service knows."""
        runs = self._directory / "runs"
        until(lambda: runs.exists() and runs.read_text().count("\n") == number)
        self.reaches("RUNNING")

    def let_go(self, number: int) -> None:
        (self._directory / f"go-{number}").touch()

    def ends(self, exit_code: int) -> Json:
        job = self.reaches("FAILED")
        assert (job["exitCode"], job["failureKind"]) == (exit_code, "NON_ZERO_EXIT")
        assert job["startTime"] <= job["endTime"]
        return job

    def has_one_record(self) -> None:
        listed = self.jobs.listed().values()
        assert [job["uid"] for job in listed if job["jobId"] == self.job_id] == [self.uid]


def _start_without_delay(job_id: str) -> None:
    """Slurm waits for two minutes, until the credential of the run before is surely void.

    A node starts no run in the second in which it ended the one before.
    """
    command(SLURM, "scontrol", "update", f"jobid={job_id}", "starttime=now+2")


def _word(job_id: str) -> str:
    return command(SLURM, "squeue", "--noheader", "--format=%T", f"--jobs={job_id}")


@pytest.fixture
def slurm_job(start_service: Start, study: Study) -> Rerunnable:
    return Rerunnable(start_service(**SLURM.settings()), study)


@pytest.mark.slurm
def test_slurm_requeue_running_job(slurm_job: Rerunnable) -> None:
    slurm_job.runs_for_the(1)
    command(SLURM, "scontrol", "requeue", slurm_job.job_id)
    waiting = slurm_job.reaches("REQUEUED")
    assert (waiting["startTime"], waiting["exitCode"]) == (None, None)
    _start_without_delay(slurm_job.job_id)
    slurm_job.runs_for_the(2)
    slurm_job.let_go(2)
    slurm_job.ends(4)
    slurm_job.has_one_record()


@pytest.mark.slurm
def test_slurm_requeue_finished_job(slurm_job: Rerunnable) -> None:
    slurm_job.runs_for_the(1)
    slurm_job.let_go(1)
    first = slurm_job.ends(3)
    command(SLURM, "scontrol", "requeue", slurm_job.job_id)
    waiting = slurm_job.reaches("REQUEUED")
    assert (waiting["endTime"], waiting["exitCode"]) == (None, None)
    _start_without_delay(slurm_job.job_id)
    slurm_job.runs_for_the(2)
    slurm_job.let_go(2)
    second = slurm_job.ends(4)
    assert second["startTime"] >= first["endTime"]
    slurm_job.has_one_record()


@pytest.mark.slurm
def test_slurm_requeue_hold_running_job(slurm_job: Rerunnable) -> None:
    slurm_job.runs_for_the(1)
    command(SLURM, "scontrol", "requeuehold", slurm_job.job_id)
    slurm_job.reaches("REQUEUED_HELD")
    until(lambda: _word(slurm_job.job_id) == "PENDING")
    command(SLURM, "scontrol", "release", slurm_job.job_id)
    _start_without_delay(slurm_job.job_id)
    slurm_job.runs_for_the(2)
    slurm_job.let_go(2)
    slurm_job.ends(4)
    slurm_job.has_one_record()


@pytest.mark.slurm
def test_slurm_requeue_foreign_job(start_service: Start, tmp_path: Path) -> None:
    jobs = Jobs(start_service(**SLURM.settings()))
    go = tmp_path / "go"
    job_id = command(
        SLURM,
        *("sbatch", "--parsable", "--job-name=foreign", "--output=/dev/null", "--chdir=/"),
        stdin=f'#!/bin/sh\nuntil [ -e "{go}" ]; do sleep 0.1; done\n',
    )
    until(lambda: job_id in jobs.listed())
    uid = jobs.running(job_id)["uid"]
    command(SLURM, "scontrol", "requeue", job_id)
    assert jobs.wait(job_id, lambda job: job["state"] == "REQUEUED")["uid"] == uid
    _start_without_delay(job_id)
    assert jobs.running(job_id)["uid"] == uid
    go.touch()


@pytest.mark.sge
def test_grid_engine_requeue_running_job(start_service: Start, study: Study) -> None:
    job = Rerunnable(start_service(**SGE.settings()), study)
    job.runs_for_the(1)
    command(SGE, "qmod", "-rj", job.job_id)
    # Grid Engine starts it again within seconds, and then says that it was put back: Rr.
    assert job.reaches("REQUEUED", "RUNNING")["exitCode"] is None
    job.runs_for_the(2)
    job.let_go(2)
    job.ends(4)
    job.has_one_record()
