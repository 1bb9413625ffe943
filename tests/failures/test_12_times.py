"""A time is in another zone, in the hour that a clock change repeats, unknown, or 1970.

Met in: apel 153.
Here: Commands print UTC, or seconds since 1970, whatever the zone of the service and the cluster. A
word that is no time (`Unknown`, `N/A`, `INVALID`, `-/-`, 0) is null, never 1970 and never now.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.failures.conftest import FAST
from tests.failures.site import Site, key_of, read, read_until, submitted, until
from tests.unit.schedulers.sge.recorded import recorded

from hpcq.schedulers.sge.qacct import parse_qacct
from hpcq.schedulers.testing.jobs import Study
from hpcq.schedulers.testing.service import Service

# 2026-11-01 06:30 UTC: half past one for the first, or for the second time, in New York.
REPEATED = [1793511000, 1793514600]


def _seconds_from_now(text: str) -> float:
    return abs((datetime.fromisoformat(text) - datetime.now(UTC)).total_seconds())


@pytest.mark.parametrize("zone", ["America/Sao_Paulo", "Asia/Kathmandu", "UTC"])
def test_times_each_service_zone(
    site: Site, start_service: Callable[..., Service], study: Study, zone: str
) -> None:
    """The fake commands print the time as their own zone has it, as real ones do."""
    service = start_service(**site.fake.settings(), **FAST, TZ=zone)
    taken = submitted(service, study)
    job = read_until(service, taken["jobId"], lambda job: job["nativeState"] is not None)
    assert _seconds_from_now(job["submitTime"]) < 1800, "no zone is nearer"
    if site.fake.scheduler != "SLURM":
        # A job of Slurm inherits the environment of sbatch, which prints no times.
        _, _, environment = site.fake.taken(taken["jobId"])
        assert environment["TZ"] == "UTC"


@pytest.mark.parametrize("moment", REPEATED)
def test_times_repeated_hour(
    site: Site, start_service: Callable[..., Service], moment: int
) -> None:
    service = start_service(**site.fake.settings(), **FAST, TZ="America/New_York")
    words = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    printed = words if site.fake.scheduler == "SGE" else str(moment)
    site.queue("1000", state=site.waiting, submit=printed)
    site.account("1001", submit=moment, start=moment, end=moment + 10)
    expected = datetime.fromtimestamp(moment, UTC)
    job = until(lambda: _listed(service).get("1000"))
    assert datetime.fromisoformat(job["submitTime"]) == expected
    ended = read(service, "1001")
    assert datetime.fromisoformat(ended["startTime"]) == expected
    assert datetime.fromisoformat(ended["endTime"]) == expected + timedelta(seconds=10)


def _listed(service: Service) -> dict[str, Any]:
    return {job["jobId"]: job for job in service.client.get("/jobs").json()}


NONSENSE = {
    "SLURM": ["Unknown", "N/A", "None", "INVALID", "0", "-1", "99999999999999999"],
    "SGE": ["1970-01-01T00:00:00", "", "-/-", "Unknown", "2026-13-45T99:00:00"],
    "TORQUE": ["0", "", "-1", "Unknown", "99999999999999999"],
}


def test_start_time_invalid(site: Site, serving: Service) -> None:
    words = NONSENSE[site.fake.scheduler]
    for number, text in enumerate(words, 1000):
        site.queue(str(number), start=text)
    until(lambda: len(_listed(serving)) == len(words))
    for job in _listed(serving).values():
        assert (job["state"], job["startTime"], job["endTime"]) == ("RUNNING", None, None)
        assert job["elapsed"] is None


def test_times_job_never_started(site: Site, serving: Service, study: Study) -> None:
    taken = submitted(serving, study)
    job_id, key = taken["jobId"], key_of(taken)
    read_until(serving, job_id, lambda job: job["nativeState"] is not None)
    site.leave(job_id)
    site.account(
        job_id, key=key, state="CANCELLED by 0", failed=26, start=0, end=0, host="None assigned"
    )
    job = read_until(serving, job_id, lambda job: job["state"] == "FAILED")
    assert (job["startTime"], job["elapsed"]) == (None, None)
    assert _seconds_from_now(job["submitTime"]) < 1800, "no zone is nearer"


def test_qacct_times_dashes() -> None:
    entries, unreadable = parse_qacct(recorded("qacct_failed_26").stdout)
    assert unreadable == []
    assert [(entry.started, entry.ended) for entry in entries] == [(None, None)]
