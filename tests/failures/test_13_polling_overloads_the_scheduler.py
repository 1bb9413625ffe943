"""Every client's question becomes a command, and polling overloads the scheduler.

Met in: sisyphus 108; batchtools 201.
Here: One listing of the queue per interval serves all clients, however many there are and however
often they ask. The interval is a setting, and a floor.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
from tests.failures.conftest import FAST
from tests.failures.site import Site, submitted
from tests.jobs import Study
from tests.service import Service

CLIENTS = 8


@contextmanager
def _clients(service: Service, *paths: str) -> Iterator[list[int]]:
    """Read these paths by many clients, without a pause; yields the answers' codes."""
    codes: list[int] = []
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=service.url, timeout=30) as client:
            while not over.is_set():
                codes.extend(client.get(path).status_code for path in paths)

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield codes
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_many_clients_cause_no_more_commands_than_one(
    site: Site, serving: Service, study: Study
) -> None:
    job_id = submitted(serving, study)["jobId"]
    with _clients(serving, "/jobs", f"/jobs/{job_id}", "/jobs/4711") as codes:
        site.polled(1)
        listings, all_runs, answers = site.fake.runs(site.fake.list), site.fake.runs(), len(codes)
        site.polled(10)
        runs = site.fake.runs() - all_runs
        asked, answered = site.fake.runs(site.fake.list) - listings, len(codes) - answers
    assert set(codes) == {200, 404}
    # A listing an interval; at most the details of the job, and one question for the unknown id.
    assert asked >= 10
    assert runs <= 4 * asked
    assert answered > 2 * runs


def test_the_interval_is_a_floor(
    site: Site, start_service: Callable[..., Service], study: Study
) -> None:
    service = start_service(
        **site.fake.settings(),
        **{**FAST, "POLL_INTERVAL_SECONDS": "600", "STALE_AFTER_SECONDS": "1200"},
    )
    job_id = submitted(service, study)["jobId"]
    with _clients(service, "/jobs", f"/jobs/{job_id}") as codes:
        while len(codes) < 500:
            threading.Event().wait(0.01)
    assert set(codes) == {200}
    assert site.fake.runs(site.fake.list) == 1
