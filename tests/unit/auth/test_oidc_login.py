"""ID tokens that a provider answers to a login with, good and bad."""

import asyncio
import base64
import hashlib
from typing import Any

import pytest
from tests.provider import AUDIENCE, TOKENS, Provider

from hpcq.auth import oidc
from hpcq.auth.oidc import OidcVerifier
from hpcq.auth.oidc_login import OidcLogin
from hpcq.auth.sessions import new_secret
from hpcq.config import Settings
from hpcq.domain.errors import NotAuthenticated, ProviderUnavailable
from hpcq.domain.principals import Role
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio

CLIENT = "the-page"
BACK = "https://head.example/session/callback"
SECRET = new_secret()
NONCE = (
    base64.urlsafe_b64encode(hashlib.sha256(f"nonce.{SECRET}".encode()).digest())
    .rstrip(b"=")
    .decode()
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def login_at(provider: Provider) -> OidcLogin:
    settings = Settings.model_validate(
        {
            "auth": "oidc",
            "oidc_issuer": provider.url,
            "oidc_audience": AUDIENCE,
            "oidc_roles": "planners=user",
            "oidc_client_id": CLIENT,
        }
    )
    return OidcLogin(settings, OidcVerifier(settings))


def answering(provider: Provider, monkeypatch: pytest.MonkeyPatch, **answer: str) -> OidcLogin:
    """Return the login at a provider that answers to every code with these tokens."""
    login = login_at(provider)

    async def exchange(*_: str) -> dict[str, Any]:
        return dict(answer)

    monkeypatch.setattr(login, "_exchange", exchange)
    return login


def id_token(provider: Provider, **changes: Any) -> str:
    claims = {"aud": CLIENT, "sub": "7", "nonce": NONCE} | changes
    return provider.token(**claims)


async def test_id_token_valid(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    login = answering(provider, monkeypatch, id_token=id_token(provider))
    assert (await login.redeem("code", BACK, SECRET))[:2] == ("ana", Role.USER)


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1_700_000_000},
        {"exp": None},
        {"nbf": 20_000_000_000},
        {"aud": AUDIENCE},
        {"aud": None},
        {"aud": [CLIENT, "other"], "azp": "other"},
        {"iss": "https://elsewhere.example"},
        {"nonce": None},
        {"nonce": "another"},
        {"sub": None},
        {"roles": ["cleaners"]},
    ],
    ids=str,
)
async def test_id_token_invalid(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    login = answering(provider, monkeypatch, id_token=id_token(provider, **changes))
    with pytest.raises(NotAuthenticated):
        await login.redeem("code", BACK, SECRET)


async def test_id_token_missing(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    login = answering(provider, monkeypatch, access_token=provider.token(sub="7"))
    with pytest.raises(NotAuthenticated):
        await login.redeem("code", BACK, SECRET)


@pytest.mark.parametrize(("changes", "is_known"), [({"sub": "7"}, True), ({"sub": "8"}, False)])
async def test_roles_from_access_token(
    provider: Provider,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    is_known: bool,
) -> None:
    tokens = {
        "id_token": id_token(provider, roles=None),
        "access_token": provider.token(**changes),
    }
    login = answering(provider, monkeypatch, **tokens)
    if is_known:
        assert (await login.redeem("code", BACK, SECRET)).role is Role.USER
    else:
        with pytest.raises(NotAuthenticated):
            await login.redeem("code", BACK, SECRET)


async def test_provider_without_authorization_endpoint(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ProviderUnavailable, match="authorization_endpoint"):
        await answering(provider, monkeypatch).login_url(BACK, SECRET)


@pytest.mark.parametrize("part", ["head", "body"])
async def test_code_exchange_dripping_given_up(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    login = login_at(provider)
    await login._verifier.provider()
    monkeypatch.setattr(oidc, "_TIMEOUT_SECONDS", 0.7)
    async with asyncio.timeout(PATIENCE_SECONDS):
        with (
            provider.dripping(TOKENS, part) as is_dripping,
            pytest.raises(ProviderUnavailable, match=r"does not answer within 0\.7 s"),
        ):
            await login.redeem("code", BACK, SECRET)
    assert is_dripping.is_set()
