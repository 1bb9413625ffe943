"""Sessions of browsers: who gets a cookie, what it opens, and when it is over."""

import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.unit.api.conftest import App, running

from hpcq.auth import sessions, tokens
from hpcq.auth.tokens import create_token
from hpcq.config import Settings, deployment_of
from hpcq.domain.principals import Method, Principal, Role, Scope
from hpcq.domain.units import now
from hpcq.schedulers.testing.waiting import eventually
from hpcq.storage.database import Database
from hpcq.storage.tokens import TokenStore

pytestmark = pytest.mark.anyio

# A browser sends it with each change.
FROM_THE_PAGE = {"Origin": "http://localhost"}
PROXIED = {"X-Forwarded-For": "10.1.1.1", "X-Forwarded-Proto": "https"}


@dataclass
class Site:
    """A service with a store of its tokens."""

    app: App
    store: TokenStore

    async def token(self, role: Role = Role.USER, **fields: Any) -> str:
        return await create_token(self.store, user="ana", role=role, at=now(), **fields)

    async def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        # The tests send cookies themselves.
        self.app.client.cookies.clear()
        return await self.app.client.request(method, path, headers=headers, **more)

    async def log_in(self, token: str, **headers: str) -> httpx.Response:
        return await self.ask("POST", "/session", bearer(token) | headers)

    async def cookie(self, token: str, **headers: str) -> str:
        answer = await self.log_in(token, **headers)
        assert answer.status_code == 201, answer.text
        return str(answer.headers["set-cookie"]).partition(";")[0]

    async def user(self, cookie: str, **headers: str) -> str | None:
        answer = await self.ask("GET", "/session", {"Cookie": cookie} | headers)
        assert answer.status_code == 200, answer.text
        user: str | None = answer.json()["user"]
        return user


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def attributes(answer: httpx.Response) -> Any:
    [cookie] = SimpleCookie(answer.headers["set-cookie"]).values()
    return cookie


async def opened(tmp_path: Path, **settings: Any) -> AsyncIterator[Site]:
    async with running(tmp_path, **{"auth": (Method.PEER, Method.TOKEN)} | settings) as app:
        state = Settings(scheduler="fake", state_directory=tmp_path / "state")
        database = Database(state.store_url, deployment_of(state), beside_the_service=True)
        await database.open()
        yield Site(app, TokenStore(database))
        await database.close()


@pytest.fixture
async def site(plugin: None, tmp_path: Path) -> AsyncIterator[Site]:
    async for one in opened(tmp_path):
        yield one


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Findings of the records are not remembered, as when 5 s have passed."""
    monkeypatch.setattr(tokens, "_REMEMBERED_SECONDS", -1.0)


@pytest.fixture
def counted_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "_COUNTED_EVERY_SECONDS", 0.01)


async def test_login_methods_without_credentials(site: Site) -> None:
    answer = await site.ask("GET", "/session")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    told = answer.json()
    assert told.pop("logins") == [
        {"method": "peer", "url": None},
        {"method": "token", "url": None},
    ]
    assert not any(told.values()), told


async def test_login_with_token(site: Site) -> None:
    token = await site.token(Role.OPERATOR, scopes=frozenset({Scope.JOBS_READ}))
    answer = await site.log_in(token)
    assert answer.status_code == 201
    cookie = attributes(answer)
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
    assert not cookie["secure"]
    assert not cookie["domain"]
    assert 0 < int(cookie["max-age"]) <= 12 * 3600
    assert token not in answer.headers["set-cookie"]
    shown = {"Cookie": f"{cookie.key}={cookie.value}"}
    told = (await site.ask("GET", "/session", shown)).json()
    assert (told["user"], told["role"], told["method"]) == ("ana", "operator", "session")
    assert told["scopes"] == ["jobs:read"]
    assert told["expiresAt"]
    assert told["service"]["jobVisibility"] == "all"
    assert (await site.ask("GET", "/jobs", shown)).status_code == 200
    assert (await site.ask("GET", "/programs", shown)).status_code == 403


async def test_session_ends_with_token(site: Site) -> None:
    ends = now() + timedelta(minutes=5)
    answer = await site.log_in(await site.token(expires_at=ends))
    assert 0 < int(attributes(answer)["max-age"]) <= 300


async def test_session_token_revoked(no_memory: None, site: Site) -> None:
    cookie = await site.cookie(await site.token())
    assert await site.user(cookie) == "ana"
    [token] = [one for one in await site.store.all() if one.user == "ana"]
    await site.store.revoke(token.token_id, now())
    assert await site.user(cookie) is None
    refused = await site.ask("GET", "/jobs", {"Cookie": cookie})
    assert (refused.status_code, refused.json()["code"]) == (401, "not_authenticated")


async def test_session_expired(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    cookie = await site.cookie(await site.token())
    monkeypatch.setattr(
        site.app.context.sessions, "_now", lambda: now() + timedelta(hours=12, seconds=1)
    )
    assert await site.user(cookie) is None


async def test_session_of_provider_hours(plugin: None, tmp_path: Path) -> None:
    oidc = {
        "auth": (Method.TOKEN, Method.OIDC),
        "oidc_issuer": "https://login.example",
        "oidc_audience": "hpc-queue",
        "oidc_roles": "*=user",
        "session_hours": 12.0,
        "oidc_session_hours": 2.0,
    }
    async for site in opened(tmp_path, **oidc):
        known = site.app.context.sessions
        for method, hours in ((Method.OIDC, 2), (Method.TOKEN, 12)):
            principal = Principal(user="ana", role=Role.USER, method=method, sees_all=False)
            text, ends = await known.begin(principal)
            begun = (await known.verify(text)).created_at
            assert ends - begun == timedelta(hours=hours)


async def test_login_metrics(site: Site) -> None:
    await site.log_in(await site.token())
    for _ in range(11):
        await site.log_in("hpcq_guess")
    token = await site.token(Role.OPERATOR)
    metrics = (await site.ask("GET", "/metrics", bearer(token))).text
    counted = re.findall(r'^hpcq_logins_total{method="(\w+)",outcome="(\w+)"} (\d+)', metrics, re.M)
    assert counted == [
        ("token", "success", "1"),
        ("token", "refused", "10"),
        ("token", "limited", "1"),
    ]


async def test_open_sessions_metric(counted_often: None, site: Site) -> None:
    operator = await site.token(Role.OPERATOR)

    async def shows(count: int) -> None:
        async def is_so() -> bool:
            metrics = (await site.ask("GET", "/metrics", bearer(operator))).text
            return f"\nhpcq_sessions_open {count}.0\n" in metrics

        await eventually(is_so)

    await shows(0)
    cookies = [await site.cookie(await site.token()) for _ in range(3)]
    await shows(3)
    await site.ask("DELETE", "/session", {"Cookie": cookies[0], **FROM_THE_PAGE})
    await shows(2)
    for token in await site.store.all():
        await site.store.revoke(token.token_id, now())
    operator = await site.token(Role.OPERATOR)
    await shows(0)


async def test_logout(site: Site) -> None:
    cookie = await site.cookie(await site.token())
    answer = await site.ask("DELETE", "/session", {"Cookie": cookie, **FROM_THE_PAGE})
    assert answer.status_code == 204
    assert attributes(answer)["max-age"] == "0"
    assert await site.user(cookie) is None
    again = await site.ask("DELETE", "/session", {"Cookie": cookie, **FROM_THE_PAGE})
    assert again.status_code == 204


async def test_login_twice_ends_first_session(site: Site) -> None:
    token = await site.token()
    first = await site.cookie(token)
    second = await site.cookie(token, Cookie=first)
    assert await site.user(first) is None
    assert await site.user(second) == "ana"


async def test_session_over_service_restart(plugin: None, tmp_path: Path) -> None:
    async for site in opened(tmp_path):
        cookie = await site.cookie(await site.token())
    (tmp_path / "work" / "run.sh").unlink()
    (tmp_path / "work").rmdir()
    async for site in opened(tmp_path):
        assert await site.user(cookie) == "ana"


async def test_session_tokens_disabled(plugin: None, tmp_path: Path) -> None:
    async for site in opened(tmp_path):
        cookie = await site.cookie(await site.token())
    (tmp_path / "work" / "run.sh").unlink()
    (tmp_path / "work").rmdir()
    async for site in opened(tmp_path, auth=(Method.PEER,)):
        assert await site.user(cookie) is None


async def test_credentials_bad_token_good_cookie(site: Site) -> None:
    cookie = await site.cookie(await site.token())
    for bad in ("Bearer hpcq_unknown", "Basic cm9vdDpyb290", ""):
        shown = {"Cookie": cookie, "Authorization": bad}
        assert (await site.ask("GET", "/jobs", shown)).status_code == 401


async def test_credentials_token_over_cookie(site: Site) -> None:
    cookie = await site.cookie(await site.token(Role.VIEWER))
    token = await site.token(Role.OPERATOR)
    told = (await site.ask("GET", "/session", {"Cookie": cookie, **bearer(token)})).json()
    assert (told["role"], told["method"]) == ("operator", "token")


async def test_cookie_stale_from_known_peer(plugin: None, tmp_path: Path) -> None:
    async for site in opened(tmp_path, trusted_clients="127.0.0.1=operator:portal"):
        cookie = (await site.cookie(await site.token())).partition("=")[0] + "=stale"
        refused = await site.ask("GET", "/jobs", {"Cookie": cookie})
        assert refused.status_code == 401
        assert "Log in again" in refused.json()["detail"]
        assert attributes(refused)["max-age"] == "0"
        # The browser has no cookie any more.
        assert (await site.ask("GET", "/jobs")).status_code == 200


async def test_login_no_cookie_with_auth_none(plugin: None, tmp_path: Path) -> None:
    async for site in opened(tmp_path, auth=(Method.NONE,)):
        answer = await site.ask("POST", "/session", FROM_THE_PAGE)
        assert answer.status_code == 200
        assert "set-cookie" not in answer.headers
        assert answer.json()["method"] == "none"


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({}, False),
        ({"Origin": "http://localhost"}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
    ],
)
async def test_cookie_changes_from_page_only(
    site: Site, headers: dict[str, str], passes: bool
) -> None:
    cookie = await site.cookie(await site.token())
    submitted = await site.ask("POST", "/jobs", {"Cookie": cookie, **headers}, json=site.app.body)
    assert submitted.status_code == (201 if passes else 403), submitted.text


@pytest.mark.parametrize(
    ("root", "name", "path"), [("/", "__Host-hpcq-", "/"), ("/queue", "__Secure-hpcq-", "/queue")]
)
async def test_cookie_over_https(
    plugin: None, tmp_path: Path, root: str, name: str, path: str
) -> None:
    async for site in opened(tmp_path, root_path=root, trusted_proxies="127.0.0.1"):
        answer = await site.log_in(await site.token(), **PROXIED)
        cookie = attributes(answer)
        assert cookie.key.startswith(name)
        assert (cookie["path"], cookie["secure"]) == (path, True)
        shown = f"{cookie.key}={cookie.value}"
        assert await site.user(shown, **PROXIED) == "ana"
        # Without TLS a browser would not send it, and anybody on the way could have made it.
        assert await site.user(shown) is None
        plain = f"{cookie.key.removeprefix('__Host-').removeprefix('__Secure-')}={cookie.value}"
        assert await site.user(plain, **PROXIED) is None


async def test_cookie_forwarded_https_untrusted(site: Site) -> None:
    answer = await site.log_in(await site.token(), **PROXIED)
    assert not attributes(answer)["secure"]


async def test_login_failures_per_address_limit(site: Site) -> None:
    statuses = [(await site.log_in("hpcq_guess")).status_code for _ in range(15)]
    assert statuses[:10] == [401] * 10
    assert statuses[-1] == 429
    # It is the login alone that is refused.
    assert (await site.ask("GET", "/jobs", bearer(await site.token()))).status_code == 200


async def test_audit_log_logins_and_logouts(site: Site, tmp_path: Path) -> None:
    cookie = await site.cookie(await site.token())
    await site.log_in("hpcq_guess")
    await site.ask("DELETE", "/session", {"Cookie": cookie, **FROM_THE_PAGE})
    path, lines = tmp_path / "state" / "audit.jsonl", list[dict[str, Any]]()

    async def written() -> bool:
        lines[:] = [json.loads(line) for line in path.read_text().splitlines()]
        return len(lines) == 3

    await eventually(written)
    assert [(line["action"], line["user"], line["through"], line["status"]) for line in lines] == [
        ("createSession", "ana", "token", 201),
        ("createSession", None, None, 401),
        ("deleteSession", "ana", "session", 204),
    ]
    assert cookie.partition("=")[2] not in path.read_text()


async def test_session_limit_per_user(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcq.storage.sessions._MOST_OF_A_USER", 2)
    token = await site.token()
    first, *others = [await site.cookie(token) for _ in range(3)]
    assert await site.user(first) is None
    assert [await site.user(cookie) for cookie in others] == ["ana", "ana"]


async def test_cookie_garbage(site: Site) -> None:
    name = (await site.cookie(await site.token())).partition("=")[0]
    for garbage in ("", ";;=;", f"{name}=", f"{name}", f"{name}=\xff\xfe", f"{name}={'x' * 9000}"):
        sent = {b"Cookie": garbage.encode("latin-1")}
        answer = await site.app.client.get("/jobs", headers=sent)
        assert answer.status_code == 401, garbage


@pytest.mark.parametrize("path", ["login", "callback"])
async def test_login_without_provider(site: Site, path: str) -> None:
    assert (await site.ask("GET", f"/session/{path}")).status_code == 404


@pytest.mark.parametrize("compatibility", ["none", "original"])
async def test_callback_unknown_parameters(
    plugin: None, tmp_path: Path, compatibility: str
) -> None:
    async for site in opened(tmp_path, compatibility=compatibility):
        for query in ("session_state=7&code=1", "scope=a&scope=b", "error_description=no"):
            answer = await site.ask("GET", f"/session/callback?{query}")
            assert answer.status_code in (404, 422), (query, answer.text)
