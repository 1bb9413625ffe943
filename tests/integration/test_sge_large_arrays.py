"""Arrays of more than a thousand tasks, which Grid Engine's listing does not tell apart."""

from collections.abc import Callable

import pytest
from tests.backends import SGE

from hpcq.schedulers.testing.jobs import Jobs, Study
from hpcq.schedulers.testing.service import Service

pytestmark = pytest.mark.sge


def test_array_large_task_counts_and_cancel(
    start_service: Callable[..., Service], study: Study
) -> None:
    service = start_service(**SGE.settings(), POLL_INTERVAL_SECONDS="1")
    jobs = Jobs(service)

    def counts() -> dict[str, int]:
        return {state: n for state, n in jobs.read(array)["tasks"]["byState"].items() if n}

    tasks = {"first": 1, "last": 1500}
    array = jobs.submit(study.job(study.script("true\n"), hold=True, array=tasks))
    jobs.polled(2)
    assert counts() == {"QUEUED_HELD": 1500}
    answer = service.client.delete(f"/jobs/{array}?tasks=7,1201-1300")
    assert answer.status_code == 202, answer.text
    jobs.polled(2)
    assert counts() == {"FAILED": 101, "QUEUED_HELD": 1399}
    task = jobs.ended(f"{array}[1250]")
    assert (task["failureKind"], task["arrayJobId"]) == ("CANCELLED", array)
    jobs.delete(array)
    jobs.ended(array)
    assert counts() == {"FAILED": 1500}
