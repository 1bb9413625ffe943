"""A Slurm whose clock is five minutes away from this machine's: nothing is lost or negative."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.backends import SLURM, RealBackend
from tests.integration.outages import Latch, command, moment
from tests.submitting import submit_to

from hpcq.domain.jobs import JobSpec, JobUid, NativeId, SubmissionKey
from hpcq.execution.local import LocalRunner
from hpcq.schedulers.base import SchedulerOptions
from hpcq.schedulers.slurm.backend import SlurmBackend, create
from hpcq.schedulers.slurm.settings import SlurmSettings
from hpcq.schedulers.testing.jobs import Jobs, Study
from hpcq.schedulers.testing.service import Service, clean_environment
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS, until

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm-with-another-clock")]

MINUTES = (5, -5)


@pytest.fixture(scope="module", params=MINUTES, ids=("ahead", "behind"))
def apart(request: pytest.FixtureRequest) -> Iterator[tuple[RealBackend, timedelta]]:
    """A cluster of its own, and how far its clock is ahead."""
    minutes: int = request.param
    scheduler = replace(
        SLURM,
        instance=(
            ("HPCQ_TEST_SLURM_INSTANCE", "6" if minutes > 0 else "7"),
            ("HPCQ_TEST_SLURM_CLOCK", f"{minutes:+d}m"),
            ("HPCQ_TEST_SLURM_OPTIONS", "MinJobAge=2"),
        ),
    )
    scheduler.settings()
    yield scheduler, timedelta(minutes=minutes)
    scheduler.do("down")


def _forgotten(scheduler: RealBackend, job_id: str) -> Callable[[], bool]:
    def look() -> bool:
        return command(scheduler, "squeue", "-h", "-t", "all", "-o", "%i").split().count(job_id) < 1

    return look


def test_clock_differs_job_to_end(
    apart: tuple[RealBackend, timedelta], start_service: Callable[..., Service], study: Study
) -> None:
    scheduler, ahead = apart
    service = start_service(**scheduler.settings())
    jobs = Jobs(service)
    latch = Latch(study, "job", 3)
    job_id = jobs.submit(study.job(latch.script))
    running = jobs.running(job_id)
    began = datetime.now(UTC)
    assert running["elapsed"] >= 0
    assert abs(moment(running["startTime"]) - began - ahead) < timedelta(minutes=2)
    service.stop()
    latch.let_go()
    latch.await_end()
    until(_forgotten(scheduler, job_id))
    service.start()
    job = jobs.ended(job_id)
    assert (job["uid"], job["exitCode"]) == (running["uid"], 3)
    assert moment(job["startTime"]) <= moment(job["endTime"])
    assert job["elapsed"] >= 0
    assert "cpuSeconds" not in job["resourceUsage"]["unknown"]


def _adapter(scheduler: RealBackend, directory: Path) -> SlurmBackend:
    options = SchedulerOptions(
        cluster_id="1",
        state_directory=directory,
        environment=clean_environment() | scheduler.settings(),
        command_path="/usr/bin:/bin",
        command_timeout_seconds=PATIENCE_SECONDS,
        listing_limit_bytes=1 << 28,
    )
    return create(options, LocalRunner(), SlurmSettings())


def test_clock_differs_submission_found_in_accounting(
    apart: tuple[RealBackend, timedelta], study: Study
) -> None:
    scheduler, _ = apart
    key = SubmissionKey.for_uid(JobUid.new())
    spec = JobSpec(
        name="sought",
        working_directory=str(study.directory),
        script_file=str(study.script("exit 0\n")),
    )
    adapter = _adapter(scheduler, study.directory)

    async def submit_and_seek() -> tuple[NativeId, NativeId | None]:
        job_id = await submit_to(adapter, spec, key)
        await asyncio.to_thread(until, _forgotten(scheduler, job_id))
        return job_id, await adapter.find(key)

    job_id, found = asyncio.run(submit_and_seek())
    assert found == job_id
