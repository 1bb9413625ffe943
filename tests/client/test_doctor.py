"""The doctor: a sound installation, and one with each mistake that administrators make."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.backends import SGE, SLURM
from tests.fakebin.pbs import Pbs
from tests.fakebin.torque import Torque

from hpcq.cli import examination
from hpcq.cli.findings import Finding, Verdict
from hpcq.schedulers.testing.service import Service, clean_environment

# The parts that follow the version on Slurm; other schedulers have fewer.
AFTER_VERSION = ("queue", "queues", "accounting", "submission", "configuration")


def examined(folder: Path, *options: str, **variables: str) -> list[Finding]:
    """Run ``hpcq doctor`` in a folder; return what it found, and check its exit status."""
    done = subprocess.run(
        [sys.executable, "-m", "hpcq", "doctor", "--json", *options],
        cwd=folder,
        env={**clean_environment(), "PORT": "0", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    told = json.loads(done.stdout)
    found = [
        Finding(one["part"], Verdict(one["verdict"]), one["text"], one["remedy"]) for one in told
    ]
    assert done.returncode == int(any(one.verdict is Verdict.PROBLEM for one in found))
    return found


def mistake(folder: Path, *unchecked: str, **variables: str) -> Finding:
    """Return the one thing that the doctor does not find good, and keeps it from other parts."""
    told = [one for one in examined(folder, **variables) if one.verdict is not Verdict.GOOD]
    found = told.pop(0)
    assert found.remedy is not None or found.part == "settings"
    assert [one.part for one in told] == list(unchecked)
    for one in told:
        assert (one.verdict, one.remedy) == (Verdict.UNCHECKED, None)
        assert one.text == f"Not checked, because of the problem above: {found.part}."
    return found


def test_doctor_good_installation(tmp_path: Path) -> None:
    found = examined(tmp_path)
    assert {one.verdict for one in found} == {Verdict.GOOD}
    assert "queue" in {one.part for one in found}
    assert not list(tmp_path.iterdir())


def test_doctor_in_pipe_language(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hpcq", "doctor"],
        cwd=tmp_path,
        env={**clean_environment(), "PORT": "0", "LC_MESSAGES": "pt_BR.UTF-8"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "bom\tescalonador\thpcq LOCAL" in done.stdout


def test_doctor_env_file_typo(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SHEDULER=SLURM\n")
    found = mistake(tmp_path)
    assert found.text.endswith("line 1: SHEDULER is not a setting. Did you mean SCHEDULER?")


def test_doctor_state_directory_open(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    (tmp_path / "state").chmod(0o755)
    found = mistake(tmp_path)
    assert (found.part, found.remedy) == ("state directory", f"chmod 700 {tmp_path / 'state'}")
    assert "mode 0755" in found.text


def test_doctor_state_directory_unwritable(tmp_path: Path) -> None:
    told = examined(tmp_path, STATE_DIRECTORY="/proc/state")
    (found,) = [one for one in told if one.verdict is Verdict.PROBLEM]
    assert found.part == "state directory"
    assert "STATE_DIRECTORY" in (found.remedy or "")


def test_doctor_state_directory_remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = examination._kind_of_file_system(tmp_path)
    monkeypatch.setattr(examination, "_REMOTE", (kind,))
    (found,) = examination._file_system(tmp_path)
    assert found.verdict is Verdict.PROBLEM
    assert kind in found.text


def test_file_system_in_chroot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mounts of folders above a chroot are not shown in it."""
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "1 2 0:1 / /proc rw - proc proc rw\n")
    assert list(examination._file_system(tmp_path)) == []


def test_doctor_clock_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    away = time.time() - 3600
    monkeypatch.setattr(time, "time", lambda: away)
    (found,) = examination._file_system(tmp_path)
    assert found.part == "clock"
    assert "3600 s" in found.text


def test_doctor_port_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        found = mistake(tmp_path, PORT=str(other.getsockname()[1]))
    assert found.part == "address"
    assert found.text.startswith("What listens on 127.0.0.1:")


@pytest.mark.parametrize("verdict", [Verdict.PROBLEM, Verdict.WARNING])
def test_doctor_locale_unsuitable(tmp_path: Path, verdict: Verdict) -> None:
    name = {Verdict.PROBLEM: "xx_YY.UTF-8", Verdict.WARNING: "C"}[verdict]
    found = mistake(tmp_path, LC_ALL=name)
    assert (found.part, found.verdict) == ("locale", verdict)
    assert name in found.text
    assert "LC_ALL=C.UTF-8" in (found.remedy or "")


def test_doctor_commands_missing(tmp_path: Path) -> None:
    found = mistake(tmp_path, *AFTER_VERSION, SCHEDULER="SLURM", SCHEDULER_PATH=str(tmp_path))
    assert "squeue" in found.text
    assert "SCHEDULER_PATH" in (found.remedy or "")


def test_doctor_command_forbidden(tmp_path: Path) -> None:
    command = tmp_path / "bin" / "squeue"
    command.parent.mkdir()
    command.touch(0o600)
    settings = {"SCHEDULER": "SLURM", "SCHEDULER_PATH": str(command.parent)}
    found = mistake(tmp_path, *AFTER_VERSION, **settings)
    assert found.text == f"This account may not run {command}."
    assert f"`ls -l {command}`" in (found.remedy or "")


def test_doctor_service_running(tmp_path: Path) -> None:
    with Service(tmp_path / "service", {"SCHEDULER": "LOCAL"}) as service:
        state = {"STATE_DIRECTORY": str(service.state_directory), "HPCQ_URL": service.url}
        found = examined(tmp_path, "--job", PORT=str(service.port), **state)
    assert {one.verdict for one in found} == {Verdict.GOOD}
    texts = {one.part: one.text for one in found}
    assert (
        texts["address"]
        == f"The service of the cluster conformance runs on 127.0.0.1:{service.port}."
    )
    assert texts["job"].startswith("The job 1 has run within")


def test_doctor_service_of_other_scheduler(tmp_path: Path) -> None:
    with Service(tmp_path / "service", {"SCHEDULER": "LOCAL"}) as service:
        state = {"STATE_DIRECTORY": str(service.state_directory)}
        found = examined(tmp_path, PORT=str(service.port), SCHEDULER="TORQUE", **state)
    (address,) = [one for one in found if one.part == "address"]
    assert address.verdict is Verdict.WARNING
    assert address.text.endswith(f":{service.port} runs with SCHEDULER=LOCAL.")
    assert "systemctl restart" in (address.remedy or "")


@pytest.mark.sge
def test_doctor_parallel_environment_missing(tmp_path: Path) -> None:
    settings = SGE.settings()
    assert {one.verdict for one in examined(tmp_path, **settings)} == {Verdict.GOOD}
    found = mistake(tmp_path, **{**settings, "SGE_PARALLEL_ENVIRONMENT": "nowhere"})
    assert found.part == "configuration"
    assert "'nowhere'" in found.text
    assert "qconf -spl" in (found.remedy or "")


@pytest.mark.sge
@pytest.mark.parametrize(
    ("has_bootstrap", "words"),
    [(False, 'error: fopen("/'), (True, "unable to read qmaster name")],
)
def test_doctor_cell_incomplete(tmp_path: Path, has_bootstrap: bool, words: str) -> None:
    settings = SGE.settings()
    common = tmp_path / "sge" / "default" / "common"
    common.mkdir(parents=True)
    (common / "act_qmaster").touch()
    if has_bootstrap:
        site = Path(settings["SGE_ROOT"]) / settings["SGE_CELL"] / "common"
        shutil.copy(site / "bootstrap", common)
    cell = {"SGE_ROOT": str(tmp_path / "sge"), "SGE_CELL": "default"}
    unchecked = ("queue", "queues", "accounting", "configuration")
    found = mistake(tmp_path, *unchecked, **{**settings, **cell})
    assert found.part == "scheduler"
    assert found.text.count(words) == 1
    assert "SGE_ROOT" in (found.remedy or "")


def _with(folder: Path, name: str, body: str, path: str = os.defpath) -> str:
    """Return a PATH in which a command of the scheduler is another one."""
    folder.mkdir()
    script = folder / name
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    return f"{folder}:{path}"


def _refusing(server: Torque | Pbs, folder: Path, refused: str) -> dict[str, str]:
    """Return the settings of a scheduler whose ``qstat`` tells its version, and nothing else."""
    body = f'[ "$1" != --version ] || exec {server.path}/qstat "$@"\n{refused}'
    settings = server.settings()
    path = _with(folder, "qstat", body, settings["SCHEDULER_PATH"])
    return {**settings, "SCHEDULER_PATH": path}


def test_doctor_refused_command_once(tmp_path: Path) -> None:
    body = 'echo "qstat: Unauthorized Request" >&2; exit 159'
    settings = _refusing(Pbs(tmp_path / "server"), tmp_path / "refusing", body)
    found = mistake(tmp_path, "queues", "accounting", **settings)
    assert found.part == "queue"
    assert "Unauthorized Request" in found.text
    assert "operator" in (found.remedy or "")


def test_doctor_two_refusals_apart(tmp_path: Path) -> None:
    body = 'echo "qstat: it is refused $1" >&2; exit 1'
    settings = _refusing(Torque(tmp_path / "server"), tmp_path / "refusing", body)
    told = [one for one in examined(tmp_path, **settings) if one.verdict is not Verdict.GOOD]
    assert [(one.part, one.verdict) for one in told] == [
        ("queue", Verdict.PROBLEM),
        ("queues", Verdict.PROBLEM),
    ]


@pytest.mark.slurm
def test_doctor_accounting_missing(tmp_path: Path) -> None:
    settings = SLURM.settings()
    assert {one.verdict for one in examined(tmp_path, **settings)} == {Verdict.GOOD}
    scontrol = shutil.which("scontrol")
    body = f"{scontrol} \"$@\" | sed 's,accounting_storage/slurmdbd,accounting_storage/none,'"
    path = _with(tmp_path / "bin", "scontrol", body)
    found = mistake(tmp_path, **{**settings, "SCHEDULER_PATH": path})
    assert found.part == "configuration"
    assert "slurmdbd" in (found.remedy or "")


@pytest.mark.slurm
def test_doctor_scheduler_without_configuration(tmp_path: Path) -> None:
    absent = {"SLURM_CONF": str(tmp_path / "slurm.conf"), "COMMAND_TIMEOUT_SECONDS": "1"}
    found = mistake(tmp_path, *AFTER_VERSION, **{**SLURM.settings(), **absent})
    assert found.part == "scheduler"
    assert "SLURM_CONF" in (found.remedy or "")


@pytest.mark.slurm
def test_doctor_controller_away(tmp_path: Path) -> None:
    refused = "Unable to contact slurm controller (connect failure)"
    body = f'[ "$1" != --version ] || exec /usr/bin/squeue "$@"\necho "{refused}" >&2; exit 1'
    path = _with(tmp_path / "bin", "squeue", body)
    settings = {**SLURM.settings(), "SCHEDULER_PATH": path}
    found = mistake(tmp_path, *AFTER_VERSION[1:], **settings)
    assert found.part == "queue"
    assert found.text.count(refused) == 1
    assert "scontrol ping" in (found.remedy or "")


@pytest.mark.slurm
def test_doctor_queue_unreadable(tmp_path: Path) -> None:
    body = '[ "$1" != --version ] || exec /usr/bin/squeue "$@"\necho "Access denied" >&2; exit 1'
    path = _with(tmp_path / "bin", "squeue", body)
    found = examined(tmp_path, **{**SLURM.settings(), "SCHEDULER_PATH": path})
    (queue,) = [one for one in found if one.part == "queue"]
    assert queue.verdict is Verdict.PROBLEM
    assert "Access denied" in queue.text
    assert queue.remedy is not None
