"""Retention of arguments and environments in LOCAL, which may hold secrets."""

from collections.abc import Callable

from hpcq.schedulers.testing.jobs import Jobs, Study
from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import until

SECRET = "the-password-of-a-study"  # noqa: S105 - of nothing


def test_records_kept_days_for_spool(start_service: Callable[..., Service], study: Study) -> None:
    service = start_service()
    jobs = Jobs(service)
    script = study.script('echo "$1" > "$1"\n')
    job = study.job(script, args=["done"], environment={"PASSWORD": SECRET})
    jobs.ended(jobs.submit(job))
    held = jobs.submit(study.job(script, args=["kept"], hold=True))
    service.stop()
    assert is_in_spool(service)
    service.settings |= {
        "RECORDS_KEPT_DAYS": "0.00001",
        "FINISHED_JOBS_LISTED_SECONDS": "0",
        "IDEMPOTENCY_KEYS_KEPT_SECONDS": "0.1",
    }
    service.start()
    until(lambda: not is_in_spool(service))
    assert Jobs(service).read(held)["state"] == "QUEUED_HELD"


def is_in_spool(service: Service) -> bool:
    folder = service.state_directory / "local"
    return any(SECRET.encode() in path.read_bytes() for path in folder.glob("spool.db*"))
