"""An outage of the scheduler marks its jobs as failed.

Met in: PSI/J.
Here: While the scheduler does not answer, every job keeps its last known state, with `stale: true`,
and `asOf` says since when. Jobs that end meanwhile get their true end afterwards.
"""

import pytest
from tests.failures.site import Site, key_of, listed, read, read_until, submitted
from tests.faults.fake import COMMANDS
from tests.unit.schedulers.sge import recorded as sge
from tests.unit.schedulers.slurm import recorded as slurm
from tests.unit.schedulers.torque import recorded as torque

from hpcq.schedulers.testing.jobs import Json, Study
from hpcq.schedulers.testing.service import Service


def _put_out_of_order(site: Site, how: str) -> None:
    if how != "as recorded":
        site.fake.behave_all(how)
        return
    if site.fake.scheduler == "SGE":
        down = sge.recorded("qmaster_down_qstat")
    elif site.fake.scheduler == "TORQUE":
        down = torque.recorded("qstat-x.server-down")
    else:
        down = slurm.recorded("listing-controller-down")
    for command in COMMANDS[site.fake.scheduler]:
        for question in ("all", "some", "search"):
            site.fake.end_with(f"{command}.{question}", down.exit_code, down.stderr)


def _repair(site: Site) -> None:
    site.fake.behave_all("ok")
    for command in COMMANDS[site.fake.scheduler]:
        for question in ("all", "some", "search"):
            site.fake.end_with(f"{command}.{question}", 0)


def _running(site: Site, service: Service, study: Study) -> Json:
    taken = submitted(service, study)
    site.queue(taken["jobId"], key=key_of(taken))
    read_until(service, taken["jobId"], lambda job: job["state"] == "RUNNING")
    return taken


@pytest.mark.parametrize("how", ["as recorded", "fail", "hang", "silent"])
def test_outage_jobs_stale_not_failed(site: Site, serving: Service, study: Study, how: str) -> None:
    goes_on, ends = _running(site, serving, study), _running(site, serving, study)
    waits = submitted(serving, study)
    read_until(serving, waits["jobId"], lambda job: job["nativeState"] is not None)
    if how == "silent" and site.fake.scheduler in ("SLURM", "TORQUE"):
        # An empty answer is an empty queue: only the accounting, which is silent too, can tell.
        expected, stale = {"UNDETERMINED"}, False
    else:
        expected, stale = {"RUNNING", "QUEUED"}, True
    _put_out_of_order(site, how)
    taken = (goes_on, ends, waits)
    for one in taken:
        read_until(serving, one["jobId"], lambda job: job["stale"] or job["state"] in expected)
    seen = [read_until(serving, t["jobId"], lambda job: job["stale"] is stale) for t in taken]
    site.polled(2)
    again = [read(serving, one["jobId"]) for one in taken]
    assert {job["state"] for job in again} <= expected
    assert {job["failureKind"] for job in again} == {None}
    if stale:
        assert [job["asOf"] for job in again] == [job["asOf"] for job in seen]
        assert serving.client.get("/health/ready").status_code == 503
    # During the outage one of them ends.
    site.leave(ends["jobId"])
    site.account(ends["jobId"], key=key_of(ends), code=3)
    _repair(site)
    read_until(serving, ends["jobId"], lambda job: job["exitCode"] == 3)
    assert read_until(serving, goes_on["jobId"], lambda job: not job["stale"])["state"] == "RUNNING"
    assert listed(serving)[waits["jobId"]]["state"] == "QUEUED"
