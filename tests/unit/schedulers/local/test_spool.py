import asyncio
import json
import os
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from hpcq.domain.actions import Action
from hpcq.domain.errors import InvalidSpec, SchedulerUnavailable, WrongState
from hpcq.domain.jobs import Dependency, DependencyCondition, JobUid, NativeId
from hpcq.domain.states import JobState
from hpcq.schedulers.local.files import Result, ShepherdStart
from hpcq.schedulers.local.spool import Added, Spool
from hpcq.schedulers.local.spool_file import NothingWritten
from hpcq.schedulers.local.spool_row import Phase

STARTED = ShepherdStart(pid=7, start_ticks=8, boot_id="boot", start_time=9.0)


def with_spool(path: Path, work: Callable[[Spool], Awaitable[None]]) -> None:
    async def run() -> None:
        spool = Spool(path)
        await spool.open()
        try:
            await work(spool)
        finally:
            await spool.close()

    asyncio.run(run())


def ended(moment: float) -> Result:
    return Result(
        exit_code=0,
        exit_signal=None,
        failure_kind=None,
        reason=None,
        start_time=1.0,
        end_time=moment,
        usage=None,
    )


def delete_all(path: Path) -> None:
    connection = sqlite3.connect(path / "spool.db")
    with connection:
        connection.execute("DELETE FROM job")
    connection.close()


async def add(spool: Spool, key: str, phase: str = Phase.QUEUED) -> int:
    return (await spool.add(key, "{}", b"#!/bin/sh\n", 1.0, phase)).number


def test_numbers_not_reused(tmp_path: Path) -> None:
    async def fill(spool: Spool) -> None:
        assert [await add(spool, f"a{n}") for n in range(3)] == [1, 2, 3]

    async def more(spool: Spool) -> None:
        assert await add(spool, "b") == 4

    with_spool(tmp_path, fill)
    delete_all(tmp_path)
    with_spool(tmp_path, more)


def test_add_same_key(tmp_path: Path) -> None:
    async def work(spool: Spool) -> None:
        taken = await asyncio.gather(
            *(spool.add("k", "{}", b"", 1.0, Phase.QUEUED) for _ in range(5))
        )
        assert sorted(taken) == [Added(1, is_new=False)] * 4 + [Added(1, is_new=True)]
        assert await spool.find("k") == 1
        assert await spool.find("other") is None

    with_spool(tmp_path, work)


def test_finished_job_by_number(tmp_path: Path) -> None:
    async def work(spool: Spool) -> None:
        for key in ("a", "b", "c"):
            await add(spool, key)
        assert await spool.script(2) == b"#!/bin/sh\n"
        await spool.dispatch(2, 1, STARTED)
        await spool.move([3], Phase.HELD)
        await spool.finish([1], ended(2.0))
        (row,) = await spool.finished([NativeId("1"), NativeId("2"), NativeId("99")])
        assert (row.id, json.loads(row.result or "")) == (1, ended(2.0))

    with_spool(tmp_path, work)

    async def reopened() -> None:
        spool = Spool(tmp_path)
        await spool.open()
        rows = await spool.unfinished()
        assert [(r.id, r.phase, r.attempt, r.boot_id, r.started) for r in rows] == [
            (2, "dispatched", 1, "boot", json.dumps(STARTED)),
            (3, "held", 0, None, None),
        ]
        await spool.close()

    asyncio.run(reopened())


def test_add_with_dependencies(tmp_path: Path) -> None:
    def on(number: int) -> Dependency:
        return Dependency(
            native_id=NativeId(str(number)), uid=JobUid.new(), condition=DependencyCondition.SUCCESS
        )

    async def work(spool: Spool) -> None:
        await add(spool, "a")
        await add(spool, "b")
        await spool.finish([1], ended(2.0))
        ids = [NativeId("1"), NativeId("2"), NativeId("3")]
        assert await spool.ends(ids) == {"1": JobState.DONE, "2": None}
        needs = [on(1), on(2)]
        added = await spool.add("c", "{}", b"", 1.0, Phase.QUEUED, needs)
        assert added == Added(3, is_new=True, waits_for=(needs[1],))
        with pytest.raises(InvalidSpec):
            await spool.add("d", "{}", b"", 1.0, Phase.QUEUED, [on(9)])
        assert await spool.find("d") is None
        # The job with this key was taken when it could still start.
        again = await spool.add("c", "{}", b"", 1.0, Phase.QUEUED, [on(9)])
        assert again == Added(3, is_new=False)

    with_spool(tmp_path, work)


def test_request_of_running_job(tmp_path: Path) -> None:
    async def work(spool: Spool) -> None:
        for key in ("a", "b", "c"):
            await add(spool, key)
        for number in (1, 2):
            await spool.dispatch(number, 1, STARTED)
            await spool.request(number, Action.SUSPEND)
        await spool.request(2, None)
        await spool.request(3, Action.SUSPEND)

    async def reopened() -> None:
        spool = Spool(tmp_path)
        await spool.open()
        assert [row.request for row in await spool.unfinished()] == ["suspend", None, None]
        await spool.close()

    with_spool(tmp_path, work)
    asyncio.run(reopened())


def test_array_added_and_ended(tmp_path: Path) -> None:
    two = ["1[3]", "1[5]"]

    async def work(spool: Spool) -> None:
        script = b"#!"
        added = await spool.add("k", '{"a": 1}', script, 1.0, Phase.QUEUED, (), [3, 5])
        assert added == Added(1, is_new=True)
        assert await spool.add("k", "{}", b"", 1.0, Phase.QUEUED, (), [3, 5]) == Added(1, False)
        assert await add(spool, "next") == 4
        assert await spool.find("k") == 1
        await spool.dispatch(2, 1, STARTED)
        await spool.finish([2], {**ended(5.0), "failure_kind": "SIGNAL"})
        assert await spool.script(1) == script
        (row,) = await spool.finished([NativeId("1")])
        assert (row.id, row.array, row.task, row.key, row.spec) == (2, 1, 3, "k", '{"a": 1}')
        assert await spool.forget(100.0) == 0, "its array is not over"
        ids = [NativeId(text) for text in ("1", *two, "2", "1[4]", "4")]
        ends = {"1": None, "1[3]": JobState.FAILED, "1[5]": None, "4": None}
        assert await spool.ends(ids) == ends
        await spool.finish([3], ended(4.0))
        assert await spool.ends([NativeId("1")]) == {"1": JobState.FAILED}
        ids = [NativeId("1"), NativeId("1[5]"), NativeId("2")]
        assert [row.id for row in await spool.finished(ids)] == [1, 2, 3]
        assert await spool.forget(5.0) == 0, "its last task ended later"
        assert [await spool.forget(6.0) for _ in range(3)] == [1, 2, 0]
        assert await spool.finished(ids) == []

    with_spool(tmp_path, work)


def test_move_ended_job(tmp_path: Path) -> None:
    async def work(spool: Spool) -> None:
        await add(spool, "a")
        await spool.finish([1], ended(2.0))
        await spool.move([1], Phase.QUEUED)
        with pytest.raises(WrongState):
            await spool.dispatch(1, 1, STARTED)
        assert await spool.ends([NativeId("1")]) == {"1": JobState.DONE}

    with_spool(tmp_path, work)


def test_put_back_requeued_job(tmp_path: Path) -> None:
    async def work(spool: Spool) -> None:
        await add(spool, "a")
        await spool.dispatch(1, 1, STARTED)
        await spool.request(1, Action.REQUEUE)
        for _ in range(2):
            assert await spool.put_back(1)
        assert await spool.finished([NativeId("1")]) == []
        assert await spool.script(1) == b"#!/bin/sh\n"

    async def again() -> None:
        spool = Spool(tmp_path)
        await spool.open()
        (row,) = await spool.unfinished()
        assert (row.phase, row.attempt, row.request) == ("queued", 1, None)
        await spool.dispatch(1, 2, STARTED)
        assert not await spool.put_back(1), "nobody requests it again"
        await spool.close()

    with_spool(tmp_path, work)
    asyncio.run(again())


def test_move_invalid_phase(tmp_path: Path) -> None:
    async def work(spool: Spool) -> None:
        with pytest.raises(SchedulerUnavailable):
            await spool.move([await add(spool, "a")], "no such phase")
        assert await add(spool, "b") == 2

    with_spool(tmp_path, work)


def test_transaction_one_step_failed(tmp_path: Path) -> None:
    async def work(spool: Spool) -> None:
        await add(spool, "a")
        second, failed, third = await asyncio.gather(
            add(spool, "b"),
            spool.move([1], "no such phase"),
            add(spool, "c"),
            return_exceptions=True,
        )
        assert (second, third) == (2, 3)
        assert isinstance(failed, SchedulerUnavailable)

    with_spool(tmp_path, work)


def limit_pages(spool: Spool) -> None:
    """Let the spool's file grow no more, as on a full disk."""
    assert spool._connection is not None
    (pages,) = spool._connection.execute("PRAGMA page_count").fetchone()
    spool._connection.execute(f"PRAGMA max_page_count = {pages}")


def test_add_disk_full(tmp_path: Path) -> None:
    async def work(spool: Spool) -> None:
        await add(spool, "a")
        limit_pages(spool)
        large, small = await asyncio.gather(
            spool.add("b", "{}", b"x" * 100_000, 1.0, Phase.QUEUED),
            spool.move([1], Phase.HELD),
            return_exceptions=True,
        )
        assert isinstance(large, NothingWritten)
        assert not large.reached_scheduler
        assert "disk is full" in large.detail
        assert small is None
        assert await spool.find("b") is None

    with_spool(tmp_path, work)


def test_forget_ended_jobs(tmp_path: Path) -> None:
    given = "an-argument-of-a-job"

    async def work(spool: Spool) -> None:
        for number in range(3):
            await spool.add(f"k{number}", f'{{"s": "{given}"}}', b"#!", 1.0, Phase.QUEUED)
        await spool.finish([1], ended(100.0))
        await spool.finish([2], ended(200.0))
        assert await spool.forget(200.0) == 1
        assert await spool.forget(200.0) == 0
        ids = [NativeId("1"), NativeId("2"), NativeId("3")]
        assert [row.id for row in await spool.finished(ids)] == [2]
        assert await spool.find("k0") is None
        assert await spool.find("k2") == 3

    with_spool(tmp_path, work)
    left = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert left.count(given.encode()) == 2


def test_forget_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcq.schedulers.local.spool._FORGOTTEN_AT_ONCE", 2)

    async def work(spool: Spool) -> None:
        for number in range(1, 4):
            await spool.finish([await add(spool, f"k{number}")], ended(1.0))
        assert [await spool.forget(2.0) for _ in range(3)] == [2, 1, 0]
        assert await add(spool, "next") == 4

    with_spool(tmp_path, work)


def test_forget_array_with_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcq.schedulers.local.spool._FORGOTTEN_AT_ONCE", 2)

    async def work(spool: Spool) -> None:
        await spool.add("k", "{}", b"", 1.0, Phase.QUEUED, (), [1, 2, 3])
        for number in (2, 3, 4):
            await spool.finish([number], ended(number))
        found = []
        while await spool.forget(9.0):
            found.append(len(await spool.finished([NativeId("1")])))
        assert found == [0, 0, 0]
        assert await spool.ends([NativeId("1[3]")]) == {}

    with_spool(tmp_path, work)


def test_open_newer_version(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "spool.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()

    async def work(_: Spool) -> None:
        raise AssertionError

    with pytest.raises(SchedulerUnavailable, match="newer version"):
        with_spool(tmp_path, work)


def test_lock_second_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        first, second, third = (Spool(tmp_path) for _ in range(3))
        await first.lock()
        with monkeypatch.context() as patch:
            patch.setattr("hpcq.schedulers.local.spool_file._LOCK_PATIENCE_SECONDS", 0.02)
            with pytest.raises(SchedulerUnavailable, match=f"process {os.getpid()}"):
                await second.lock()
        waiting = asyncio.create_task(third.lock())
        await asyncio.sleep(0)
        await first.close()
        await waiting
        await third.close()

    asyncio.run(work())


@pytest.mark.parametrize("version", [1, 2])
def test_open_earlier_version(tmp_path: Path, version: int) -> None:
    connection = sqlite3.connect(tmp_path / "spool.db")
    connection.executescript(
        "CREATE TABLE job (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE,"
        " phase TEXT NOT NULL, attempt INTEGER NOT NULL DEFAULT 0, boot_id TEXT,"
        " submitted REAL NOT NULL, ended REAL, spec TEXT NOT NULL, result TEXT);"
        "CREATE TABLE script (id INTEGER PRIMARY KEY REFERENCES job, content BLOB NOT NULL);"
        "INSERT INTO job (key, phase, attempt, boot_id, submitted, spec)"
        " VALUES ('a', 'dispatched', 1, 'boot', 1.0, '{}');"
    )
    if version == 2:
        connection.execute("ALTER TABLE job ADD COLUMN started TEXT")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.commit()
    connection.close()

    async def upgraded() -> None:
        for _ in range(2):
            spool = Spool(tmp_path)
            await spool.open()
            (row,) = await spool.unfinished()
            assert (row.id, row.attempt, row.started, row.request) == (1, 1, None, None)
            assert (row.array, row.task) == (None, None)
            await spool.request(1, Action.SUSPEND)
            await spool.request(1, None)
            await spool.close()

    async def work(spool: Spool) -> None:
        assert (await spool.add("k", "{}", b"", 1.0, Phase.QUEUED, (), [1])).number == 2
        assert await spool.ends([NativeId("2[1]")]) == {"2[1]": None}

    asyncio.run(upgraded())
    with_spool(tmp_path, work)


def test_file_modes(tmp_path: Path) -> None:
    place = tmp_path / "local"
    place.mkdir()
    place.chmod(0o755)
    before = os.umask(0)

    async def work() -> None:
        spool = Spool(place)
        await spool.lock()
        await spool.open()
        await add(spool, "a")
        modes = {path.name: path.stat().st_mode & 0o777 for path in (place, *place.iterdir())}
        assert modes.pop("local") == 0o700
        assert set(modes.values()) == {0o600}, modes
        await spool.close()

    try:
        asyncio.run(work())
    finally:
        os.umask(before)


def test_step_after_close(tmp_path: Path) -> None:
    async def work() -> None:
        spool = Spool(tmp_path)
        await spool.lock()
        await spool.open()
        await spool.close()
        with pytest.raises(SchedulerUnavailable, match="closed"):
            await spool.finished([NativeId("1")])

    asyncio.run(work())
