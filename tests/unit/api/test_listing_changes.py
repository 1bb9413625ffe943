"""The changes of the listing over HTTP."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.api.conftest import App, running

from hpcq.api.routers import listing_changes
from hpcq.domain.principals import Method, Principal, Role
from hpcq.schedulers.testing.waiting import eventually
from hpcq.services.listing.job_entry import Freshness
from hpcq.services.listing.job_table import JobTable

pytestmark = pytest.mark.anyio

ANA = Principal(user="ana", role=Role.OPERATOR, method=Method.TOKEN, sees_all=True)


class Told:
    """The events of a stream, as they come."""

    def __init__(self) -> None:
        self._text = ""

    async def send(self, message: Any) -> None:
        self._text += message.get("body", b"").decode()

    @property
    def events(self) -> list[tuple[str, str, Any]]:
        """Their ids, kinds and data."""
        found = []
        for block in self._text.split("\n\n")[:-1]:
            lines = dict(line.split(": ", 1) for line in block.splitlines() if line[0] != ":")
            if lines:
                found.append((lines["id"], lines["event"], json.loads(lines["data"])))
        return found

    async def until(self, kind: str, key: str, value: str) -> tuple[str, Any]:
        """Return the id and the data of the event that names a job."""

        async def is_told() -> bool:
            return any(self._names(event, kind, key, value) for event in self.events)

        await eventually(is_told)
        (number, _, data), *_ = [e for e in self.events if self._names(e, kind, key, value)]
        return number, data

    def _names(self, event: tuple[str, str, Any], kind: str, key: str, value: str) -> bool:
        found = event[2].get(key, ())
        return event[1] == kind and any(
            value in (one, one.get("jobId") if isinstance(one, dict) else None) for one in found
        )


@contextlib.asynccontextmanager
async def following(
    app: App, last_event_id: str | None = None, headers: Mapping[str, str] | None = None
) -> AsyncIterator[Told]:
    told = Told()
    known = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    headers = {**(headers or {}), **known}
    reading = asyncio.create_task(app.stream("/jobs/changes", headers, told.send))
    try:
        yield told
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _submit(app: App) -> dict[str, str]:
    answer = await app.client.post("/jobs", json=app.body)
    assert answer.status_code == 201, answer.text
    body: dict[str, str] = answer.json()
    return body


async def test_changes_after_reload(plugin: None, tmp_path: Path) -> None:
    async with running(tmp_path) as app, following(app) as told:
        await eventually(lambda: _true(len(told.events) >= 2))
        assert [kind for _, kind, _ in told.events[:2]] == ["reload", "jobs"]
        assert told.events[1][2]["jobs"] == told.events[1][2]["gone"] == []
        job_id = (await _submit(app))["jobId"]
        _, data = await told.until("jobs", "jobs", job_id)
        listed = (await app.client.get("/jobs")).json()
        assert [set(job) for job in data["jobs"]] == [set(job) for job in listed]


async def test_changes_from_known_id(plugin: None, tmp_path: Path) -> None:
    async with running(tmp_path) as app:
        async with following(app) as told:
            first = (await _submit(app))["jobId"]
            number, _ = await told.until("jobs", "jobs", first)
        second = (await _submit(app))["jobId"]
        async with following(app, number) as again:
            await again.until("jobs", "jobs", second)
            assert "reload" not in [kind for _, kind, _ in again.events]


@pytest.mark.parametrize("known", ["", "x", "00000000-1", "-", "9999999999999", "\u0663"])
async def test_changes_from_unknown_id(plugin: None, tmp_path: Path, known: str) -> None:
    async with running(tmp_path) as app, following(app, known) as told:
        await eventually(lambda: _true(len(told.events) >= 1))
        assert told.events[0][1] == "reload"


async def test_changes_deleted_job(plugin: None, tmp_path: Path) -> None:
    async with running(tmp_path) as app, following(app) as told:
        job = await _submit(app)
        await told.until("jobs", "jobs", job["jobId"])
        assert (await app.client.delete(f"/jobs/{job['jobId']}")).status_code == 202
        await told.until("jobs", "gone", job["uid"])


async def test_changes_told_in_silence(
    plugin: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event comes even when nothing changes: a page is not shown comments."""
    monkeypatch.setattr(listing_changes, "_HEARTBEAT_SECONDS", 0.1)
    same = Freshness(as_of=None, stale=True)
    monkeypatch.setattr(JobTable, "freshness", lambda *_: same)
    async with running(tmp_path) as app, following(app) as told:
        await eventually(lambda: _true(len(told.events) >= 5))
        assert {kind for _, kind, _ in told.events[1:]} == {"jobs"}
        for _, _, data in told.events[2:]:
            assert data == {"jobs": [], "gone": [], "asOf": None, "stale": True}


async def test_changes_own_listing(
    plugin: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sees their own jobs alone is told nothing of others, not even an id."""
    async with running(tmp_path) as app:
        rights = [replace(ANA, role=Role.USER, sees_all=False)]

        async def identify(_self: object, _connection: object, _headers: Any) -> Principal:
            return rights[0]

        monkeypatch.setattr(type(app.context.authenticator), "identify", identify)
        async with following(app) as told:
            await eventually(lambda: _true(len(told.events) >= 2))
            await _submit(app)
            await eventually(lambda: _true([k for _, k, _ in told.events].count("reload") == 2))
            rights[0] = replace(ANA, user="bea", role=Role.USER, sees_all=False)
        async with following(app) as bea:
            await eventually(lambda: _true(len(bea.events) >= 2))
            rights[0] = ANA
            await _submit(app)
            rights[0] = replace(ANA, user="bea", role=Role.USER, sees_all=False)
            await asyncio.sleep(0.6)
            assert [kind for _, kind, _ in bea.events].count("reload") == 1
            assert all(data.get("jobs", []) == [] for _, _, data in bea.events)


async def _true(value: bool) -> bool:
    return value
