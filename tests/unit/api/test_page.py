"""The page and what it is made of: open to everybody, packed, and never stale."""

import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from tests.unit.api.conftest import App, running

from hpcq.api import built_files
from hpcq.domain.principals import Method

pytestmark = pytest.mark.anyio

SCRIPT = b"document.title = 'Jobs'"


@pytest.fixture
async def closed(
    plugin: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[App]:
    """A service that asks everybody for a token."""
    monkeypatch.setattr(built_files, "_PACKAGE", anyio.Path(tmp_path))
    async with running(tmp_path, auth=(Method.TOKEN,), root_path="/queue") as app:
        yield app


@pytest.fixture
def built(tmp_path: Path) -> None:
    assets = tmp_path / "page" / "assets"
    assets.mkdir(parents=True)
    (tmp_path / "page" / "index.html").write_text("<title>Jobs</title>")
    (assets / "index-1.js").write_bytes(SCRIPT)
    (assets / "index-1.js.gz").write_bytes(gzip.compress(SCRIPT))
    (tmp_path / "secret").write_text("secret")


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("path", ["/", "/queue/", "/queue"])
async def test_page_without_token(closed: App, path: str) -> None:
    answer = await closed.client.get(path, follow_redirects=True)
    assert (answer.status_code, answer.text) == (200, "<title>Jobs</title>")
    # Its addresses are relative.
    assert answer.url.path.endswith("/")
    assert answer.headers["cache-control"] == "no-cache"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in policy


@pytest.mark.usefixtures("built")
async def test_page_unchanged(closed: App) -> None:
    tag = (await closed.client.get("/")).headers["etag"]
    assert (await closed.client.get("/", headers={"If-None-Match": tag})).status_code == 304


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize(
    ("accepted", "coding"), [("gzip, br", "gzip"), ("br", None), ("identity", None)]
)
async def test_asset_compressed(closed: App, accepted: str, coding: str | None) -> None:
    answer = await closed.client.get(
        "/queue/assets/index-1.js", headers={"Accept-Encoding": accepted}
    )
    assert (answer.status_code, answer.content) == (200, SCRIPT)
    assert answer.headers.get("content-encoding") == coding
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "immutable" in answer.headers["cache-control"]


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize(
    "name", ["none.js", "../index.html", "..%2Fsecret", "%2e%2e/%2e%2e/secret"]
)
async def test_assets_other_files_hidden(closed: App, name: str) -> None:
    answer = await closed.client.get(f"/assets/{name}")
    assert answer.status_code in (401, 404)
    assert "secret" not in answer.text.replace(name, "")


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("coding", ["br", "gzip", "identity"])
@pytest.mark.parametrize("name", ["a" * 300, "a/" * 3000 + "a", "a%00b", "%FF"])
async def test_assets_impossible_names(closed: App, coding: str, name: str) -> None:
    answer = await closed.client.get(f"/assets/{name}", headers={"Accept-Encoding": coding})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_page_not_built(closed: App) -> None:
    answer = await closed.client.get("/")
    assert answer.status_code == 404
    assert "make page" in answer.json()["detail"]


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT"])
async def test_page_method_not_allowed(closed: App, method: str) -> None:
    assert (await closed.client.request(method, "/")).status_code == 401
