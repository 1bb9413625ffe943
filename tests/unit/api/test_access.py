"""Every route of the schema, for everybody who may or may not use it, on jobs of anybody."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.unit.api.conftest import App, running

from hpcq.api import access
from hpcq.auth.tokens import create_token
from hpcq.config import Settings, deployment_of
from hpcq.domain.principals import Method, Role, Scope
from hpcq.domain.units import now
from hpcq.schedulers.testing.waiting import eventually
from hpcq.storage.database import Database
from hpcq.storage.tokens import TokenStore

pytestmark = pytest.mark.anyio

# The roles that may use a route, and what is allowed with a job of somebody else that they see.
READ = {Role.VIEWER: True, Role.USER: True, Role.OPERATOR: True}
CHANGE = {Role.VIEWER: False, Role.USER: True, Role.OPERATOR: True}
OPERATE = {Role.VIEWER: False, Role.USER: False, Role.OPERATOR: True}
# Of a job of somebody else, operators alone may read more than its record.
READ_OWN = dict(READ)
EXPECTED: Mapping[str, tuple[Mapping[Role, bool], Scope | None]] = {
    "submitJob": (CHANGE, Scope.JOBS_WRITE),
    "listJobs": (READ, Scope.JOBS_READ),
    "summarizeJobs": (READ, Scope.JOBS_READ),
    "followListing": (READ, Scope.JOBS_READ),
    "getCluster": (READ, Scope.JOBS_READ),
    "listQueues": (READ, Scope.JOBS_READ),
    "getQueueUsage": (READ, Scope.JOBS_READ),
    "listNodes": (READ, Scope.JOBS_READ),
    "getJob": (READ, Scope.JOBS_READ),
    "getJobUsage": (READ, Scope.JOBS_READ),
    "getJobOutput": (READ_OWN, Scope.JOBS_READ),
    "listJobFiles": (READ_OWN, Scope.JOBS_READ),
    "getJobFile": (READ_OWN, Scope.JOBS_READ),
    "deleteJob": (CHANGE, Scope.JOBS_WRITE),
    "updateJob": (CHANGE, Scope.JOBS_WRITE),
    "holdJob": (CHANGE, Scope.JOBS_WRITE),
    "releaseJob": (CHANGE, Scope.JOBS_WRITE),
    "requeueJob": (CHANGE, Scope.JOBS_WRITE),
    "suspendJob": (CHANGE, Scope.JOBS_WRITE),
    "resumeJob": (CHANGE, Scope.JOBS_WRITE),
    "signalJob": (CHANGE, Scope.JOBS_WRITE),
    "listEvents": (READ, Scope.EVENTS_READ),
    "listJobEvents": (READ, Scope.EVENTS_READ),
    "createWebhook": (OPERATE, Scope.ADMIN),
    "listWebhooks": (OPERATE, Scope.ADMIN),
    "getWebhook": (OPERATE, Scope.ADMIN),
    "deleteWebhook": (OPERATE, Scope.ADMIN),
    "listWebhookDeliveries": (OPERATE, Scope.ADMIN),
    "listPrograms": (READ, Scope.PROGRAMS_READ),
    "getMetrics": (READ, Scope.METRICS_READ),
    "healthReady": (READ, None),
    "getSession": (READ, None),
    "firecrestSystems": (READ, Scope.JOBS_READ),
    "firecrestNodes": (READ, Scope.JOBS_READ),
    "firecrestPartitions": (READ, Scope.JOBS_READ),
    "firecrestSubmitJob": (CHANGE, Scope.JOBS_WRITE),
    "firecrestJobs": (READ, Scope.JOBS_READ),
    "firecrestJob": (READ, Scope.JOBS_READ),
    "firecrestJobMetadata": (READ, Scope.JOBS_READ),
    "firecrestCancelJob": (CHANGE, Scope.JOBS_WRITE),
    "firecrestView": (READ, Scope.JOBS_READ),
    "firecrestHead": (READ, Scope.JOBS_READ),
    "firecrestTail": (READ, Scope.JOBS_READ),
    "firecrestStat": (READ, Scope.JOBS_READ),
    "firecrestDownload": (READ, Scope.JOBS_READ),
    "createSession": (READ, None),
    "deleteSession": (READ, None),
    "beginLogin": (READ, None),
    "finishLogin": (READ, None),
}
NAMES = {"name": "all.q", "webhookId": "none", "systemName": "1"}
BODIES = {"signalJob": {"signal": "USR1"}, "updateJob": {"name": "other"}}
BAD = {
    "no token": None,
    "an unknown token": "Bearer hpcq_unknown",
    "no token at all": "Bearer",
    "a password": "Basic cm9vdDpyb290",
    "a foreign token": "Bearer eyJhbGciOiJub25lIn0.e30.",
}


@dataclass
class Site:
    """A service with tokens, and a job of each of two people."""

    app: App
    tokens: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, str] = field(default_factory=dict)

    async def ask(self, method: str, path: str, who: str | None, **more: Any) -> httpx.Response:
        headers = {} if who is None else {"Authorization": f"Bearer {self.tokens[who]}"}
        if path.endswith(("/events", "/jobs/changes")):
            # A stream of events has no end, but a head.
            answer = await self.app.client.head(path, headers=headers)
            if answer.is_success:
                return answer
        return await self.app.client.request(method, path, headers=headers, **more)

    async def submit(self, who: str, **fields: Any) -> httpx.Response:
        return await self.ask("POST", "/jobs", who, json=self.app.body | fields)


async def _site(tmp_path: Path, visibility: str) -> AsyncIterator[Site]:
    settings: dict[str, Any] = {
        "auth": (Method.TOKEN,),
        "job_visibility": visibility,
        "job_files": "on",
    }
    async with running(tmp_path, **settings) as app:
        site = Site(app)
        state = Settings(scheduler="fake", state_directory=tmp_path / "state")
        database = Database(state.store_url, deployment_of(state), beside_the_service=True)
        await database.open()
        store = TokenStore(database)
        for role in Role:
            for user in ("ana", "bob"):
                token = await create_token(store, user=user, role=role, at=now())
                site.tokens[f"{user} the {role.value}"] = token
        for scope in Scope:
            site.tokens[scope] = await create_token(
                store, user="ana", role=Role.OPERATOR, at=now(), scopes=frozenset({scope})
            )
        site.tokens["expired"] = await create_token(
            store, user="ana", role=Role.OPERATOR, at=now(), expires_at=now() - timedelta(seconds=1)
        )
        site.tokens["revoked"] = await create_token(store, user="eve", role=Role.OPERATOR, at=now())
        (eve,) = [token for token in await store.all() if token.user == "eve"]
        await store.revoke(eve.token_id, now())
        await database.close()
        for user in ("ana", "bob"):
            answer = await site.submit(f"{user} the user", hold=True)
            assert answer.status_code == 201, answer.text
            site.jobs[user] = answer.json()["jobId"]
        # The first sight of a job is a change of it.
        await app.asked_again()
        yield site


@pytest.fixture
async def site(plugin: None, tmp_path: Path) -> AsyncIterator[Site]:
    async for one in _site(tmp_path, "all"):
        yield one


@pytest.fixture
async def private(plugin: None, tmp_path: Path) -> AsyncIterator[Site]:
    """A site where people see only their own jobs."""
    async for one in _site(tmp_path, "own"):
        yield one


def operations(app: App) -> list[tuple[str, str, str]]:
    """Return method, path and operation id of every route in the schema."""
    schema = app.client._transport.app.openapi()  # type: ignore[attr-defined]
    return [
        (method.upper(), path, operation["operationId"])
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
        if operation["operationId"] != access.OPEN
    ]


async def test_routes_all_with_rule_and_expectation(site: Site) -> None:
    names = {name for _, _, name in operations(site.app)}
    assert names == set(EXPECTED) == set(access.RULES)


def test_route_without_rule_stops_start(monkeypatch: pytest.MonkeyPatch) -> None:
    from hpcq.api.app import create_app

    monkeypatch.setattr(
        access, "RULES", {k: v for k, v in access.RULES.items() if k != "listPrograms"}
    )
    with pytest.raises(LookupError, match="listPrograms"):
        create_app(Settings())


@pytest.mark.parametrize("shown", BAD.values(), ids=BAD)
async def test_access_without_valid_token(site: Site, shown: str | None) -> None:
    headers = {} if shown is None else {"Authorization": shown}
    paths = [
        (method, path)
        for method, path, name in operations(site.app)
        if name not in access.FOR_NOBODY_TOO
    ]
    for method, path in [*paths, ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/nothing")]:
        where = path.format(jobId=site.jobs["ana"], path="run.sh", **NAMES)
        for spelling in (
            where,
            f"{where}/",
            f"http://localhost/{where}",
            where.replace("o", "%6F", 1),
        ):
            answer = await site.app.client.request(method, spelling, headers=headers)
            assert answer.status_code == 401, (method, spelling)
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.json()["code"] == "not_authenticated"


@pytest.mark.parametrize("token", ["expired", "revoked"])
async def test_access_expired_token(site: Site, token: str) -> None:
    answer = await site.ask("GET", "/jobs", token)
    assert answer.status_code == 401
    assert token in answer.json()["detail"]


@pytest.mark.parametrize("role", Role)
async def test_access_by_role(site: Site, role: Role) -> None:
    for method, path, name in operations(site.app):
        allowed, _ = EXPECTED[name]
        for job in (site.jobs["ana"], site.jobs["bob"], "99999"):
            where = path.format(jobId=job, path="run.sh", **NAMES)
            answer = await site.ask(
                method, where, f"ana the {role.value}", json=BODIES.get(name, {})
            )
            case = (role, method, where, answer.text)
            is_owners = (allowed is CHANGE or allowed is READ_OWN) and "{jobId}" in path
            if not allowed[role]:
                assert answer.status_code == 403, case
            elif "{jobId}" in path and job == "99999":
                assert answer.status_code == 404, case
            elif is_owners and job == site.jobs["bob"] and role is not Role.OPERATOR:
                assert answer.status_code == 403, case
                assert "not yours" in answer.json()["detail"]
            elif name in ("beginLogin", "finishLogin"):
                # There is no provider.
                assert answer.status_code == 404, case
            elif "{webhookId}" in path:
                assert answer.json()["code"] == "webhook_not_found", case
            elif name == "getJobOutput":
                # It is held.
                assert answer.json()["code"] == "no_such_file", case
            else:
                assert answer.status_code not in (401, 403, 404), case


@pytest.mark.parametrize("scope", Scope)
async def test_access_by_scope(site: Site, scope: Scope) -> None:
    for method, path, name in operations(site.app):
        _, needed = EXPECTED[name]
        where = path.format(jobId=site.jobs["bob"], path="run.sh", **NAMES)
        answer = await site.ask(method, where, scope, json=BODIES.get(name, {}))
        if needed in (None, scope):
            assert answer.status_code not in (401, 403), (scope, name, answer.text)
        else:
            assert answer.status_code == 403, (scope, name)
            assert needed is not None
            assert needed.value in answer.json()["detail"]


@pytest.mark.parametrize("role", [Role.VIEWER, Role.USER])
async def test_job_of_other_user_in_private_mode(private: Site, role: Role) -> None:
    who, bobs = f"ana the {role.value}", private.jobs["bob"]
    listed = await private.ask("GET", "/jobs", who)
    assert [job["jobId"] for job in listed.json()] == [private.jobs["ana"]]
    pages = await private.ask("GET", "/jobs?limit=10", who)
    assert [job["jobId"] for job in pages.json()] == [private.jobs["ana"]]
    uid = (await private.ask("GET", f"/jobs/{bobs}", "bob the user")).json()["uid"]
    for method, path, name in operations(private.app):
        if "{jobId}" not in path or not EXPECTED[name][0][role]:
            continue
        for known in (bobs, uid):
            answer, unknown = [
                await private.ask(
                    method,
                    path.format(jobId=job, path="run.sh", **NAMES),
                    who,
                    json=BODIES.get(name),
                )
                for job in (known, 99999)
            ]
            assert answer.status_code == 404
            # Word for word as for a job that is not there.
            assert answer.json()["detail"].replace(repr(known), "") == unknown.json()[
                "detail"
            ].replace("'99999'", "")


async def test_dependency_on_hidden_job(private: Site) -> None:
    bobs, nobodys = private.jobs["bob"], "99999"
    refused = [
        await private.submit("ana the user", dependsOn=[{"jobId": job}]) for job in (bobs, nobodys)
    ]
    assert [answer.status_code for answer in refused] == [400, 400]
    details = [answer.json()["detail"] for answer in refused]
    assert details[0].replace(bobs, "") == details[1].replace(nobodys, "")


async def test_jobs_for_operator_in_private_mode(private: Site) -> None:
    listed = await private.ask("GET", "/jobs", "ana the operator")
    assert {job["jobId"] for job in listed.json()} == set(private.jobs.values())


async def test_etag_per_user(private: Site) -> None:
    people = ("ana the user", "bob the user", "ana the operator")

    async def tags() -> dict[str, str]:
        return {who: (await private.ask("GET", "/jobs", who)).headers["etag"] for who in people}

    async def is_settled() -> bool:
        before.update(await tags())
        await private.app.asked_again()
        return before == await tags()

    before: dict[str, str] = {}
    await eventually(is_settled)
    assert len(set(before.values())) == 3
    assert (await private.submit("ana the user")).status_code == 201
    after = await tags()
    changed = {who for who in people if before[who] != after[who]}
    assert changed == {"ana the user", "ana the operator"}


async def test_idempotency_key_per_user(site: Site) -> None:
    async def submit(who: str) -> tuple[str, bool]:
        answer = await site.app.client.post(
            "/jobs",
            json=site.app.body,
            headers={"Authorization": f"Bearer {site.tokens[who]}", "Idempotency-Key": "monday"},
        )
        assert answer.status_code == 201, answer.text
        return answer.json()["jobId"], "idempotent-replayed" in answer.headers

    ana, bob = await submit("ana the user"), await submit("bob the user")
    assert ana[0] != bob[0]
    assert not ana[1]
    assert not bob[1]
    assert await submit("ana the operator") == (ana[0], True)


async def test_job_submitter_and_canceller(site: Site) -> None:
    job = site.jobs["ana"]
    assert (await site.ask("GET", f"/jobs/{job}", "ana the user")).json()["submittedBy"] == "ana"
    assert (await site.ask("DELETE", f"/jobs/{job}", "bob the operator")).status_code == 202
    events = await site.app.context.store.events(0, 100)
    told = [e.data for e in events if e.data["jobId"] == job]
    assert {data["submittedBy"] for data in told} == {"ana"}
    assert told[-1]["cancelRequestedBy"] == "bob"


async def test_audit_log_changes_and_refusals(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "state" / "audit.jsonl"
    job = site.jobs["ana"]
    await site.ask("GET", "/jobs", "ana the user")
    await site.ask("POST", f"/jobs/{job}/hold", "bob the user")
    await site.ask("POST", "/jobs/1%0A%7B%22user%22:%22root%22%7D/hold", None)
    lines: list[dict[str, Any]] = []

    async def written() -> bool:
        lines[:] = [json.loads(line) for line in path.read_text().splitlines()]
        return len(lines) == 4

    await eventually(written)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [(line["action"], line["user"], line["status"]) for line in lines[-2:]] == [
        ("holdJob", "bob", 403),
        ("holdJob", None, 401),
    ]
    submitted = next(line for line in lines if line["action"] == "submitJob")
    assert (submitted["user"], submitted["role"], submitted["through"], submitted["job"]) == (
        "ana",
        "user",
        "token",
        job,
    )
    assert submitted["account"] is None
    assert not any(line["action"] == "listJobs" for line in lines)


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("localhost", True),
        ("localhost:5049", True),
        ("LOCALHOST.", True),
        ("[::1]:80", True),
        ("127.0.0.1", True),
        ("queue.example", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.nip.io", False),
        ("evil@localhost", False),
        ("", False),
        ("[::1", False),
    ],
)
async def test_host_header(plugin: None, tmp_path: Path, host: str, is_ours: bool) -> None:
    async with running(tmp_path, allowed_hosts=("queue.example",)) as app:
        answer = await app.client.get("/jobs", headers={"Host": host})
        assert answer.status_code == (200 if is_ours else 421)
        if not is_ours:
            assert answer.json()["code"] == "wrong_host"
        assert (await app.client.get("/health/live", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({}, True),
        ({"Origin": "http://localhost"}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Origin": "https://portal.example", "Sec-Fetch-Site": "cross-site"}, True),
        ({"Origin": "http://localhost:3000"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({"Origin": "http://["}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
    ],
)
async def test_origin_of_changes(
    plugin: None, tmp_path: Path, headers: dict[str, str], passes: bool
) -> None:
    async with running(tmp_path, allowed_origins=("https://portal.example",)) as app:
        submitted = await app.client.post("/jobs", json=app.body, headers=headers)
        assert submitted.status_code == (201 if passes else 403)
        assert (await app.client.post("/jobs/1/hold", headers=headers)).status_code in (
            (202, 409, 404) if passes else (403,)
        )
        assert (await app.client.get("/jobs", headers=headers)).status_code == 200


async def test_cors_allowed_origins(plugin: None, tmp_path: Path) -> None:
    async with running(tmp_path, allowed_origins=("https://portal.example",)) as app:
        for origin, allowed in (("https://portal.example", True), ("https://evil.example", False)):
            answer = await app.client.options(
                "/jobs", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
            )
            assert (answer.headers.get("access-control-allow-origin") == origin) is allowed


async def test_path_encoded_slash(app: App) -> None:
    for path in ("/jobs/1%2Fhold", "/jobs%2f1"):
        answer = await app.client.post(path)
        assert answer.status_code == 404
        assert "%2F" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/jobs", "/metrics", "/session", "/health/live", "/docs", "/"])
async def test_path_line_break_at_end(app: App, path: str) -> None:
    assert (await app.client.get(path)).status_code in (200, 404)
    for root in ("", "/queue"):
        answer = await app.client.get(f"{root}{path}%0A")
        assert answer.status_code == 404
    assert "%0A" in (await app.client.get(f"{path}%0A")).json()["detail"]


async def test_documentation_page_content_security_policy(app: App) -> None:
    page = await app.client.get("/docs")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
    assert "sha256-" in policy
    assert (await app.client.get("/jobs")).headers["x-content-type-options"] == "nosniff"
