"""The routes of jobs for clients of the original implementation."""

import json
import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.unit.api.conftest import App, running

from hpcq.api.app import create_app
from hpcq.config import Settings

pytestmark = pytest.mark.anyio

LOCAL_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?")


@pytest.fixture
async def original(plugin: None, tmp_path: Path) -> AsyncIterator[App]:
    """A service that answers clients of the original."""
    async with running(tmp_path, compatibility="original") as app:
        yield app


def schema(tmp_path: Path, compatibility: Any) -> dict[str, Any]:
    settings = Settings(state_directory=tmp_path, compatibility=compatibility)
    return create_app(settings).openapi()


async def test_original_unknown_fields_ignored(original: App) -> None:
    body = original.body | {
        "clusterId": "another",
        "colour": "blue",
        "endTime": None,
        "array": {"first": 1, "last": 2, "every": 1},
        "dependsOn": [],
    }
    posted = await original.client.post("/jobs/?refresh=1&refresh=2", json=body)
    assert posted.status_code == 201, posted.text
    job_id = posted.json()["jobId"]
    for address in ("/jobs/?x=1", f"/jobs/{job_id}?x=1&x=2", "/programs/?x=1", "/health/live?x=1"):
        assert (await original.client.get(address)).status_code == 200, address
    assert (await original.client.delete(f"/jobs/{job_id}?x=1")).status_code == 202


@pytest.mark.parametrize("cluster_id", ["another", "", 1, None])
async def test_original_any_cluster(original: App, cluster_id: object) -> None:
    posted = await original.client.post("/jobs", json=original.body | {"clusterId": cluster_id})
    assert posted.status_code == 201
    (job,) = (await original.client.get("/jobs")).json()
    assert job["clusterId"] == "1"


@pytest.mark.parametrize(
    ("address", "fields", "status", "field"),
    [
        ("/jobs?limit=1&limit=1", {}, 422, "limit"),
        ("/jobs?limit=none", {}, 422, "limit"),
        ("/jobs", {"reservedSlots": "many"}, 422, "reservedSlots"),
        ("/jobs", {"workingDirectory": None}, 400, "workingDirectory"),
        ("/jobs", {"scriptFile": "/nowhere"}, 400, "scriptFile"),
    ],
)
async def test_original_known_fields_checked(
    original: App, address: str, fields: dict[str, Any], status: int, field: str
) -> None:
    if fields:
        answer = await original.client.post(address, json=original.body | fields)
    else:
        answer = await original.client.get(address)
    assert (answer.status_code, answer.json()["field"]) == (status, field)


async def test_original_times_local(original: App) -> None:
    job_id = (await original.client.post("/jobs", json=original.body)).json()["jobId"]
    await original.asked_again()
    job = (await original.client.get(f"/jobs/{job_id}")).json()
    (listed,) = (await original.client.get("/jobs")).json()
    ready = (await original.client.get("/health/ready")).json()
    for shown in (job, listed):
        for name in ("startTime", "lastStatusUpdateTime", "submitTime", "asOf"):
            assert LOCAL_TIME.fullmatch(shown[name]), name
        assert shown["startTime"] == shown["submitTime"]
    assert LOCAL_TIME.fullmatch(ready["asOf"])
    age = datetime.now() - datetime.fromisoformat(job["lastStatusUpdateTime"])
    assert timedelta(0) <= age < timedelta(hours=1)


async def test_original_listing_without_ended_jobs(original: App) -> None:
    scheduler, client = original.scheduler, original.client
    job_id = (await client.post("/jobs", json=original.body)).json()["jobId"]
    native_id = scheduler.queue[job_id].native_id
    scheduler.run(native_id)
    scheduler.end(native_id)
    while (job := (await client.get(f"/jobs/{job_id}")).json())["status"] != "STOPPED":
        await original.asked_again()
    assert job["endTime"] is not None
    for query in ("", "?limit=5", "?expand=resourceUsage"):
        answer = await client.get(f"/jobs{query}")
        assert (answer.status_code, answer.json()) == (200, [])
        assert "link" not in answer.headers


async def test_original_listing_unchanged(original: App) -> None:
    original.scheduler.enqueue()
    await original.asked_again()
    first = await original.client.get("/jobs")
    await original.asked_again()
    known = {"if-none-match": first.headers["etag"]}
    assert (await original.client.get("/jobs", headers=known)).status_code == 304
    later = (await original.client.get("/jobs")).json()[0]["lastStatusUpdateTime"]
    assert later > first.json()[0]["lastStatusUpdateTime"]


async def test_original_disabled_by_default(app: App) -> None:
    for fields in ({"colour": "blue"}, {"array": {"first": 1, "last": 2, "every": 1}}):
        assert (await app.client.post("/jobs", json=app.body | fields)).status_code == 422
    other = await app.client.post("/jobs", json=app.body | {"clusterId": "another"})
    assert (other.status_code, other.json()["field"]) == (400, "clusterId")


def test_schema_original_and_default(tmp_path: Path) -> None:
    default, original = schema(tmp_path, "none"), schema(tmp_path, "original")
    for one, extra, form in (
        (default, False, "date-time"),
        (original, True, "date-time-local"),
    ):
        schemas = one["components"]["schemas"]
        for name in ("JobSubmission", "DependencyIn", "ArrayIn"):
            assert schemas[name]["additionalProperties"] is extra
        job = schemas["Job"]["properties"]
        assert job["lastStatusUpdateTime"]["format"] == form
        assert job["endTime"]["anyOf"][0]["format"] == form
        assert schemas["ResourceUsage"]["properties"]["timeInstant"]["format"] == form
    assert "COMPATIBILITY=original" in original["info"]["description"]
    assert "COMPATIBILITY" not in json.dumps(default)
    assert "000Z" not in json.dumps(original["components"])
    assert default["paths"].keys() == original["paths"].keys()


async def test_schema_original_matches_answers(original: App, tmp_path: Path) -> None:
    job_id = (await original.client.post("/jobs", json=original.body)).json()["jobId"]
    original.scheduler.run(original.scheduler.queue[job_id].native_id)
    await original.asked_again()
    document = schema(tmp_path, "original")
    validator = jsonschema.Draft202012Validator(
        {"$ref": "#/components/schemas/Job", "components": document["components"]}
    )
    job = (await original.client.get(f"/jobs/{job_id}")).json()
    validator.validate(job)
    assert not validator.is_valid(job | {"submitTime": "2026-01-05T12:00:00.000Z"})
