"""A service that is not root acts in the name of people, through a real ``sudo`` and one rule."""

import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.accounts import made_accounts
from tests.backends import BACKENDS
from tests.chaos import wrapper
from tests.faults.fake import processes_with
from tests.real import call

from hpcq.schedulers.testing.service import INSTALLATION
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS, until, until_there

PYTHON = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
RULES = Path("/etc/sudoers.d")

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make accounts"),
    pytest.mark.skipif(not PYTHON.exists(), reason="the system has another Python"),
]


class SudoService:
    """A process of the service's account that runs commands as people."""

    def __init__(self, account: pwd.struct_passwd, program: Path) -> None:
        driver = Path(__file__).with_name("through_sudo.py")
        self.process = subprocess.Popen(
            [PYTHON, "-I", driver, program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[],
            env={"PATH": "/usr/bin:/bin"},
            cwd="/",
        )

    def send(self, **request: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()

    def ask(self, **request: Any) -> Any:
        self.send(**request)
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def sh(self, account: str, script: str, **fields: Any) -> Any:
        return self.ask(**_shell(account, script, **fields))

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def _shell(account: str, script: str, **fields: Any) -> dict[str, Any]:
    return {"argv": ["/bin/sh", "-c", script], "run_as": account, "timeout_seconds": 120, **fields}


@pytest.fixture(scope="module")
def homes() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="hpcq-t-", dir="/var/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def people(homes: Path) -> Iterator[list[pwd.struct_passwd]]:
    with made_accounts(3, homes) as accounts:
        yield accounts


@pytest.fixture(scope="module")
def program(homes: Path, people: list[pwd.struct_passwd]) -> Iterator[Path]:
    """The program, and the rule for it as the documentation has it: for the first person alone."""
    call("sudo", "up")
    program = homes / "hpcq-as"
    program.write_text(
        f"#!{PYTHON} -IS\nimport sys\nsys.path.append({str(INSTALLATION / 'src')!r})\n"
        "from hpcq.execution.as_account import main\nmain()\n"
    )
    program.chmod(0o755)
    ana, _, service = (account.pw_name for account in people)
    rule = RULES / f"hpcq-t{os.getpid()}"
    rule.write_text(f'{service} ALL=({ana}) NOPASSWD: {program} ""\n')
    rule.chmod(0o440)
    yield program
    rule.unlink()


@pytest.fixture
def service(people: list[pwd.struct_passwd], program: Path) -> Iterator[SudoService]:
    service = SudoService(people[2], program)
    yield service
    service.close()


@pytest.fixture
def ana(people: list[pwd.struct_passwd]) -> str:
    return people[0].pw_name


@pytest.fixture
def name() -> str:
    """A part of a command line that no other process has."""
    return str(secrets.randbelow(10**9))


def test_command_runs_as_user(service: SudoService, ana: str) -> None:
    told = service.sh(ana, "id -un; cat; echo e >&2; exit 7", stdin="in")
    assert told == [7, f"{ana}\nin", "e\n"]
    assert service.sh(ana, "kill -TERM $$", mark="hpcq-x")[0] == -15


def test_files_seen_as_user(
    service: SudoService, ana: str, people: list[pwd.struct_passwd]
) -> None:
    secret = Path(people[0].pw_dir) / "secret"
    secret.write_text("hers")
    os.chown(secret, people[0].pw_uid, people[0].pw_gid)
    secret.chmod(0o600)
    assert service.ask(read=[ana, str(secret)]) == "hers"
    assert service.ask(read=[ana, "/etc/shadow"])["error"] == "PermissionError"
    # The service itself could not open it.
    secret.parent.chmod(0o700)
    assert service.ask(open=[ana, str(secret.parent), "secret"]) == ["hers", True]
    assert service.ask(open=[ana, "/etc", "shadow"])["error"] == "PermissionError"


def test_account_without_rule(service: SudoService, people: list[pwd.struct_passwd]) -> None:
    told = service.sh(people[1].pw_name, "true")
    assert told["error"] == "AccountUnavailable"
    assert "a password is required" in told["detail"]
    told = service.ask(read=[people[1].pw_name, "/etc/passwd"])
    assert told["error"] == "AccountUnavailable"
    assert "a password is required" in told["detail"]
    told = service.ask(end=[people[1].pw_name, "hpcq-x"])
    assert told["error"] == "AccountUnavailable"
    assert "a password is required" in told["detail"]


def test_rule_other_program(people: list[pwd.struct_passwd], program: Path) -> None:
    ana, _, own = people
    for command in (["/bin/sh"], [program, "root"], [program, ana.pw_name]):
        done = subprocess.run(
            ["sudo", "-n", "-u", ana.pw_name, "--", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            user=own.pw_uid,
            group=own.pw_gid,
            extra_groups=[],
        )
        assert done.returncode == 1
        assert b"a password is required" in done.stderr


def test_command_timeout_with_children(service: SudoService, ana: str, name: str) -> None:
    script = f"/bin/sleep 300.{name} & /bin/sleep 301.{name}"
    assert service.sh(ana, script, timeout_seconds=3)["error"] == "CommandTimedOut"
    until(lambda: processes_with(name) == [])


def test_command_service_killed(service: SudoService, ana: str, name: str) -> None:
    service.send(**_shell(ana, f"/bin/sleep 300.{name} & /bin/sleep 301.{name}"))
    until(lambda: len(processes_with(name)) >= 3)
    service.process.kill()
    until(lambda: processes_with(name) == [])


def test_command_by_mark(
    service: SudoService, people: list[pwd.struct_passwd], program: Path, ana: str, name: str
) -> None:
    mark = f"hpcq-{secrets.token_hex(16)}"
    service.send(**_shell(ana, f"setsid /bin/sleep 300.{name} & /bin/sleep 301.{name}", mark=mark))
    until(lambda: len(processes_with(name)) >= 3)
    other = SudoService(people[2], program)
    assert other.ask(end=[ana, mark]) is None
    assert processes_with(name) == []
    other.close()


class WholeService:
    """The whole service as its own account, in front of a Slurm whose ``sbatch`` may misbehave."""

    def __init__(self, folder: Path, account: pwd.struct_passwd, program: Path, of: str) -> None:
        self._folder = folder
        self._account = account
        self._commands = folder / "bin"
        start = (
            "import pathlib, sys; from hpcq.execution import account_process as a; "
            f"a.PROGRAM = pathlib.Path({str(program)!r}); import hpcq.cli.serve as s; "
            "sys.exit(s.serve(pathlib.Path.cwd()))"
        )
        self._argv = [str(PYTHON), "-c", start]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._environment = {
            **BACKENDS["SLURM"].settings(),
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": f"{INSTALLATION / 'src'}:{sysconfig.get_path('platlib')}",
            "HOME": account.pw_dir,
            "USER": account.pw_name,
            "PORT": str(port),
            "STATE_DIRECTORY": str(folder / "state"),
            "SCHEDULER_PATH": f"{self._commands}:/usr/bin:/bin",
            "SUBMIT_AS": "user",
            "SUBMIT_AS_ACCOUNTS": f"operator={of}",
            "SUBMISSION_SETTLE_SECONDS": "5",
            "POLL_INTERVAL_SECONDS": "0.5",
        }
        os.chown(folder, account.pw_uid, account.pw_gid)
        # No other process sleeps for so long.
        self.too_late_seconds = 60 + secrets.randbelow(10**6) / 10**6
        sbatch = Path("/usr/bin/sbatch")
        wrapper.install(self._commands, sbatch, too_late_seconds=self.too_late_seconds)
        self._url = f"http://127.0.0.1:{port}"
        self.start()

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                stdout=log,
                stderr=log,
                user=self._account.pw_uid,
                group=self._account.pw_gid,
                extra_groups=[],
                env=self._environment,
                cwd=self._folder,
                start_new_session=True,
            )

        def is_ready() -> bool:
            assert self._process.poll() is None, (self._folder / "log").read_text()[-3000:]
            with suppress(httpx.TransportError, FileNotFoundError):
                return self.ask("GET", "/health/ready").status_code == 200
            return False

        until(is_ready)

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        token = (self._folder / "state" / "operator.token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}", **more.pop("headers", {})}
        return httpx.request(
            method, self._url + path, headers=headers, timeout=PATIENCE_SECONDS, **more
        )

    def end(self, number: signal.Signals) -> None:
        self._process.send_signal(number)
        self._process.wait(PATIENCE_SECONDS)


@pytest.mark.slurm
def test_job_service_killed_runs_once(
    homes: Path, people: list[pwd.struct_passwd], program: Path
) -> None:
    folder, ana = homes / "service", people[0]
    folder.mkdir()
    study = Path(ana.pw_dir) / "study"
    study.mkdir()
    script = study / "job.sh"
    script.write_text("#!/bin/sh\nid -un >> ran\n")
    wrapper.plan_modes(study, ["submit-too-late"])
    for path in (study, script):
        os.chown(path, ana.pw_uid, ana.pw_gid)
        path.chmod(0o700)
    body = {"workingDirectory": str(study), "reservedSlots": 1, "scriptFile": str(script)}
    key = {"Idempotency-Key": secrets.token_hex(8)}
    service = WholeService(folder, people[2], program, ana.pw_name)
    try:
        with ThreadPoolExecutor(1) as pool:
            lost = pool.submit(service.ask, "POST", "/jobs", json=body, headers=key)
            until_there(study / "attempts")
            service.end(signal.SIGKILL)
            with pytest.raises(httpx.TransportError):
                lost.result()
        until(lambda: processes_with(str(service.too_late_seconds)) == [])
        service.start()
        answers: list[httpx.Response] = []

        def is_taken() -> bool:
            answers.append(service.ask("POST", "/jobs", json=body, headers=key))
            return answers[-1].status_code == 201 and answers[-1].json()["jobId"] is not None

        until(is_taken)
        job: dict[str, Any] = {}

        def is_over() -> bool:
            job.update(service.ask("GET", f"/jobs/{answers[-1].json()['jobId']}").json())
            return job["state"] in {"DONE", "FAILED"}

        until(is_over)
        assert (job["state"], job["owner"]) == ("DONE", ana.pw_name)
        assert (study / "ran").read_text() == f"{ana.pw_name}\n"
        assert wrapper.attempts(study) == ["submit-too-late", "ok"]
    finally:
        service.end(signal.SIGTERM)
