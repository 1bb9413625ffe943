"""Sizes of requests are checked before their shapes, and errors are short whatever was sent."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from hpcq.api.requests import BodyPace
from hpcq.domain.errors import Overloaded

from .conftest import App, running

JSON = {"Content-Type": "application/json"}
VALUES = 1000


async def post(app: App, body: object, headers: Mapping[str, str] = JSON) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await app.client.post("/jobs", content=content, headers=dict(headers))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "more",
    [
        {"args": [1] * VALUES},
        {"args": [{}] * VALUES},
        {"environment": {f"A{n}": "1" for n in range(VALUES)}},
        {"dependsOn": ["1"] * VALUES},
        {"dependsOn": [["1"] * 10] * (VALUES // 10)},
        {f"k{n}": 1 for n in range(VALUES)},
        {"programArgs": {"a": {f"A{n}": "1" for n in range(VALUES)}}},
    ],
    ids=["args", "wrong args", "environment", "dependsOn", "nested", "unknown", "deep"],
)
async def test_body_too_many_values(plugin: None, tmp_path: Path, more: dict[str, Any]) -> None:
    async with running(tmp_path, max_request_values=VALUES) as app:
        answer = await post(app, app.body | more)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        assert f"more than {VALUES} values" in answer.json()["detail"]
        assert "MAX_REQUEST_VALUES" in answer.json()["detail"]


@pytest.mark.anyio
async def test_body_maximum_values(plugin: None, tmp_path: Path) -> None:
    async with running(tmp_path, max_request_values=VALUES) as app:
        args = ["x"] * (VALUES - len(app.body) - 1)
        assert (await post(app, app.body | {"args": args})).status_code == 201
        assert (await post(app, app.body | {"args": [*args, "x"]})).status_code == 413


@pytest.mark.anyio
@pytest.mark.parametrize("levels", [20, 900, 300_000])
@pytest.mark.parametrize("brackets", [("[", "]"), ('{"a":', "}")])
async def test_body_too_deep(app: App, levels: int, brackets: tuple[str, str]) -> None:
    opened, closed = brackets
    answer = await post(app, f"{opened * levels}1{closed * levels}"[: 2**20].encode())
    if answer.status_code != 422:  # cut short, it is not JSON
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_content")
        assert "nested deeper" in answer.json()["detail"]


@pytest.mark.anyio
async def test_problems_truncated(app: App) -> None:
    problem = (await post(app, app.body | {f"k{n}": 1 for n in range(2000)})).json()
    assert problem["code"] == "wrong_shape"
    assert problem["detail"].count("this field is not known") == 20
    assert problem["detail"].endswith("; and others.")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "more",
    [
        {"environment": {f"k{n}": 1 for n in range(2000)}},
        {"programArgs": {f"k{n}": [] for n in range(2000)}},
        {"args": [{}] * 2000},
        {"dependsOn": [1] * 2000},
        {"dependsOn": ["1"] * 2000},
    ],
    ids=["environment", "programArgs", "args", "dependsOn", "many dependsOn"],
)
async def test_problem_first_wrong_part(app: App, more: dict[str, Any]) -> None:
    problem = (await post(app, app.body | more)).json()
    assert problem["code"] == "wrong_shape"
    assert problem["field"].startswith(next(iter(more)))
    assert len(problem["detail"]) < 500


@pytest.mark.anyio
async def test_problem_input_echo_truncated(app: App) -> None:
    long = "x" * 100_000
    for body in (
        {long: 1},
        {"environment": {long: 1}},
        {"environment": {long: "1"}},
        {"clusterId": long},
        {"queue": long},
        {"name": long},
        {"programId": long},
        {"program": long, "version": long},
        {"dependsOn": [long]},
        {"dependsOn": [{"jobId": "1", "condition": long}]},
        {"programId": "1", "scriptFile": None, "programArgs": {long: 1}},
    ):
        answer = await post(app, app.body | body)
        assert 400 <= answer.status_code <= 501
        assert len(answer.content) < 12_000


@pytest.mark.anyio
async def test_args_total_too_long(plugin: None, tmp_path: Path) -> None:
    async with running(tmp_path, max_args_bytes=2048) as app:
        answer = await post(app, app.body | {"args": ["x" * 1000, "y" * 1050]})
        assert (answer.status_code, answer.json()["field"]) == (400, "args")
        assert "at most 2048" in answer.json()["detail"]
        assert (await post(app, app.body | {"args": ["x" * 1000, "y" * 1000]})).status_code == 201


@pytest.mark.anyio
@pytest.mark.parametrize(
    "kind",
    [
        None,
        "",
        "text/plain",
        "text/plain; charset=application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application",
        "text/json",
        "application/json/x",
        "image/json",
    ],
)
async def test_body_content_type_each_route(app: App, kind: str | None) -> None:
    schema = (await app.client.get("/openapi.json")).json()
    taking_bodies = [
        (method, path)
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
        if "requestBody" in operation
    ]
    assert ("post", "/jobs") in taking_bodies
    headers = {} if kind is None else {"Content-Type": kind}
    for method, path in taking_bodies:
        answer = await app.client.request(
            method, path, content=json.dumps(app.body).encode(), headers=headers
        )
        assert answer.status_code == 422
        assert "Content-Type: application/json" in answer.json()["detail"]
    assert (await app.client.get("/jobs")).json() == []


@pytest.mark.anyio
async def test_body_long_parsed_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    pace = BodyPace()
    for size in (2**20, 100, 2**20, 2**20, 1000):
        await pace.turn(size)
    assert waited == pytest.approx([0, 1 / 8, 2 / 8], abs=0.05)
    with pytest.raises(Overloaded):
        for _ in range(100):
            await pace.turn(2**20)
    assert max(waited) <= 10
    await pace.turn(1000)
