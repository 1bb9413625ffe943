"""The meaning of an exit: `failed 28` with exit status 0, 128 + n, a script's own 137.

Met in: baw-server 880.
Here: A job that its scheduler calls failed has failed, whatever its exit status. Signals and exit
statuses are separate: `exitSignal` and `exitCode` are never both set for a job that was killed. A
job of PBS that ended without an exit status never succeeded.
"""

import time
from typing import Any

import pytest
from tests.failures.site import SITES, Site, key_of, read, read_until, submitted

from hpcq.schedulers.testing.jobs import Json, Study
from hpcq.schedulers.testing.service import Service

# What the accounting says -> state, failureKind, exitCode, exitSignal
SGE: list[tuple[dict[str, Any], tuple[str, str | None, int | None, int | None]]] = [
    ({"failed": 0, "code": 0}, ("DONE", None, 0, None)),
    ({"failed": 28, "code": 0}, ("FAILED", "SCHEDULER_ERROR", None, None)),
    ({"failed": 21, "code": 0}, ("FAILED", "NODE_FAILURE", None, None)),
    ({"failed": 100, "code": 137}, ("FAILED", "SIGNAL", None, 9)),
    ({"failed": 100, "code": 139}, ("FAILED", "SIGNAL", None, 11)),
    ({"failed": 37, "code": 137}, ("FAILED", "TIME_LIMIT", None, 9)),
    ({"failed": 0, "code": 137}, ("FAILED", "NON_ZERO_EXIT", 137, None)),
    ({"failed": 0, "code": 255}, ("FAILED", "NON_ZERO_EXIT", 255, None)),
    ({"failed": 77, "code": 0}, ("FAILED", "UNKNOWN", None, None)),
]
SLURM: list[tuple[dict[str, Any], tuple[str, str | None, int | None, int | None]]] = [
    ({"state": "COMPLETED", "exit": "0:0"}, ("DONE", None, 0, None)),
    ({"state": "FAILED", "exit": "0:53"}, ("FAILED", "SCHEDULER_ERROR", None, None)),
    ({"state": "NODE_FAIL", "exit": "0:0"}, ("FAILED", "NODE_FAILURE", None, None)),
    ({"state": "FAILED", "exit": "0:9"}, ("FAILED", "SIGNAL", None, 9)),
    ({"state": "FAILED", "exit": "0:11"}, ("FAILED", "SIGNAL", None, 11)),
    ({"state": "TIMEOUT", "exit": "0:15"}, ("FAILED", "TIME_LIMIT", None, 15)),
    ({"state": "FAILED", "exit": "3:0"}, ("FAILED", "NON_ZERO_EXIT", 3, None)),
    ({"state": "OUT_OF_MEMORY", "exit": "0:125"}, ("FAILED", "OUT_OF_MEMORY", None, None)),
    ({"state": "FAILED", "exit": "0:0"}, ("FAILED", "UNKNOWN", None, None)),
]
TORQUE: list[tuple[dict[str, Any], tuple[str, str | None, int | None, int | None]]] = [
    ({"code": 0}, ("DONE", None, 0, None)),
    ({"code": 3}, ("FAILED", "NON_ZERO_EXIT", 3, None)),
    ({"code": 254}, ("FAILED", "NON_ZERO_EXIT", 254, None)),
    ({"code": 137}, ("FAILED", "SIGNAL", None, 9)),
    ({"code": 271}, ("FAILED", "CANCELLED", None, 15)),
    ({"code": -11}, ("FAILED", "TIME_LIMIT", None, None)),
    ({"code": -10}, ("FAILED", "OUT_OF_MEMORY", None, None)),
    ({"code": -4}, ("FAILED", "NODE_FAILURE", None, None)),
    ({"code": -1}, ("FAILED", "SCHEDULER_ERROR", None, None)),
    ({"start": 0}, ("FAILED", "CANCELLED", None, None)),
]
DELETED = "Job run at Sun Nov 22 at 22:04 on (n1:ncpus=1) and terminated by ana@n1"
PBS: list[tuple[dict[str, Any], tuple[str, str | None, int | None, int | None]]] = [
    ({"code": 0}, ("DONE", None, 0, None)),
    ({"code": 137}, ("FAILED", "NON_ZERO_EXIT", 137, None)),
    ({"code": 254}, ("FAILED", "NON_ZERO_EXIT", 254, None)),
    ({"code": 265}, ("FAILED", "SIGNAL", None, 9)),
    ({"code": 271, "substate": 91, "comment": DELETED}, ("FAILED", "CANCELLED", None, 15)),
    ({"code": -29}, ("FAILED", "TIME_LIMIT", None, None)),
    ({"code": -27}, ("FAILED", "OUT_OF_MEMORY", None, None)),
    ({"code": -4}, ("FAILED", "NODE_FAILURE", None, None)),
    ({"code": -99}, ("FAILED", "UNKNOWN", None, None)),
    ({"code": None, "substate": 91}, ("FAILED", "CANCELLED", None, None)),
    ({"code": None}, ("FAILED", "SCHEDULER_ERROR", None, None)),
]
ENDS = {"SGE": SGE, "SLURM": SLURM, "TORQUE": TORQUE, "PBS": PBS}


def _end_of(job: Json) -> tuple[str, str | None, int | None, int | None]:
    return job["state"], job["failureKind"], job["exitCode"], job["exitSignal"]


@pytest.mark.parametrize("site", SITES, indirect=True)
def test_end_each_kind(site: Site, serving: Service) -> None:
    ends = ENDS[site.fake.scheduler]
    for number, (said, _) in enumerate(ends, 1000):
        site.account(str(number), **said)
    found = [(said, _end_of(read(serving, str(n)))) for n, (said, _) in enumerate(ends, 1000)]
    assert found == ends


@pytest.mark.parametrize("site", ["SGE"], indirect=True)
def test_end_job_not_started_with_exit_0(site: Site, serving: Service, study: Study) -> None:
    taken = submitted(serving, study)
    job_id, key = taken["jobId"], key_of(taken)
    read_until(serving, job_id, lambda job: job["nativeState"] is not None)
    site.account(job_id, key=key, failed=28, code=0, start=0, end=0)
    site.leave(job_id)
    job = read_until(serving, job_id, lambda job: job["status"] == "STOPPED")
    assert _end_of(job) == ("FAILED", "SCHEDULER_ERROR", None, None)
    assert "working directory" in job["stateReason"]
    assert "failed=28" in job["stateReason"]


@pytest.mark.parametrize("site", ["SLURM"], indirect=True)
def test_end_sacct_exit_status_above_128(site: Site, serving: Service, study: Study) -> None:
    taken = submitted(serving, study)
    job_id, key = taken["jobId"], key_of(taken)
    read_until(serving, job_id, lambda job: job["nativeState"] is not None)
    then = int(time.time())
    site.queue(job_id, key=key, state="FAILED", code=137, submit=then, start=then, end=then)
    site.account(job_id, key=key, exit="9:0", state="FAILED", submit=then, start=then, end=then)
    site.fake.drop("squeue.all", f"5-{job_id}")
    job = read_until(serving, job_id, lambda job: job["status"] == "STOPPED")
    assert _end_of(job) == ("FAILED", "NON_ZERO_EXIT", 137, None)
