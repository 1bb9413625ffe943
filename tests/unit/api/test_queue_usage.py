"""``GET /queues/{name}/usage``."""

from datetime import timedelta

import pytest
from tests.unit.api.conftest import App

from hpcq.domain.units import format_time, now

pytestmark = pytest.mark.anyio

URL = "/queues/all.q/usage"


async def test_queue_usage(app: App) -> None:
    await app.client.post("/jobs", json=app.body)
    await app.asked_again()
    await app.context.queue_usage.sample()
    # The present minute is not over.
    until = format_time(now() + timedelta(minutes=2))
    assert (await app.client.get(URL)).status_code == 200
    answer = (await app.client.get(URL, params={"until": until, "points": 2000})).json()
    assert list(answer) == ["queue", "since", "until", "step", "points"]
    assert (answer["queue"], answer["step"]) == ("all.q", 60)
    for point in answer["points"]:
        assert point["slotsTotal"] is None
        assert point["jobsQueued"] == 1


async def test_queue_usage_unknown_queue(app: App) -> None:
    for name in ("none", "%00", "..%2e", "a%0ab", "%FF"):
        answer = await app.client.get(f"/queues/{name}/usage")
        assert answer.status_code == 404, name
    answer = await app.client.get("/queues/none/usage")
    assert answer.json()["code"] == "queue_not_found"
    assert "GET /queues" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("since=yesterday", "since"),
        ("since=2026-11-22T12:00:00", "since"),
        ("until=1", "until"),
        ("points=0", "points"),
        ("points=2001", "points"),
        ("points=many", "points"),
        ("since=2026-11-22T12:00:00Z&until=2026-11-22T12:00:00Z", None),
        ("step=1", "step"),
    ],
)
async def test_queue_usage_invalid_query(app: App, query: str, field: str | None) -> None:
    answer = await app.client.get(f"{URL}?{query}")
    assert answer.status_code == 422
    assert answer.json().get("field") == field


@pytest.mark.parametrize(
    "query",
    [
        "since=0001-01-01T00:00:00%2B14:00",
        "until=9999-12-31T23:59:59-14:00",
        "since=9999-12-31T23:59:59Z",
        "until=0001-01-01T00:00:00Z",
        "since=0001-01-01T00:00:00Z&until=9999-12-31T23:59:59Z&points=1",
    ],
)
async def test_queue_usage_calendar_limits(app: App, query: str) -> None:
    answer = await app.client.get(f"{URL}?{query}")
    assert answer.status_code == 200, answer.text
