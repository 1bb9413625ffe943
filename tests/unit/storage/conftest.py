from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.databases import DATABASES, Database
from tests.unit.storage.kit import Store, opened


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    """A store on each kind of database in turn."""
    async with opened(database.url) as store:
        yield store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path for an SQLite database."""
    return tmp_path / "jobs.sqlite3"


@pytest.fixture(params=[pytest.param("POSTGRESQL", marks=DATABASES["POSTGRESQL"].marks)])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A new database that several services may use."""
    with DATABASES[request.param].fresh(tmp_path) as new:
        yield new
