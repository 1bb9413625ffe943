"""The READMEs: both say the same, and what they print is what happens.

Their ``sh`` blocks are run as printed, in order, in a copy of the installation: from the virtual
environment on to the last curl. A block of another kind after one is its answer. ``make`` blocks
are run by the pipeline itself.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.blocks import Block, blocks

from hpcq.schedulers.testing.service import INSTALLATION
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS

ENGLISH = INSTALLATION / "README.md"
PORTUGUESE = INSTALLATION / "README.pt-BR.md"
START = "python main.py"

INSTALLED = ("main.py", "pyproject.toml", "requirements.txt", "src", "examples")
# What differs from one run or machine to the next.
VOLATILE = {
    "uid": r"[0-9a-f-]{36}",
    "owner": r"\S+",
    "submittedBy": r"\S+",
    "scriptFile": r"/.*/examples/sample_study\.sh",
    "elapsed": r"\d+",
}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def test_readmes_same_examples() -> None:
    assert [(b.kind, b.text) for b in blocks(ENGLISH)] == [
        (b.kind, b.text) for b in blocks(PORTUGUESE)
    ]


def test_readmes_same_sections_and_tables() -> None:
    assert _shape(ENGLISH) == _shape(PORTUGUESE)


def test_readme_first_two_commands() -> None:
    assert blocks(ENGLISH)[0].text == "make demo\nmake test\n"


def test_readme_make_targets() -> None:
    makefile = (INSTALLATION / "Makefile").read_text()
    named = [line for b in blocks(ENGLISH) if b.kind == "make" for line in b.text.splitlines()]
    for line in named:
        target = line.removeprefix("make ")
        assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE), line


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_readme_examples_output(machine: "Machine") -> None:
    page = blocks(ENGLISH)
    for block, following in zip(page, [*page[1:], None], strict=True):
        if block.kind != "sh":
            continue
        if START in block.text:
            machine.start(block)
            continue
        printed = machine.run(block)
        if following is not None and following.kind in ("json", "text"):
            machine.compare(printed, following)


class Machine:
    """A fresh installation, its port and /tmp moved to where nobody else is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "hpc-queue-api"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.port = _free_port()
        self._service: subprocess.Popen[bytes] | None = None
        self.folder.mkdir()
        for name in INSTALLED:
            source = INSTALLATION / name
            if source.is_dir():
                shutil.copytree(source, self.folder / name)
            else:
                shutil.copy2(source, self.folder / name)

    def run(self, block: Block) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self._moved(block.text)],
            cwd=self.folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, f"line {block.line}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, block: Block) -> None:
        with (self.folder / "service.log").open("wb") as log:
            self._service = subprocess.Popen(
                ["bash", "-c", self._moved(block.text)],
                cwd=self.folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        url = f"http://127.0.0.1:{self.port}/health/ready"
        while subprocess.run(["curl", "-sf", "-o", "/dev/null", url]).returncode != 0:
            said = (self.folder / "service.log").read_text()
            assert time.monotonic() < deadline, said
            assert self._service.poll() is None, said
            time.sleep(0.1)

    def compare(self, printed: str, answer: Block) -> None:
        expected = self._moved(answer.text)
        if answer.kind == "text":
            assert printed == expected, f"line {answer.line}"
            return
        got, wanted = json.loads(printed), json.loads(expected)
        assert _masked(got) == _masked(wanted), f"line {answer.line}"
        # Spread over lines in the page exactly when it is so in the answer.
        assert ("\n    " in printed) == ("\n    " in expected), f"line {answer.line}"

    def stop(self) -> None:
        if self._service is not None:
            os.killpg(self._service.pid, signal.SIGTERM)
            assert self._service.wait(15) == 0, (self.folder / "service.log").read_text()

    def _moved(self, text: str) -> str:
        return text.replace("5049", str(self.port)).replace("/tmp/", f"{self.temporary}/")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    fresh = Machine(tmp_path)
    yield fresh
    fresh.stop()


def _masked(value: object, name: str = "") -> object:
    """Return a JSON value without what differs from run to run, but for its kind."""
    if isinstance(value, dict):
        return {key: _masked(one, key) for key, one in value.items()}
    if isinstance(value, list):
        return ["a host"] if name == "hosts" and value else [_masked(one) for one in value]
    if isinstance(value, float):
        return "a figure"
    if name in VOLATILE and value is not None:
        assert re.fullmatch(VOLATILE[name], str(value)), (name, value)
        return name
    return "a time" if isinstance(value, str) and TIME.fullmatch(value) else value


def _shape(page: Path) -> list[str]:
    """Return a page's headings and table rows, without their words."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    rows = re.findall(r"^(#+ |\|.*)", text, re.MULTILINE)
    return [row if row.startswith("#") else row.split("|")[1].split("`")[1:2] for row in rows]


def _environment() -> dict[str, str]:
    """Return the environment of a person's shell, with a Python that will do in front."""
    path = f"{Path(sys.base_prefix) / 'bin'}:{os.environ['PATH']}"
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    return {"PATH": path, "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8", **pip}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
