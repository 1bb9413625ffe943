"""Paging: every job that is there from the first page to the last is shown, in one order."""

import base64
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.services.kit import CLUSTER, T0, WIRE, World

from hpcq.domain import job_merge, submission
from hpcq.domain.jobs import JobRecord, JobSpec, JobUid, NativeId, Observation
from hpcq.domain.states import JobState
from hpcq.services import replicas
from hpcq.services.listing.pagination import Cursor, Page, Pagination, read_cursor, write_cursor
from hpcq.services.monitoring.reconcile import retired
from hpcq.services.replicas import Replica
from hpcq.services.settings import ServiceSettings
from hpcq.storage.leases import Lease

pytestmark = pytest.mark.anyio

SPEC = JobSpec(name="study", working_directory="/srv", script_file="/srv/run.sh")
DAY = timedelta(days=1)


def ours(number: int, seconds: float = 0) -> JobRecord:
    at = T0 + timedelta(seconds=seconds)
    record = submission.intent(JobUid.new(), SPEC, at, by="test", is_promised=False)
    return submission.submitted(record, NativeId(str(number)), at)


def over(number: int, seconds: float) -> JobRecord:
    """A job that ended so long after T0."""
    at = T0 + timedelta(seconds=seconds)
    seen = Observation(native_id=NativeId(str(number)), state=JobState.DONE, end_time=at)
    return job_merge.observe(ours(number), seen, at)


def foreign(number: int) -> JobRecord:
    seen = Observation(native_id=NativeId(str(number)), state=JobState.QUEUED)
    return job_merge.foreign_record(CLUSTER, seen, T0)


@pytest.fixture
async def pages(world: World) -> AsyncIterator[Pagination]:
    yield Pagination(
        world.table, world.store, WIRE, ServiceSettings(), lambda: T0 + timedelta(hours=1)
    )


async def all_pages(pages: Pagination, limit: int, cursor: Cursor | None = None) -> list[Page]:
    found = [await pages.page(cursor, limit)]
    while (following := found[-1].following) is not None:
        found.append(await pages.page(read_cursor(write_cursor(following)), limit))
    return found


def numbers(*pages: Page) -> list[int]:
    return [int(entry.record.native_id or 0) for page in pages for entry in page.entries]


@pytest.mark.parametrize("limit", [1, 3, 11, 12, 13, 1000])
async def test_pages_cover_listing(world: World, pages: Pagination, limit: int) -> None:
    world.table.apply([foreign(n) for n in (10, 2, 9)])
    world.table.apply([ours(100 - n, seconds=n) for n in range(1, 10)])
    found = await all_pages(pages, limit)
    assert numbers(*found) == [2, 9, 10, *range(99, 90, -1)]
    whole = [e.record.native_id for e in await world.table.listing.in_order()]
    assert [str(n) for n in numbers(*found)] == whole
    assert all(len(page.entries) <= limit for page in found)
    assert all(page.entries for page in found)


async def test_pages_jobs_added_and_removed(world: World, pages: Pagination) -> None:
    jobs = [ours(n, seconds=n) for n in range(1, 10)]
    world.table.apply(jobs)
    first = await pages.page(None, 3)
    world.table.apply([ours(10, seconds=10)], gone=[jobs[0].uid, jobs[2].uid, jobs[4].uid])
    rest = await all_pages(pages, 3, first.following)
    assert numbers(first) == [1, 2, 3]
    assert numbers(*rest) == [4, 6, 7, 8, 9, 10]


async def test_pages_retired_jobs_from_store(world: World, pages: Pagination) -> None:
    jobs = [over(n, seconds=n) for n in range(1, 21)]
    for job in jobs:
        await world.store.create(job)
    world.table.apply([*jobs, foreign(50)])
    retiring = retired(jobs, T0 - DAY, at_most=5)
    world.table.apply(gone=retiring.uids, complete_since=retiring.newest)
    found = await all_pages(pages, 4)
    assert numbers(*found[:2]) == [16, 17, 18, 19, 20, 50]
    assert numbers(*found[2:]) == list(range(15, 0, -1))
    start = pages.rest(world.table.listing)
    assert start is not None
    assert numbers(*await all_pages(pages, 1000, start)) == list(range(15, 0, -1))


async def test_pages_expired_jobs(world: World, pages: Pagination) -> None:
    old, new = over(1, seconds=-100_000), over(2, seconds=5)
    for job in (old, new):
        await world.store.create(job)
    world.table.apply(gone=[new.uid], complete_since=new.state_changed_at)
    assert numbers(*await all_pages(pages, 10)) == [2]
    world.table.apply([new], gone=[new.uid], complete_since=old.state_changed_at)
    assert world.table.listing.complete_since == new.state_changed_at


async def test_page_version_after_change(world: World, pages: Pagination) -> None:
    job = over(1, seconds=5)
    await world.store.create(job)
    world.table.apply([job], as_of=T0)
    world.table.apply(gone=[job.uid], complete_since=job.state_changed_at)
    start = pages.rest(world.table.listing)
    before = (await pages.page(start, 10)).version
    assert (await pages.page(start, 10)).version == before
    await world.store.change(job.uid, lambda r: r.changed(state_reason="It was counted anew."))
    assert (await pages.page(start, 10)).version != before


async def test_retired_keeps_newest(world: World) -> None:
    jobs = [over(n, seconds=n) for n in range(1, 10)]
    world.table.apply(jobs)
    assert world.table.listing.complete_since is None
    retiring = retired(jobs, T0 + timedelta(seconds=3), at_most=4)
    assert set(retiring.uids) == {job.uid for job in jobs[:5]}
    assert retiring.newest == jobs[4].state_changed_at
    assert retired(jobs, T0, at_most=9).uids == []


async def test_replica_board_limit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "LISTED_AT_MOST", 2)
    jobs = [over(n, seconds=n) for n in range(1, 10)]
    world.table.apply([*jobs, ours(50)])
    replica = Replica(
        world.store,
        Lease(world.database, "me", DAY),
        world.changer.publisher,
        world.table,
        world.monitor,
        ServiceSettings(),
        lambda: T0 + timedelta(hours=1),
    )
    await replica.retire()
    assert world.on_board() == ["8", "9", "50"]
    assert world.table.listing.complete_since == jobs[6].state_changed_at


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_cursor_any_content(content: bytes) -> None:
    with pytest.raises(ValueError, match="Link"):
        read_cursor(base64.urlsafe_b64encode(b"x" + content).decode().rstrip("="))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "!",
        "a",
        "é",
        "AAAA",
        *(
            base64.urlsafe_b64encode(content).decode()
            for content in (
                b"[]",
                b'[1,"2026-01-05T12:00:00",1,"1","a"]',
                b'[1,"2026-01-05T12:00:00Z",1,"1","\\u0000"]',
                b'[2,1.5,"x"]',
                b'[2,NaN,""]',
                b'[3,1.5,""]',
            )
        ),
    ],
)
def test_cursor_broken(text: str) -> None:
    with pytest.raises(ValueError, match="Link"):
        read_cursor(text)
