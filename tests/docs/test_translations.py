"""The pages in Portuguese: those of users have one each, in the form of the English page.

What stands as code in a heading or in a row of a table (a setting, a field, a command) is the same
in both: a translation of a table that changed does not stay behind.
"""

import re
from pathlib import Path

import pytest
from tests.docs.blocks import blocks

from hpcq.schedulers.testing.service import INSTALLATION

DOCS = INSTALLATION / "docs"
TRANSLATED = sorted(DOCS.rglob("*.pt.md"))
# What developers read, and lists with the English words of the code.
ENGLISH_ONLY = {
    "benchmarks.md",
    "development.md",
    "reference/metrics.md",
    "reference/settings.md",
}


def test_user_pages_translated() -> None:
    names = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    english = {name for name in names if not name.endswith(".pt.md")}
    missing = {name for name in english if name.replace(".md", ".pt.md") not in names}
    assert {name for name in missing if not name.startswith("decisions/")} == ENGLISH_ONLY


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: str(page.relative_to(DOCS)))
def test_translation_same_structure(page: Path) -> None:
    english = page.with_name(page.name.replace(".pt.md", ".md"))
    assert _form(page) == _form(english)
    assert _paragraphs(page) == _paragraphs(english)
    assert _codes(page) == _codes(english)
    assert [(b.kind, b.text) for b in blocks(page)] == [(b.kind, b.text) for b in blocks(english)]


def _form(page: Path) -> list[str]:
    """Return the marks of sections, list items and rows of tables, without their words."""
    rows = re.findall(r"^(#+ | *- |\d+\. |\|.*)", _prose(page), re.MULTILINE)
    return [f"|{row.count('|')}" if row.startswith("|") else row for row in rows]


def _paragraphs(page: Path) -> list[int]:
    """Return how many paragraphs each section has; a list or a table counts as one."""
    sections = re.split(r"^#+ .*\n", _prose(page), flags=re.MULTILINE)
    return [len(re.split(r"\n{2,}", section.strip())) for section in sections]


def _codes(page: Path) -> list[list[str]]:
    """Return what stands as code in each heading and each row of a table, sorted."""
    rows = re.findall(r"^(?:#|\|).*", _prose(page), re.MULTILINE)
    return [sorted(re.findall(r"`[^`]+`", row)) for row in rows]


def _prose(page: Path) -> str:
    """Return a page without its blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
