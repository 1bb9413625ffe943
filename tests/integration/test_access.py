"""A service that runs, asked by real accounts of this machine, through proxies, and with tokens."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hpcq.schedulers.testing.service import INSTALLATION, Service, clean_environment

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


@contextmanager
def running(directory: Path, **settings: str) -> Iterator[Service]:
    with Service(directory, {"SCHEDULER": "LOCAL", **settings}) as service:
        yield service


def ask_as(account: str, service: Service, path: str, *headers: str) -> tuple[int, str]:
    """Return status and body of the answer to a request from a process of an account."""
    lines = "".join(f"{line}\\r\\n" for line in ("Host: localhost", "Connection: close", *headers))
    script = (
        f"exec 3<>/dev/tcp/127.0.0.1/{service.port}; "
        f"printf 'GET {path} HTTP/1.1\\r\\n{lines}\\r\\n' >&3; cat <&3"
    )
    answer = subprocess.run(
        ["/bin/bash", "-c", script],
        user=account,
        capture_output=True,
        check=True,
        cwd="/",
    ).stdout.decode()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), body


def made_token(service: Service, user: str, role: str) -> str:
    """Return a new token, as ``hpcq token create`` prints it."""
    made = token_command(service, "create", "--user", user, "--role", role)
    assert made.returncode == 0, made.stderr
    return next(word for word in made.stdout.split() if word.startswith("hpcq_"))


def token_command(service: Service, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **clean_environment(),
        **service.settings,
        "PYTHONPATH": str(INSTALLATION / "src"),
    }
    command = [sys.executable, "-m", "hpcq", "token", *words]
    return subprocess.run(
        command,
        env=environment | {"NO_COLOR": "1", "TERM": "dumb"},
        cwd=service.directory,
        capture_output=True,
        text=True,
        check=False,
    )


@as_root
def test_peer_account_other(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        assert service.client.get("/jobs").status_code == 200
        status, body = ask_as("nobody", service, "/jobs")
        assert (status, "65534 is not in PEER_ACCOUNTS" in body) == (401, True)
        assert ask_as("nobody", service, "/health/live")[0] == 200
        service.stop()
        service.settings["PEER_ACCOUNTS"] = "nobody=viewer"
        service.start()
        assert ask_as("nobody", service, "/jobs") == (200, "[]")
        forwarded = ask_as("nobody", service, "/jobs", "X-Forwarded-For: 127.0.0.1")
        assert forwarded[0] == 401


def ask_socket_as(account: str, service: Service, *options: str) -> int:
    """Return the status of the answer to curl, run by an account, over the Unix socket."""
    command = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}"]
    over = ["--unix-socket", str(service.unix_socket), *options, "http://localhost/jobs"]
    done = subprocess.run(
        [*command, *over], user=account, capture_output=True, text=True, check=False, cwd="/"
    )
    return int(done.stdout)


@as_root
def test_unix_socket_accounts(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        host = f"unix:{folder}/hpcq.sock"
        with running(tmp_path, HOST=host, PEER_ACCOUNTS="nobody=viewer") as service:
            assert service.client.get("/jobs").status_code == 200
            assert ask_socket_as("root", service) == 200
            assert ask_socket_as("nobody", service) == 200
            assert ask_socket_as("nobody", service, "--request", "POST") == 403
            assert ask_socket_as("daemon", service) == 401
            assert ask_socket_as("nobody", service, "--header", "X-Forwarded-For: ::1") == 401
            assert ask_socket_as("root", service, "--header", "Host: evil.example") == 421
            users = {line["user"] for line in map(json.loads, audit(service))}
            assert users == {"nobody", None}
            service.stop()
            assert not Path(folder, "hpcq.sock").exists()
            service.settings["AUTH"] = "none"
            service.start()
            assert service.client.get("/jobs").status_code == 200
            # It may not even connect.
            assert ask_socket_as("nobody", service) == 0
            service.kill9()
            service.start()
            assert service.client.get("/jobs").status_code == 200


def audit(service: Service) -> list[str]:
    return (service.state_directory / "audit.jsonl").read_text().splitlines()


def test_forwarded_address_trusted_proxies_only(tmp_path: Path) -> None:
    portal = {"TRUSTED_CLIENTS": "192.0.2.7=viewer:portal"}
    said = {"X-Forwarded-For": "192.0.2.7"}
    with running(tmp_path / "no", **portal) as service:
        assert service.client.get("/jobs", headers=said).status_code == 401
    portal["TRUSTED_CLIENTS"] += ",127.0.0.1=operator:test"
    with running(tmp_path / "yes", **portal, TRUSTED_PROXIES="127.0.0.1") as service:
        assert service.client.get("/jobs", headers=said).status_code == 200
        assert service.client.post("/jobs", json={}, headers=said).status_code == 403
        forged = {"X-Forwarded-For": "192.0.2.7, 203.0.113.9"}
        assert service.client.get("/jobs", headers=forged).status_code == 401


def test_token_command_while_service_runs(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        made = token_command(service, "create", "--user", "ana", "--role", "viewer")
        assert made.returncode == 0, made.stderr
        token = made.stdout.strip()
        assert re.fullmatch(r"hpcq_[A-Za-z0-9_-]{43}", token)
        headers = {"Authorization": f"Bearer {token}"}
        assert service.client.get("/jobs", headers=headers).status_code == 200
        assert service.client.post("/jobs", json={}, headers=headers).status_code == 403
        listed = token_command(service, "list").stdout
        assert token not in listed
        (kept,) = [
            one
            for one in json.loads(token_command(service, "list", "--json").stdout)
            if one["user"] == "ana"
        ]
        assert (kept["role"], kept["scopes"], kept["expiresAt"]) == ("viewer", None, None)
        more = ("--user", "bia", "--expires", "2h", "--scope", "jobs:read", "--json")
        other = json.loads(token_command(service, "create", *more).stdout)
        assert (other["user"], other["role"], other["scopes"]) == ("bia", "user", ["jobs:read"])
        assert other["expiresAt"] > other["createdAt"]
        bearer = {"Authorization": f"Bearer {other['token']}"}
        assert service.client.get("/jobs", headers=bearer).status_code == 200
        (token_id,) = re.findall(r"^(\w+)\tana\tviewer\tall scopes\t.*never expires$", listed, re.M)
        assert token_command(service, "revoke", token_id).returncode == 0
        service.stop()
        service.start()
        assert service.client.get("/jobs", headers=headers).status_code == 401
        unknown = token_command(service, "revoke", "nope")
        assert (unknown.returncode, "token list" in unknown.stderr) == (1, True)
        for wrong in (["--user", "a b"], ["--user", "a", "--expires", "1y"], ["--role", "user"]):
            assert token_command(service, "create", *wrong).returncode == 2
        assert token not in service.whole_log()
        for path in service.state_directory.rglob("*"):
            assert path.is_dir() or token.encode() not in path.read_bytes(), path


def test_token_command_service_stopped(tmp_path: Path) -> None:
    service = Service(tmp_path, {"SCHEDULER": "LOCAL"})
    service.state_directory.mkdir(mode=0o700, parents=True)
    token = token_command(service, "create", "--user", "ana", "--expires", "12h").stdout.strip()
    with service:
        headers = {"Authorization": f"Bearer {token}"}
        assert service.client.get("/jobs", headers=headers).status_code == 200
        # Unknown to a proxy, which adds its header.
        through = headers | {"Via": "1.1 proxy"}
        assert service.client.get("/jobs", headers=through).status_code == 200


def test_operator_token_owner_only(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        path = service.state_directory / "operator.token"
        assert path.stat().st_mode & 0o777 == 0o600
        before = path.read_text()
        through = {"Authorization": f"Bearer {before.strip()}", "Via": "1.1 proxy"}
        assert service.client.get("/jobs", headers=through).status_code == 200
        service.stop()
        service.start()
        assert path.read_text() == before
        assert service.client.get("/jobs", headers=through).status_code == 200
