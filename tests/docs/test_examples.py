"""The studies of many cases in ``examples``, from Python and from a shell."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.client.terminal import HPCQ, CommandLine

from hpcq.client import Client
from hpcq.schedulers.testing.service import INSTALLATION, Service

EXAMPLES = INSTALLATION / "examples"


@pytest.mark.parametrize(
    "command",
    [(sys.executable, str(EXAMPLES / "cases.py")), (str(EXAMPLES / "cases.sh"),)],
    ids=["Python", "shell"],
)
def test_example_cases(
    command: tuple[str, ...], tmp_path: Path, start_service: Callable[..., Service]
) -> None:
    hpcq = tmp_path / "bin" / "hpcq"
    hpcq.parent.mkdir()
    hpcq.write_text(f'#!/bin/sh\nexec {" ".join(HPCQ)} "$@"\n')
    hpcq.chmod(0o755)
    service = start_service()
    path = f"{hpcq.parent}:/usr/bin:/bin"
    user = CommandLine(tmp_path, {"HPCQ_URL": service.url, "PATH": path})
    first = user.in_pipe(*command, "november", "3")
    assert (first.returncode, first.stderr) == (0, "")
    again = user.in_pipe(*command, "november", "3")
    assert again.stdout == first.stdout
    with Client(service.url) as client:
        ended = {job.name: job.state for job in client.jobs()}
    assert ended == dict.fromkeys(("november-001", "november-002", "november-003"), "DONE")
    assert (tmp_path / "november" / "november-002" / "november-002.txt").exists()
