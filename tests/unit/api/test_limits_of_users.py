"""Limits of one user: requests in a second, and jobs in the queue."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.unit.api.conftest import App, running

from hpcq.api.rate_limit import RateLimit
from hpcq.domain.errors import CommandMissing, TooManyRequests
from hpcq.domain.jobs import NativeId
from hpcq.domain.principals import Method

ANA: dict[str, Any] = {"auth": (Method.TOKEN,), "trusted_clients": "127.0.0.1=user:ana"}
"""Settings with which requests without a token are ana's."""


def operator(tmp_path: Path) -> dict[str, str]:
    token = (tmp_path / "state" / "operator.token").read_text().strip()
    return {"Authorization": f"Bearer {token}"}


def most_at_once(limit: RateLimit, user: str, at: float) -> int:
    """Return how many requests are let through at one moment."""
    for sent in range(1000):
        try:
            limit.count(user, at)
        except TooManyRequests:
            return sent
    raise AssertionError("there is no limit")


@pytest.mark.parametrize(
    ("per_second", "burst"), [(5, 50), (0.5, 5), (0.1, 1), (0.001, 1), (2.5, 25)]
)
def test_rate_limit_burst_ten_seconds_or_one(per_second: float, burst: int) -> None:
    assert most_at_once(RateLimit(per_second), "ana", 100.0) == burst


def test_rate_limit_refill() -> None:
    limit = RateLimit(5)
    assert most_at_once(limit, "ana", 100.0) == 50
    assert most_at_once(limit, "ana", 101.0) == 5
    assert most_at_once(limit, "ana", 101.5) == 2
    assert most_at_once(limit, "ana", 1000.0) == 50


def test_rate_limit_retry_after() -> None:
    limit, now = RateLimit(0.25), 100.0
    most_at_once(limit, "ana", now)
    with pytest.raises(TooManyRequests) as refused:
        limit.count("ana", now)
    assert refused.value.retry_after_seconds >= 1
    limit.count("ana", now + refused.value.retry_after_seconds)


def test_rate_limit_per_user() -> None:
    limit = RateLimit(1)
    assert most_at_once(limit, "ana", 0.0) == most_at_once(limit, "bob", 0.0) == 10


def test_rate_limit_full_buckets_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcq.api.rate_limit._MOST_USERS", 100)
    limit = RateLimit(1)
    for number in range(1000):
        limit.count(f"user-{number}", float(number))
    assert len(limit._full_at) <= 100


def test_rate_limit_unset() -> None:
    limit = RateLimit(None)
    for _ in range(10_000):
        limit.count("ana", 0.0)
    assert not limit._full_at


@pytest.mark.anyio
async def test_rate_limit_exceeded_answer(plugin: None, tmp_path: Path) -> None:
    # One request, and the next after a thousand seconds.
    async with running(tmp_path, **ANA, max_requests_per_second=0.001) as app:
        assert (await app.client.get("/jobs")).status_code == 200
        refused = await app.client.get("/jobs")
        assert refused.status_code == 429
        assert refused.json()["code"] == "too_many_requests"
        assert "MAX_REQUESTS_PER_SECOND" in refused.json()["detail"]
        assert refused.headers["retry-after"] == str(refused.json()["retryAfter"])
        assert 900 < refused.json()["retryAfter"] <= 1000
        assert (await app.client.post("/jobs", json=app.body)).status_code == 429
        assert app.scheduler.calls["submit"] == 0
        for _ in range(3):
            assert (await app.client.get("/health/live")).status_code == 200
            assert (await app.client.get("/health/ready")).status_code == 200
            assert (await app.client.get("/jobs", headers=operator(tmp_path))).status_code == 200


async def submit(app: App, **fields: Any) -> tuple[int, str]:
    """Submit a job as ana; return the status, and the id or the code."""
    answer = await app.client.post("/jobs", json=app.body | fields)
    told = answer.json()
    return answer.status_code, told["jobId"] if answer.status_code == 201 else told["code"]


FULL = (429, "quota_exceeded")


@pytest.mark.anyio
async def test_job_limit_open_jobs(plugin: None, tmp_path: Path) -> None:
    async with running(tmp_path, **ANA, max_jobs_per_user=2) as app:
        app.scheduler.enqueue(owner="ana")
        status, first = await submit(app)
        assert status == 201
        # Whatever the number of its tasks, an array is one job.
        assert (await submit(app, array={"first": 1, "last": 9}))[0] == 201
        refused = await app.client.post("/jobs", json=app.body)
        assert (refused.status_code, refused.json()["code"]) == FULL
        assert "MAX_JOBS_PER_USER" in refused.json()["detail"]
        assert "retry-after" in refused.headers
        answer = await app.client.post("/jobs", json=app.body, headers=operator(tmp_path))
        assert answer.status_code == 201
        app.scheduler.run(NativeId(first))
        await app.asked_again()
        assert await submit(app) == FULL
        app.scheduler.end(NativeId(first))
        await app.asked_again()
        assert (await submit(app))[0] == 201
        assert await submit(app) == FULL
        assert app.scheduler.calls["submit"] == 4


@pytest.mark.anyio
async def test_job_limit_concurrent_submissions(plugin: None, tmp_path: Path) -> None:
    async with running(tmp_path, **ANA, max_jobs_per_user=3) as app:
        first = app.scheduler.hold_back_next("submit")
        waiting = asyncio.create_task(submit(app))
        await first.ready.wait()
        answers = await asyncio.gather(*(submit(app) for _ in range(6)))
        first.let_go()
        assert sorted(status for status, _ in [*answers, await waiting]) == [201] * 3 + [429] * 4


@pytest.mark.anyio
async def test_job_limit_failed_submission(plugin: None, tmp_path: Path) -> None:
    async with running(tmp_path, **ANA, max_jobs_per_user=1) as app:
        for _ in range(3):
            app.scheduler.fail_next("submit", CommandMissing("There is no qsub."))
            assert (await submit(app))[0] == 503
        assert (await submit(app))[0] == 201
        assert await submit(app) == FULL


@pytest.mark.anyio
async def test_job_limit_repeated_key(plugin: None, tmp_path: Path) -> None:
    async with running(tmp_path, **ANA, max_jobs_per_user=1) as app:
        key = {"Idempotency-Key": "monday"}
        for _ in range(2):
            answer = await app.client.post("/jobs", json=app.body, headers=key)
            assert answer.status_code == 201
        assert await submit(app) == FULL


@pytest.mark.anyio
async def test_job_limit_after_restart(plugin: None, tmp_path: Path) -> None:
    async with running(tmp_path, **ANA, max_jobs_per_user=1) as app:
        assert (await submit(app))[0] == 201
    (tmp_path / "work" / "run.sh").unlink()
    (tmp_path / "work").rmdir()
    async with running(tmp_path, **ANA, max_jobs_per_user=1) as app:
        assert await submit(app) == FULL


@pytest.mark.anyio
async def test_job_limit_array_million_tasks(plugin: None, tmp_path: Path) -> None:
    async with running(tmp_path) as app:
        answer = await app.client.post(
            "/jobs", json=app.body | {"array": {"first": 1, "last": 10**6}}
        )
        assert (answer.status_code, answer.json()["field"]) == (400, "array")
        assert "at most 75000" in answer.json()["detail"]
