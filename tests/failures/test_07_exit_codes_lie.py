"""A command's exit status says one thing, its output another, and the wrong one is believed.

Met in: reframe PR 1402; fractal-server 2482.
Here: The service judges output and exit status separately. A listing that failed ends no job,
whatever it printed; a command that exits with 0 and reports a failure has failed. PBS's exit status
153 (a job is unknown) beside a listing does not affect the listed jobs.
"""

import pytest
from tests.failures.site import Site, key_of, listed, read, read_until, submitted, until
from tests.unit.schedulers.pbs import recorded as pbs
from tests.unit.schedulers.sge import recorded as sge
from tests.unit.schedulers.slurm import recorded as slurm
from tests.unit.schedulers.torque import recorded as torque

from hpcq.execution.protocol import Completed
from hpcq.schedulers.testing.jobs import Study, assert_problem
from hpcq.schedulers.testing.service import Service

COMPLAINT = b"slurm_load_jobs error: Socket timed out on send/recv operation\n"


def _running(site: Site, service: Service, study: Study) -> str:
    taken = submitted(service, study)
    job_id: str = taken["jobId"]
    site.queue(job_id, key=key_of(taken))
    read_until(service, job_id, lambda job: job["state"] == "RUNNING")
    return job_id


@pytest.mark.parametrize("printed", ["nothing", "an empty queue"])
def test_listing_failed_job_still_running(
    site: Site, serving: Service, study: Study, printed: str
) -> None:
    job_id = _running(site, serving, study)
    site.fake.end_with(site.listing, 1, COMPLAINT)
    if printed == "nothing":
        site.fake.answer(site.fake.list, b"", stderr=COMPLAINT, exit_status=1)
    else:
        site.leave(job_id)
    stale = read_until(serving, job_id, lambda job: job["stale"])
    assert (stale["state"], stale["status"]) == ("RUNNING", "RUNNING")
    assert site.fake.runs(site.accounting_command) == 0


def _recorded(site: Site, **cases: str) -> Completed:
    """Return a recording of the site's scheduler, of those with these names."""
    case = cases[site.fake.scheduler]
    if site.fake.scheduler == "TORQUE":
        return torque.recorded(case)
    return sge.recorded(case) if site.fake.scheduler == "SGE" else slurm.recorded(case)


def test_details_failed_with_status_0(site: Site, serving: Service, study: Study) -> None:
    """qstat -j exits with 0 when the qmaster is away, and says so in XML."""
    job_id = _running(site, serving, study)
    down = _recorded(
        site,
        SGE="qmaster_down_qstat_j",
        SLURM="details-controller-down",
        TORQUE="qstat-f.server-busy-3",
    )
    site.fake.answer(
        site.fake.list, down.stdout, question="some", stderr=down.stderr, exit_status=down.exit_code
    )
    until(lambda: "details.unanswered" in serving.log_tail())
    job = read(serving, job_id)
    assert (job["state"], job["stale"]) == ("RUNNING", False)


def test_cancel_refused_with_status_0(site: Site, serving: Service, study: Study) -> None:
    """Scancel --verbose exits with 0 whether or not it ended the job."""
    job_id = _running(site, serving, study)
    refused = _recorded(
        site, SGE="qdel_not_owner", SLURM="scancel-verbose-stranger", TORQUE="qdel.not-owner"
    )
    site.fake.answer(
        "scancel" if site.fake.scheduler == "SLURM" else "qdel",
        refused.stdout,
        stderr=refused.stderr,
        exit_status=refused.exit_code,
    )
    problem = assert_problem(serving.client.delete(f"/jobs/{job_id}"), 403)
    assert problem["code"] == "not_authorized"
    assert read(serving, job_id)["status"] == "RUNNING"


@pytest.mark.parametrize("site", ["PBS"], indirect=True)
@pytest.mark.parametrize(
    ("exit_status", "complaint"),
    [
        (153, b"qstat: Unknown Job Id 999999.pbshead\n"),
        (35, b"qstat: 7.pbshead Job has finished\n"),
    ],
)
def test_listing_with_complaint_about_others(
    site: Site, serving: Service, study: Study, exit_status: int, complaint: bytes
) -> None:
    job_id = _running(site, serving, study)
    site.fake.end_with("qstat.all", exit_status, complaint)
    site.fake.end_with("qstat.some", exit_status, complaint)
    site.queue("90001")
    until(lambda: "90001" in listed(serving))
    site.leave(job_id)
    site.account(job_id, code=3)
    job = read_until(serving, job_id, lambda job: job["status"] == "STOPPED")
    assert (job["state"], job["exitCode"]) == ("FAILED", 3)


@pytest.mark.parametrize("site", ["PBS"], indirect=True)
def test_listing_empty_server_away(site: Site, serving: Service, study: Study) -> None:
    """It is the same answer as that of an empty queue, exit status 0 included at worst."""
    job_id = _running(site, serving, study)
    away = pbs.recorded("qstat-f-json.server-down")
    site.fake.answer("qstat", b"", stderr=away.stderr)
    stale = read_until(serving, job_id, lambda job: job["stale"])
    assert (stale["state"], stale["status"]) == ("RUNNING", "RUNNING")
