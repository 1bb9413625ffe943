"""Tokens of an OpenID Connect provider that runs, rotates its keys, lies, hangs and goes away."""

import asyncio
import base64
import hmac
import json
from typing import Any

import pytest
from joserfc.jwk import ECKey
from tests.provider import AUDIENCE, DISCOVERY, FIRST, KEYS, SECOND, STRANGER, Provider

from hpcq.auth import oidc
from hpcq.auth.oidc import OidcVerifier
from hpcq.config import Settings
from hpcq.domain.errors import NotAuthenticated, ProviderUnavailable
from hpcq.domain.principals import Role
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS, eventually

pytestmark = pytest.mark.anyio


def verifier(provider: Provider, **settings: str) -> OidcVerifier:
    given = {
        "auth": "oidc",
        "oidc_issuer": provider.url,
        "oidc_audience": AUDIENCE,
        "oidc_roles": "admins=operator,planners=user,guests=viewer",
    } | settings
    return OidcVerifier(Settings.model_validate(given))


async def test_token_valid(provider: Provider) -> None:
    checker = verifier(provider)
    assert (await checker.verify(provider.token()))[:2] == ("ana", Role.USER)
    listed = provider.token(aud=["other", AUDIENCE], roles=["guests", "admins"])
    assert (await checker.verify(listed))[:2] == ("ana", Role.OPERATOR)
    assert provider.asked == 1


async def test_token_user_and_role_claims(provider: Provider) -> None:
    checker = verifier(
        provider,
        oidc_user_claim="sub",
        oidc_role_claim="realm_access.roles",
        oidc_roles="*=viewer,admins=operator",
    )
    token = provider.token(sub="u-1", realm_access={"roles": ["admins"]})
    assert (await checker.verify(token))[:2] == ("u-1", Role.OPERATOR)
    assert (await checker.verify(provider.token(sub="u-2")))[:2] == ("u-2", Role.VIEWER)


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1_700_000_000},
        {"exp": None},
        {"nbf": 20_000_000_000},
        {"aud": "another-service"},
        {"aud": None},
        {"iss": "https://elsewhere.example"},
        {"iss": None},
        {"preferred_username": None},
        {"preferred_username": "ana\nroot"},
        {"preferred_username": ["root"]},
        {"roles": None},
        {"roles": ["cleaners"]},
        {"roles": {"admins": True}},
        {"roles": [["admins"]]},
    ],
    ids=str,
)
async def test_token_invalid_claim(provider: Provider, changes: dict[str, Any]) -> None:
    with pytest.raises(NotAuthenticated):
        await verifier(provider).verify(provider.token(**changes))


def _coded(*parts: bytes) -> str:
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def _unsigned(provider: Provider) -> str:
    header = {"alg": "none", "kid": "first"}
    return _coded(json.dumps(header).encode(), json.dumps(provider.claims()).encode()) + "."


def _secret_is_the_public_key(provider: Provider) -> str:
    header = {"alg": "HS256", "kid": "first"}
    said = _coded(json.dumps(header).encode(), json.dumps(provider.claims()).encode())
    secret = FIRST.as_pem(private=False)
    return f"{said}.{_coded(hmac.digest(secret, said.encode(), 'sha256'))}"


def _signed_by_a_stranger(provider: Provider) -> str:
    return provider.token(STRANGER)


def _key_in_the_header(provider: Provider) -> str:
    return provider.token(STRANGER, {"jwk": STRANGER.as_dict(private=False)})


def _other_algorithm(provider: Provider) -> str:
    return provider.token(header={"alg": "PS256"})


def _changed(provider: Provider) -> str:
    head, _, signature = provider.token().split(".")
    claims = _coded(json.dumps(provider.claims(roles=["admins"])).encode())
    return f"{head}.{claims}.{signature}"


@pytest.mark.parametrize(
    "forge",
    [
        _unsigned,
        _secret_is_the_public_key,
        _signed_by_a_stranger,
        _key_in_the_header,
        _other_algorithm,
        _changed,
        lambda provider: "a.b.c",
        lambda provider: "x" * 20_000,
        lambda provider: ".....",
        lambda provider: provider.token() + "é",
    ],
)
async def test_token_forged(provider: Provider, forge: Any) -> None:
    with pytest.raises(NotAuthenticated):
        await verifier(provider).verify(forge(provider))


async def test_keys_rotated(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    checker = verifier(provider)
    await checker.verify(provider.token())
    monkeypatch.setattr(oidc, "_KEYS_ASKED_AGAIN_SECONDS", 0.0)
    provider.keys.insert(0, SECOND)
    assert (await checker.verify(provider.token())).user == "ana"
    old = provider.keys.pop()
    monkeypatch.setattr(oidc, "_KEYS_KEPT_SECONDS", 0.0)

    async def refused() -> bool:
        try:
            await checker.verify(provider.token(old))
        except NotAuthenticated:
            return True
        return False

    # The first token after the hour does not wait for the new keys.
    await eventually(refused)
    await checker.close()


async def test_key_elliptic(provider: Provider) -> None:
    provider.keys = [ECKey.generate_key("P-256", {"kid": "curve"}, private=True)]
    assert (await verifier(provider).verify(provider.token(header={"alg": "ES256"}))).user == "ana"


async def test_keys_unknown_provider_queries_limited(provider: Provider) -> None:
    checker = verifier(provider)
    for number in range(5):
        with pytest.raises(NotAuthenticated):
            await checker.verify(provider.token(STRANGER, {"kid": f"stranger-{number}"}))
    assert provider.asked == 1


async def test_provider_down(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    checker = verifier(provider)
    provider.is_away = True
    with pytest.raises(ProviderUnavailable, match=provider.url):
        await checker.verify(provider.token())
    provider.is_away = False
    monkeypatch.setattr(oidc, "_AWAY_ASKED_AGAIN_SECONDS", 0.0)
    await checker.verify(provider.token())
    provider.is_away = True
    monkeypatch.setattr(oidc, "_KEYS_ASKED_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(oidc, "_KEYS_KEPT_SECONDS", 0.0)
    known = provider.connected
    assert (await checker.verify(provider.token())).user == "ana"

    async def asked() -> bool:
        return provider.connected > known

    await eventually(asked)
    assert (await checker.verify(provider.token())).user == "ana"
    await checker.close()


async def test_provider_down_asked_once_for_many(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "_AWAY_ASKED_AGAIN_SECONDS", 3600.0)
    checker = verifier(provider)
    provider.is_away = True
    tokens = [checker.verify(provider.token()) for _ in range(20)]
    answers = await asyncio.gather(*tokens, return_exceptions=True)
    assert {type(answer) for answer in answers} == {ProviderUnavailable}
    with pytest.raises(ProviderUnavailable, match="503"):
        await checker.verify(provider.token())
    assert provider.connected == 1


async def test_provider_down_unknown_key(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "_KEYS_ASKED_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(oidc, "_AWAY_ASKED_AGAIN_SECONDS", 3600.0)
    checker = verifier(provider)
    await checker.verify(provider.token())
    provider.is_away = True
    known = provider.connected
    for _ in range(3):
        with pytest.raises(ProviderUnavailable, match="503"):
            await checker.verify(provider.token(SECOND))
        assert (await checker.verify(provider.token())).user == "ana"
    assert provider.connected == known + 1


@pytest.mark.parametrize("path", [DISCOVERY, KEYS])
@pytest.mark.parametrize("part", ["head", "body"])
async def test_provider_dripping_given_up(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, path: str, part: str
) -> None:
    monkeypatch.setattr(oidc, "_TIMEOUT_SECONDS", 0.7)
    checker = verifier(provider)
    async with asyncio.timeout(PATIENCE_SECONDS):
        with (
            provider.dripping(path, part) as is_dripping,
            pytest.raises(ProviderUnavailable, match=r"does not answer within 0\.7 s"),
        ):
            await checker.verify(provider.token())
    assert is_dripping.is_set()
    monkeypatch.setattr(oidc, "_TIMEOUT_SECONDS", 3600.0)
    monkeypatch.setattr(oidc, "_AWAY_ASKED_AGAIN_SECONDS", 0.0)
    assert (await checker.verify(provider.token())).user == "ana"


@pytest.mark.parametrize("kept_seconds", [3600.0, 0.0], ids=["stranger", "old keys"])
async def test_known_key_waits_for_no_fetch(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, kept_seconds: float
) -> None:
    monkeypatch.setattr(oidc, "_TIMEOUT_SECONDS", 3600.0)
    monkeypatch.setattr(oidc, "_KEYS_ASKED_AGAIN_SECONDS", 0.0)
    checker = verifier(provider)
    await checker.verify(provider.token())
    monkeypatch.setattr(oidc, "_KEYS_KEPT_SECONDS", kept_seconds)
    with provider.dripping(DISCOVERY) as is_dripping:
        stranger = asyncio.create_task(checker.verify(provider.token(SECOND)))
        await asyncio.to_thread(is_dripping.wait)
        for _ in range(3):
            assert (await checker.verify(provider.token())).user == "ana"
        assert not stranger.done()
    with pytest.raises((NotAuthenticated, ProviderUnavailable)):
        await stranger


async def test_fetch_survives_those_who_leave(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "_TIMEOUT_SECONDS", 3600.0)
    checker = verifier(provider)
    with provider.dripping(DISCOVERY) as is_dripping:
        first, second = (asyncio.create_task(checker.verify(provider.token())) for _ in range(2))
        await asyncio.to_thread(is_dripping.wait)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert not second.done()
    with pytest.raises(ProviderUnavailable):
        await second
    assert provider.connected == 1


@pytest.mark.parametrize("path", [DISCOVERY, KEYS])
@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"[" * 100_000,
        b'{"issuer": 1}',
        b'{"keys": 1}',
        b'{"keys": [1]}',
        b'{"keys": [{"kty": "RSA"}]}',
        b" " * 2_000_000,
    ],
    ids=lambda document: repr(document[:30]),
)
async def test_provider_nonsense(provider: Provider, path: str, document: bytes) -> None:
    provider.documents[path] = document
    with pytest.raises(ProviderUnavailable, match=provider.url):
        await verifier(provider).verify(provider.token())


@pytest.mark.parametrize("uri", ["http://[", "", "ftp://127.0.0.1/", 7, None])
async def test_provider_jwks_uri_nonsense(provider: Provider, uri: Any) -> None:
    provider.documents[DISCOVERY] = json.dumps({"issuer": provider.url, "jwks_uri": uri}).encode()
    with pytest.raises(ProviderUnavailable, match=provider.url):
        await verifier(provider).verify(provider.token())


async def test_provider_other_issuer(provider: Provider) -> None:
    provider.issuer = "https://elsewhere.example"
    with pytest.raises(ProviderUnavailable, match="elsewhere"):
        await verifier(provider).verify(provider.token())
