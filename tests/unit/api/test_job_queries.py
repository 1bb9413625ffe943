"""Filters, orders and fields of ``GET /jobs`` and ``GET /jobs/summary``."""

import json
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.api.conftest import App

from hpcq.domain.jobs import JobUid
from hpcq.domain.units import format_time, now
from hpcq.services.listing.pagination import AfterFound, read_cursor, write_cursor

pytestmark = pytest.mark.anyio


async def submitted(app: App, **fields: Any) -> str:
    answer = await app.client.post("/jobs", json={**app.body, **fields})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["jobId"])


async def ids(app: App, query: str) -> list[str]:
    answer = await app.client.get(f"/jobs?{query}")
    assert answer.status_code == 200, answer.text
    return [job["jobId"] for job in answer.json()]


async def forgotten(app: App, job_id: str) -> None:
    """Have a job end, and leave the memory as if that were long ago."""
    app.scheduler.end(job_id, exit_code=0)  # type: ignore[arg-type]
    await app.asked_again()
    await app.asked_again()
    job = (await app.client.get(f"/jobs/{job_id}")).json()
    assert job["state"] == "DONE"
    app.context.table.apply(gone=[JobUid(job["uid"])])


async def test_filters_combined(app: App) -> None:
    first = await submitted(app, name="pmo-1", queue="batch")
    second = await submitted(app, name="pmo-2", hold=True)
    assert await ids(app, "name=pmo-*") == [first, second]
    assert await ids(app, "name=pmo-2") == [second]
    assert await ids(app, "name=pmo") == []
    assert await ids(app, "queue=batch,other") == [first]
    assert await ids(app, "state=QUEUED_HELD,RUNNING") == [second]
    assert await ids(app, "status=START_REQUESTED&text=PMO-1") == [first]
    assert await ids(app, "active=false") == []
    assert await ids(app, "active=true&state=DONE") == []
    assert await ids(app, f"workingDirectory={app.body['workingDirectory']}") == [first, second]
    assert await ids(app, "workingDirectory=/") == []
    assert await ids(app, "program=NONE") == []
    assert await ids(app, "arrayJobId=1") == []


async def test_filter_empty_value(app: App) -> None:
    job_id = await submitted(app)
    names = ["state", "status", "owner", "queue", "name", "program", "text", "arrayJobId"]
    names += ["workingDirectory", "submittedAfter", "endedBefore", "active", "archived", "sort"]
    assert await ids(app, "&".join(f"{name}=" for name in (*names, "fields"))) == [job_id]


@pytest.mark.parametrize(
    ("query", "field", "said"),
    [
        ("state=WAITING", "state", "QUEUED_HELD"),
        ("status=QUEUED", "status", "START_REQUESTED"),
        ("submittedAfter=yesterday", "submittedAfter", "2026-11-22T12:00:00Z"),
        ("submittedBefore=2026-11-22", "submittedBefore", "zone"),
        ("endedAfter=2026-11-22T12:00:00", "endedAfter", "zone"),
        ("endedBefore=1764000000", "endedBefore", "zone"),
        ("endedBefore=2026-13-22T12:00:00Z", "endedBefore", "zone"),
        ("endedBefore=2026-11-22T12:00:00+01:00", "endedBefore", "%2B"),
        ("active=maybe", "active", ""),
        ("sort=color", "sort", "submitTime"),
        ("fields=jobId,color", "fields", "color"),
        ("colour=red", "colour", ""),
        ("state=DONE&state=FAILED", "state", "more than once"),
    ],
)
async def test_parameter_invalid(app: App, query: str, field: str, said: str) -> None:
    answer = await app.client.get(f"/jobs?{query}")
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["field"] == field
    assert said in json.dumps(problem)


async def test_summary_parameter_not_a_filter(app: App) -> None:
    for query in ("sort=name", "limit=3", "fields=jobId", "archived=true"):
        assert (await app.client.get(f"/jobs/summary?{query}")).status_code == 422


@pytest.mark.parametrize("query", ["archived=true", "endedAfter=2026-11-22T12:00:00Z"])
async def test_archived_jobs_sort_by_time_only(app: App, query: str) -> None:
    answer = await app.client.get(f"/jobs?{query}&sort=name")
    assert answer.status_code == 422
    assert "submitTime or endTime" in answer.text or "endTime or submitTime" in answer.text
    assert (await app.client.get(f"/jobs?{query}&sort=-submitTime")).status_code == 200


async def test_archived_jobs_by_time_or_flag(app: App) -> None:
    old = await submitted(app, name="old")
    await forgotten(app, old)
    new = await submitted(app, name="new")
    assert await ids(app, "name=old") == []
    assert await ids(app, "name=old&archived=true") == [old]
    assert await ids(app, "archived=true") == [new, old]
    an_hour_ago = format_time(now() - timedelta(hours=1))
    assert await ids(app, f"endedAfter={an_hour_ago}") == [old]
    assert await ids(app, f"endedAfter={an_hour_ago}&archived=false") == []
    assert await ids(app, f"endedBefore={an_hour_ago}") == []
    assert await ids(app, f"submittedAfter={an_hour_ago}") == [new, old]
    assert await ids(app, f"submittedAfter={an_hour_ago}&sort=submitTime") == [old, new]


async def test_page_links_query_and_cursor(app: App) -> None:
    for number in range(5):
        await submitted(app, name=f"n{number}")
    url, found = "/jobs?sort=-name&active=true&limit=2&fields=name", []
    cursors = []
    while url:
        answer = await app.client.get(url)
        found += [job["name"] for job in answer.json()]
        link = answer.headers.get("Link", "")
        url = link.partition("<")[2].partition(">")[0]
        if url:
            cursors.append(url.partition("cursor=")[2])
    assert found == ["n4", "n3", "n2", "n1", "n0"]
    for query in (
        "limit=2",
        "sort=name&active=true",
        "sort=-name",
        "sort=-name&active=true&queue=x",
    ):
        answer = await app.client.get(f"/jobs?{query}&cursor={cursors[0]}")
        assert answer.status_code == 422
        assert "another query" in answer.text


async def test_cursor_forged(app: App) -> None:
    await submitted(app)
    link = (await app.client.get("/jobs?sort=name&limit=1")).headers.get("Link")
    assert link is None
    await submitted(app)
    link = (await app.client.get("/jobs?sort=name&limit=1")).headers["Link"]
    true = read_cursor(link.partition("cursor=")[2].partition(">")[0])
    assert isinstance(true, AfterFound)
    for key in ((1,), ("a", "b"), (False, "a"), (False, 1, "a"), (False, "a", "u", "x")):
        made_up = write_cursor(AfterFound(true.query, key))
        assert (await app.client.get(f"/jobs?sort=name&cursor={made_up}")).status_code == 422
    plain = await app.client.get(f"/jobs?cursor={write_cursor(AfterFound('', (1, 'u')))}")
    assert plain.status_code == 422


@pytest.mark.parametrize("query", ["fields=state,jobId", "fields=state,jobId&sort=name"])
async def test_fields_selection(app: App, query: str) -> None:
    job_id = await submitted(app)
    answer = await app.client.get(f"/jobs?{query}")
    assert answer.json() == [{"jobId": job_id, "state": "QUEUED"}]
    assert answer.text.startswith('[{"jobId"')


async def test_filtered_listing_etag(app: App) -> None:
    await submitted(app, name="mine")
    # What the scheduler's first look at it tells is a change too.
    await app.asked_again()
    await app.asked_again()
    tag = (await app.client.get("/jobs?name=mine")).headers["ETag"]
    other = await submitted(app, name="other")
    known = {"If-None-Match": tag}
    assert (await app.client.get("/jobs?name=mine", headers=known)).status_code == 304
    await app.asked_again()
    await app.asked_again()
    assert (await app.client.get("/jobs?text=e", headers=known)).status_code == 200
    await app.client.post(f"/jobs/{other}/hold")
    assert (await app.client.get("/jobs?name=mine", headers=known)).status_code == 304
    await submitted(app, name="mine")
    assert (await app.client.get("/jobs?name=mine", headers=known)).status_code == 200


async def test_summary_filters(app: App) -> None:
    await submitted(app, name="one", hold=True)
    await submitted(app, name="two")
    counts = (await app.client.get("/jobs/summary?name=one")).json()
    assert counts["jobs"] == 1
    assert counts["byState"]["QUEUED_HELD"] == 1
    assert counts["byState"]["QUEUED"] == 0
    assert (await app.client.get("/jobs/summary")).json()["jobs"] == 2
