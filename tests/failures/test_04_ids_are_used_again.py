"""The scheduler uses an id again: its numbers wrapped, or its spool was reset.

Met in: blackfish 484; openpbs PR 686.
Here: The service matches an id together with the job's key, submission time and owner. Two jobs
keep two records: the id means the newer one, and each keeps its `uid` for ever.
"""

import time
from pathlib import Path

import pytest
from tests.failures.site import Site, key_of, read, read_until, submitted
from tests.unit.services.kit import World

from hpcq.domain.states import JobState
from hpcq.schedulers.testing.jobs import Json, Study
from hpcq.schedulers.testing.service import Service


def _ended(site: Site, service: Service, study: Study) -> Json:
    """Submit a job and see it end."""
    taken = submitted(service, study)
    job_id, key = taken["jobId"], key_of(taken)
    read_until(service, job_id, lambda job: job["nativeState"] is not None)
    site.leave(job_id)
    site.account(job_id, key=key)
    return read_until(service, job_id, lambda job: job["state"] == "DONE")


def _submitted_at(site: Site, moment: float) -> Json:
    if site.fake.scheduler == "SGE":
        return {"submit": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))}
    return {"submit": str(int(moment))}


@pytest.mark.parametrize("owner", ["ana", "bob"])
def test_id_reused_by_foreign_job(site: Site, serving: Service, study: Study, owner: str) -> None:
    ours = _ended(site, serving, study)
    later = _submitted_at(site, time.time() + 3600)
    site.queue(ours["jobId"], state=site.waiting, owner=owner, name="another", **later)
    newer = read_until(serving, ours["jobId"], lambda job: job["uid"] != ours["uid"])
    assert (newer["name"], newer["owner"], newer["state"]) == ("another", owner, "QUEUED")
    for _ in range(2):
        older = read(serving, ours["uid"])
        assert (older["state"], older["exitCode"], older["name"]) == ("DONE", 0, "study")
        assert read(serving, ours["jobId"])["uid"] == newer["uid"]
        serving.restart()
        site.polled(2)


def test_id_reused_vanished_job_with_older_record(
    site: Site, serving: Service, study: Study
) -> None:
    taken = submitted(serving, study)
    job_id, key = taken["jobId"], key_of(taken)
    read_until(serving, job_id, lambda job: job["nativeState"] is not None)
    long_ago = int(time.time()) - 300 * 86400
    site.account(
        job_id, piece="1", code=7, submit=long_ago, start=long_ago, end=long_ago, name="old"
    )
    site.leave(job_id)
    job = read_until(serving, job_id, lambda job: job["state"] == "UNDETERMINED")
    assert job["exitCode"] is None
    site.account(job_id, piece="2", key=key)
    job = read_until(serving, job_id, lambda job: job["state"] != "UNDETERMINED")
    assert (job["state"], job["exitCode"], job["uid"]) == ("DONE", 0, taken["uid"])


@pytest.mark.anyio
async def test_id_reused_by_own_job(tmp_path: Path) -> None:
    async with World(directory=tmp_path) as world:
        first = await world.submit()
        assert first.native_id is not None
        await world.tick(5)
        world.scheduler.end(first.native_id, exit_code=0)
        await world.tick(5)
        world.clock.forward(3600)
        world.scheduler.next_number = 1  # the spool was reset
        second = await world.submit()
        assert second.native_id == first.native_id
        await world.tick(5)
        world.scheduler.run(second.native_id)
        await world.tick(5)
        assert world.job(first.uid).state is JobState.DONE
        assert world.job(second.uid).state is JobState.RUNNING
        assert world.job(second.native_id).uid == second.uid
