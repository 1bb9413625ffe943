from pathlib import Path

import pytest
from docs.generate import PAGES, outdated, settings_page

from hpcq.config import Settings, load_settings

EXAMPLE = Path(__file__).parents[2] / ".env.example"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_generated_page_is_what_the_code_says(path: Path) -> None:
    assert path not in outdated(), "run: python docs/generate.py"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_explained(name: str) -> None:
    row = next(line for line in settings_page().splitlines() if f"| `{name.upper()}` |" in line)

    assert all(cell.strip() for cell in row.split(" | "))


def test_the_example_file_can_be_used_as_it_is() -> None:
    assert load_settings(EXAMPLE, {}) == load_settings(EXAMPLE.with_name("no.env"), {})


def test_every_line_that_the_example_file_offers_can_be_used(tmp_path: Path) -> None:
    offered = [
        line.removeprefix("#")
        for line in EXAMPLE.read_text().splitlines()
        if line.startswith("#") and not line.startswith("# ") and line != "#"
    ]
    assert offered
    (tmp_path / ".env").write_text("\n".join(offered))

    load_settings(tmp_path / ".env", {})
