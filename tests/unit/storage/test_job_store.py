"""The records of jobs, in real databases."""

import asyncio
import json
import os
import sys
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs
from tests.databases import Database as Place
from tests.unit.storage.kit import (
    LONG_AGO,
    SPEC,
    T0,
    Store,
    add,
    ended,
    execute,
    foreign,
    job,
    key,
    opened,
)

from hpcq.domain import job_merge, submission
from hpcq.domain.errors import RecordDamaged, StoreUnavailable
from hpcq.domain.jobs import JobRecord, JobUid, NativeId, Observation, Usage
from hpcq.domain.principals import Person
from hpcq.domain.states import FailureKind, JobState, Stage
from hpcq.storage.migrate import Deployment

pytestmark = pytest.mark.anyio

FULL = job_merge.observe(
    job(
        5,
        name='a "study" é\n',
        args=("", "\x01", "a\u2028b"),
        environment={"A": "1"},
        memory_limit_bytes=1 << 60,
    ),
    Observation(
        native_id=NativeId("5"),
        state=JobState.RUNNING,
        stage=Stage.EXITING,
        failure_kind=FailureKind.SIGNAL,
        hosts=("n1", "n2"),
        depends_on=(NativeId("3"),),
        array_job_id=NativeId("4"),
        submit_time=T0,
        usage=Usage(cpu_seconds=1.5, sampled_at=T0),
        submission_key=job().key,
    ),
    T0,
)


async def listing(store: Store) -> list[JobRecord]:
    return await store.jobs.open_or_recent(LONG_AGO, 1000)


async def test_record_roundtrip(store: Store) -> None:
    await add(store, [FULL])
    found = await store.jobs.by_uid(FULL.uid)
    assert found == FULL
    assert type(found.uid) is JobUid
    assert type(found.native_id) is NativeId
    assert found.created_at.tzinfo is not None


async def test_record_roundtrip_not_utf8_and_large_numbers(store: Store) -> None:
    assert FULL.seen is not None
    odd = FULL.changed(seen=replace(FULL.seen, name="a\udcff\ud83d\0", slots=10**30))
    await add(store, [odd])
    assert await store.jobs.by_uid(odd.uid) == odd


async def test_record_missing(store: Store) -> None:
    assert await store.jobs.by_uid(JobUid.new()) is None
    assert await store.jobs.by_native_id(NativeId("5")) is None
    assert await store.jobs.change(JobUid.new(), lambda record: record) is None
    assert await listing(store) == []


async def test_change_concurrent_revisions(store: Store) -> None:
    record = job()
    await store.jobs.create(record)
    changes = [
        store.jobs.change(
            record.uid, lambda r: r.changed(state_reason=(r.state_reason or "") + "x")
        )
        for _ in range(20)
    ]
    changed = await asyncio.gather(*changes)
    now = await store.jobs.by_uid(record.uid)
    assert now is not None
    assert now.state_reason == (record.state_reason or "") + "x" * 20
    assert sorted(r.revision for r in changed if r) == list(range(1, 21))


async def test_change_without_difference(store: Store) -> None:
    await add(store, [FULL])
    assert await store.jobs.change(FULL.uid, lambda record: record) == FULL
    assert (await store.jobs.events(1, 10)) == []


async def test_by_native_id_newest(store: Store) -> None:
    old, new = job(5, 0), job(5, 3600)
    await add(store, [new, old])
    assert await store.jobs.by_native_id(NativeId("5")) == new


async def test_by_uids_many(store: Store) -> None:
    records = [job(n) for n in range(1, 1201)]
    await add(store, records)
    found = await store.jobs.by_uids([*(r.uid for r in records), JobUid.new()])
    assert {r.uid for r in found} == {r.uid for r in records}


async def test_listing_open_or_recent(store: Store) -> None:
    long_open = job(1, 0)
    ended_long_ago = ended(job(2, 10), 20)
    ended_lately = ended(job(3, 30), 5000)
    removed = ended(job(4, 40), 5000).changed(removed_at=T0)
    being_removed = job(5, 50).changed(removed_at=T0)
    refused = submission.failed(job(None, 60), "no", T0 + timedelta(seconds=5000))
    abandoned = job(7, 70).changed(state=JobState.UNDETERMINED, abandoned_at=T0)
    records = [long_open, ended_long_ago, ended_lately, removed, being_removed, refused, abandoned]
    await add(store, records[::-1])
    since = T0 + timedelta(seconds=1000)
    found = await store.jobs.open_or_recent(since, 10)
    assert found == [long_open, ended_lately, being_removed, refused]
    newest = await store.jobs.open_or_recent(since, 1)
    assert newest == [long_open, being_removed, refused] or newest == [
        long_open,
        ended_lately,
        being_removed,
    ], "all that are open, and one of those that ended at the same moment"


async def test_ended_jobs_of_a_person_by_user_and_account(store: Store) -> None:
    here = ended(job(1), 1).changed(submitted_by="ana")
    of_account, of_namesake = (
        foreign(number, state=JobState.DONE, owner=owner, end_time=T0)
        for number, owner in ((2, "ana01"), (3, "ana"))
    )
    await add(store, [here, of_account, of_namesake])
    for person, expected in (
        (Person("ana", "ana01"), {here.uid, of_account.uid}),
        (Person("ana", None), {here.uid}),
        (Person("ana", "ana"), {here.uid, of_namesake.uid}),
        (Person("ana01", "ana"), {of_namesake.uid}),
    ):
        found = await store.jobs.ended(LONG_AGO, None, 10, person)
        assert {record.uid for record in found} == expected


async def test_finished_jobs_pages(store: Store) -> None:
    records = [ended(job(n), n // 3) for n in range(1, 20)]
    await add(store, [*records, job(99)])
    expected = sorted(records, key=lambda r: (r.state_changed_at, r.uid), reverse=True)
    found: list[JobRecord] = []
    before = None
    while page := await store.jobs.ended(LONG_AGO, before, 4):
        found += page
        before = (page[-1].state_changed_at.timestamp(), str(page[-1].uid))
    assert found == expected


async def test_deployments_separate(store: Store, database: Place) -> None:
    await add(store, [FULL])
    await store.jobs.create(job(), key())
    if not store.database.is_shared:
        # One service at a time has the file.
        await store.database.close()
    async with opened(database.url, Deployment("2", "SLURM")) as other:
        assert await listing(other) == []
        assert await other.jobs.by_uid(FULL.uid) is None
        assert await other.jobs.by_native_id(NativeId("5")) is None
        assert await other.jobs.claim(key()) is None
        assert await other.jobs.events(0, 10) == []
        assert (await other.jobs.news(0)).changed == []


async def test_records_after_reopen(database: Place) -> None:
    async with opened(database.url) as store:
        await add(store, [FULL])
    for _ in range(2):
        async with opened(database.url) as store:
            assert await listing(store) == [FULL]


async def test_records_after_kill_9(database: Place) -> None:
    program = f"""
import asyncio, os, sys
sys.path[:0] = {sys.path!r}
from tests.unit.storage.kit import job, key, opened
async def main():
    async with opened({database.url!r}) as store:
        await store.jobs.create(job(), key())
        os.kill(os.getpid(), 9)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    assert await process.wait() == -9
    async with opened(database.url) as store:
        (record,) = await listing(store)
        claim = await store.jobs.claim(key())
        assert claim is not None
        assert claim.uid == record.uid


async def test_scheduler_problem_not_storable(
    store: Store,
) -> None:
    await store.jobs.publish([], holder=None, problem="a\0b\udcff é")
    assert (await store.jobs.news(None)).problem == "ab? é"


# Idempotency keys


async def test_key_first_job(store: Store) -> None:
    first, second = job(), job()
    claims = await asyncio.gather(store.jobs.create(first, key()), store.jobs.create(second, key()))
    assert claims[0] is None
    assert claims[1] is not None
    assert claims[1].uid == first.uid
    assert claims[1].fingerprint == key().fingerprint
    assert await store.jobs.by_uid(second.uid) is None
    assert await store.jobs.claim(key("b")) is None


async def test_key_fingerprint(store: Store) -> None:
    await store.jobs.create(job(), key())
    claim = await store.jobs.claim(key("a", replace(SPEC, slots=2)))
    assert claim is not None
    assert claim.fingerprint == key().fingerprint


async def test_key_expiry(store: Store) -> None:
    first, second = job(), job(seconds=86401)
    await store.jobs.create(first, key())
    store.now = T0 + timedelta(days=1)
    assert await store.jobs.claim(key()) is not None
    store.now = T0 + timedelta(seconds=86401)
    assert await store.jobs.claim(key()) is None
    assert await store.jobs.create(second, key()) is None
    claim = await store.jobs.claim(key())
    assert claim is not None
    assert claim.uid == second.uid


async def test_key_freed_after_refusal(store: Store) -> None:
    record = job()
    await store.jobs.create(record, key())
    await store.jobs.change(record.uid, lambda r: submission.failed(r, "no", T0), frees_key=True)
    assert await store.jobs.claim(key()) is None
    assert await store.jobs.create(job(), key()) is None


# Transactions


def commits(store: Store) -> list[str]:
    """Return a list that gets an entry with every transaction from now on."""
    seen: list[str] = []
    sa.event.listen(store.database._engine, "commit", lambda _connection: seen.append("commit"))
    return seen


async def test_writes_concurrent_one_transaction(store: Store) -> None:
    seen = commits(store)
    await asyncio.gather(*(store.jobs.create(job(n)) for n in range(100)))
    assert len(seen) == 1
    assert len(await listing(store)) == 100


async def test_writes_during_transaction_share_next(store: Store) -> None:
    seen = commits(store)
    first = asyncio.create_task(store.jobs.create(job(1)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    rest = [asyncio.create_task(store.jobs.create(job(n))) for n in range(2, 50)]
    await asyncio.gather(first, *rest)
    assert len(seen) == 2


async def test_write_failed_others_unaffected(store: Store) -> None:
    def defect(_record: JobRecord) -> JobRecord:
        raise ZeroDivisionError

    first, twice, last = job(1), job(2), job(3)
    await store.jobs.create(twice)
    outcomes = await asyncio.gather(
        store.jobs.create(first),
        store.jobs.create(twice),
        store.jobs.change(twice.uid, defect),
        store.jobs.create(last),
        return_exceptions=True,
    )
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [type(None), StoreUnavailable, ZeroDivisionError, type(None)]
    assert {r.uid for r in await listing(store)} == {first.uid, twice.uid, last.uid}
    events = await store.jobs.events(0, 10)
    assert [event.number for event in events] == [1, 2, 3]
    assert [event.uid for event in events] == [twice.uid, first.uid, last.uid]


async def test_writes_all_failed(store: Store) -> None:
    def fail(number: int) -> None:
        raise LookupError(number)

    outcomes = await asyncio.gather(
        *(store.database.write(lambda _t, n=n: fail(n)) for n in range(3)),  # type: ignore[misc]
        return_exceptions=True,
    )
    assert [str(outcome) for outcome in outcomes] == ["0", "1", "2"]


async def test_write_caller_cancelled(store: Store) -> None:
    record = job(1)
    saving = asyncio.create_task(store.jobs.create(record))
    await asyncio.sleep(0)
    saving.cancel()
    await store.jobs.create(job(2))
    assert await store.jobs.by_uid(record.uid) == record


async def test_close_finishes_writes(database: Place) -> None:
    async with opened(database.url) as store:
        writing = asyncio.create_task(store.jobs.create(FULL))
        await asyncio.sleep(0)
    await writing
    async with opened(database.url) as store:
        assert await store.jobs.by_uid(FULL.uid) == FULL


async def test_store_closed(database: Place) -> None:
    async with opened(database.url) as store:
        pass
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.jobs.create(FULL)
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.jobs.by_uid(FULL.uid)


async def test_reads_one_snapshot(store: Store) -> None:
    await add(store, [job(1)])
    loop = asyncio.get_running_loop()
    count = sa.text("SELECT count(*) FROM jobs")

    def read(connection: sa.Connection, _deployment: int) -> list[int]:
        before = connection.execute(count).scalar_one()
        asyncio.run_coroutine_threadsafe(add(store, [job(2)]), loop).result()
        return [before, connection.execute(count).scalar_one()]

    assert await store.database.read(read) == [1, 1]
    assert await store.database.read(lambda c, _: c.execute(count).scalar_one()) == 2


async def test_sqlite_synchronous_full(tmp_path: os.PathLike[str]) -> None:
    async with opened(f"sqlite:///{tmp_path}/jobs.sqlite3") as store:

        def levels(connection: sa.Connection, _deployment: int) -> tuple[object, object]:
            synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar()
            return synchronous, connection.exec_driver_sql("PRAGMA journal_mode").scalar()

        assert await store.database.apart(levels) == (2, "wal")  # 2: FULL


# Publishing


async def test_publish_changed_by_other_process(store: Store) -> None:
    mine, theirs = job(1), job(2)
    await add(store, [mine, theirs])
    meanwhile = await store.jobs.change(theirs.uid, lambda r: r.changed(removed_at=T0))
    written = await store.jobs.publish(
        [(mine, ended(mine, 5)), (theirs, ended(theirs, 5))], holder=None
    )
    assert written == [ended(mine, 5).changed(revision=1)]
    assert await store.jobs.by_uid(theirs.uid) == meanwhile
    assert await store.jobs.by_uid(mine.uid) == written[0]


async def test_publish_existing_record(store: Store) -> None:
    (record,) = await add(store, [job(1)])
    assert await add(store, [record]) == []


async def test_publish_deleted_record(store: Store) -> None:
    record = job(1)
    assert await store.jobs.publish([(record, ended(record, 5))], holder=None) == []
    assert await store.jobs.by_uid(record.uid) is None


async def test_publish_foreign_job_gone_and_back(store: Store) -> None:
    record = foreign(7)
    await add(store, [record])
    change = (await store.jobs.news(None)).change
    await store.jobs.publish([], holder=None, gone=[record.uid])
    news = await store.jobs.news(change)
    assert (news.gone, news.changed) == ([record.uid], [])
    assert await listing(store) == []
    (back,) = await add(store, [record])
    assert back.revision > record.revision
    news = await store.jobs.news(news.change)
    assert (news.gone, news.changed) == ([], [back])
    assert await listing(store) == [back]


async def test_publish_own_job_gone(store: Store) -> None:
    await add(store, [FULL])
    await store.jobs.publish([], holder=None, gone=[FULL.uid])
    assert await listing(store) == [FULL]


async def test_news_since_change(store: Store) -> None:
    at = T0 + timedelta(seconds=7)
    await add(store, [job(1)])
    before = await store.jobs.news(None)
    assert (before.changed, before.as_of) == ([], None)
    (second,) = await store.jobs.publish([(None, job(2))], holder=None, as_of=at)
    news = await store.jobs.news(before.change)
    assert (news.changed, news.as_of, news.problem) == ([second], at, None)
    await store.jobs.publish([], holder=None, problem="away")
    later = await store.jobs.news(news.change)
    assert (later.changed, later.as_of, later.problem) == ([], at, "away")
    assert len((await store.jobs.news(0)).changed) == 2


# Damaged records


@pytest.mark.parametrize(
    "document", [b"", b"{", b'{"uid": "x"}', b"\xff", b'"\\ud800"', b"[1]", b"\x00" * 100]
)
async def test_record_damaged(store: Store, document: bytes) -> None:
    whole, damaged, done = job(1), job(2), ended(job(3), 5)
    await add(store, [whole, damaged, done])
    await execute(
        store,
        "UPDATE jobs SET document = :document WHERE uid = :uid",
        document=document,
        uid=damaged.uid,
    )
    with capture_logs() as logs:
        assert await listing(store) == [whole, done]
        assert await listing(store) == [whole, done]
        assert (await store.jobs.news(0)).changed == [whole, done]
        assert await store.jobs.by_uids([damaged.uid, whole.uid]) == [whole]
    assert [(log["event"], log["uid"]) for log in logs] == [("record.damaged", damaged.uid)]
    for read in (store.jobs.by_uid(damaged.uid), store.jobs.by_native_id(NativeId("2"))):
        with pytest.raises(RecordDamaged, match=str(damaged.uid)):
            await read
    with pytest.raises(RecordDamaged, match=str(damaged.uid)):
        await store.jobs.change(damaged.uid, lambda record: record)


async def test_document_valid_json(store: Store) -> None:
    await add(store, [FULL])
    rows = await store.database.read(
        lambda connection, _: connection.execute(
            sa.text("SELECT document, is_settled FROM jobs")
        ).all()
    )
    ((document, is_settled),) = rows
    assert json.loads(document)["native_id"] == "5"
    assert not is_settled
