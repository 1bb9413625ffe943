"""The scheduler's clock is five minutes before or behind that of this machine.

Met in: no public thread.
Here: No duration is negative. The service recognises a job by its key, or within ten minutes of its
submission, and finds its accounting whichever clock is ahead.
"""

import time
from collections.abc import Callable
from datetime import datetime

import pytest
from tests.failures.conftest import FAST
from tests.failures.site import Site, key_of, listed, read_until, submitted

from hpcq.schedulers.testing.jobs import Study
from hpcq.schedulers.testing.service import Service


@pytest.mark.parametrize("ahead", [-300, 300], ids=["behind", "ahead"])
def test_clock_differs_job_to_end(
    site: Site, start_service: Callable[..., Service], study: Study, ahead: int
) -> None:
    site.fake.set_clock(ahead)
    service = start_service(**site.fake.settings(), **FAST)
    taken = submitted(service, study)
    job_id, key = taken["jobId"], key_of(taken)
    job = read_until(service, job_id, lambda job: job["nativeState"] is not None)
    there = int(datetime.fromisoformat(job["submitTime"]).timestamp())
    iso = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(there))
    start = iso if site.fake.scheduler == "SGE" else str(there)
    site.queue(job_id, key=key, submit=str(there), start=start, submit_epoch=str(there))
    job = read_until(service, job_id, lambda job: job["state"] == "RUNNING")
    assert job["elapsed"] is None or job["elapsed"] >= 0
    service.restart()
    job = read_until(service, job_id, lambda job: not job["stale"])
    assert (job["state"], job["uid"]) == ("RUNNING", taken["uid"])
    site.leave(job_id)
    # Without the key, as where a site does not keep comments: the times alone must do.
    site.account(job_id, submit=there, start=there, end=there + 7, code=3)
    job = read_until(service, job_id, lambda job: job["state"] == "FAILED")
    assert (job["exitCode"], job["elapsed"], job["uid"]) == (3, 7, taken["uid"])
    assert listed(service).keys() == {job_id}


@pytest.mark.parametrize("ahead", [-300, 300], ids=["behind", "ahead"])
def test_clock_differs_job_ended_before_seen(
    site: Site, start_service: Callable[..., Service], study: Study, ahead: int
) -> None:
    site.fake.set_clock(ahead)
    service = start_service(**site.fake.settings(), **{**FAST, "POLL_INTERVAL_SECONDS": "1"})
    taken = submitted(service, study)
    job_id = taken["jobId"]
    there = int(time.time()) + ahead
    site.leave(job_id)
    site.account(job_id, submit=there, start=there, end=there, code=3)
    job = read_until(service, job_id, lambda job: job["status"] == "STOPPED")
    assert (job["exitCode"], job["elapsed"], job["uid"]) == (3, 0, taken["uid"])
