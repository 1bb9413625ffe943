"""Databases of earlier releases, of later ones, and of two services that start at once."""

import asyncio
import json
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from tests.databases import Database as Place
from tests.unit.storage.kit import DEPLOYMENT, LONG_AGO, execute, opened

from hpcq.domain.errors import StoreUnavailable
from hpcq.domain.jobs import HandOver, JobRecord, JobUid, NativeId
from hpcq.domain.states import JobState
from hpcq.schedulers.testing.service import INSTALLATION
from hpcq.storage import schema
from hpcq.storage.database import Database

pytestmark = pytest.mark.anyio

MIGRATIONS = INSTALLATION / "src" / "hpcq" / "storage" / "migrations"
# Written by that release's own code.
RELEASE_0_1_0 = Path(__file__).parent / "releases" / "0.1.0.sql"

_tables = sa.MetaData()
_jobs_0_1_0 = sa.Table(
    "jobs",
    _tables,
    sa.Column("uid", sa.String(36), primary_key=True),
    sa.Column("native_id", sa.String, index=True),
    sa.Column("is_final", sa.Boolean, nullable=False),
    sa.Column("is_removed", sa.Boolean, nullable=False),
    sa.Column("changed_at", sa.Float, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("document", sa.LargeBinary, nullable=False),
    sa.Index("jobs_open_or_recent", "is_final", "is_removed", "changed_at"),
)


@contextmanager
def tool(url: str) -> Iterator[sa.Connection]:
    """A connection of another program than the service."""
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def rows_of_0_1_0() -> list[dict[str, Any]]:
    with sqlite3.connect(":memory:") as database:
        database.executescript(RELEASE_0_1_0.read_text())
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute("SELECT * FROM jobs")]


def fill_as_0_1_0_did(url: str) -> list[dict[str, Any]]:
    """Make the database as release 0.1.0 left it; on PostgreSQL as it would have."""
    rows = rows_of_0_1_0()
    path = sa.make_url(url).database
    if url.startswith("sqlite"):
        with sqlite3.connect(str(path)) as database:
            database.executescript(RELEASE_0_1_0.read_text())
        database.close()
        return rows
    with tool(url) as connection:
        _tables.create_all(connection)
        booleans = ("is_final", "is_removed")
        connection.execute(
            _jobs_0_1_0.insert(), [{**row, **{b: bool(row[b]) for b in booleans}} for row in rows]
        )
    return rows


def everything(url: str) -> dict[str, Any]:
    """All tables, their columns and indexes, and all rows."""
    with tool(url) as connection:
        inspector = sa.inspect(connection)
        return {
            name: (
                [column["name"] for column in inspector.get_columns(name)],
                sorted(str(index["name"]) for index in inspector.get_indexes(name)),
                sorted(map(repr, connection.exec_driver_sql(f"SELECT * FROM {name}"))),  # noqa: S608
            )
            for name in inspector.get_table_names()
        }


def by_name(records: list[JobRecord]) -> Mapping[str, JobRecord]:
    return {record.spec.name: record for record in records if record.spec is not None}


async def test_migration_0_1_0_rows_kept(database: Place) -> None:
    rows = fill_as_0_1_0_did(database.url)
    async with opened(database.url) as store:
        found = {
            str(row["uid"]): row
            for row in await store.database.read(
                lambda connection, _: connection.execute(sa.select(schema.jobs)).mappings().all()
            )
        }
        assert len(found) == len(rows) == 14
        for row in rows:
            new = found[row["uid"]]
            assert new["is_ours"]
            assert new["is_settled"] == row["is_final"]
            for name in ("native_id", "is_removed", "changed_at", "created_at"):
                assert new[name] == row[name]
            before, after = json.loads(row["document"]), json.loads(new["document"])
            assert {name: after[name] for name in before} == before
            record = await store.jobs.by_uid(JobUid(row["uid"]))
            assert record is not None
            assert record.state == before["state"]
            assert record.created_at.timestamp() == row["created_at"]
        newest = await store.jobs.by_native_id(NativeId("7"))
        assert newest is not None
        assert newest.spec is not None
        assert newest.spec.name == "second-with-7"
        assert (await store.jobs.events(0, 10)) == []


async def test_migration_0_1_0_open_submissions(
    database: Place,
) -> None:
    fill_as_0_1_0_did(database.url)
    async with opened(database.url) as store:
        listed = by_name(await store.jobs.open_or_recent(LONG_AGO, 100))
    left_open = {name for name, record in listed.items() if record.hand_over is not None}
    assert left_open == {"interrupted", "interrupted-held", "timed-out"}
    for name in left_open:
        record = listed[name]
        assert record.hand_over == HandOver(
            began_at=record.created_at,
            by="",
            is_promised=False,
            uncertain_since=record.state_changed_at,
        )
    assert listed["timed-out"].state is JobState.UNDETERMINED
    assert listed["interrupted-held"].state is JobState.QUEUED_HELD
    assert listed["refused"].state is JobState.FAILED
    assert "removed" not in listed
    assert "being-removed" in listed


async def test_migration_damaged_record(database: Place) -> None:
    rows = fill_as_0_1_0_did(database.url)
    left_open = next(row["uid"] for row in rows if row["native_id"] is None)
    with tool(database.url) as connection:
        connection.execute(
            _jobs_0_1_0.update().where(_jobs_0_1_0.c.uid == left_open), {"document": b"{]"}
        )
    async with opened(database.url) as store:
        with pytest.raises(StoreUnavailable, match=left_open):
            await store.jobs.by_uid(JobUid(left_open))
        others = [await store.jobs.by_uid(JobUid(r["uid"])) for r in rows if r["uid"] != left_open]
        assert all(others)


async def test_migration_then_changes(database: Place) -> None:
    fill_as_0_1_0_did(database.url)
    for _ in range(2):
        async with opened(database.url) as store:
            listed = by_name(await store.jobs.open_or_recent(LONG_AGO, 100))
            changed = await store.jobs.change(
                listed["queued"].uid,
                lambda r: r.changed(state_changed_at=r.state_changed_at + timedelta(1)),
            )
            assert changed is not None
            assert changed.revision == listed["queued"].revision + 1


async def test_migration_0010_tokens_kept(database: Place) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with tool(database.url) as connection:
        config.attributes.update(connection=connection, deployment=DEPLOYMENT)
        command.upgrade(config, "0010")
        connection.exec_driver_sql(
            "INSERT INTO tokens VALUES ('a1', 1, 'abc', 'ana', 'user', NULL, 1, NULL, NULL)"
        )
        connection.exec_driver_sql(
            "INSERT INTO sessions VALUES ('def', 1, 'ana', 'user', NULL, 'token', 'a1', 1, 2)"
        )
    async with opened(database.url):
        pass
    with tool(database.url) as connection:
        same = "INSERT INTO tokens VALUES ('{}', {}, 'abc', 'ana', 'user', NULL, 1, NULL, NULL)"
        connection.exec_driver_sql(
            "INSERT INTO deployments (id, cluster_id, scheduler, last_event, last_change) "
            "VALUES (7, '2', 'FAKE', 0, 0)"
        )
        connection.exec_driver_sql(same.format("a2", 7))
        joined = "SELECT tokens.id FROM sessions JOIN tokens ON tokens.id = token_id"
        assert connection.exec_driver_sql(joined).scalars().all() == ["a1"]
        with pytest.raises(sa.exc.IntegrityError):
            connection.exec_driver_sql(same.format("a3", 7))
        connection.rollback()


async def test_migration_failed_rolled_back(database: Place) -> None:
    fill_as_0_1_0_did(database.url)
    with tool(database.url) as connection:
        # The last table that the migration makes is there already.
        connection.exec_driver_sql("CREATE TABLE usage_samples (something INTEGER)")
    before = everything(database.url)
    store = Database(database.url, DEPLOYMENT)
    with pytest.raises(StoreUnavailable, match="usage_samples"):
        await store.open()
    await store.close()
    assert everything(database.url) == before
    with tool(database.url) as connection:
        connection.exec_driver_sql("DROP TABLE usage_samples")
    async with opened(database.url) as opened_store:
        assert len(await opened_store.jobs.open_or_recent(LONG_AGO, 100)) == 13


async def test_database_of_newer_release(
    database: Place,
) -> None:
    async with opened(database.url) as store:
        await execute(store, "UPDATE alembic_version SET version_num = '9999'")
    before = everything(database.url)
    newer = Database(database.url, DEPLOYMENT)
    with pytest.raises(StoreUnavailable, match=r"A newer release .*9999.* Install that release"):
        await newer.open()
    await newer.close()
    assert everything(database.url) == before


@pytest.mark.parametrize("release", [None, "0.1.0"])
async def test_migration_concurrent_starts(shared: Place, release: str | None) -> None:
    expected = len(fill_as_0_1_0_did(shared.url)) if release else 0
    program = f"""
import asyncio, sys
sys.path[:0] = {sys.path!r}
from tests.unit.storage.kit import LONG_AGO, add, job, opened
async def main():
    async with opened({shared.url!r}) as store:
        await add(store, [job(1)])
asyncio.run(main())
"""
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", program) for _ in range(3)
    ]
    assert [await process.wait() for process in processes] == [0, 0, 0]
    async with opened(shared.url) as store:
        count = await store.database.read(
            lambda c, _: c.execute(sa.text("SELECT count(*) FROM jobs")).scalar()
        )
        deployments = await store.database.read(
            lambda c, _: c.execute(sa.text("SELECT count(*) FROM deployments")).scalar()
        )
        assert (count, deployments) == (expected + 3, 1)
        assert [e.number for e in await store.jobs.events(0, 10)] == [1, 2, 3]


@pytest.mark.parametrize("release", [None, "0.1.0"])
async def test_migration_tables_match_schema(database: Place, release: str | None) -> None:
    if release:
        fill_as_0_1_0_did(database.url)
    async with opened(database.url):
        pass
    with tool(database.url) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        # The notes on tables and columns are for who reads the code.
        without_notes = sa.MetaData()
        for table in schema.metadata.tables.values():
            copy = table.to_metadata(without_notes)
            copy.comment = None
            for column in copy.columns:
                column.comment = None
        assert compare_metadata(context, without_notes) == []


def test_migration_head() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [schema.HEAD]


def test_wheel_contains_migrations(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=INSTALLATION, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    here = {
        f"hpcq/storage/migrations/{path.relative_to(MIGRATIONS)}"
        for path in MIGRATIONS.rglob("*.py")
    }
    assert len(here) >= 3
    assert here <= set(zipfile.ZipFile(wheel).namelist())
