"""LOCAL as an account whose limit on processes a fork bomb among its jobs reaches."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.accounts import Account, made_accounts, make_folder, run_as

from hpcq.cli.serve import EXIT_START
from hpcq.schedulers.testing.service import INSTALLATION
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS, until, until_there

# The test's own Python may lie where other accounts cannot enter.
PYTHON = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
MOST_PROCESSES = 60

# Each process of it starts more, and all of them stay: no room is left for anybody else.
BOMB = """\
import os, time
while True:
    try:
        os.fork()
    except OSError:
        open("full", "w").close()
        time.sleep(0.5)
"""

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make accounts"),
    pytest.mark.skipif(not PYTHON.exists(), reason="the system has another Python"),
]


class LimitedService:
    """The whole service as an account that may have few processes and threads."""

    def __init__(self, account: Account) -> None:
        self.work = Path(account.pw_dir)
        self._account = account
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._url = f"http://127.0.0.1:{port}"
        self._environment = {
            "INTERNAL_SCHEDULER": "LOCAL",
            "INTERNAL_SCHEDULER_MAX_SLOTS": "4",
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": f"{INSTALLATION / 'src'}:{sysconfig.get_path('platlib')}",
            "HOME": account.pw_dir,
            "USER": account.pw_name,
            "PORT": str(port),
            "STATE_DIRECTORY": str(self.work / "state"),
            "POLL_INTERVAL_SECONDS": "0.5",
        }

    def start(self) -> None:
        limit = ("prlimit", f"--nproc={MOST_PROCESSES}:{MOST_PROCESSES}", "--")
        start = "import pathlib, sys, hpcq.cli.serve as s; sys.exit(s.serve(pathlib.Path.cwd()))"
        with (self.work / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*limit, PYTHON, "-c", start],
                stdout=log,
                stderr=log,
                user=self._account.pw_uid,
                group=self._account.pw_gid,
                extra_groups=[],
                env=self._environment,
                cwd=self.work,
                start_new_session=True,
            )

    def is_ready(self) -> bool:
        """Return whether it is; one that could not start begins again, as under systemd."""
        if self._process.poll() is not None:
            self.start()
        with suppress(httpx.TransportError, FileNotFoundError):
            return self.ask("GET", "/health/ready").status_code == 200
        return False

    def end(self, number: signal.Signals) -> None:
        self._process.send_signal(number)
        self.wait()

    def wait(self) -> int:
        return self._process.wait(PATIENCE_SECONDS)

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        token = (self.work / "state" / "operator.token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.request(
            method, self._url + path, headers=headers, timeout=PATIENCE_SECONDS, **more
        )

    def submit(self, name: str, script: str) -> httpx.Response:
        path = self.work / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        body = {"workingDirectory": str(self.work), "reservedSlots": 1, "scriptFile": str(path)}
        return self.ask("POST", "/jobs", json=body)

    def job(self, uid: str) -> Any:
        return self.ask("GET", f"/jobs/{uid}").json()

    def ended(self, uid: str) -> Any:
        until(lambda: self.job(uid)["state"] in {"DONE", "FAILED"})
        return self.job(uid)

    def kill_bomb(self) -> None:
        """End the processes of the bomb, and nothing else of the account."""

        def is_gone() -> bool:
            found = [pid for pid in processes_of(self._account) if b"bomb.py" in command_of(pid)]
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not found

        until(is_gone)

    def clean_up(self) -> None:
        """End all that the account has, as the account: nothing of another one can be hit."""

        def is_gone() -> bool:
            run_as(self._account, "kill -KILL -1")
            self._process.poll()
            return processes_of(self._account) == []

        until(is_gone)


def processes_of(account: Account) -> list[int]:
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if os.stat(f"/proc/{entry}").st_uid == account.pw_uid:
                found.append(int(entry))
    return found


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture
def service() -> Iterator[LimitedService]:
    homes = make_folder("hpcq-t-")
    with made_accounts(1, homes) as (account,):
        service = LimitedService(account)
        service.start()
        try:
            until(service.is_ready)
            yield service
            assert "status=500" not in (service.work / "log").read_text()
        finally:
            service.clean_up()
    shutil.rmtree(homes)


def set_off(service: LimitedService) -> tuple[str, str]:
    """Start a job that waits for ``go`` and the bomb; return their uids when no room is left."""
    os.mkfifo(service.work / "go")
    (service.work / "go").chmod(0o666)
    # It waits without a further process.
    victim = service.submit("victim", "echo > there; read word < go; exit 5").json()["uid"]
    until_there(service.work / "there")
    (service.work / "bomb.py").write_text(BOMB)
    bomb = service.submit("bomb", f"exec {PYTHON} {service.work}/bomb.py").json()["uid"]
    until_there(service.work / "full")
    return victim, bomb


def let_go(service: LimitedService) -> None:
    with open(service.work / "go", "w") as go:
        go.write("go\n")


def test_fork_bomb_deleted_others_go_on(service: LimitedService) -> None:
    victim, bomb = set_off(service)
    waiting = service.submit("waiting", "echo ran >> ran")
    assert waiting.status_code == 201, waiting.text
    assert service.ask("DELETE", f"/jobs/{bomb}").status_code == 202
    assert service.ended(bomb)["failureKind"] == "CANCELLED"
    assert service.ended(waiting.json()["uid"])["state"] == "DONE"
    assert (service.work / "ran").read_text() == "ran\n"
    assert service.job(victim)["state"] == "RUNNING"
    let_go(service)
    assert service.ended(victim)["exitCode"] == 5


def test_process_limit_reached_deleted_job_stays_deleted(service: LimitedService) -> None:
    victim, _ = set_off(service)
    deleted = service.submit("deleted", "echo ran >> ran").json()["uid"]
    assert service.ask("DELETE", f"/jobs/{deleted}").status_code == 202
    service.end(signal.SIGKILL)
    service.start()
    assert service.wait() == EXIT_START
    assert "no more processes and threads" in (service.work / "log").read_text()
    service.kill_bomb()
    until(service.is_ready)
    assert service.job(victim)["state"] == "RUNNING"
    let_go(service)
    assert service.ended(victim)["exitCode"] == 5
    assert service.ended(deleted)["failureKind"] == "CANCELLED"
    assert service.ended(service.submit("next", "exit 6").json()["uid"])["exitCode"] == 6
    assert not (service.work / "ran").exists()
