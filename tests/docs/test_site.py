"""The documentation's site: it builds without a warning, and asks no other host for anything."""

import json
import re
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hpcq.schedulers.testing.service import INSTALLATION

# What a browser asks for when it shows a page; links wait for a click.
LOADED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "link": "href",
    "object": "data",
}


class Loaded(HTMLParser):
    """The addresses that a browser loads with a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value for name, value in attrs if LOADED.get(tag) == name and value]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [INSTALLATION / "scripts" / "build_site.sh", "--site-dir", folder],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    yield folder


def test_pages_in_both_languages(site: Path) -> None:
    english = _pages(site)
    assert {f"pt/{page}" for page in english if not page.startswith("pt/")} | english == english
    for page in english:
        language = "pt" if page.startswith("pt/") else "en"
        assert f'<html lang="{language}"' in (site / page).read_text(), page


def test_pages_in_english_only(site: Path) -> None:
    for page in _pages(site):
        folder, _, name = page.partition("pt/")
        source = "README.pt-BR.md" if name == "readme.html" else f"docs/{name[:-5]}.pt.md"
        is_marked = "Esta página existe só em inglês" in (site / page).read_text()
        is_translation = not folder and (INSTALLATION / source).exists()
        assert is_marked == (page.startswith("pt/") and not is_translation), page


def test_page_titles(site: Path) -> None:
    """The menu has a page's own title in both languages, marked or not."""
    for page in ("replicas.html", "pt/replicas.html", "failures.html", "pt/failures.html"):
        text = (site / page).read_text()
        heading = re.search(r"<h1[^>]*>([^<]+)", text)
        assert heading is not None
        assert f"<title>{heading[1]} - hpc-queue-api</title>" in text


def test_pages_no_external_resources(site: Path) -> None:
    for page in _pages(site):
        for address in Loaded(site / page).addresses:
            assert re.match(r"(\w+:)?//|/", address) is None, (page, address)
            if not address.endswith("/"):
                assert ((site / page).parent / address.partition("?")[0]).exists(), (page, address)
    for sheet in site.rglob("*.css"):
        found = re.findall(r"""url\(["']?((?:\w+:)?//[^)]+)""", sheet.read_text())
        assert found == [], sheet


def test_search_in_both_languages(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text())
    assert index["config"]["lang"] == ["en", "pt"]
    found = {entry["location"].partition("#")[0] for entry in index["docs"]}
    assert {"quickstart.html", "pt/readme.html"} <= found


def _pages(site: Path) -> set[str]:
    return {str(page.relative_to(site)) for page in site.rglob("*.html")}
