"""Who a request is by, from what its connection and its headers say."""

import asyncio
import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from hpcq.auth import authenticator
from hpcq.auth.authenticator import Authenticator
from hpcq.auth.connections import Connection, client_address
from hpcq.auth.sessions import Cookies, Sessions
from hpcq.auth.settings import AuthSettings
from hpcq.auth.tokens import TokenVerifier
from hpcq.config import Settings
from hpcq.domain.errors import NotAuthenticated, ProviderUnavailable
from hpcq.domain.principals import Method, Principal, Role
from hpcq.domain.units import now
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS
from hpcq.storage.sessions import SessionStore
from hpcq.storage.tokens import Token, TokenStore

pytestmark = pytest.mark.anyio

HERE = Connection(("127.0.0.1", 40000), ("127.0.0.1", 5049))
AFAR = Connection(("10.0.7.12", 40000), ("10.0.7.1", 5049))
SOMEBODY = 12345


class OneToken:
    """A store that holds one token, of a viewer, under every hash but of ``hpcq_bad``."""

    asked = 0

    async def find(self, _digest: str) -> Token | None:
        self.asked += 1
        return Token(
            token_id="1",  # noqa: S106
            user="ana",
            role=Role.VIEWER,
            scopes=None,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
        )


class NoSessions:
    """A store without a session."""

    async def find(self, _digest: str) -> None:
        return None


def settings(**values: str) -> AuthSettings:
    return Settings.model_validate(values)


async def identify(
    connection: Connection, headers: Mapping[str, str] | None = None, /, **values: str
) -> Principal:
    return await authenticating(**values).identify(connection, headers or {})


def authenticating(**values: str) -> Authenticator:
    given = settings(**values)
    return Authenticator(
        given,
        TokenVerifier(cast(TokenStore, OneToken()), now),
        None,
        Sessions(cast(SessionStore, NoSessions()), given, now),
        Cookies(given, "/", "1"),
    )


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Says which account the kernel names; by default the service's own."""

    def is_(user_id: int | None) -> None:
        monkeypatch.setattr(authenticator, "loopback_peer", lambda *_: user_id)

    monkeypatch.setattr(authenticator, "account_name", {SOMEBODY: "ana", 0: "root"}.get)
    monkeypatch.setattr(authenticator, "groups_of", lambda name: [name, "planning"])
    is_(os.geteuid())
    return is_


@pytest.mark.parametrize("user_id", [0, os.geteuid()])
async def test_peer_own_account_and_root(peer: Any, user_id: int) -> None:
    peer(user_id)
    found = await identify(HERE)
    assert (found.role, found.method) == (Role.OPERATOR, Method.PEER)


@pytest.mark.parametrize(
    ("accounts", "role"),
    [
        ("", None),
        ("bob", None),
        ("@staff", None),
        ("ana", Role.USER),
        ("bob,ana=viewer", Role.VIEWER),
        ("@planning=operator", Role.OPERATOR),
        ("ana=viewer @planning=operator", Role.VIEWER),
        ("*", Role.USER),
    ],
)
async def test_peer_other_account(peer: Any, accounts: str, role: Role | None) -> None:
    peer(SOMEBODY)
    more = {"peer_accounts": accounts} if accounts else {}
    if role is None:
        with pytest.raises(NotAuthenticated, match=r"12345 is not in PEER_ACCOUNTS"):
            await identify(HERE, {}, **more)
    else:
        found = await identify(HERE, {}, **more)
        assert (found.user, found.role) == ("ana", role)


async def test_peer_account_lookup_hangs(peer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    looks: list[int] = []

    def hanging(user_id: int) -> str:
        looks.append(user_id)
        answers.wait()
        return "ana"

    monkeypatch.setattr(authenticator, "account_name", hanging)
    monkeypatch.setattr(authenticator, "_DIRECTORY_SECONDS", 0.2)
    peer(SOMEBODY)
    asked = authenticating(peer_accounts="ana=user")
    try:
        stuck = [asyncio.ensure_future(asked.identify(HERE, {})) for _ in range(80)]
        await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.to_thread(bool)
        for outcome in await asyncio.gather(*stuck, return_exceptions=True):
            assert isinstance(outcome, ProviderUnavailable)
        assert looks == [SOMEBODY]
    finally:
        answers.set()
    assert (await asked.identify(HERE, {})).user == "ana"


async def test_peer_account_unknown_to_kernel(peer: Any) -> None:
    peer(None)
    with pytest.raises(NotAuthenticated, match="does not know who asks"):
        await identify(HERE, peer_accounts="*")


async def test_peer_over_unix_socket(peer: Any) -> None:
    peer(None)
    found = await identify(Connection(None, None, peer=os.geteuid()))
    assert (found.role, found.method) == (Role.OPERATOR, Method.PEER)


@pytest.mark.parametrize(
    "header", ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-real-ip", "via"]
)
async def test_peer_through_proxy(peer: Any, header: str) -> None:
    with pytest.raises(NotAuthenticated):
        await identify(HERE, {header: "1.2.3.4"})


async def test_peer_through_trusted_proxy(peer: Any) -> None:
    with pytest.raises(NotAuthenticated):
        await identify(HERE, trusted_proxies="127.0.0.1")


async def test_token_over_peer(peer: Any) -> None:
    found = await identify(HERE, {"authorization": "bearer hpcq_x"})
    assert (found.user, found.role, found.method) == ("ana", Role.VIEWER, Method.TOKEN)
    for bad in ("hpcq_x", "Bearer", "Basic hpcq_x", "Bearer other", ""):
        with pytest.raises(NotAuthenticated):
            await identify(HERE, {"authorization": bad})


async def test_method_not_enabled(peer: Any) -> None:
    with pytest.raises(NotAuthenticated):
        await identify(HERE, auth="token")
    with pytest.raises(NotAuthenticated):
        await identify(AFAR, {"authorization": "Bearer hpcq_x"}, auth="peer")


async def test_auth_none(peer: Any) -> None:
    found = await identify(AFAR, {"authorization": "Basic eA=="}, auth="none")
    assert (found.role, found.method, found.user) == (Role.OPERATOR, Method.NONE, "")


async def test_trusted_client(peer: Any) -> None:
    trusted = "10.0.7.0/24=user:portal"
    found = await identify(AFAR, trusted_clients=trusted)
    assert (found.user, found.role, found.method) == ("portal", Role.USER, Method.CLIENT)
    with pytest.raises(NotAuthenticated):
        await identify(AFAR, {"x-forwarded-for": "10.0.7.12"}, trusted_clients="10.9.9.9=user:x")


async def test_token_cached() -> None:
    store = OneToken()
    verifier = TokenVerifier(cast(TokenStore, store), lambda: datetime.now(UTC))
    for _ in range(3):
        await verifier.verify("hpcq_x")
    assert store.asked == 1


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("", "10.0.7.2"),
        ("1.2.3.4", "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4", "1.2.3.4"),
        ("1.2.3.4, 10.0.7.3", "1.2.3.4"),
        ("1.2.3.4,, 10.0.7.3", "10.0.7.3"),
        ("rubbish", "rubbish"),
    ],
)
def test_client_address_behind_proxies(said: str, address: str) -> None:
    proxies = settings(trusted_proxies="10.0.7.0/28").trusted_proxies
    near = Connection(("10.0.7.2", 1), ("10.0.7.1", 2))
    headers = {"x-forwarded-for": said} if said else {}
    assert client_address(near, headers, proxies) == address
    assert client_address(near, headers, ()) == "10.0.7.2"


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("auth", "peer,magic", "AUTH"),
        ("auth", "none,peer", "none stands alone"),
        ("auth", "token,token", "named twice"),
        ("auth", "client", "TRUSTED_CLIENTS"),
        ("auth", "oidc", "OIDC_ISSUER and OIDC_AUDIENCE and OIDC_ROLES"),
        ("trusted_clients", "0.0.0.0/0=user:all", "too wide"),
        ("trusted_clients", "::/0=user:all", "too wide"),
        ("trusted_clients", "10.0.0.1", "ADDRESS=ROLE:NAME"),
        ("trusted_clients", "10.0.0.1=root:x", "not a role"),
        ("trusted_proxies", "0.0.0.0/0", "too wide"),
        ("allowed_hosts", "http://x", "not the name of a host"),
        ("allowed_origins", "*", "not an origin"),
        ("peer_accounts", "@", "names no account"),
        ("peer_accounts", "ana=king", "not a role"),
        ("oidc_issuer", "http://login.example", "not an https URL"),
        ("oidc_algorithms", "HS256", "OIDC_ALGORITHMS"),
        ("oidc_algorithms", "none", "OIDC_ALGORITHMS"),
        ("oidc_roles", "admins", "VALUE=ROLE"),
    ],
)
def test_setting_invalid(name: str, value: str, why: str, tmp_path: Any) -> None:
    from hpcq.config import SettingsError, load_settings

    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path / ".env", {name.upper(): value})
    assert why in str(caught.value)
