"""The token of the operator in the state directory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from hpcq.auth.tokens import TokenVerifier, create_token, keep_operator_token
from hpcq.domain.errors import NotAuthenticated
from hpcq.domain.principals import Role
from hpcq.domain.units import now
from hpcq.storage.database import Database
from hpcq.storage.migrate import Deployment
from hpcq.storage.tokens import TokenStore

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def opened(folder: Path, scheduler: str) -> AsyncIterator[TokenStore]:
    database = Database(f"sqlite:///{folder / 'jobs.sqlite3'}", Deployment("1", scheduler))
    await database.open()
    yield TokenStore(database)
    await database.close()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[TokenStore]:
    async with opened(tmp_path, "FAKE") as store:
        yield store


async def kept(store: TokenStore, path: Path) -> str:
    """Return the text in the file after a start of the service."""
    await keep_operator_token(store, path, now())
    return read(path)


def read(path: Path) -> str:
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.glob("operator.*")] == [path.name]
    return path.read_text().strip()


async def test_operator_token_created_once(store: TokenStore, tmp_path: Path) -> None:
    path = tmp_path / "operator.token"
    first = await kept(store, path)
    assert await kept(store, path) == first
    assert (await TokenVerifier(store, now).verify(first)).role is Role.OPERATOR
    assert len(await store.all()) == 1


async def test_operator_token_after_change_of_scheduler(tmp_path: Path) -> None:
    path = tmp_path / "operator.token"
    async with opened(tmp_path, "FAKE") as store:
        first = await kept(store, path)
    async with opened(tmp_path, "OTHER") as store:
        assert await kept(store, path) == first
        [token] = await store.all()
        await store.revoke(token.token_id, now())
        second = await kept(store, path)
        assert second != first
        with pytest.raises(NotAuthenticated, match="revoked"):
            await TokenVerifier(store, now).verify(first)
    async with opened(tmp_path, "FAKE") as store:
        assert await kept(store, path) == second
        # It was revoked with the other scheduler alone.
        for text in (first, second):
            assert (await TokenVerifier(store, now).verify(text)).role is Role.OPERATOR


async def test_operator_token_revoked(
    store: TokenStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "operator.token"
    first = await kept(store, path)
    [token] = await store.all()
    await store.revoke(token.token_id, now())
    second = await kept(store, path)
    assert second != first
    said = capsys.readouterr().out
    assert "is revoked; a new one takes its place" in said
    assert first not in said
    assert second not in said
    with pytest.raises(NotAuthenticated, match="revoked"):
        await TokenVerifier(store, now).verify(first)
    assert (await TokenVerifier(store, now).verify(second)).role is Role.OPERATOR
    assert await kept(store, path) == second


async def test_operator_token_expired(store: TokenStore, tmp_path: Path) -> None:
    path = tmp_path / "operator.token"
    text = await create_token(
        store, user="ana", role=Role.OPERATOR, at=now(), expires_at=now() - timedelta(seconds=1)
    )
    path.write_text(f"{text}\n")
    second = await kept(store, path)
    assert second != text
    assert (await TokenVerifier(store, now).verify(second)).user == "operator"
