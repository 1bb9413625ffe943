"""The databases that tests get: new, alone, durable, on loopback, and gone afterwards."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import psycopg
import pytest
import sqlalchemy
from sqlalchemy.pool import NullPool
from tests import real
from tests.databases import (
    DATABASES,
    Database,
    DatabaseKind,
    PostgreSQL,
    Stop,
    new_postgresql_database,
)


def engine_of(database: Database) -> sqlalchemy.Engine:
    url = sqlalchemy.make_url(database.url)
    if url.get_backend_name() == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    return sqlalchemy.create_engine(url, poolclass=NullPool)


def make_table(database: Database) -> None:
    with engine_of(database).begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE here (number INTEGER)"))


def tables(database: Database) -> list[str]:
    return sqlalchemy.inspect(engine_of(database)).get_table_names()


def names_of_databases(server: str) -> set[str]:
    with psycopg.connect(server) as connection:
        return {name for (name,) in connection.execute("SELECT datname FROM pg_database")}


def show(server: str, setting: str) -> str:
    with psycopg.connect(server) as connection:
        row = connection.execute("SELECT current_setting(%s)", [setting]).fetchone()
    assert row is not None
    return str(row[0])


def runs(pid: int) -> bool:
    """Return whether there is such a process, other than a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def kind(database: Database) -> DatabaseKind:
    return DATABASES["POSTGRESQL" if database.settings else "SQLITE"]


def test_database_fresh_each_use(database: Database, kind: DatabaseKind, tmp_path: Path) -> None:
    make_table(database)
    other_folder = tmp_path / "other"
    other_folder.mkdir()

    with kind.fresh(other_folder) as other:
        assert other.url != database.url
        assert tables(other) == []
    assert tables(database) == ["here"]


@pytest.mark.postgres
def test_database_removed_with_open_connections(tmp_path: Path) -> None:
    server = real.settings_of("postgres")["DATABASE_URL"]

    with DATABASES["POSTGRESQL"].fresh(tmp_path) as used:
        name = used.url.rpartition("/")[2]
        assert name in names_of_databases(server)
        left_open = psycopg.connect(used.url)

    assert name not in names_of_databases(server)
    with left_open, pytest.raises(psycopg.OperationalError):
        left_open.execute("SELECT 1")


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("listen_addresses", "127.0.0.1"),
        ("is_superuser", "off"),
    ],
)
def test_shared_server_settings(setting: str, value: str) -> None:
    assert show(real.settings_of("postgres")["DATABASE_URL"], setting) == value


@pytest.fixture
def server() -> Iterator[PostgreSQL]:
    with PostgreSQL.alone() as alone:
        yield alone


@pytest.mark.postgres
@pytest.mark.parametrize("how", get_args(Stop))
def test_shared_server_data_after_stop(server: PostgreSQL, how: Stop) -> None:
    with new_postgresql_database(server.url) as database:
        make_table(database)
        server.stop(how)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(database.url)
        assert server.processes() == []

        server.start()

        assert tables(database) == ["here"]


@pytest.mark.postgres
def test_shared_server_concurrent_callers(server: PostgreSQL) -> None:
    server.do("down")

    with ThreadPoolExecutor() as pool:
        calls = [pool.submit(server.do, "up") for _ in range(3)]

    assert len({call.result() for call in calls}) == 1
    with psycopg.connect(server.url) as connection:
        started = connection.execute("SELECT pg_postmaster_start_time()").fetchone()
    server.do("up")
    with psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT pg_postmaster_start_time()").fetchone() == started


@pytest.mark.postgres
def test_server_down_removes_all() -> None:
    with PostgreSQL.alone() as server:
        processes = server.processes()
        state = Path(f"/var/tmp/hpcq-test-postgres-{server.number}")
        assert len(processes) > 1
        assert state.is_dir()

    assert [number for number in processes if runs(number)] == []
    assert not state.exists()


@pytest.mark.postgres
def test_server_down_other_keeps_running(server: PostgreSQL) -> None:
    shared = real.settings_of("postgres")["DATABASE_URL"]

    with PostgreSQL.alone() as other:
        other.stop("immediate")
        assert show(server.url, "fsync") == show(shared, "fsync") == "on"
