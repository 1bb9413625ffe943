from pathlib import Path

import pytest
from docs.generate import PAGES, outdated, settings_page

from hpcq.config import Settings, load_settings

EXAMPLE = Path(__file__).parents[2] / ".env.example"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_generated_page_current(path: Path) -> None:
    assert path not in outdated(), "run: python docs/generate.py"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_settings_page_complete(name: str) -> None:
    row = next(line for line in settings_page().splitlines() if f"| `{name.upper()}` |" in line)

    assert all(cell.strip() for cell in row.split(" | "))


def test_example_file_unchanged() -> None:
    assert load_settings(EXAMPLE, {}) == load_settings(EXAMPLE.with_name("no.env"), {})


def test_example_file_all_lines(tmp_path: Path) -> None:
    offered = [
        line.removeprefix("#")
        for line in EXAMPLE.read_text().splitlines()
        if line.startswith("#") and not line.startswith("# ") and line != "#"
    ]
    assert offered
    (tmp_path / ".env").write_text("\n".join(offered))

    load_settings(tmp_path / ".env", {})
