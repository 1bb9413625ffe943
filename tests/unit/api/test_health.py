"""The circuits in ``/health/ready``."""

from typing import Any

import pytest
from tests.unit.api.conftest import App

from hpcq.api.schemas import Health
from hpcq.domain.errors import CommandTimedOut, SchedulerUnavailable
from hpcq.domain.jobs import NativeId

pytestmark = pytest.mark.anyio

HANGS = CommandTimedOut(("qsub",), 30)
CLOSED = {"state": "closed", "failures": 0, "retryAfter": None}


async def circuits(app: App, status: int) -> dict[str, Any]:
    answer = await app.client.get("/health/ready")
    assert answer.status_code == status, answer.text
    told: dict[str, Any] = answer.json()["circuits"]
    return told


async def test_circuits_closed(app: App) -> None:
    await app.asked_again()
    assert await circuits(app, 200) == {"scheduler": CLOSED, "accounting": CLOSED}
    Health.model_validate((await app.client.get("/health/ready")).json())


async def test_circuits_scheduler_down(app: App) -> None:
    await app.asked_again()
    for _ in range(5):
        app.scheduler.fail_next("jobs", SchedulerUnavailable("It is away."))
    probe = app.scheduler.hold_back_next("jobs")
    await probe.ready.wait()
    told = await circuits(app, 503)
    assert told == {
        "scheduler": {"state": "half_open", "failures": 5, "retryAfter": 1},
        "accounting": CLOSED,
    }
    refused = await app.client.post("/jobs", json=app.body)
    assert (refused.status_code, refused.json()["code"]) == (503, "scheduler_unavailable")
    assert "has not answered since" in refused.json()["detail"]
    assert refused.headers["retry-after"] == str(refused.json()["retryAfter"]) == "1"
    assert app.scheduler.calls["submit"] == 0
    probe.let_go()
    await app.asked_again()
    assert await circuits(app, 200) == {"scheduler": CLOSED, "accounting": CLOSED}
    assert (await app.client.post("/jobs", json=app.body)).status_code == 201


async def test_circuits_opened_by_submissions(app: App) -> None:
    await app.asked_again()
    listing = app.scheduler.hold_back_next("jobs")
    app.context.monitor.wake()
    await listing.ready.wait()
    for _ in range(3):
        app.scheduler.fail_next("submit", HANGS)
        app.scheduler.fail_next("find", HANGS)
        assert (await app.client.post("/jobs", json=app.body)).status_code == 202
    answer = await app.client.get("/health/ready")
    assert answer.status_code == 503
    # A slow machine may have come to the next attempt meanwhile.
    assert answer.json()["circuits"]["scheduler"]["state"] in {"open", "half_open"}
    assert HANGS.detail in answer.json()["detail"]
    listing.let_go()
    await app.asked_again()
    assert (await circuits(app, 200))["scheduler"] == CLOSED


async def test_circuits_accounting_down(app: App) -> None:
    await app.asked_again()
    for number in range(5):
        app.scheduler.fail_next("history", HANGS)
        assert (await app.client.get(f"/jobs/{NativeId(str(900 + number))}")).status_code == 504
    told = await circuits(app, 200)
    assert told["scheduler"] == CLOSED
    assert told["accounting"]["failures"] == 5
    assert told["accounting"]["state"] in {"open", "half_open"}
    assert told["accounting"]["retryAfter"] >= 1
    assert (await app.client.post("/jobs", json=app.body)).status_code == 201
