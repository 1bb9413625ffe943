"""Jobs that were submitted elsewhere, where users see their own and a table gives accounts."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.unit.api.conftest import App, running
from tests.unit.api.test_listing_changes import following

from hpcq.auth.tokens import create_token
from hpcq.config import Settings, deployment_of
from hpcq.domain.principals import Method, Role
from hpcq.domain.units import now
from hpcq.schedulers.testing.waiting import eventually
from hpcq.storage.database import Database
from hpcq.storage.tokens import TokenStore

pytestmark = pytest.mark.anyio

# The account of the user "ben" is one of the same name as another user, "ana".
ACCOUNTS = (("ana", "ana01"), ("ben", "ana"), ("portal", "ana01"))
USERS = ("ana", "ben", "portal", "ana01", "eve")
ACTIONS = (
    ("DELETE", "", None),
    ("PATCH", "", {"name": "other"}),
    ("POST", "/hold", None),
    ("POST", "/release", None),
    ("POST", "/signal", {"signal": "USR1"}),
)


class Site:
    """A service with a token for each user, and a job of each of two accounts."""

    def __init__(self, app: App, tokens: dict[str, str]) -> None:
        self.app = app
        self.tokens = tokens
        self.jobs: dict[str, str] = {}

    def headers(self, user: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[user]}"}

    async def enqueue(self, account: str) -> str:
        job = self.app.scheduler.enqueue(owner=account, working_directory="/srv")
        await self.app.asked_again()
        return str(job)

    async def ask(self, user: str, method: str, path: str, **more: Any) -> httpx.Response:
        return await self.app.client.request(method, path, headers=self.headers(user), **more)

    async def listed(self, user: str, query: str = "") -> list[str]:
        answer = await self.ask(user, "GET", f"/jobs{query}")
        assert answer.status_code == 200, answer.text
        return [job["jobId"] for job in answer.json()]


async def _site(tmp_path: Path, visibility: str) -> AsyncIterator[Site]:
    with pytest.MonkeyPatch.context() as patch:
        # Nothing is submitted here, so no right to change accounts is needed.
        patch.setattr("hpcq.api.lifespan._check_accounts_can_be_used", lambda _backend: None)
        settings: dict[str, Any] = {
            "auth": (Method.TOKEN,),
            "job_visibility": visibility,
            "submit_as": "user",
            "submit_as_accounts": ACCOUNTS,
        }
        async with running(tmp_path, **settings) as app:
            state = Settings(scheduler="fake", state_directory=tmp_path / "state")
            database = Database(state.store_url, deployment_of(state), beside_the_service=True)
            await database.open()
            store = TokenStore(database)
            tokens = {
                user: await create_token(store, user=user, role=Role.USER, at=now())
                for user in USERS
            }
            await database.close()
            site = Site(app, tokens)
            for account in ("ana01", "ana"):
                site.jobs[account] = await site.enqueue(account)
            yield site


@pytest.fixture
async def private(plugin: None, tmp_path: Path) -> AsyncIterator[Site]:
    """A site where people see only their own jobs."""
    async for one in _site(tmp_path, "own"):
        yield one


@pytest.fixture
async def site(plugin: None, tmp_path: Path) -> AsyncIterator[Site]:
    async for one in _site(tmp_path, "all"):
        yield one


@pytest.mark.parametrize(
    ("user", "account"),
    [("ana", "ana01"), ("portal", "ana01"), ("ben", "ana"), ("ana01", None), ("eve", None)],
)
async def test_listing_by_account(private: Site, user: str, account: str | None) -> None:
    expected = [] if account is None else [private.jobs[account]]
    for query in ("", "?limit=5", "?sort=name", "?owner=ana,ana01", "?archived=true&limit=5"):
        assert await private.listed(user, query) == expected, query
    for query in ("", "?owner=ana,ana01"):
        counts = (await private.ask(user, "GET", f"/jobs/summary{query}")).json()
        assert counts["jobs"] == sum(counts["byState"].values()) == len(expected)
    for query in ("", "?allusers=true"):
        answer = await private.ask(user, "GET", f"/firecrest/compute/1/jobs{query}")
        assert [job["jobId"] for job in answer.json()["jobs"]] == expected


@pytest.mark.parametrize(
    ("user", "theirs", "others"), [("ana", "ana01", "ana"), ("ben", "ana", "ana01")]
)
async def test_single_job_by_account(private: Site, user: str, theirs: str, others: str) -> None:
    for path in ("", "/usage"):
        for account, status in ((theirs, 200), (others, 404)):
            answer = await private.ask(user, "GET", f"/jobs/{private.jobs[account]}{path}")
            assert answer.status_code == status, (path, account, answer.text)
    answer = await private.ask(user, "GET", f"/jobs/{private.jobs[others]}/output")
    assert answer.json()["code"] == "job_not_found"
    answer = await private.ask(user, "GET", f"/jobs/{private.jobs[theirs]}/output")
    assert answer.json()["code"] == "no_such_file"


@pytest.mark.parametrize(("method", "path", "body"), ACTIONS)
async def test_change_by_account(private: Site, method: str, path: str, body: Any) -> None:
    mine, others = private.jobs["ana01"], private.jobs["ana"]
    answer = await private.ask("ana", method, f"/jobs/{others}{path}", json=body)
    assert answer.status_code == 404
    answer = await private.ask("ana01", method, f"/jobs/{mine}{path}", json=body)
    assert answer.status_code == 404
    answer = await private.ask("ana", method, f"/jobs/{mine}{path}", json=body)
    assert answer.status_code not in (401, 403, 404), answer.text


@pytest.mark.parametrize(("method", "path", "body"), ACTIONS)
async def test_change_of_a_visible_job(site: Site, method: str, path: str, body: Any) -> None:
    mine, others = site.jobs["ana01"], site.jobs["ana"]
    for user, job in (("ana", others), ("ana01", mine), ("eve", mine)):
        answer = await site.ask(user, method, f"/jobs/{job}{path}", json=body)
        assert answer.status_code == 403, (user, answer.text)
    answer = await site.ask("ana", method, f"/jobs/{mine}{path}", json=body)
    assert answer.status_code not in (401, 403, 404), answer.text


async def test_output_of_a_visible_job(site: Site) -> None:
    for user, account, code in (
        ("ana", "ana01", "no_such_file"),
        ("ana", "ana", "not_authorized"),
        ("ana01", "ana01", "not_authorized"),
    ):
        answer = await site.ask(user, "GET", f"/jobs/{site.jobs[account]}/output")
        assert answer.json()["code"] == code, (user, account)


async def test_changes_by_account(private: Site) -> None:
    async with (
        following(private.app, headers=private.headers("ana")) as ana,
        following(private.app, headers=private.headers("ben")) as ben,
    ):

        def reloads(told: Any) -> int:
            return [kind for _, kind, _ in told.events].count("reload")

        async def both_follow() -> bool:
            return reloads(ana) == reloads(ben) == 1

        async def ana_is_told() -> bool:
            return reloads(ana) == 2

        await eventually(both_follow)
        await private.enqueue("ana01")
        await eventually(ana_is_told)
        # What was to be told of it was told with what ana was told.
        ages = len(ben.events)

        async def ben_hears_more() -> bool:
            return len(ben.events) > ages

        await eventually(ben_hears_more)
        assert reloads(ben) == 1
        assert all(data.get("jobs", []) == [] for _, _, data in [*ana.events, *ben.events])
