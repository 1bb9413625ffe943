"""The routes of jobs over a scheduler that does what a test tells it to."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.api.conftest import App

from hpcq.api.job_submission import JobSubmission
from hpcq.api.schemas import JOB_EXAMPLE, Job, ResourceUsage
from hpcq.domain.errors import SchedulerUnavailable
from hpcq.domain.jobs import Usage
from hpcq.domain.states import JobState
from hpcq.schedulers.base import ParseFailure

pytestmark = pytest.mark.anyio


async def test_job_submission_to_delete(app: App) -> None:
    answer = await app.client.post("/jobs", json=app.body)
    assert answer.status_code == 201
    job_id, uid = answer.json()["jobId"], answer.json()["uid"]
    assert answer.headers["location"] == f"/jobs/{job_id}"
    (listed,) = (await app.client.get("/jobs")).json()
    assert (listed["jobId"], listed["uid"], listed["name"]) == (job_id, uid, "work")
    for action, state in (("hold", "QUEUED_HELD"), ("release", "QUEUED")):
        done = await app.client.post(f"/jobs/{job_id}/{action}")
        assert (done.status_code, done.json()) == (202, {"detail": f"jobId: {job_id}"})
        assert (await app.client.get(f"/jobs/{uid}")).json()["state"] == state
    for _ in range(2):
        gone = await app.client.delete(f"/jobs/{job_id}")
        assert (gone.status_code, gone.json()) == (202, {"detail": f"jobId: {job_id}"})
    assert (await app.client.get("/jobs")).json() == []
    assert (await app.client.get(f"/jobs/{job_id}")).json()["failureKind"] == "CANCELLED"


async def test_usage_samples(app: App) -> None:
    job_id = (await app.client.post("/jobs", json=app.body)).json()["jobId"]
    native_id = app.scheduler.queue[job_id].native_id
    taken_at = datetime(2026, 1, 5, 12, tzinfo=UTC)
    usage = Usage(cpu_seconds=3.5, memory_bytes=2.0**31, sampled_at=taken_at)
    app.scheduler.extras[native_id] = {"usage": usage}
    app.scheduler.run(native_id)
    while not (answer := await app.client.get(f"/jobs/{job_id}/usage")).json():
        await app.asked_again()
    assert answer.status_code == 200
    (sample,) = answer.json()
    assert sample == {
        "cpuSeconds": 3.5,
        "memoryCpuSeconds": 0.0,
        "instantTotalMemory": 2.0,
        "maxTotalMemory": 0.0,
        "processIO": 0.0,
        "processIOWaiting": 0.0,
        "timeInstant": "2026-01-05T12:00:00.000Z",
        "unknown": ["memoryCpuSeconds", "maxTotalMemory", "processIO", "processIOWaiting"],
    }
    assert ResourceUsage.model_validate(sample)
    assert (await app.client.get("/jobs/404404/usage")).status_code == 404
    assert (await app.client.get(f"/jobs/{job_id}/usage?since=0")).status_code == 422


async def test_submission_of_whole_job(app: App) -> None:
    body = {
        **app.body,
        "args": ["a", ""],
        "queue": "all.q",
        "account": "p1",
        "wallTimeLimit": 60,
        "memoryLimit": 1.5,
        "stdoutPath": "out",
        "stderrPath": "err",
    }
    job_id = (await app.client.post("/jobs", json=body)).json()["jobId"]
    app.scheduler.run(app.scheduler.queue[job_id].native_id)
    # A listing is not believed of a job that changes while it is asked for.
    await app.context.submitter.runner.drain()
    await app.asked_again()
    whole = (await app.client.get(f"/jobs/{job_id}")).json()
    assert whole["state"] == "RUNNING"
    again = await app.client.post("/jobs", json=whole)
    assert again.status_code == 201, again.text
    first, second = app.scheduler.submitted.values()
    assert first == second


def test_submission_answer_only_fields_ignored() -> None:
    answered = {info.alias for info in Job.model_fields.values()}
    assert answered <= JobSubmission.model_json_schema()["properties"].keys()
    body = JOB_EXAMPLE | {"dependsOn": None, "name": "again"}
    assert JobSubmission.model_validate(body).name == "again"


@pytest.mark.parametrize(
    ("fields", "status", "where"),
    [
        ({"reservedSlot": 1}, 422, "reservedSlot"),
        ({"reserved_slots": 1, "reservedSlots": 1}, 422, "reserved_slots"),
        ({"reservedSlots": "1x"}, 422, "reservedSlots"),
        ({"reservedSlots": "1.5"}, 422, "reservedSlots"),
        ({"reservedSlots": "0x10"}, 422, "reservedSlots"),
        ({"reservedSlots": "\u0664"}, 422, "reservedSlots"),
        ({"reservedSlots": 1.5}, 422, "reservedSlots"),
        ({"reservedSlots": True}, 422, "reservedSlots"),
        ({"reservedSlots": float("inf")}, 422, "reservedSlots"),
        ({"reservedSlots": "0"}, 400, "reservedSlots"),
        ({"reservedSlots": None}, 400, "reservedSlots"),
        ({"reservedSlots": ""}, 400, "reservedSlots"),
        ({"workingDirectory": None}, 400, "workingDirectory"),
        ({"scriptFile": None}, 400, "scriptFile"),
        ({"scriptFile": None, "reservedSlot": 1}, 422, "scriptFile"),
        ({"wallTimeLimit": "1h"}, 422, "wallTimeLimit"),
        ({"args": "a b"}, 422, "args"),
        ({"args": [True]}, 422, "args.0"),
        ({"args": [None]}, 422, "args.0"),
        ({"args": [["a"]]}, 422, "args.0"),
        ({"args": [float("nan")]}, 422, "args.0"),
        ({"memoryLimit": True}, 422, "memoryLimit"),
        ({"memoryLimit": "4G"}, 422, "memoryLimit"),
        ({"hold": 1}, 422, "hold"),
        ({"reservedSlots": 0}, 400, "reservedSlots"),
        ({"workingDirectory": ""}, 400, "workingDirectory"),
        ({"scriptFile": ""}, 400, "scriptFile"),
        ({"scriptFile": "/nowhere"}, 400, "scriptFile"),
        ({"clusterId": "another"}, 400, "clusterId"),
        ({"memoryLimit": 0}, 400, "memoryLimit"),
        ({"memoryLimit": -1e308}, 400, "memoryLimit"),
        ({"memoryLimit": 1e308}, 400, "memoryLimit"),
        ({"memoryLimit": float("nan")}, 400, "memoryLimit"),
        ({"memoryLimit": float("inf")}, 400, "memoryLimit"),
        ({"priority": 10**30}, 400, "priority"),
        ({"name": "\ud800"}, 400, "name"),
        ({"dependsOn": ["1"]}, 400, "dependsOn"),
        ({"dependsOn": "1"}, 422, "dependsOn"),
        ({"dependsOn": [1]}, 422, "dependsOn.0"),
        ({"dependsOn": [{"job": "1"}]}, 422, "dependsOn.0.jobId"),
        ({"dependsOn": [{"jobId": "1", "condition": "never"}]}, 422, "dependsOn.0.condition"),
        ({"array": {"first": 1}}, 422, "array.last"),
        ({"array": {"first": 3, "last": 2}}, 400, "array.last"),
        ({"array": {"first": 1, "last": 2, "step": 0}}, 400, "array.step"),
    ],
)
async def test_submission_invalid_field(
    app: App, fields: dict[str, Any], status: int, where: str
) -> None:
    await app.asked_again()
    answer = await app.client.post(
        "/jobs",
        content=json.dumps(app.body | fields),
        headers={"content-type": "application/json"},
    )
    assert (answer.status_code, answer.json()["field"]) == (status, where)
    assert app.scheduler.calls["submit"] == 0


@pytest.mark.parametrize(
    ("fields", "read"),
    [
        ({"reservedSlots": "4"}, {"slots": 4}),
        ({"reservedSlots": 4.0}, {"slots": 4}),
        ({"reservedSlots": "4.0"}, {"slots": 4}),
        ({"args": [64]}, {"args": ("64",)}),
        ({"args": [64.0, -1, 0.5, "64"]}, {"args": ("64.0", "-1", "0.5", "64")}),
        ({"wallTimeLimit": "3600", "queue": "q"}, {"wall_time_limit_seconds": 3600}),
        ({"memoryLimit": "1.5"}, {"memory_limit_bytes": 3 << 29}),
        ({"memoryLimit": 2}, {"memory_limit_bytes": 2 << 30}),
    ],
)
async def test_submission_number_forms(
    app: App, fields: dict[str, Any], read: dict[str, Any]
) -> None:
    answer = await app.client.post("/jobs", json=app.body | fields)
    assert answer.status_code == 201, answer.text
    (spec,) = app.scheduler.submitted.values()
    assert {name: getattr(spec, name) for name in read} == read


@pytest.mark.parametrize("field", ["workingDirectory", "reservedSlots", "scriptFile"])
async def test_submission_mandatory_field_absent_or_null(app: App, field: str) -> None:
    absent = {name: value for name, value in app.body.items() if name != field}
    answers = [
        await app.client.post("/jobs", json=body) for body in (absent, {**absent, field: None})
    ]
    for answer in answers:
        assert answer.status_code == 400
        assert (answer.json()["field"], answer.json()["code"]) == (field, "invalid_content")
    assert answers[0].json() == answers[1].json()


async def test_name_empty(app: App) -> None:
    job_id = (await app.client.post("/jobs", json=app.body | {"name": ""})).json()["jobId"]
    assert (await app.client.get(f"/jobs/{job_id}")).json()["name"] == "work"


@pytest.mark.parametrize(
    ("method", "address", "where"),
    [
        ("GET", "/jobs?limit=1&limit=2", "limit"),
        ("GET", "/jobs?x=1&x=2", "x"),
        ("GET", "/jobs/1?x=1&x=1", "x"),
        ("DELETE", "/jobs/1?x=1&x=1", "x"),
        ("GET", "/jobs/1/usage?x=1&x=1", "x"),
        ("POST", "/jobs/1/hold?x=1&x=1", "x"),
        ("POST", "/jobs?x=1&x=1", "x"),
        ("GET", "/programs?name=A&name=A", "name"),
        ("GET", "/health/live?x=1&x=1", "x"),
        ("GET", "/health/ready?x=1&x=1", "x"),
    ],
)
async def test_parameter_twice(app: App, method: str, address: str, where: str) -> None:
    answer = await app.client.request(method, address, json=app.body if method == "POST" else None)
    problem = answer.json()
    assert (answer.status_code, problem["field"]) == (422, where)
    assert problem["detail"] == f"{where}: it is given more than once."


@pytest.mark.parametrize(
    "path",
    ["/jobs", "/programs", "/health/live", "/health/ready", "/docs", "/openapi.json", "/nothing"],
)
async def test_head_without_body(app: App, path: str) -> None:
    await app.asked_again()
    got, head = await app.client.get(path), await app.client.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    moving = {"x-request-id", "x-as-of"}
    assert {k: v for k, v in head.headers.items() if k not in moving} == {
        k: v for k, v in got.headers.items() if k not in moving
    }
    assert head.headers["content-length"] == str(len(got.content))


async def test_head_of_job_and_usage(app: App) -> None:
    job_id = (await app.client.post("/jobs", json=app.body)).json()["jobId"]
    for path in (f"/jobs/{job_id}", f"/jobs/{job_id}/usage"):
        head = await app.client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == "application/json"
    assert (await app.client.head(f"/jobs/{job_id}/hold")).status_code == 405


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/jobs", "GET, HEAD, POST"),
        ("POST", "/jobs/1", "DELETE, GET, HEAD, PATCH"),
        ("HEAD", "/jobs/1/hold", "POST"),
        ("POST", "/programs/", "GET, HEAD"),
        ("POST", "/docs", "GET, HEAD"),
        ("POST", "/openapi.json", "GET, HEAD"),
    ],
)
async def test_method_not_allowed(app: App, method: str, path: str, allowed: str) -> None:
    answer = await app.client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("path", ["/jobs", "/jobs/", "//jobs", "//jobs/", "///jobs//"])
async def test_slashes_doubled(app: App, path: str) -> None:
    await app.asked_again()
    answer = await app.client.get(f"http://service{path}")
    assert answer.status_code == 200


async def test_submission_null_fields(app: App) -> None:
    optional = [
        info.alias or name
        for name, info in JobSubmission.model_fields.items()
        if not info.is_required()
    ]
    answer = await app.client.post("/jobs", json=dict.fromkeys(optional) | app.body)
    assert answer.status_code == 201
    (spec,) = app.scheduler.submitted.values()
    assert (spec.name, spec.args, spec.hold) == ("work", (), False)
    assert spec.environment.keys() == {"HPCQ_SCRIPT_DIRECTORY"}


async def test_etag_weak_comparison(app: App) -> None:
    await app.asked_again()
    tag = (await app.client.get("/jobs")).headers["etag"]
    bare = tag.removeprefix("W/")
    for known, status in (
        (tag, 304),
        (bare, 304),
        (f'"x",{tag}', 304),
        ("*", 304),
        ('"x"', 200),
        ("W/", 200),
        ("", 200),
    ):
        answer = await app.client.get("/jobs", headers={"if-none-match": known})
        assert answer.status_code == status, known


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip", True),
        ("br, gzip;q=0.1", True),
        ("*", True),
        ("GZIP", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000, *", False),
        ("*;q=0", False),
    ],
)
async def test_listing_compressed_if_accepted(app: App, accepted: str, packed: bool) -> None:
    for _ in range(5):
        app.scheduler.enqueue()
    await app.asked_again()
    answer = await app.client.get("/jobs", headers={"accept-encoding": accepted})
    assert answer.headers.get("content-encoding") == ("gzip" if packed else None)
    assert answer.headers["vary"] == "Accept-Encoding"
    assert len(answer.json()) == 5


async def test_readiness_during_outage(app: App) -> None:
    native_id = app.scheduler.enqueue(state=JobState.RUNNING)
    await app.asked_again()
    assert (await app.client.get("/health/ready")).status_code == 200
    app.scheduler.fail_next("jobs", SchedulerUnavailable("It is away."))
    away = app.scheduler.hold_back_next("jobs")
    app.context.monitor.wake()
    await away.ready.wait()
    ready = await app.client.get("/health/ready")
    assert (ready.status_code, ready.json()["detail"]) == (503, "It is away.")
    assert (await app.client.get("/health/live")).status_code == 200
    assert (await app.client.get(f"/jobs/{native_id}")).json()["state"] == "RUNNING"
    away.let_go()
    await app.asked_again()
    assert (await app.client.get("/health/ready")).status_code == 200


async def test_listing_before_first_poll(silent: App) -> None:
    for path in ("/jobs", "/jobs?expand=resourceUsage", "/jobs?limit=3"):
        answer = await silent.client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (503, "scheduler_unavailable")
        assert answer.headers["retry-after"] == str(answer.json()["retryAfter"])
    assert (await silent.client.head("/jobs")).status_code == 503
    posted = await silent.client.post("/jobs", json=silent.body)
    remembered = await silent.client.get("/jobs")
    assert [job["jobId"] for job in remembered.json()] == [posted.json()["jobId"]]
    assert remembered.headers["x-stale"] == "true"


async def test_listing_of_empty_queue(app: App) -> None:
    await app.asked_again()
    answer = await app.client.get("/jobs")
    assert (answer.status_code, answer.json()) == (200, [])


async def test_listing_with_unreadable_job(app: App) -> None:
    app.scheduler.unreadable = [ParseFailure(reason="cut", excerpt="<job")]
    app.scheduler.enqueue(name="\udcff", native_state="\ud800", hosts=("\udc80",), slots=10**30)
    fine = app.scheduler.enqueue()
    await app.asked_again()
    for query in ("", "?expand=resourceUsage"):
        jobs = (await app.client.get(f"/jobs{query}")).json()
        assert [Job.model_validate(job).job_id for job in jobs] == ["1", fine]


async def test_submission_client_disconnects(app: App) -> None:
    answer = app.scheduler.hold_back_next("submit")
    posting = asyncio.create_task(app.client.post("/jobs", json=app.body))
    await answer.ready.wait()
    posting.cancel()
    await asyncio.gather(posting, return_exceptions=True)
    await app.asked_again()
    await app.asked_again()
    (job,) = (await app.client.get("/jobs")).json()
    (key,) = app.scheduler.submitted
    assert (job["jobId"], job["uid"]) == ("1", key.uid)


async def test_listing_pages(app: App) -> None:
    ids = [app.scheduler.enqueue() for _ in range(5)]
    await app.asked_again()
    url, found, tags = "/jobs?expand=resourceUsage&limit=2", [], set()
    while url:
        answer = await app.client.get(url)
        assert answer.headers["x-stale"] == "false"
        found.append([job["jobId"] for job in answer.json()])
        tags.add(answer.headers["etag"])
        known = {"if-none-match": answer.headers["etag"]}
        assert (await app.client.get(url, headers=known)).status_code == 304
        url = answer.links.get("next", {}).get("url", "")
        assert not url or url.startswith("/jobs?expand=resourceUsage&limit=2&cursor=")
    assert found == [ids[:2], ids[2:4], ids[4:]]
    assert [job["jobId"] for job in (await app.client.get("/jobs")).json()] == ids
    assert "link" not in (await app.client.get("/jobs")).headers


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("limit=1&cursor=", "cursor"),
        ("cursor=AAAA", "cursor"),
        ("cursor=%00", "cursor"),
        ("offset=3", "offset"),
    ],
)
async def test_listing_page_invalid(app: App, query: str, where: str) -> None:
    answer = await app.client.get(f"/jobs?{query}")
    assert (answer.status_code, answer.json()["field"]) == (422, where)


async def test_listing_without_limit_link(app: App) -> None:
    job_id = (await app.client.post("/jobs", json=app.body)).json()["jobId"]
    app.scheduler.run(job_id)
    app.scheduler.end(job_id)
    await app.asked_again()
    while (await app.client.get(f"/jobs/{job_id}")).json()["state"] != "DONE":
        await app.asked_again()
    table = app.context.table
    (entry,) = table.entries.values()
    table.apply(gone=[entry.record.uid], complete_since=entry.record.state_changed_at)
    answer = await app.client.get("/jobs")
    assert answer.json() == []
    (job,) = (await app.client.get(answer.links["next"]["url"])).json()
    assert (job["jobId"], job["state"]) == (job_id, "DONE")
