"""``qsub``, ``qstat`` and ``qdel`` as the original offered them, against a live service."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.client.terminal import CommandLine

from hpcq.client import Client
from hpcq.schedulers.testing.jobs import Study
from hpcq.schedulers.testing.service import ROOT_PATH, Service


@pytest.fixture
def installed(service: Service, client: Client, study: Study) -> Iterator[CommandLine]:
    """A user with the commands in front of the PATH, in the working directory of a study."""
    study.script("while [ ! -e go ]; do sleep 0.1; done\necho $*\n")
    folder = study.directory / "bin"
    variables = {"HPCQ_URL": f"{service.url}{ROOT_PATH}", "PATH": f"{folder}:/usr/bin:/bin"}
    hpcq = CommandLine(study.directory, variables)
    printed = hpcq.run("compat", "install", "bin")
    assert printed == "bin/qsub\nbin/qstat\nbin/qdel\n"
    yield hpcq


def test_qsub_original_job(installed: CommandLine, client: Client) -> None:
    said = installed.in_pipe("qsub", "study.sh", "2", "a", "b c", "-n", "nov").stdout
    found = re.fullmatch(r"Your job nov \((\d+)\) was submitted\.\n", said)
    assert found is not None
    job = client.job(found[1])
    assert (job.args, job.reserved_slots) == (["a", "b c"], 2)
    header, dashes, row = installed.in_pipe("qstat").stdout.splitlines()
    assert header.split() == ["id", "name", "status", "startTime", "slots", "workingDirectory"]
    assert set(dashes) == {"-", " "}
    assert row.split()[:3] == [found[1], "nov", client.job(found[1]).status]
    assert row.endswith("..." + str(installed.folder)[-40:])
    assert json.loads(installed.in_pipe("qstat", "-j", found[1]).stdout)["name"] == "nov"
    assert installed.in_pipe("qdel", found[1]).stdout == f"Your job ({found[1]}) was deleted.\n"
    assert job.wait().failure_kind == "CANCELLED"
    assert installed.in_pipe("qstat").stdout == ""


def test_qsub_name_default_from_directory(installed: CommandLine, client: Client) -> None:
    said = installed.in_pipe("qsub", "study.sh", "1", "-wd", "/tmp", "--", "-x").stdout
    assert said.startswith("Your job tmp (")
    (job,) = client.jobs(active=True)
    assert (job.name, job.working_directory, job.args) == ("tmp", "/tmp", ["-x"])


def test_compat_errors(installed: CommandLine) -> None:
    unknown = installed.in_pipe("qdel", "99999999")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr == "There is no job '99999999' in this cluster.\n"
    assert installed.in_pipe("qsub", "study.sh", "0").returncode == 2


def test_install_over_other_command(installed: CommandLine, tmp_path: Path) -> None:
    assert installed.run("compat", "install", "bin"), "its own files it writes again"
    other = tmp_path / "sge"
    other.mkdir()
    (other / "qstat").write_text("#!/bin/sh\n")
    refused = installed.done("compat", "install", str(other))
    assert refused.exit_code == 2
    assert refused.stderr.startswith(f"{other}/qstat is another command")
    assert sorted(file.name for file in other.iterdir()) == ["qstat"]
