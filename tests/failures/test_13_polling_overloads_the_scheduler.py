"""Every client's question becomes a command, and polling overloads the scheduler.

Met in: sisyphus 108; batchtools 201.
Here: One listing of the queue per interval serves all clients, however many there are and however
often they ask. The interval is a setting, and a floor.
"""

import time
from collections.abc import Callable

from tests.failures.conftest import FAST
from tests.failures.site import Site, readers, submitted, until

from hpcq.schedulers.testing.jobs import Study
from hpcq.schedulers.testing.service import Service


def test_poll_commands_many_clients(site: Site, serving: Service, study: Study) -> None:
    job_id = submitted(serving, study)["jobId"]
    paths = ("/jobs", f"/jobs/{job_id}", "/jobs?expand=resourceUsage", "/jobs/4711")
    with readers(serving, *paths) as codes:
        site.polled(1)
        before, answers, began = site.fake.runs(), len(codes), time.monotonic()
        site.polled(10)
        until(lambda: len(codes) - answers >= 1000)
        runs, took = site.fake.runs() - before, time.monotonic() - began
    assert set(codes) == {200, 404}
    # In an interval: one listing, one question for details, and one for the unknown id, which is
    # asked of accounting and controller.
    assert runs <= 4 * (took / float(FAST["POLL_INTERVAL_SECONDS"]) + 2)
    assert site.fake.runs(site.fake.submit) == 1


def test_poll_interval_minimum(
    site: Site, start_service: Callable[..., Service], study: Study
) -> None:
    service = start_service(
        **site.fake.settings(),
        **{**FAST, "POLL_INTERVAL_SECONDS": "600", "STALE_AFTER_SECONDS": "1200"},
    )
    job_id = submitted(service, study)["jobId"]
    assert service.client.get(f"/jobs/{job_id}").status_code == 200
    # The look with which the service began may yet ask for what the queue does not tell of it.
    until(lambda: _asks_no_more(site))
    before = site.fake.runs()
    with readers(service, "/jobs", f"/jobs/{job_id}") as codes:
        until(lambda: len(codes) >= 500)
    assert set(codes) == {200}
    assert site.fake.runs() == before


def _asks_no_more(site: Site) -> bool:
    before = site.fake.runs()
    time.sleep(2)
    return site.fake.runs() == before
