"""``/help``: open to everybody, one page for each language, and nothing but the site's files."""

from base64 import b64encode
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import anyio
import pytest
from tests.unit.api.conftest import App, running

from hpcq.api import built_files
from hpcq.domain.principals import Method

pytestmark = pytest.mark.anyio

SCRIPT = "document.title = 'Help'"


@pytest.fixture
async def closed(
    plugin: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[App]:
    """A service that asks everybody for a token."""
    monkeypatch.setattr(built_files, "_PACKAGE", anyio.Path(tmp_path))
    async with running(tmp_path, auth=(Method.TOKEN,), root_path="/queue") as app:
        yield app


@pytest.fixture
def site(tmp_path: Path) -> Path:
    site = tmp_path / "help"
    (site / "pt").mkdir(parents=True)
    (site / "index.html").write_text(f"<title>Help</title><script>{SCRIPT}</script>")
    (site / "pt" / "index.html").write_text("<title>Ajuda</title>")
    (site / "style.css").write_text("body {}")
    (tmp_path / "secret.html").write_text("secret")
    return site


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("path", ["/help", "/help/", "/queue/help", "/queue//help/"])
async def test_front_page_without_token(closed: App, path: str) -> None:
    answer = await closed.client.get(path, follow_redirects=True)
    assert (answer.status_code, answer.url.path) == (200, "/queue/help/index.html")
    assert "Help" in answer.text


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("path", ["/help/pt", "/queue/help/pt/"])
async def test_front_page_portuguese(closed: App, path: str) -> None:
    answer = await closed.client.get(path, follow_redirects=True)
    assert answer.url.path == "/queue/help/pt/index.html"
    assert "Ajuda" in answer.text


@pytest.mark.usefixtures("site")
async def test_pages_content_security_policy(closed: App) -> None:
    policy = (await closed.client.get("/help/index.html")).headers["content-security-policy"]
    assert f"script-src 'self' '{_hashed(SCRIPT)}';" in policy
    assert policy.startswith("default-src 'none';")
    other = (await closed.client.get("/help/pt/index.html")).headers["content-security-policy"]
    assert "sha256-" not in other


@pytest.mark.usefixtures("site")
async def test_pages_revalidated(closed: App) -> None:
    first = await closed.client.get("/help/index.html")
    assert first.headers["cache-control"] == "no-cache"
    again = {"If-None-Match": first.headers["etag"]}
    assert (await closed.client.get("/help/index.html", headers=again)).status_code == 304


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    "path",
    [
        "/help/../secret.html",
        "/help/..%2fsecret.html",
        "/help/%2e%2e/secret.html",
        "/help/nothing.html",
        "/help/pt/nothing.html",
        "/help/style.css/index.html",
        "/help/\0.html",
    ],
)
async def test_other_paths_hidden(closed: App, path: str) -> None:
    answer = await closed.client.get(path.replace("\0", "%00"))
    assert answer.status_code in (401, 404)
    assert "secret" not in answer.text


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/help"), ("GET", "/helpful"), ("GET", "/jobs/help")]
)
async def test_access_help_folder_only(closed: App, method: str, path: str) -> None:
    assert (await closed.client.request(method, path)).status_code == 401


async def test_help_not_built(closed: App) -> None:
    for path in ("/help", "/help/pt"):
        answer = await closed.client.get(path)
        assert answer.status_code == 404
        assert "make site" in answer.json()["detail"]
    assert (await closed.client.get("/help/index.html")).status_code == 404


def _hashed(script: str) -> str:
    return f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}"
