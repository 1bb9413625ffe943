"""The table: which job a number means, and when a listing is another one."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.services.kit import CLUSTER, T0, WIRE

from hpcq.domain import job_merge, submission
from hpcq.domain.jobs import JobRecord, JobSpec, JobUid, NativeId, Observation
from hpcq.domain.principals import Person
from hpcq.domain.states import JobState
from hpcq.services.listing import job_table
from hpcq.services.listing.job_entry import Freshness
from hpcq.services.listing.job_table import JobTable

SPEC = JobSpec(name="study", working_directory="/srv", script_file="/srv/run.sh")
FRESH = Freshness(T0, stale=False)


def ours(number: str | None = "5") -> JobRecord:
    record = submission.intent(JobUid.new(), SPEC, T0, by="test", is_promised=False)
    return record if number is None else submission.submitted(record, NativeId(number), T0)


def seen(number: str = "5", **fields: object) -> Observation:
    state = fields.pop("state", JobState.QUEUED)
    return Observation(native_id=NativeId(number), state=state, **fields)  # type: ignore[arg-type]


def foreign(number: str = "5", hours: float = 5, **fields: object) -> JobRecord:
    submitted = T0 + timedelta(hours=hours)
    return job_merge.foreign_record(
        CLUSTER, seen(number, submit_time=submitted, **fields), submitted
    )


def holder(table: JobTable, number: str = "5") -> JobUid | None:
    entry = table.entry(NativeId(number))
    return None if entry is None else entry.record.uid


def test_native_id_reused_by_newer_job() -> None:
    table, old, new = JobTable(WIRE), ours(), foreign()
    table.apply([old])
    table.apply([new])
    assert holder(table) == new.uid
    entry = table.entry(old.uid)
    assert entry is not None
    assert entry.record is old


def test_native_id_reused_older_job_changed() -> None:
    table, old, new = JobTable(WIRE), ours(), foreign()
    table.apply([old])
    table.apply([new])
    table.apply([old.changed(removed_at=T0)])
    assert holder(table) == new.uid
    table.apply(gone=[old.uid])
    assert holder(table) == new.uid


def test_native_id_found_late() -> None:
    table, old, unclear = JobTable(WIRE), foreign(hours=-300), ours(None)
    table.apply([old, unclear])
    table.apply([submission.submitted(unclear, NativeId("5"), T0)])
    assert holder(table) == unclear.uid


@pytest.mark.parametrize("sight_first", [True, False])
@pytest.mark.parametrize("with_key", [True, False])
def test_own_job_listed_before_or_after_record(sight_first: bool, with_key: bool) -> None:
    table, record = JobTable(WIRE), ours()
    key = record.key if with_key else None
    sight = foreign(hours=0, submission_key=key)
    for one in [sight, record] if sight_first else [record, sight]:
        table.apply([one])
    assert [r.uid for r in table.records()] == [record.uid]
    assert holder(table) == record.uid


def test_recently_left_foreign_job() -> None:
    table, job = JobTable(WIRE), foreign()
    table.apply([job], as_of=T0)
    assert table.recently_left(NativeId("5")) is None
    table.apply(gone=[job.uid])
    left = table.recently_left(NativeId("5"))
    assert left is not None
    assert (left.uid, left.state, left.confirmed_at) == (job.uid, JobState.UNDETERMINED, T0)
    table.apply([job])
    assert table.recently_left(NativeId("5")) is None


def test_recently_left_size_limit() -> None:
    table = JobTable(WIRE)
    jobs = [foreign(str(number)) for number in range(1, 10_101)]
    table.apply(jobs)
    table.apply(gone=[job.uid for job in jobs])
    assert table.recently_left(NativeId("100")) is None
    assert table.recently_left(NativeId("101")) is not None


@pytest.mark.anyio
async def test_listing_snapshot_immutable() -> None:
    table, job = JobTable(WIRE), foreign()
    empty = table.listing
    table.apply([job])
    full = table.listing
    table.apply(gone=[job.uid])
    listings = [await listing.in_order() for listing in (empty, full, table.listing)]
    assert [len(entries) for entries in listings] == [0, 1, 0]


def test_table_copy_immutable() -> None:
    table, job = JobTable(WIRE), foreign()
    table.apply([job])
    copied = table.copy()
    table.apply(gone=[job.uid])
    assert copied.entry(NativeId("5")) is copied.entries[job.uid]
    assert table.entry(NativeId("5")) is None


def test_version_after_changes() -> None:
    table, job = JobTable(WIRE), foreign()
    versions = [table.listing.version]
    for changed, gone in (
        ([job], []),
        ([job.changed(state=JobState.RUNNING)], []),
        ([], [job.uid]),
    ):
        table.apply(changed, gone)
        versions.append(table.listing.version)
    assert len(set(versions)) == 4
    for later in ({"as_of": T0}, {"gone": [job.uid]}, {}):
        table.apply(**later)
        assert (table.listing.version, table.listing.as_of) == (versions[-1], T0), later


def test_version_of_other_process() -> None:
    assert JobTable(WIRE).version != JobTable(WIRE).version


@pytest.mark.anyio
async def test_listing_json_concurrent_readers() -> None:
    table = JobTable(WIRE)
    table.apply([foreign(str(number)) for number in range(1, 50)])
    answers = await asyncio.gather(
        *(table.listing.json(FRESH, usage=False, gzip=True) for _ in range(20))
    )
    assert len({id(answer) for answer in answers}) == 1


@pytest.mark.anyio
async def test_listing_json_reader_cancelled() -> None:
    table = JobTable(WIRE)
    table.apply([foreign()])
    first = asyncio.create_task(table.listing.json(FRESH, usage=False, gzip=False))
    second = asyncio.create_task(table.listing.json(FRESH, usage=False, gzip=False))
    await asyncio.sleep(0)
    first.cancel()
    assert b"".join(await second).startswith(b'[{"jobId":"5"')


def test_records_oldest_first() -> None:
    table = JobTable(WIRE)
    jobs = [foreign(str(number)) for number in (7, 5, 6)]
    table.apply(jobs)
    table.apply([jobs[0].changed(state=JobState.RUNNING)])
    assert [r.native_id for r in table.records()] == ["7", "5", "6"]


VERSIONS = st.builds(
    lambda number, kind, state, user, hours: (
        foreign(str(number), hours) if kind == "foreign" else ours(str(number))
    ).changed(
        uid=JobUid(f"00000000-0000-4000-8000-0000000000{number}{hours}"),
        state=state,
        submitted_by=user,
        parent_uid=JobUid.new() if kind == "task" else None,
    ),
    st.integers(1, 3),
    st.sampled_from(["ours", "foreign", "task"]),
    st.sampled_from(JobState),
    st.sampled_from(["ana", "bob", None]),
    st.integers(0, 2),
)


@given(st.lists(st.tuples(st.booleans(), VERSIONS), max_size=30))
def test_open_jobs_counts(steps: list[tuple[bool, JobRecord]]) -> None:
    table = JobTable(WIRE)
    for is_gone, record in steps:
        table.apply(gone=[record.uid]) if is_gone else table.apply([record])
    left = [record for record in table.records() if not record.is_settled]
    assert +table.open_jobs == Counter(record.state for record in left)
    for user in ("ana", "bob"):
        theirs = [r for r in left if r.submitted_by == user and r.parent_uid is None]
        assert table.open_jobs_of(user) == len(theirs)


def test_changed_since_each_job_once() -> None:
    table = JobTable(WIRE)
    table.apply([foreign("1"), foreign("2")])
    before, one = table.version, table.by_native[NativeId("1")]
    assert table.changed_since(before) == ()
    table.apply([table.entries[one].record, foreign("3")], gone=[one])
    assert set(table.changed_since(before) or ()) == {one, table.by_native[NativeId("3")]}


@pytest.mark.parametrize("version", ["", "-", "x-1", "{epoch}-99", "{epoch}--1", "{epoch}-x"])
def test_changed_since_unknown_version(version: str) -> None:
    table = JobTable(WIRE)
    table.apply([foreign()])
    epoch = table.version.partition("-")[0]
    assert table.changed_since(version.format(epoch=epoch)) is None


def test_changed_since_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_table, "_CHANGES_KEPT", 3)
    table = JobTable(WIRE)
    before = table.version
    table.apply([foreign(str(number)) for number in range(3)])
    assert len(table.changed_since(before) or ()) == 3
    table.apply([foreign("4")])
    assert table.changed_since(before) is None


def jobs_of(table: JobTable, user: str, account: str | None) -> set[JobUid]:
    listing = table.view(Person(user, account))
    return {entry.record.uid for entry in asyncio.run(listing.in_order())}


def test_view_holds_jobs_of_the_user_and_of_the_account() -> None:
    table = JobTable(WIRE)
    here = ours("1").changed(submitted_by="ana")
    of_account, of_namesake = foreign("2", owner="ana01"), foreign("3", owner="ana")
    table.apply([here, of_account, of_namesake])
    assert jobs_of(table, "ana", "ana01") == {here.uid, of_account.uid}
    assert jobs_of(table, "ana", None) == {here.uid}
    assert jobs_of(table, "eve", "ana01") == {of_account.uid}
    assert jobs_of(table, "ana01", "ana") == {of_namesake.uid}


def test_view_changes_with_the_jobs_of_its_account_alone() -> None:
    table, ana, eve = JobTable(WIRE), Person("ana", "ana01"), Person("eve", "ana01")
    table.apply([foreign("1", owner="ana01"), foreign("2", owner="ana")])
    before = table.view(ana).version, table.view(eve).version
    assert before[0] != before[1]
    table.apply([foreign("3", owner="ana")])
    assert (table.view(ana).version, table.view(eve).version) == before
    new = foreign("4", owner="ana01")
    table.apply([new])
    for person, version in zip((ana, eve), before, strict=True):
        assert table.view(person).version != version
        assert new.uid in jobs_of(table, *person)


def test_view_forgets_a_job_that_turns_out_to_be_of_another_account() -> None:
    table, job = JobTable(WIRE), foreign("1", owner="ana01")
    table.apply([job])
    assert jobs_of(table, "ana", "ana01") == {job.uid}
    table.apply([job.changed(seen=seen("1", owner="bob"))])
    assert jobs_of(table, "ana", "ana01") == set()
