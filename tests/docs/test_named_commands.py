"""The commands of ``hpcq`` that sentences and tables name: they exist, and so do their options."""

import itertools
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from hpcq.cli.main import app
from hpcq.schedulers.testing.service import INSTALLATION

PAGES = sorted([*INSTALLATION.glob("README*.md"), *(INSTALLATION / "docs").rglob("*.md")])
NAMED = re.compile(r"`(hpcq [^`]+)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(INSTALLATION)))
def test_named_commands_in_documentation(page: Path) -> None:
    for named in NAMED.findall(page.read_text(encoding="utf-8")):
        assert _unknown(shlex.split(named)[1:]) == [], named


def _unknown(words: list[str]) -> list[str]:
    """Return the words that are no command and no option of theirs."""
    command: Any = typer.main.get_command(app)
    unknown, options = [], _options(command)
    for previous, word in itertools.pairwise(["", *words]):
        if previous == "--profile":
            continue
        if hasattr(command, "commands") and not word.startswith("-"):
            if word not in command.commands:
                return [word]
            command = command.commands[word]
            options = _options(command)
        elif word.startswith("-") and word != "-" and word.partition("=")[0] not in options:
            unknown.append(word)
    return unknown


def _options(command: Any) -> set[str]:
    return {"--help", *(name for option in command.params for name in option.opts)}
