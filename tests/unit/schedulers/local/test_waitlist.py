"""The jobs that could start, and what is known of those that run."""

import time

import pytest

from hpcq.domain.jobs import JobSpec, JobUid, SubmissionKey
from hpcq.schedulers.local.entry import Entry
from hpcq.schedulers.local.spool import Phase
from hpcq.schedulers.local.waitlist import Waitlist


def entry(number: int, slots: int, limit: int | None = None, began: float | None = None) -> Entry:
    spec = JobSpec(
        name="job",
        working_directory="/",
        script_file="/bin/true",
        slots=slots,
        wall_time_limit_seconds=limit,
    )
    key = SubmissionKey.for_uid(JobUid.new())
    phase = Phase.QUEUED if began is None else Phase.DISPATCHED
    return Entry(number=number, key=key, spec=spec, submitted=0.0, phase=phase, began=began)


@pytest.mark.parametrize("step", [-(10**8), -3600.0, 3600.0, 10**8])
def test_backfill_clock_set_while_jobs_run(monkeypatch: pytest.MonkeyPatch, step: float) -> None:
    """The head can start in 60 s at the latest, whatever the clock is set to meanwhile."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + step)
    waitlist = Waitlist(4)
    running = entry(1, 3, limit=100, began=time.monotonic() - 40)
    running.start_time = now - 40
    for waiting in (entry(2, 4), entry(3, 1, limit=90), entry(4, 1, limit=50)):
        waitlist.add(waiting)
    assert [job.number for job in waitlist.take([running])] == [4]


def test_a_job_too_large_waits_apart_and_says_why() -> None:
    waitlist = Waitlist(4)
    large = entry(1, 5)
    waitlist.add(large)
    waitlist.add(entry(2, 4))
    assert [job.number for job in waitlist.take([])] == [2]
    assert "asks for 5 slots and the machine has 4 now" in (large.note or "")
    waitlist.discard(large)
