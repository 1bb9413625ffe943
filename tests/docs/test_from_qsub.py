"""``docs/from-qsub.md``: what its tables name in place of a scheduler's commands works."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from tests.client.terminal import CommandLine

from hpcq.api.app import create_app
from hpcq.client import Client
from hpcq.config import Settings
from hpcq.domain.states import JobState
from hpcq.schedulers.testing.service import INSTALLATION, Service
from hpcq.schedulers.testing.waiting import until

PAGE = (INSTALLATION / "docs" / "from-qsub.md").read_text()
# What LOCAL does not have, and what it says.
REFUSED = {"--queue long": "queue", "--field account=proj": "account"}
QUEUED = ("hold", "release", "change")
RUNNING = ("suspend", "resume", "requeue", "signal")


def column(table: str, title: str) -> list[str]:
    """The codes in a column of a table of the page."""
    section = PAGE.partition(f"\n## {table}\n")[2].partition("\n## ")[0]
    head, _, *rows = [line for line in section.splitlines() if line.startswith("|")]
    place = [cell.strip() for cell in head.split("|")].index(title)
    return [code for row in rows for code in re.findall(r"`([^`]+)`", row.split("|")[place])]


@pytest.fixture
def user(tmp_path: Path, start_service: Callable[..., Service]) -> CommandLine:
    script = tmp_path / "study.sh"
    script.write_text('#!/bin/sh\ntrap : USR1\n[ "$1" != long ] || sleep 300\n')
    script.chmod(0o755)
    return CommandLine(tmp_path, {"HPCQ_URL": start_service().url})


def test_commands(user: CommandLine, tmp_path: Path) -> None:
    commands = column("Commands", "`hpcq`")
    assert len(commands) > 20
    with Client(user.variables["HPCQ_URL"]) as client:
        script = tmp_path / "study.sh"
        ended = client.submit(script, working_directory=tmp_path)
        queued = client.submit(script, working_directory=tmp_path, hold=True)
        running = client.submit(script, ["long"], working_directory=tmp_path)
        ended.wait()
        for command in commands:
            _, verb, *words = shlex.split(command)
            job = queued if verb in QUEUED else running if verb in RUNNING else ended
            if job is running:
                until(lambda: running.refresh().state in ("RUNNING", "SUSPENDED"))
            user.run(verb, *(job.uid if word == "12" else word for word in words))
        for job in (queued, running):
            job.delete()


@pytest.mark.parametrize("option", column("Options of a submission", "`hpcq submit`"))
def test_options(user: CommandLine, option: str, tmp_path: Path) -> None:
    with Client(user.variables["HPCQ_URL"]) as client:
        before = client.submit(tmp_path / "study.sh", working_directory=tmp_path)
    words = (before.uid if word == "12" else word for word in shlex.split(option))
    done = user.done("submit", "--dry-run", *words, "study.sh")
    if option in REFUSED:
        assert (done.exit_code, REFUSED[option] in done.stderr) == (1, True), done.stderr
    else:
        assert done.exit_code == 0, done.stderr


def test_routes_and_fields() -> None:
    schema = create_app(Settings()).openapi()
    for route in column("Commands", "The API"):
        method, _, address = route.partition(" ")
        path, _, query = address.partition("?")
        operation = schema["paths"][path][method.lower()]
        known = {parameter["name"] for parameter in operation.get("parameters", ())}
        assert {name for name, _ in parse_qsl(query)} <= known, route
    fields = set(column("Options of a submission", "Field of `POST /jobs`"))
    assert fields - {"POST /jobs"} <= set(
        schema["components"]["schemas"]["JobSubmission"]["properties"]
    )


def test_states() -> None:
    assert set(column("States", "Here")) <= {state.value for state in JobState}
