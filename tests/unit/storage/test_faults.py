"""Faults of a database, and the messages about them."""

import asyncio
import fcntl
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests import real
from tests.databases import PostgreSQL, Stop, new_postgresql_database
from tests.unit.storage.kit import DEPLOYMENT, LONG_AGO, Store, add, execute, job, key, opened

from hpcq.domain.errors import StoreUnavailable
from hpcq.domain.jobs import JobRecord
from hpcq.storage import connection as module
from hpcq.storage.database import Database
from hpcq.storage.leases import Lease

pytestmark = pytest.mark.anyio


async def refusal(url: str) -> str:
    """Why a database cannot be opened; one sentence, or two."""
    store = Database(url, DEPLOYMENT)
    with pytest.raises(StoreUnavailable) as caught:
        await store.open()
    await store.close()
    assert caught.value.transient
    assert "\n" not in caught.value.detail
    return caught.value.detail


def contents(path: Path) -> bytes:
    return path.read_bytes()


def overwrite(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def remove(path: Path) -> None:
    path.unlink()


def fill(disk: Path) -> Path:
    """Use up all that is free on a small disk; return what does."""
    ballast = disk / "ballast"
    with pytest.raises(OSError, match="No space left"):  # noqa: SIM117
        with ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
    return ballast


async def listing(store: Store) -> list[JobRecord]:
    return await store.jobs.open_or_recent(LONG_AGO, 1000)


# SQLite


async def test_sqlite_folder_missing(tmp_path: Path) -> None:
    said = await refusal(f"sqlite:///{tmp_path}/nowhere/jobs.sqlite3")
    assert "nowhere/jobs.sqlite3" in said
    assert said.endswith("Its folder is missing.")


async def test_sqlite_file_not_database(path: Path) -> None:
    content = b"not a database at all, " * 100
    overwrite(path, content)
    said = await refusal(f"sqlite:///{path}")
    assert "not a database" in said
    assert "The file is damaged; move it away" in said
    assert contents(path) == content


async def test_sqlite_file_damaged(
    path: Path,
) -> None:
    async with opened(f"sqlite:///{path}") as store:
        await add(store, [job(n) for n in range(1, 200)])
    content = contents(path)[: 4096 * 2] + os.urandom(4096 * 20)
    overwrite(path, content)
    with pytest.raises(StoreUnavailable, match=str(path)) as caught:
        async with opened(f"sqlite:///{path}") as store:
            await listing(store)
    assert "damaged" in caught.value.detail
    assert contents(path) == content


async def test_sqlite_file_in_use(path: Path) -> None:
    url = f"sqlite:///{path}"
    async with opened(url) as store:
        await add(store, [job(1)])
        said = await refusal(url)
        assert said.startswith(f"Another service uses the records in {path}.")
        assert len(await listing(store)) == 1
    async with opened(url) as store:
        assert len(await listing(store)) == 1, "it was let go"


async def test_sqlite_file_released_after_failed_start(path: Path) -> None:
    overwrite(path, b"not a database at all, " * 100)
    store = Database(f"sqlite:///{path}", DEPLOYMENT)
    with pytest.raises(StoreUnavailable, match="damaged"):
        await store.open()
    remove(path)
    await store.open()
    await store.close()


@pytest.fixture
def other_program(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program that has the file open."""
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()


async def test_sqlite_locked_during_write(
    path: Path, monkeypatch: pytest.MonkeyPatch, other_program: sqlite3.Connection
) -> None:
    monkeypatch.setattr(module, "_LOCKED_SECONDS", 0.1)
    async with opened(f"sqlite:///{path}") as store:
        await add(store, [job(1)])
        other_program.execute("BEGIN IMMEDIATE")
        outcomes = await asyncio.gather(
            *(store.jobs.create(job(n), key(str(n))) for n in range(2, 30)), return_exceptions=True
        )
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
        assert "Another program keeps it locked" in str(outcomes[0])
        assert len(await listing(store)) == 1
        assert await store.jobs.claim(key("2")) is None
        other_program.execute("ROLLBACK")
        await store.jobs.create(job(2), key("2"))
        assert len(await listing(store)) == 2


async def test_sqlite_locked_at_start(
    path: Path, monkeypatch: pytest.MonkeyPatch, other_program: sqlite3.Connection
) -> None:
    monkeypatch.setattr(module, "_LOCKED_SECONDS", 0.1)
    other_program.execute("BEGIN EXCLUSIVE")
    assert "Another program keeps it locked" in await refusal(f"sqlite:///{path}")
    other_program.execute("ROLLBACK")
    async with opened(f"sqlite:///{path}") as store:
        assert await listing(store) == []


async def test_sqlite_read_only_while_running(path: Path) -> None:
    async with opened(f"sqlite:///{path}") as store:
        (record,) = await add(store, [job(1)])

        def forbid(connection: sqlite3.Connection, *_: object) -> None:
            connection.execute("PRAGMA query_only=ON")

        sa.event.listen(store.database._engine, "checkout", forbid)
        with pytest.raises(StoreUnavailable, match="may not write"):
            await add(store, [job(2)])
        assert await store.jobs.by_uid(record.uid) == record


async def test_sqlite_read_only_at_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(f"sqlite:///{path}"):
        pass

    def forbid(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute("PRAGMA query_only=ON")

    monkeypatch.setattr(module, "_on_connect", forbid)
    assert "This account may not write to it" in await refusal(f"sqlite:///{path}")


async def test_sqlite_table_missing(path: Path) -> None:
    async with opened(f"sqlite:///{path}") as store:
        await execute(store, "DROP TABLE jobs")
        outcomes = await asyncio.gather(
            *(store.jobs.create(job(n)) for n in range(1, 6)), return_exceptions=True
        )
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
        with pytest.raises(StoreUnavailable, match="no such table"):
            await listing(store)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("a disk of one's own needs root, and leave to mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_sqlite_disk_full_during_write(small_disk: Path) -> None:
    async with opened(f"sqlite:///{small_disk}/jobs.sqlite3") as store:
        (before,) = await add(store, [job(1)])
        ballast = small_disk / "ballast"
        with pytest.raises(OSError, match="No space left"):
            ballast.write_bytes(b"x" * 2**20)
        large = [job(n, args=("x" * 20_000,)) for n in range(2, 12)]
        with pytest.raises(StoreUnavailable, match="The disk is full; make room"):
            await add(store, large)
        with pytest.raises(StoreUnavailable, match="The disk is full; make room"):
            await store.jobs.create(large[0], key())
        assert await listing(store) == [before], "all of them or none"
        assert await store.jobs.claim(key()) is None
        remove(ballast)
        await add(store, large)
        assert len(await listing(store)) == 11
        assert [e.number for e in await store.jobs.events(0, 100)] == list(range(1, 12))


async def test_sqlite_disk_full_at_start(small_disk: Path) -> None:
    fill(small_disk)
    said = await refusal(f"sqlite:///{small_disk}/jobs.sqlite3")
    assert "disk" in said


async def test_sqlite_lock_file_of_killed_service(path: Path) -> None:
    path.with_name(path.name + ".lock").touch()
    async with opened(f"sqlite:///{path}") as store:
        with path.with_name(path.name + ".lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert await listing(store) == []


# PostgreSQL


async def test_database_server_unreachable() -> None:
    said = await refusal("postgresql://hpcq:s3cret@127.0.0.1:1/hpcq")
    assert said.endswith("Is its server running, and does DATABASE_URL name its host and port?")
    assert "s3cret" not in said


@pytest.mark.postgres
async def test_database_missing() -> None:
    server = real.settings_of("postgres")["DATABASE_URL"]
    said = await refusal(server.rpartition("/")[0] + "/nowhere")
    assert said.endswith("Create it, or correct DATABASE_URL.")
    assert await refusal(server + "?sslmode=bogus")


@pytest.fixture
def server() -> Iterator[PostgreSQL]:
    with PostgreSQL.alone() as server:
        yield server


@pytest.mark.postgres
@pytest.mark.parametrize("how", ["fast", "immediate"])
async def test_database_server_stopped_and_restarted(server: PostgreSQL, how: Stop) -> None:
    with new_postgresql_database(server.url) as place:
        async with opened(place.url) as store:
            before = await add(store, [job(n) for n in range(1, 30)])
            lease = Lease(store.database, "a", timedelta(days=1))
            assert await lease.take()
            server.stop(how)
            outcomes = await asyncio.gather(
                *(store.jobs.create(job(n), key(str(n))) for n in range(50, 80)),
                store.jobs.publish([], holder="a"),
                listing(store),
                store.jobs.claim(key("50")),
                lease.take(),
                return_exceptions=True,
            )
            assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
            server.start()
            assert {r.uid for r in await listing(store)} == {r.uid for r in before}
            assert await store.jobs.claim(key("50")) is None, "nothing half-written"
            assert await lease.take()
            await store.jobs.publish([(None, job(99))], holder="a")
            numbers = [event.number for event in await store.jobs.events(0, 100)]
            assert numbers == list(range(1, 31))


@pytest.mark.postgres
async def test_database_server_restarted_while_idle(
    server: PostgreSQL,
) -> None:
    with new_postgresql_database(server.url) as place:
        async with opened(place.url) as store:
            await add(store, [job(1)])
            await asyncio.gather(*(listing(store) for _ in range(8)))
            server.stop("immediate")
            server.start()
            await add(store, [job(2)])
            found = await asyncio.gather(*(listing(store) for _ in range(8)))
            assert {len(one) for one in found} == {2}


@pytest.mark.postgres
async def test_database_server_killed_during_write(
    server: PostgreSQL,
) -> None:
    with new_postgresql_database(server.url) as place:
        async with opened(place.url) as store:
            tried: list[JobRecord] = []
            answered: list[JobRecord] = []
            enough = asyncio.Event()

            async def write() -> None:
                for n in range(1, 10**6):
                    records = [job(2 * n), job(2 * n + 1)]
                    tried.extend(records)
                    answered.extend(await add(store, records))
                    if len(answered) >= 40:
                        enough.set()

            writing = asyncio.create_task(write())
            await enough.wait()
            await asyncio.to_thread(server.stop, "immediate")
            with pytest.raises(StoreUnavailable):
                await writing
            server.start()
            found = {record.uid for record in await listing(store)}
            assert {r.uid for r in answered} <= found <= {r.uid for r in tried}
            assert len(found) % 2 == 0
            events = await store.jobs.events(0, 10**6)
            assert {event.uid for event in events} == found
            assert [event.number for event in events] == list(range(1, len(found) + 1))
