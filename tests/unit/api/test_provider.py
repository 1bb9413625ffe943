"""Requests with tokens of an OpenID Connect provider that hangs or is away."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from tests.provider import AUDIENCE, DISCOVERY, SECOND, Provider
from tests.unit.api.conftest import App, running

from hpcq.auth import oidc
from hpcq.domain.principals import Method

pytestmark = pytest.mark.anyio


@pytest.fixture
async def app(plugin: None, tmp_path: Path, provider: Provider) -> AsyncIterator[App]:
    settings = {
        "auth": (Method.TOKEN, Method.OIDC),
        "oidc_issuer": provider.url,
        "oidc_audience": AUDIENCE,
        "oidc_roles": "planners=user",
    }
    async with running(tmp_path, **settings) as app:
        yield app


async def ask(app: App, token: str) -> httpx.Response:
    return await app.client.get("/jobs", headers={"Authorization": f"Bearer {token}"})


async def test_known_key_beside_a_stranger(
    app: App, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "_KEYS_ASKED_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(oidc, "_TIMEOUT_SECONDS", 3600.0)
    assert (await ask(app, provider.token())).status_code == 200
    with provider.dripping(DISCOVERY) as is_dripping:
        stranger = asyncio.create_task(ask(app, provider.token(SECOND)))
        await asyncio.to_thread(is_dripping.wait)
        for _ in range(3):
            assert (await ask(app, provider.token())).status_code == 200
        assert not stranger.done()
    assert (await stranger).status_code == 503
    assert (await ask(app, provider.token())).status_code == 200


async def test_provider_away_and_back(
    app: App, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "_AWAY_ASKED_AGAIN_SECONDS", 3600.0)
    provider.is_away = True
    for answer in await asyncio.gather(*(ask(app, provider.token()) for _ in range(10))):
        assert (answer.status_code, answer.json()["code"]) == (503, "provider_unavailable")
        assert answer.headers["retry-after"] == str(answer.json()["retryAfter"]) == "5"
    assert (await ask(app, provider.token())).status_code == 503
    assert provider.connected == 1
    provider.is_away = False
    monkeypatch.setattr(oidc, "_AWAY_ASKED_AGAIN_SECONDS", 0.0)
    assert (await ask(app, provider.token())).status_code == 200


async def test_service_ends_while_provider_hangs(
    plugin: None, tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "_TIMEOUT_SECONDS", 3600.0)
    monkeypatch.setattr(oidc, "_KEYS_ASKED_AGAIN_SECONDS", 0.0)
    settings = {
        "auth": (Method.OIDC,),
        "oidc_issuer": provider.url,
        "oidc_audience": AUDIENCE,
        "oidc_roles": "planners=user",
    }
    with provider.dripping(DISCOVERY) as is_dripping:
        async with running(tmp_path, **settings) as app:
            asked = asyncio.create_task(ask(app, provider.token()))
            await asyncio.to_thread(is_dripping.wait)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
