"""Events over HTTP, to readers who lose rights while they read."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.api.conftest import App, running

from hpcq.api import streamed_answers
from hpcq.domain.principals import UNASKED, Method, Principal, Role
from hpcq.schedulers.testing.waiting import eventually

pytestmark = pytest.mark.anyio

ANA = Principal(user="ana", role=Role.OPERATOR, method=Method.TOKEN, sees_all=True)


async def _submit(app: App) -> str:
    answer = await app.client.post("/jobs", json=app.body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["jobId"])


async def test_event_stream_reader_rights_changed(
    plugin: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends before it tells of a job that the reader may see no more."""
    monkeypatch.setattr(streamed_answers, "_RECHECKED_SECONDS", 0.0)
    async with running(tmp_path) as app:
        rights = [ANA]

        async def identify(_self: object, _connection: object, headers: Any) -> Principal:
            return rights[-1] if "authorization" in headers else UNASKED

        monkeypatch.setattr(type(app.context.authenticator), "identify", identify)
        told: list[str] = []

        async def send(message: Any) -> None:
            told.append(message.get("body", b"").decode())

        async def has_told(job_id: str) -> bool:
            return f'"jobId": "{job_id}"' in "".join(told)

        path = "/events?after=0&type=job.submitted"
        reading = asyncio.create_task(app.stream(path, {"Authorization": "Bearer x"}, send))
        first = await _submit(app)
        await eventually(lambda: has_told(first))
        rights.append(replace(ANA, role=Role.VIEWER, sees_all=False))
        second = await _submit(app)
        async with asyncio.timeout(30):
            await reading
        assert not await has_told(second)
