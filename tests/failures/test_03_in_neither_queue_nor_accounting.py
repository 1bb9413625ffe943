"""A job is in neither the queue nor the accounting, and is taken for finished.

Met in: xenon 50; aiida 1505; nextflow 1045.
Here: The job is `UNDETERMINED` as long as its end is not known, also after a restart and after a
day. `stateReason` says when it was last seen, and in which state. The service never assumes
success, and looks for the job again and again.
"""

import re
from pathlib import Path

import pytest
from tests.failures.site import Site, key_of, listed, read, read_until, submitted
from tests.unit.services.kit import World

from hpcq.domain.states import JobState
from hpcq.schedulers.testing.jobs import Study
from hpcq.schedulers.testing.service import Service


def test_vanished_job_undetermined(site: Site, serving: Service, study: Study) -> None:
    taken = submitted(serving, study)
    job_id = taken["jobId"]
    site.queue(job_id, key=key_of(taken))
    read_until(serving, job_id, lambda job: job["state"] == "RUNNING")
    site.leave(job_id)
    read_until(serving, job_id, lambda job: job["state"] == "UNDETERMINED")
    site.polled(10)
    serving.restart()
    for job in (read(serving, taken["uid"]), listed(serving)[job_id]):
        assert (job["state"], job["status"], job["uid"]) == (
            "UNDETERMINED",
            "UNKNOWN",
            taken["uid"],
        )
        assert "accounting" in job["stateReason"]
        assert re.search(r"own last sight: RUNNING at [0-9-]{10} [0-9:]{8} UTC", job["stateReason"])
        assert (job["exitCode"], job["endTime"]) == (None, None)


@pytest.mark.anyio
async def test_vanished_job_found_after_day(tmp_path: Path) -> None:
    async with World(directory=tmp_path) as world:
        record = await world.ended_unaccounted()
        for _ in range(24):
            await world.tick(3600)
            assert world.job(record.uid).state is JobState.UNDETERMINED
        assert record.native_id is not None
        world.scheduler.account(record.native_id)
        await world.tick(3600)
        assert world.job(record.uid).state is JobState.DONE
