"""All pages: their links lead somewhere, and none is out of reach."""

import re
from pathlib import Path

import pytest
from pymdownx.slugs import slugify

from hpcq.schedulers.testing.service import INSTALLATION

DOCS = INSTALLATION / "docs"
PAGES = [*INSTALLATION.glob("*.md"), *DOCS.rglob("*.md")]
LINK = re.compile(r"\]\(([^)\s#]+)")
ANCHOR = re.compile(r"\]\(([^)\s#]*)#([^)\s]+)\)")


def _links(page: Path) -> list[Path]:
    found = LINK.findall(page.read_text(encoding="utf-8"))
    return [(page.parent / link).resolve() for link in found if "://" not in link]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(INSTALLATION)))
def test_page_links(page: Path) -> None:
    assert [str(link) for link in _links(page) if not link.exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(INSTALLATION)))
def test_page_lists_rendered_by_site(page: Path) -> None:
    """The site needs an empty line before a list, and four blanks before a list within one."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    assert re.findall(r"^(?![ \n]|- |\d+\. |#).+\n- .*", text, re.MULTILINE) == []
    assert re.findall(r"^ {1,3}(?:-|\d\.) .*", text, re.MULTILINE) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(INSTALLATION)))
def test_page_anchors(page: Path) -> None:
    for path, anchor in ANCHOR.findall(page.read_text(encoding="utf-8")):
        if "://" not in path:
            assert anchor in _sections(page.parent / path if path else page), (path, anchor)


def _sections(page: Path) -> list[str]:
    """Return the anchors of a page's sections, as the site and viewers of repositories do."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    slug = slugify(case="lower")
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return [slug(re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", title), "-") for title in titles]


def test_page_reachable_from_readme() -> None:
    reached: set[Path] = set()
    waiting = [INSTALLATION / "README.md"]
    while waiting:
        page = waiting.pop()
        if page.suffix == ".md" and page not in reached:
            reached.add(page)
            waiting += _links(page)
    assert {page.resolve() for page in PAGES} <= reached
