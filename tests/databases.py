"""The databases that the store runs on. Each use gets one of its own, gone afterwards."""

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, LiteralString
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql
from tests import real

from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS

__all__ = [
    "BACK_TO_0004",
    "DATABASES",
    "TOKENS_BACK_TO_0010",
    "Database",
    "DatabaseKind",
    "PostgreSQL",
    "Stop",
    "new_postgresql_database",
]

Stop = Literal["fast", "immediate"]


@dataclass(frozen=True)
class Database:
    """One empty database.

    Attributes:
        url: for the store itself; SQLite's file is in the test's folder.
        settings: the variables that make a service use it. None for SQLite, which a service keeps
            in its own state directory.
    """

    url: str
    settings: Mapping[str, str]


@dataclass(frozen=True)
class DatabaseKind:
    """One database management system.

    Attributes:
        name: what the tests' names call it.
        fresh: makes a new database, which lasts as long as the context; gets a folder for files.
        marks: pytest's markers.
    """

    name: str
    fresh: Callable[[Path], AbstractContextManager[Database]]
    marks: tuple[pytest.MarkDecorator, ...] = ()


@contextmanager
def _in_a_file(folder: Path) -> Iterator[Database]:
    yield Database(f"sqlite:///{folder}/jobs.sqlite3", {})


@contextmanager
def _on_the_shared_server(_: Path) -> Iterator[Database]:
    with new_postgresql_database(real.settings_of("postgres")["DATABASE_URL"]) as database:
        yield database


@contextmanager
def new_postgresql_database(server: str) -> Iterator[Database]:
    """A new database on the server with this URL; connections left open to it are cut."""
    name = f"hpcq_{secrets.token_hex(8)}"
    _execute(server, "CREATE DATABASE {} TEMPLATE template0", name)
    url = urlsplit(server)._replace(path=f"/{name}").geturl()
    try:
        yield Database(url, {"DATABASE_URL": url})
    finally:
        _drop(server, name)


def _drop(server: str, name: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return _execute(server, "DROP DATABASE {} WITH (FORCE)", name)
        except psycopg.errors.InsufficientPrivilege:
            # The server's own housekeeping is in it, which only a superuser may cut.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _execute(server: str, statement: LiteralString, name: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(sql.Identifier(name)))


TOKENS_BACK_TO_0010 = (
    "DROP TABLE sessions",
    "DROP TABLE tokens",
    "CREATE TABLE tokens (id VARCHAR(16) NOT NULL PRIMARY KEY, deployment_id INTEGER NOT NULL "
    'REFERENCES deployments (id), hash VARCHAR(64) NOT NULL, "user" VARCHAR NOT NULL, role '
    "VARCHAR NOT NULL, scopes VARCHAR, created_at FLOAT NOT NULL, expires_at FLOAT, revoked_at "
    "FLOAT, UNIQUE (hash))",
)
"""The statements that take the tables of tokens and sessions back; they are empty then."""

BACK_TO_0004 = (
    *TOKENS_BACK_TO_0010,
    *(
        f"DROP TABLE {table}"
        for table in ("finished_jobs", "queue_samples", "deliveries", "webhooks")
    ),
    "DROP INDEX jobs_by_array",
    "ALTER TABLE jobs DROP COLUMN array_uid",
    "ALTER TABLE jobs DROP COLUMN task_state",
    "UPDATE alembic_version SET version_num = '0004'",
)
"""The statements that take a database back to where the index of finished jobs is not made yet."""

DATABASES = {
    kind.name: kind
    for kind in (
        DatabaseKind("SQLITE", _in_a_file),
        DatabaseKind("POSTGRESQL", _on_the_shared_server, (pytest.mark.postgres,)),
    )
}


@dataclass(frozen=True)
class PostgreSQL:
    """A server for one test alone, which may stop it and start it again.

    Attributes:
        number: tells it from the others; 0 would be the one that all share.
        url: where it answers while it runs.
    """

    number: int
    url: str

    @classmethod
    @contextmanager
    def alone(cls) -> Iterator["PostgreSQL"]:
        """A new server, with nothing in it; its data are gone at the end."""
        number = 1 + secrets.randbelow(4000)
        instance = _instance(number)
        try:
            settings = json.loads(real.call("postgres", "up", instance=instance))
            yield cls(number, settings["DATABASE_URL"])
        finally:
            real.call("postgres", "down", instance=instance)

    def stop(self, how: Stop) -> None:
        """End it; `immediate` is its crash."""
        self.do("stop", how)

    def start(self) -> None:
        """Start it again with the data that it had."""
        self.do("start")

    def processes(self) -> list[int]:
        """The ids of its processes."""
        return list(json.loads(self.do("status"))["processes"])

    def do(self, *words: str) -> str:
        """Return the output of its script for these arguments."""
        return real.call("postgres", *words, instance=_instance(self.number))


def _instance(number: int) -> real.Instance:
    return (("HPCQ_TEST_POSTGRES_INSTANCE", str(number)),)
