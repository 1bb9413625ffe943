"""A number used for two jobs: two records, each read by its ``uid``; the number is the newer's."""

from collections.abc import Callable

import pytest
from tests.integration.outages import (
    FIRST_NUMBER,
    LAST_NUMBER,
    PRIVATE_SGE,
    PRIVATE_SLURM,
    command,
    outage,
)

from hpcq.schedulers.testing.jobs import Jobs, Json, Study
from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import until

Start = Callable[..., Service]


def _run(jobs: Jobs, study: Study, exit_code: int) -> Json:
    name = f"exits-with-{exit_code}"
    script = study.script(f"exit {exit_code}\n", f"{name}.sh")
    return jobs.ended(jobs.submit(study.job(script, name=name)))


def _both_are_kept(service: Service, older: Json, newer: Json) -> None:
    assert older["jobId"] == newer["jobId"]
    assert older["uid"] != newer["uid"]
    by_number = service.client.get(f"/jobs/{newer['jobId']}").json()
    assert by_number["uid"] == newer["uid"]
    for job in (older, newer):
        read = service.client.get(f"/jobs/{job['uid']}").json()
        for member in ("uid", "jobId", "name", "exitCode", "state", "failureKind", "endTime"):
            assert read[member] == job[member], member
    listed = [job for job in service.client.get("/jobs").json() if job["jobId"] == newer["jobId"]]
    assert {job["uid"] for job in listed} == {older["uid"], newer["uid"]}


@pytest.mark.sge
@pytest.mark.xdist_group("private-sge")
def test_grid_engine_job_numbers_restarted(start_service: Start, study: Study) -> None:
    service = start_service(**PRIVATE_SGE.settings())
    jobs = Jobs(service)
    older = _run(jobs, study, 3)
    with outage(PRIVATE_SGE, "qmaster"):
        PRIVATE_SGE.do("renumber", older["jobId"])
    # A daemon that is back may not answer yet, and nothing is submitted until the queue is read.
    jobs.polled(2)
    newer = _run(jobs, study, 4)
    assert (older["exitCode"], newer["exitCode"]) == (3, 4)
    _both_are_kept(service, older, newer)
    service.restart()
    _both_are_kept(service, older, newer)


@pytest.mark.slurm
@pytest.mark.xdist_group("private-slurm")
def test_slurm_job_numbers_wrapped(start_service: Start, study: Study) -> None:
    service = start_service(**PRIVATE_SLURM.settings())
    jobs = Jobs(service)
    older = _run(jobs, study, 3)
    # It gives no number that it still remembers.
    until(lambda: not _remembers(older["jobId"]))
    _use_up_numbers_before(int(older["jobId"]))
    newer = _run(jobs, study, 4)
    assert (older["exitCode"], newer["exitCode"]) == (3, 4), f"{older}\n{newer}"
    _both_are_kept(service, older, newer)
    service.restart()
    _both_are_kept(service, older, newer)


def _remembers(job_id: str) -> bool:
    return job_id in command(PRIVATE_SLURM, "squeue", "--noheader", "--states=all", "--format=%i")


def _use_up_numbers_before(number: int) -> None:
    """Submit jobs, and cancel them, until the next one gets this number."""
    last, used = LAST_NUMBER if number == FIRST_NUMBER else number - 1, number
    while used != last:
        submitted = ("sbatch", "--parsable", "--hold", "--output=/dev/null", "--wrap=true")
        used = int(command(PRIVATE_SLURM, *submitted))
        command(PRIVATE_SLURM, "scancel", str(used))


def test_local_job_numbers_never_reused(start_service: Start, study: Study) -> None:
    service = start_service(SCHEDULER="LOCAL")
    jobs = Jobs(service)
    script = study.script("exit 0\n")
    first = jobs.submit(study.job(script))
    jobs.ended(first)
    jobs.delete(first)
    service.kill9()
    service.start()
    second = jobs.submit(study.job(script))
    service.restart()
    third = jobs.submit(study.job(script))
    assert int(first) < int(second) < int(third)
