"""Search: memory and database give the answer that a look at every job's JSON would give."""

import asyncio
import fnmatch
import json
import tempfile
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.services.kit import CLUSTER, T0, WIRE, World

from hpcq.domain import job_merge, submission
from hpcq.domain.job_filter import JobFilter, SortOrder, milliseconds
from hpcq.domain.jobs import JobRecord, JobSpec, JobUid, NativeId, Observation
from hpcq.domain.principals import Person
from hpcq.domain.states import JobState
from hpcq.services.listing.job_entry import Freshness, JobEntry
from hpcq.services.listing.pagination import AfterFound
from hpcq.services.listing.search import JobSearch, Query

pytestmark = pytest.mark.anyio

_NAMES = ["study", "Study-2", "a*b", "[x]", "pmo?"]
_OWNERS = ["ana", "bob", None]
_MINUTES = st.integers(0, 5)
_FINAL = [JobState.DONE, JobState.FAILED]


def _moment(minutes: int) -> datetime:
    return T0 + timedelta(minutes=minutes, microseconds=400)


@st.composite
def _records(draw: st.DrawFn) -> list[JobRecord]:
    records = []
    for number in range(draw(st.integers(0, 14))):
        spec = JobSpec(
            name=draw(st.sampled_from(_NAMES)),
            working_directory=draw(st.sampled_from(["/srv/a", "/srv/b"])),
            script_file="/srv/run.sh",
            queue=draw(st.sampled_from(["batch", None])),
        )
        submitted = draw(_MINUTES)
        at = _moment(submitted)
        record = submission.intent(JobUid.new(), spec, at, by="me", is_promised=False)
        record = submission.submitted(record, NativeId(str(number + 5)), at)
        ended = draw(st.none() | _MINUTES)
        seen = Observation(
            native_id=NativeId(str(number + 5)),
            state=JobState.RUNNING if ended is None else draw(st.sampled_from(_FINAL)),
            owner=draw(st.sampled_from(_OWNERS)),
            queue=draw(st.sampled_from(["gpu", None])),
            end_time=None if ended is None else _moment(submitted + ended),
        )
        records.append(job_merge.observe(record, seen, _moment(20)))
    return records


_bound = st.none() | st.integers(0, 10).map(lambda n: milliseconds(T0 + timedelta(minutes=n)))
_filters = st.builds(
    JobFilter,
    states=st.none() | st.frozensets(st.sampled_from([*_FINAL, JobState.RUNNING]), min_size=1),
    owners=st.none() | st.frozensets(st.sampled_from(["ana", "bob"]), min_size=1),
    queues=st.none() | st.frozensets(st.sampled_from(["batch", "gpu"]), min_size=1),
    name=st.none() | st.sampled_from([*_NAMES, "*", "stud*", "*-2", "nothing"]),
    working_directory=st.none() | st.just("/srv/a"),
    submitted_after=_bound,
    submitted_before=_bound,
    ended_after=_bound,
    ended_before=_bound,
    text=st.none() | st.sampled_from(["STUDY", "/srv/B", "7", "none of them"]),
)


def _in_json(record: JobRecord) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(JobEntry(record, WIRE).json(Freshness(T0, stale=False)))
    return found


def _is_asked_for(job: dict[str, Any], criteria: JobFilter) -> bool:
    def between(text: str | None, start: int | None, end: int | None) -> bool:
        if start is None and end is None:
            return True
        if text is None:
            return False
        at = milliseconds(datetime.fromisoformat(text))
        return (start is None or at >= start) and (end is None or at < end)

    name = criteria.name and criteria.name.replace("[", "[[]").replace("?", "[?]")
    texts = [job[field] or "" for field in ("name", "jobId", "workingDirectory", "scriptFile")]
    return (
        (criteria.states is None or job["state"] in criteria.states)
        and (criteria.owners is None or job["owner"] in criteria.owners)
        and (criteria.queues is None or job["queue"] in criteria.queues)
        and (name is None or fnmatch.fnmatchcase(job["name"], name))
        and criteria.working_directory in (None, job["workingDirectory"])
        and between(job["submitTime"], criteria.submitted_after, criteria.submitted_before)
        and between(job["endTime"], criteria.ended_after, criteria.ended_before)
        and (
            criteria.text is None
            or any(criteria.text.lower() in text.lower() for text in (*texts, job["uid"]))
        )
    )


def _naive(records: list[JobRecord], query: Query) -> list[str]:
    """The ids in the order of the answer, out of the JSON of all jobs."""
    field = query.order.field
    jobs = [job for job in map(_in_json, records) if _is_asked_for(job, query.criteria)]
    if field is not None:
        jobs.sort(
            key=lambda job: (job[field] is None, job[field] or "", job["uid"]),
            reverse=query.order.descending,
        )
    return [job["uid"] for job in jobs]


async def _all_pages(search: JobSearch, query: Query, limit: int) -> list[str]:
    found, after = [], None
    while True:
        page = await search.page(query, after, limit)
        assert len(page.entries) <= limit
        found += [str(entry.record.uid) for entry in page.entries]
        if page.following is None:
            return found
        assert isinstance(page.following, AfterFound)
        after = page.following.key


@settings(deadline=None, max_examples=60)
@given(
    records=_records(),
    criteria=_filters,
    field=st.sampled_from(["endTime", "submitTime"]),
    descending=st.booleans(),
    limit=st.integers(1, 5),
    kept=st.integers(0, 14),
    person=st.sampled_from([None, None, Person("nobody", "nobody")]),
)
def test_search_matches_json(
    records: list[JobRecord],
    criteria: JobFilter,
    field: str,
    descending: bool,
    limit: int,
    kept: int,
    person: Person | None,
) -> None:
    query = Query(
        name="q",
        criteria=criteria,
        order=SortOrder(field, descending),
        with_archived=True,
        person=person,
    )
    expected = [] if person else _naive(records, query)

    async def check(folder: str) -> None:
        async with World(directory=Path(folder)) as world:
            search = JobSearch(world.table, world.store, WIRE)
            await world.store.publish([(None, record) for record in records], holder=None)
            # Some of the finished ones are in memory too.
            in_memory = [r for i, r in enumerate(records) if i < kept or not r.is_settled]
            world.table.apply(in_memory)
            assert await _all_pages(search, query, limit) == expected
            world.table.apply(records)
            alone = replace(query, with_archived=False)
            assert await _all_pages(search, alone, limit) == expected
            whole = [str(entry.record.uid) for entry in await search.in_memory(alone)]
            assert whole == expected

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check(folder))


def _ours(number: int, seconds: float = 0, **spec: Any) -> JobRecord:
    at = T0 + timedelta(seconds=seconds)
    asked = JobSpec(name="study", working_directory="/srv", script_file="/srv/run.sh")
    record = submission.intent(JobUid.new(), replace(asked, **spec), at, by="me", is_promised=False)
    return submission.submitted(record, NativeId(str(number)), at)


@pytest.mark.parametrize("field", ["jobId", "name", "owner", "queue", "state", "startTime"])
@pytest.mark.parametrize("descending", [False, True])
async def test_search_pages_any_order(world: World, field: str, descending: bool) -> None:
    foreign = Observation(native_id=NativeId("99"), state=JobState.QUEUED, owner="bob")
    world.table.apply([_ours(number, name=f"n{number % 3}") for number in (10, 9, 2, 100)])
    world.table.apply([job_merge.foreign_record(CLUSTER, foreign, T0)])
    search = JobSearch(world.table, world.store, WIRE)
    query = Query(name="q", criteria=JobFilter(), order=SortOrder(field, descending))
    whole = [str(entry.record.uid) for entry in await search.in_memory(query)]
    assert len(whole) == 5
    assert await _all_pages(search, query, 2) == whole
    if field == "jobId":
        ids = [entry.record.native_id for entry in await search.in_memory(query)]
        assert ids == ["2", "9", "10", "99", "100"][:: -1 if descending else 1]


async def test_search_pages_jobs_added_and_removed(world: World) -> None:
    jobs = [_ours(number, seconds=number) for number in range(1, 8)]
    world.table.apply(jobs)
    search = JobSearch(world.table, world.store, WIRE)
    query = Query(name="q", criteria=JobFilter(), order=SortOrder("submitTime", descending=True))
    first = await search.page(query, None, 3)
    assert [entry.record.native_id for entry in first.entries] == ["7", "6", "5"]
    world.table.apply([_ours(8, seconds=8)], gone=[jobs[6].uid, jobs[4].uid])
    assert isinstance(first.following, AfterFound)
    second = await search.page(query, first.following.key, 3)
    assert [entry.record.native_id for entry in second.entries] == ["4", "3", "2"]


async def test_search_version_unrelated_change(world: World) -> None:
    mine, other = _ours(1, name="mine"), _ours(2, name="other")
    world.table.apply([mine, other])
    search = JobSearch(world.table, world.store, WIRE)
    query = Query(name="q", criteria=JobFilter(name="mine"), order=SortOrder())
    before = (await search.page(query, None, 10)).version
    world.table.apply([other.changed(state_reason="It waits.")])
    assert (await search.page(query, None, 10)).version == before
    world.table.apply([mine.changed(state_reason="It waits.")])
    assert (await search.page(query, None, 10)).version != before
