"""The records of jobs, in a real database file."""

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from hpcq.domain import life
from hpcq.domain.errors import StoreUnavailable
from hpcq.domain.jobs import JobRecord, JobSpec, JobUid, NativeId, Observation, Usage
from hpcq.domain.states import FailureKind, JobState, Stage
from hpcq.storage.jobs import JobStore

pytestmark = pytest.mark.anyio

T0 = datetime(2026, 1, 5, 12, tzinfo=UTC)
SPEC = JobSpec(name="study", working_directory="/srv", script_file="/srv/run.sh")
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite3"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[JobStore]:
    store = JobStore(path)
    await store.open()
    yield store
    await store.close()


def job(number: int | None = None, seconds: float = 0, **spec: Any) -> JobRecord:
    at = T0 + timedelta(seconds=seconds)
    record = life.intent(JobUid.new(), replace(SPEC, **spec), at)
    return record if number is None else life.submitted(record, NativeId(str(number)), at)


def ended(record: JobRecord, seconds: float) -> JobRecord:
    at = T0 + timedelta(seconds=seconds)
    assert record.native_id is not None
    end = Observation(native_id=record.native_id, state=JobState.DONE, end_time=at)
    return life.observe(record, end, at)


FULL = life.observe(
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


async def test_a_record_comes_back_as_it_was(store: JobStore) -> None:
    await store.save([FULL])
    found = await store.by_uid(FULL.uid)
    assert found == FULL
    assert type(found.uid) is JobUid
    assert type(found.native_id) is NativeId
    assert found.created_at.tzinfo is not None


async def test_text_that_is_no_utf8_and_numbers_of_any_size_come_back(store: JobStore) -> None:
    assert FULL.seen is not None
    odd = FULL.changed(seen=replace(FULL.seen, name="a\udcff\ud83d", slots=10**30))
    await store.save([odd])
    assert await store.by_uid(odd.uid) == odd


async def test_a_record_replaces_the_one_with_its_uid(store: JobStore) -> None:
    first = job()
    await store.save([first])
    second = life.submitted(first, NativeId("5"), T0)
    await store.save([second])
    assert await store.by_uid(first.uid) == second
    assert await store.by_native_id(NativeId("5")) == second
    assert await store.open_or_recent(LONG_AGO) == [second]


async def test_the_last_of_several_in_one_write_counts(store: JobStore) -> None:
    first = job()
    await store.save([first, life.submitted(first, NativeId("5"), T0)])
    found = await store.by_uid(first.uid)
    assert found is not None
    assert found.native_id == "5"


async def test_what_is_not_there_is_none(store: JobStore) -> None:
    await store.save([])
    assert await store.by_uid(JobUid.new()) is None
    assert await store.by_native_id(NativeId("5")) is None
    assert await store.open_or_recent(LONG_AGO) == []


async def test_of_several_jobs_with_a_number_the_newest_is_found(store: JobStore) -> None:
    old, new = job(5, 0), job(5, 3600)
    await store.save([new])
    await store.save([old])
    assert await store.by_native_id(NativeId("5")) == new


async def test_the_listing_has_what_is_open_or_ended_lately_oldest_first(store: JobStore) -> None:
    long_open = job(1, 0)
    ended_long_ago = ended(job(2, 10), 20)
    ended_lately = ended(job(3, 30), 5000)
    removed = ended(job(4, 40), 5000).changed(removed_at=T0)
    being_removed = job(5, 50).changed(removed_at=T0)
    refused = life.submission_failed(job(None, 60), "no", T0 + timedelta(seconds=5000))
    records = [long_open, ended_long_ago, ended_lately, removed, being_removed, refused]
    await store.save(records[::-1])
    since = T0 + timedelta(seconds=1000)
    assert await store.open_or_recent(since) == [long_open, ended_lately, being_removed, refused]


async def test_records_survive_the_end_of_the_process(path: Path) -> None:
    for _ in range(2):
        store = JobStore(path)
        await store.open()
        await store.save([FULL], durable=True)
        await store.close()
    again = JobStore(path)
    await again.open()
    assert await again.open_or_recent(LONG_AGO) == [FULL]
    await again.close()


async def test_what_was_written_survives_kill_9(path: Path) -> None:
    program = f"""
import asyncio, os, sys
from pathlib import Path
sys.path[:0] = {sys.path!r}
from datetime import UTC, datetime
from hpcq.domain import life
from hpcq.domain.jobs import JobSpec, JobUid
from hpcq.storage.jobs import JobStore
async def main():
    store = JobStore(Path({str(path)!r}))
    await store.open()
    spec = JobSpec(name="x", working_directory="/", script_file="/x")
    await store.save([life.intent(JobUid.new(), spec, datetime.now(UTC))])
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    assert await process.wait() == -9
    store = JobStore(path)
    await store.open()
    assert len(await store.open_or_recent(LONG_AGO)) == 1
    await store.close()


# Transactions


def statements(store: JobStore) -> list[str]:
    """Return a list that fills with what the store does from now on."""
    seen: list[str] = []

    def note(_c: object, _k: object, statement: str, _p: object, _x: object, many: bool) -> None:
        seen.append(statement.split()[0] + ("" if "=" not in statement else statement[-4:]))

    def commit(_connection: object) -> None:
        seen.append("COMMIT")

    sa.event.listen(store._engine, "before_cursor_execute", note)
    sa.event.listen(store._engine, "commit", commit)
    return seen


async def test_writes_of_the_same_moment_share_one_transaction(store: JobStore) -> None:
    seen = statements(store)
    await asyncio.gather(*(store.save([job(n)]) for n in range(100)))
    assert seen.count("COMMIT") == 1
    assert len(await store.open_or_recent(LONG_AGO)) == 100


async def test_writes_that_come_while_one_is_under_way_share_the_next(store: JobStore) -> None:
    seen = statements(store)
    first = asyncio.create_task(store.save([job(1)]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    rest = [asyncio.create_task(store.save([job(n)])) for n in range(2, 50)]
    await asyncio.gather(first, *rest)
    assert seen.count("COMMIT") == 2


async def test_a_durable_write_is_synced_and_others_with_it(store: JobStore) -> None:
    seen = statements(store)
    await store.save([job(1)])
    assert seen[0] == "PRAGMARMAL"
    seen.clear()
    await asyncio.gather(store.save([job(2)]), store.save([job(3)], durable=True))
    assert seen[0] == "PRAGMAFULL"
    assert seen.count("COMMIT") == 1


async def test_the_level_of_syncing_is_what_the_database_uses(store: JobStore) -> None:
    def level() -> object:
        with store._engine.connect() as connection:
            return connection.exec_driver_sql("PRAGMA synchronous").scalar()

    await store.save([job(1)], durable=True)
    assert await store._call(level) == 2  # FULL
    await store.save([job(1)])
    assert await store._call(level) == 1  # NORMAL

    def mode() -> object:
        with store._engine.connect() as connection:
            return connection.exec_driver_sql("PRAGMA journal_mode").scalar()

    assert await store._call(mode) == "wal"


async def test_a_caller_that_leaves_does_not_take_its_write_back(store: JobStore) -> None:
    record = job(1)
    saving = asyncio.create_task(store.save([record]))
    await asyncio.sleep(0)
    saving.cancel()
    await store.save([job(2)])
    assert await store.by_uid(record.uid) == record


async def test_closing_finishes_what_is_being_written(path: Path) -> None:
    store = JobStore(path)
    await store.open()
    store.save_soon(FULL)
    await store.close()
    again = JobStore(path)
    await again.open()
    assert await again.by_uid(FULL.uid) == FULL
    await again.close()


# What can be wrong with the file


def contents(path: Path) -> bytes:
    return path.read_bytes()


def overwrite(path: Path, content: bytes) -> None:
    path.write_bytes(content)


async def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "nowhere" / "jobs.sqlite3")
    with pytest.raises(StoreUnavailable, match="unable to open") as caught:
        await store.open()
    assert "nowhere/jobs.sqlite3" in caught.value.detail
    await store.close()


async def test_a_file_that_is_no_database_is_told(path: Path) -> None:
    overwrite(path, b"not a database at all, " * 100)
    store = JobStore(path)
    with pytest.raises(StoreUnavailable, match="not a database"):
        await store.open()
    await store.close()


async def test_a_database_damaged_while_it_was_closed_is_told_and_left_as_it_is(
    path: Path,
) -> None:
    store = JobStore(path)
    await store.open()
    await store.save([job(n) for n in range(200)])
    await store.close()
    content = contents(path)[: 4096 * 2] + os.urandom(4096 * 20)
    overwrite(path, content)
    store = JobStore(path)
    with pytest.raises(StoreUnavailable) as caught:
        await store.open()
        await store.open_or_recent(LONG_AGO)
    assert str(path) in caught.value.detail
    assert caught.value.transient
    await store.close()
    assert contents(path) == content


@pytest.mark.parametrize("document", [b"", b"{", b'{"uid": "x"}', b"\xff", b'"\\ud800"'])
async def test_a_damaged_record_is_told(store: JobStore, path: Path, document: bytes) -> None:
    record = job(1)
    await store.save([record])
    with sqlite3.connect(path) as database:
        database.execute("update jobs set document = ?", [document])
    database.close()
    with pytest.raises(StoreUnavailable):
        await store.by_uid(record.uid)
    await store.save([record])
    assert await store.by_uid(record.uid) == record


async def test_a_full_disk_fails_the_write_and_nothing_else(store: JobStore) -> None:
    before = job(1)
    await store.save([before])

    def limit(pages: int) -> object:
        with store._engine.connect() as connection:
            return connection.exec_driver_sql(f"PRAGMA max_page_count={pages}").scalar()

    await store._call(lambda: limit(1))  # never below what it has
    large = [job(n, args=("x" * 100_000,)) for n in range(2, 20)]
    with pytest.raises(StoreUnavailable, match="full"):
        await store.save(large)
    assert await store.open_or_recent(LONG_AGO) == [before], "all of them or none"
    await store._call(lambda: limit(10**6))
    await store.save(large)
    assert len(await store.open_or_recent(LONG_AGO)) == 19


async def test_a_failure_reaches_every_writer_of_the_transaction(
    store: JobStore, path: Path
) -> None:
    with sqlite3.connect(path) as database:
        database.execute("drop table jobs")
    database.close()
    results = await asyncio.gather(
        *(store.save([job(n)]) for n in range(5)), return_exceptions=True
    )
    assert {type(result) for result in results} == {StoreUnavailable}
    with pytest.raises(StoreUnavailable, match="no such table"):
        await store.save([job(1)])


async def test_a_read_only_file_fails_the_write_and_is_still_read(path: Path) -> None:
    store = JobStore(path)
    await store.open()
    await store.save([FULL])

    def forbid() -> None:
        with store._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA query_only=ON")

    await store._call(forbid)
    with pytest.raises(StoreUnavailable, match="readonly"):
        await store.save([job(1)])
    assert await store.by_uid(FULL.uid) == FULL
    await store.close()


async def test_documents_are_json_that_other_tools_can_read(store: JobStore, path: Path) -> None:
    await store.save([FULL])
    with sqlite3.connect(path) as database:
        ((document, is_final),) = database.execute("select document, is_final from jobs")
    database.close()
    assert json.loads(document)["native_id"] == "5"
    assert is_final == 0
