"""The examples for Jupyter and Snakemake, run with the real ones against a live service."""

import base64
import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.client.terminal import HPCQ, CommandLine
from tests.real import settings_of

from hpcq.client import Client, Job
from hpcq.schedulers.testing.service import INSTALLATION, Service
from hpcq.schedulers.testing.waiting import until

EXAMPLES = INSTALLATION / "examples"
NOTEBOOK = EXAMPLES / "study.ipynb"

pytestmark = pytest.mark.workflows


class User:
    """A user with Snakemake and Jupyter, in a folder of its own."""

    def __init__(self, folder: Path, service: Service) -> None:
        tools = settings_of("workflows")["folder"]
        hpcq = folder / "bin" / "hpcq"
        hpcq.parent.mkdir()
        hpcq.write_text(f'#!/bin/sh\nexec {" ".join(HPCQ)} "$@"\n')
        hpcq.chmod(0o755)
        path = f"{hpcq.parent}:{tools}:/usr/bin:/bin"
        self.folder = folder
        self.line = CommandLine(folder, {"HPCQ_URL": service.url, "PATH": path})

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command; its output goes to a file ``log``."""
        with open(self.folder / "log", "w") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.line.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
            )

    def log(self) -> str:
        """What the command wrote."""
        return (self.folder / "log").read_text()


def workflow(user: User, rules: str) -> subprocess.Popen[str]:
    """Start Snakemake with rules."""
    (user.folder / "Snakefile").write_text(rules)
    profile = str(EXAMPLES / "snakemake")
    return user.start("snakemake", "--profile", profile, "--seconds-between-status-checks", "1")


def test_notebook(tmp_path: Path, start_service: Callable[..., Service]) -> None:
    service = start_service()
    user = User(tmp_path, service)
    # It runs in the folder of the notebook.
    shutil.copy(NOTEBOOK, tmp_path)
    done = user.start("jupyter", "execute", NOTEBOOK.name, "--output=ran.ipynb")
    assert done.wait() == 0, user.log()
    outputs = [
        output
        for cell in json.loads((tmp_path / "ran.ipynb").read_text())["cells"]
        for output in cell.get("outputs", ())
    ]
    printed = "".join("".join(output.get("text", "")) for output in outputs)
    assert printed == "50 cases are submitted.\n50 of 50 cases went well.\n"
    table, chart = (output["data"] for output in outputs if "data" in output)
    assert "".join(table["text/markdown"]).count("| DONE |") == 50
    assert base64.b64decode(chart["image/png"]).startswith(b"\x89PNG")
    with Client(service.url) as client:
        assert client.summary().by_state["DONE"] == 50


def test_notebook_without_outputs() -> None:
    cells: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text())["cells"]
    assert [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []


def test_snakemake(tmp_path: Path, start_service: Callable[..., Service]) -> None:
    service = start_service(PORT=str(free_port()))
    user = User(tmp_path, service)
    running = workflow(
        user,
        """
rule all:
    input: "sum.txt"
rule case:
    output: "case-{n}.txt"
    threads: 2
    resources: mem_mb=1000, runtime=10
    shell: "while [ ! -e go ]; do sleep 0.1; done; echo {wildcards.n} > {output}"
rule sum:
    input: expand("case-{n}.txt", n=[1, 2])
    output: "sum.txt"
    group: "last"
    shell: "cat {input} > {output}"
""",
    )
    with Client(service.url) as client:
        cases = until(lambda: running_jobs(client, running, 2), user.log)
        # A service that is away for a moment does not end the workflow.
        service.stop()
        (tmp_path / "go").touch()
        until(lambda: "cannot be reached" in user.log())
        service.start()
        assert running.wait() == 0, user.log()
        assert (tmp_path / "sum.txt").read_text() == "1\n2\n"
        for job in cases:
            job.refresh()
            assert (job.state, job.reserved_slots, job.wall_time_limit) == ("DONE", 2, 600)
            assert job.memory_limit == pytest.approx(1e9 / 2**30)
        assert client.summary().jobs == 3


def test_snakemake_rule_fails(tmp_path: Path, start_service: Callable[..., Service]) -> None:
    user = User(tmp_path, start_service())
    assert workflow(user, "rule case:\n    output: 'none'\n    shell: 'exit 3'\n").wait() == 1
    assert "Error in rule case" in user.log()


def test_snakemake_interrupted(tmp_path: Path, start_service: Callable[..., Service]) -> None:
    service = start_service()
    user = User(tmp_path, service)
    running = workflow(user, "rule case:\n    output: 'none'\n    shell: 'sleep 1000'\n")
    with Client(service.url) as client:
        (job,) = until(lambda: running_jobs(client, running, 1), user.log)
        # Snakemake ends the jobs whose ids it has read.
        until(lambda: "Submitted job" in user.log(), user.log)
        running.send_signal(signal.SIGINT)
        assert running.wait() == 1
        assert job.wait().failure_kind == "CANCELLED"


def running_jobs(client: Client, workflow: subprocess.Popen[str], count: int) -> list[Job]:
    """The running jobs, once there are so many."""
    assert workflow.poll() is None, "Snakemake ended"
    jobs = list(client.jobs(state="RUNNING"))
    return jobs if len(jobs) == count else []


def free_port() -> int:
    """A port that a service finds free again when it is restarted."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
