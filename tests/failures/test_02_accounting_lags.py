"""The accounting lags, or is empty for up to 90 s, after a job left the queue.

Met in: submitit 1660; Parsl PR 3422.
Here: The job is `UNDETERMINED`, with the reason, until the accounting shows it; then it has its
true end. Meanwhile it is never unknown (404), and never a success.
"""

from pathlib import Path

import pytest
from tests.failures.site import Site, key_of, read_until, submitted
from tests.unit.services.kit import World

from hpcq.domain.principals import UNASKED
from hpcq.domain.states import JobState
from hpcq.schedulers.testing.jobs import Study
from hpcq.schedulers.testing.service import Service


def test_end_between_queue_and_accounting(site: Site, serving: Service, study: Study) -> None:
    taken = submitted(serving, study)
    job_id, key = taken["jobId"], key_of(taken)
    site.queue(job_id, key=key)
    read_until(serving, job_id, lambda job: job["state"] == "RUNNING")
    site.leave(job_id)
    job = read_until(serving, job_id, lambda job: job["state"] != "RUNNING")
    assert (job["state"], job["status"]) == ("UNDETERMINED", "UNKNOWN")
    assert "accounting" in job["stateReason"]
    assert (job["exitCode"], job["failureKind"], job["endTime"]) == (None, None, None)
    site.account(job_id, key=key, code=3)
    job = read_until(serving, job_id, lambda job: job["state"] != "UNDETERMINED")
    assert (job["state"], job["failureKind"], job["exitCode"]) == ("FAILED", "NON_ZERO_EXIT", 3)
    assert (job["uid"], job["jobId"]) == (taken["uid"], job_id)


@pytest.mark.anyio
async def test_end_accounting_empty_90_seconds(tmp_path: Path) -> None:
    async with World(directory=tmp_path) as world:
        record = await world.ended_unaccounted()
        for _ in range(18):
            await world.tick(5)
            held = (await world.jobs.find(UNASKED, record.uid)).record
            assert held.state is JobState.UNDETERMINED
            assert held.state_reason
        assert record.native_id is not None
        world.scheduler.account(record.native_id)
        for _ in range(12):
            await world.tick(5)
        assert world.job(record.uid).state is JobState.DONE
