"""The ends of sessions, by a clock that tests move."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hpcq.auth import sessions, tokens
from hpcq.auth.sessions import Sessions
from hpcq.config import Settings
from hpcq.domain.errors import SessionEnded, StoreUnavailable
from hpcq.domain.principals import Method, Principal, Role
from hpcq.schedulers.testing.waiting import eventually
from hpcq.storage.database import Database
from hpcq.storage.migrate import Deployment
from hpcq.storage.sessions import SessionStore

pytestmark = pytest.mark.anyio

T0 = datetime(2026, 1, 5, 12, tzinfo=UTC)
ANA = Principal(user="ana", role=Role.USER, method=Method.OIDC, sees_all=True)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Site:
    """Sessions over one database, with other settings when a test says so."""

    store: SessionStore
    now: datetime = T0

    def sessions(self, **settings: Any) -> Sessions:
        given = {
            "auth": "token,oidc",
            "oidc_issuer": "https://login.example",
            "oidc_audience": "hpcq",
            "oidc_roles": "*=user",
        }
        checked = Settings.model_validate(given | settings)
        return Sessions(self.store, checked, lambda: self.now)

    async def is_good(self, sessions: Sessions, text: str, hours: float) -> bool:
        self.now = T0 + timedelta(hours=hours)
        try:
            await sessions.verify(text)
        except SessionEnded:
            return False
        return True


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(tokens, "_REMEMBERED_SECONDS", -1.0)
    database = Database(f"sqlite:///{tmp_path}/jobs.sqlite3", Deployment("1", "LOCAL"))
    await database.open()
    yield Site(SessionStore(database))
    await database.close()


@pytest.mark.parametrize(
    ("method", "settings", "hours"),
    [
        (Method.OIDC, {}, 4),
        (Method.OIDC, {"oidc_session_hours": 0.5}, 0.5),
        (Method.OIDC, {"session_hours": 1}, 1),
        (Method.TOKEN, {}, 12),
        (Method.TOKEN, {"oidc_session_hours": 0.5}, 12),
    ],
)
async def test_longest_session(
    site: Site, method: Method, settings: dict[str, float], hours: float
) -> None:
    sessions = site.sessions(**settings)
    text, ends = await sessions.begin(replace(ANA, method=method))
    assert ends == T0 + timedelta(hours=hours)
    assert await site.is_good(sessions, text, hours - 0.01)
    assert not await site.is_good(sessions, text, hours)


async def test_session_ends_with_its_token(site: Site) -> None:
    sessions = site.sessions()
    text, ends = await sessions.begin(replace(ANA, expires_at=T0 + timedelta(hours=1)))
    assert ends == T0 + timedelta(hours=1)
    assert not await site.is_good(sessions, text, 1)


async def test_shorter_setting_ends_sessions_that_were_begun_before(site: Site) -> None:
    text, _ = await site.sessions().begin(ANA)
    shorter = site.sessions(oidc_session_hours=1)
    assert await site.is_good(shorter, text, 0.9)
    assert not await site.is_good(shorter, text, 1)


async def test_open_sessions_counted(site: Site) -> None:
    sessions = site.sessions()
    assert await site.store.count_open(T0) == 0
    for method in (Method.OIDC, Method.TOKEN):
        text, _ = await sessions.begin(replace(ANA, method=method))
    assert await site.store.count_open(T0) == 2
    assert await site.store.count_open(T0 + timedelta(hours=4)) == 1
    await sessions.end(text)
    assert await site.store.count_open(T0) == 1


async def test_open_sessions_records_away(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "_COUNTED_EVERY_SECONDS", 0.01)
    counted = site.sessions()
    counting = asyncio.create_task(counted.keep_counting())

    async def is_known() -> bool:
        return counted.open is not None

    async def is_unknown() -> bool:
        return counted.open is None

    await eventually(is_known)

    async def away(_: datetime) -> int:
        raise StoreUnavailable("The disk is full.")

    with monkeypatch.context() as broken:
        broken.setattr(site.store, "count_open", away)
        await eventually(is_unknown)
    await eventually(is_known)
    counting.cancel()
    await asyncio.wait([counting])
