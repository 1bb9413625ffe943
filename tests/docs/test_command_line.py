"""The recipes of ``docs/command-line.md``, run in their order against a live service."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import typer
from tests.client.terminal import CommandLine
from tests.docs.blocks import blocks

from hpcq.cli.main import app
from hpcq.schedulers.testing.service import INSTALLATION, Service

PAGE = INSTALLATION / "docs" / "command-line.md"


def test_recipes(tmp_path: Path, start_service: Callable[..., Service]) -> None:
    _program(tmp_path / "study.sh", 'echo "study $1"\n')
    _program(tmp_path / "own" / "hpcq", f'exec "{sys.executable}" -m hpcq "$@"\n')
    environment = CommandLine(tmp_path, {"HPCQ_URL": start_service().url}).environment
    environment["PATH"] = f"{tmp_path}/own:{environment['PATH']}"
    page = blocks(PAGE)
    for block, following in zip(page, [*page[1:], None], strict=True):
        if block.kind != "sh":
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, ""), f"line {block.line}: {done.stdout}"
        if following is not None and following.kind == "text":
            assert done.stdout == following.text, f"line {block.line}"


def test_commands_and_options_documented() -> None:
    text = PAGE.read_text()
    described = set(re.findall(r"\w+(?:-\w+)*", text))
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    elsewhere = {"serve", "token", "version"}
    options = {name for option in commands["submit"].params for name in option.opts}
    long = {name.removeprefix("--") for name in options if name.startswith("--")}
    assert {*commands, *long} - elsewhere - described == set()


def _program(path: Path, body: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}")
    path.chmod(0o755)
