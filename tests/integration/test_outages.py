"""A real scheduler's daemon is away, under read load: nobody is told anything untrue.

The scheduler is the test's own (``tests/integration/outages.py``); each goes on beside other tests.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from tests.backends import RealBackend
from tests.integration.outages import (
    PRIVATE_SGE,
    PRIVATE_SLURM,
    Latch,
    Readers,
    moment,
    outage,
    stands_still,
)

from hpcq.schedulers.testing.jobs import Jobs, Json, Study
from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import until

OUTAGE = timedelta(seconds=60)
INTERVAL = timedelta(seconds=5)
STALE_AFTER = timedelta(seconds=30)
MASTERS = [
    pytest.param(
        PRIVATE_SLURM,
        "slurmctld",
        marks=[*PRIVATE_SLURM.marks, pytest.mark.xdist_group("private-slurm")],
        id="slurmctld",
    ),
    pytest.param(
        PRIVATE_SGE,
        "qmaster",
        marks=[*PRIVATE_SGE.marks, pytest.mark.xdist_group("private-sge")],
        id="qmaster",
    ),
]

NAMES_AND_CODES = (("during", 3), ("outlives", 0), ("held", 5))

Start = Callable[..., Service]


def _ended_as(job: Json, exit_code: int, earliest: datetime, latest: datetime) -> None:
    assert (job["status"], job["exitCode"]) == ("STOPPED", exit_code), job
    assert moment(job["startTime"]) <= moment(job["endTime"])
    # The job rounds down, a scheduler may round up.
    assert earliest <= moment(job["endTime"]) <= latest + timedelta(seconds=2)


@pytest.mark.parametrize(("scheduler", "master"), MASTERS)
def test_reads_outage_60_seconds(
    scheduler: RealBackend, master: str, start_service: Start, study: Study
) -> None:
    service = start_service(
        **scheduler.settings(),
        POLL_INTERVAL_SECONDS=f"{INTERVAL.total_seconds():g}",
        STALE_AFTER_SECONDS=f"{STALE_AFTER.total_seconds():g}",
    )
    jobs = Jobs(service)
    ends_during, outlives, held = (Latch(study, n, c) for n, c in NAMES_AND_CODES)
    during = jobs.submit(study.job(ends_during.script))
    through = jobs.submit(study.job(outlives.script))
    waits = jobs.submit(study.job(held.script, hold=True))
    for job_id in (during, through):
        jobs.running(job_id)
    jobs.wait(waits, lambda job: job["state"] == "QUEUED_HELD")

    with Readers(service, [during, through, waits]) as readers:
        refused = Latch(study, "refused", 0)
        refused.let_go()
        with outage(scheduler, master):
            gone = datetime.now(UTC)
            ends_during.let_go()
            ended = ends_during.await_end()
            answer = service.client.post("/jobs", json=study.job(refused.script, name="refused"))
            readers.wait_for("answer marked as stale", lambda a: a.stale)
            assert service.client.get("/health/ready").status_code == 503
            assert service.client.get("/health/live").status_code == 200
            time.sleep(max(0.0, (gone + OUTAGE - datetime.now(UTC)).total_seconds()))
            returns = datetime.now(UTC)
        back = datetime.now(UTC)
        fresh = readers.wait_for("fresh answer", lambda a: not a.stale and a.asked > back)
        service.wait_until_ready()
        outlives.let_go()
        held.let_go()
        assert service.client.post(f"/jobs/{waits}/release").status_code == 202
        told = {job_id: jobs.ended(job_id) for job_id in (during, through, waits)}

    assert readers.errors == []
    assert {a.status for a in readers.answers} == {200}
    stands_still(readers.between(gone, returns), STALE_AFTER)
    # A question that was asked during the outage may be answered when it is over.
    assert fresh.as_of is not None and fresh.as_of > gone
    over = datetime.now(UTC)
    # Slurm dates an end from when its controller hears of it; Grid Engine knows when it was.
    _ended_as(told[during], 3, ended, over if scheduler is PRIVATE_SLURM else returns)
    _ended_as(told[through], 0, outlives.await_end(), over)
    _ended_as(told[waits], 5, held.await_end(), over)
    assert (ends_during.runs, outlives.runs, held.runs) == (1, 1, 1)
    assert answer.status_code in {202, 503}, answer.text
    _carried_out_as_answered(service, answer.status_code, refused, "refused")
    if answer.status_code == 503:
        assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize(("scheduler", "master"), MASTERS)
def test_reads_scheduler_hangs(
    scheduler: RealBackend, master: str, start_service: Start, study: Study
) -> None:
    stale_after = timedelta(seconds=15)
    service = start_service(
        **scheduler.settings(),
        POLL_INTERVAL_SECONDS="1",
        STALE_AFTER_SECONDS=f"{stale_after.total_seconds():g}",
        COMMAND_TIMEOUT_SECONDS="10",
        SUBMISSION_SETTLE_SECONDS="5",
    )
    jobs = Jobs(service)
    ends_during, refused = Latch(study, "during", 3), Latch(study, "refused")
    during = jobs.submit(study.job(ends_during.script))
    jobs.running(during)
    refused.let_go()
    with Readers(service, [during]) as readers:
        with outage(scheduler, master, "freeze", "thaw"):
            gone = datetime.now(UTC)
            ends_during.let_go()
            ended = ends_during.await_end()
            answer = service.client.post("/jobs", json=study.job(refused.script, name="refused"))
            readers.wait_for("answer marked as stale", lambda a: a.stale)
            returns = datetime.now(UTC)
        readers.wait_for("fresh answer", lambda a: not a.stale)
        told = jobs.ended(during)
    assert readers.errors == []
    assert {a.status for a in readers.answers} == {200}
    # An answer that was under way when it froze may have come afterwards.
    hung = readers.between(gone + timedelta(seconds=1), returns)
    stands_still(hung, stale_after)
    _ended_as(told, 3, ended, datetime.now(UTC))
    assert answer.status_code in {202, 503, 504}, answer.text
    _carried_out_as_answered(service, answer.status_code, refused, "refused")


def _carried_out_as_answered(service: Service, status: int, latch: Latch, name: str) -> None:
    """Check that a submission accepted with 202 ran once, and any other not more than once."""
    jobs = Jobs(service)

    def listed() -> list[Json]:
        return [job for job in jobs.listed().values() if job["name"] == name]

    def is_known() -> bool:
        found = listed()
        return len(found) >= latch.runs and all(job["status"] == "STOPPED" for job in found)

    if status == 202:
        until(lambda: latch.runs > 0)
    until(is_known, listed)
    known = listed()
    assert [job["state"] for job in known].count("DONE") == latch.runs, known
    assert latch.runs == 1 if status == 202 else latch.runs <= 1
