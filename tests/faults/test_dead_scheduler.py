"""A scheduler that is dead, while its clients do not give up: it is left in peace."""

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.faults.fake import LIMIT_SECONDS, FakeScheduler

from hpcq.schedulers.testing.jobs import Json, Study, assert_problem
from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import until

INTERVAL_SECONDS = 2.0
CLIENTS = 8
ROUNDS = 20


@pytest.fixture
def start(start_service: Callable[..., Service]) -> Callable[[FakeScheduler], Service]:
    return lambda fake: start_service(
        **fake.settings(),
        COMMAND_TIMEOUT_SECONDS=str(LIMIT_SECONDS),
        STALE_AFTER_SECONDS="300",
        POLL_INTERVAL_SECONDS=str(INTERVAL_SECONDS),
    )


def _circuit(service: Service, name: str) -> Json:
    circuits: dict[str, Json] = service.client.get("/health/ready").json()["circuits"]
    return circuits[name]


def _until_open(service: Service, name: str, ask: Callable[[int], object]) -> None:
    """Ask until a circuit is no longer closed."""
    numbers = itertools.count()

    def is_open() -> bool:
        ask(next(numbers))
        return bool(_circuit(service, name)["state"] != "closed")

    until(is_open, lambda: f"the circuit {name} stays closed")


@pytest.mark.parametrize("mode", ["away", "hang"])
def test_dead_scheduler_commands_many_clients(
    fake: FakeScheduler, start: Callable[[FakeScheduler], Service], study: Study, mode: str
) -> None:
    service = start(fake)
    body = study.job(study.script("true\n"))
    job_id = service.client.post("/jobs", json=body).json()["jobId"]
    fake.behave_all(mode)
    fake.behave(fake.submit, mode)
    with ThreadPoolExecutor(CLIENTS) as pool:

        def delete_at_once(_: int) -> None:
            list(pool.map(lambda _: service.client.delete(f"/jobs/{job_id}"), range(CLIENTS)))

        _until_open(service, "scheduler", delete_at_once)
        if fake.scheduler in ("SLURM", "PBS"):  # elsewhere it is a file, which always answers
            _until_open(service, "accounting", lambda n: service.client.get(f"/jobs/{9000 + n}"))

        def hammer(client: int) -> None:
            for number in range(ROUNDS):
                refused = service.client.post("/jobs", json=body)
                problem = assert_problem(refused, 503)
                assert problem["code"] == "scheduler_unavailable"
                assert "has not answered since" in problem["detail"]
                assert int(refused.headers["retry-after"]) == problem["retryAfter"] >= 1
                assert_problem(service.client.delete(f"/jobs/{job_id}"), 503)
                assert service.client.get(f"/jobs/{job_id}").status_code == 200
                service.client.get(f"/jobs/{10000 + ROUNDS * client + number}")

        others = [c for c in fake.commands if c not in (fake.list, "sacct")]
        before = {command: fake.runs(command) for command in fake.commands}
        begun = time.monotonic()
        list(pool.map(hammer, range(CLIENTS)))
        polls = (time.monotonic() - begun) / INTERVAL_SECONDS + 2
    grown = {command: fake.runs(command) - before[command] for command in fake.commands}
    assert {command: grown[command] for command in others} == dict.fromkeys(others, 0)
    asked_of_accounting = grown.get("sacct", 0)  # which asks the controller, too
    assert asked_of_accounting <= polls / 6 + 1
    if fake.scheduler == "PBS":  # one command tells of both
        asked_of_accounting = int(polls / 6 + 1)
    assert grown[fake.list] <= polls + asked_of_accounting
    problem = assert_problem(service.client.get("/health/ready"), 503)
    assert problem["code"] == "not_ready"
    assert problem["circuits"]["scheduler"]["state"] in ("open", "half_open")

    fake.behave_all("ok")
    fake.behave(fake.submit, "id")
    asked = fake.runs(fake.list) - fake.runs("sacct")
    begun = time.monotonic()
    service.wait_until_ready()
    asked = fake.runs(fake.list) - fake.runs("sacct") - asked
    polls = (time.monotonic() - begun) / INTERVAL_SECONDS + 2
    accounting_probes = 1 if fake.scheduler == "PBS" else 0
    assert asked <= polls + accounting_probes
    assert _circuit(service, "scheduler") == {"state": "closed", "failures": 0, "retryAfter": None}
    assert service.client.post("/jobs", json=body).status_code == 201
    assert fake.left_behind() == []


@pytest.mark.parametrize("mode", ["away", "hang"])
def test_dead_accounting_submission(
    tmp_path: Path, start: Callable[[FakeScheduler], Service], study: Study, mode: str
) -> None:
    fake = FakeScheduler(tmp_path / "fake", "SLURM")
    service = start(fake)
    fake.behave("sacct", mode)
    _until_open(service, "accounting", lambda n: service.client.get(f"/jobs/{9000 + n}"))
    refused = assert_problem(service.client.get("/jobs/9999"), 503)
    assert "accounting of the SLURM scheduler has not answered since" in refused["detail"]
    for _ in range(3):
        answer = service.client.post("/jobs", json=study.job(study.script("true\n")))
        assert answer.status_code == 201
    assert service.client.get("/health/ready").status_code == 200
    assert _circuit(service, "scheduler")["state"] == "closed"
