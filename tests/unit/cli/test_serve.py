import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from hpcq import __version__
from hpcq.cli.main import app
from hpcq.cli.serve import EXIT_SETTINGS, EXIT_SOCKET, open_socket, serve
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS

ROOT = Path(__file__).parents[3]


@contextlib.contextmanager
def started(folder: Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Run the ``main.py`` of an installation in this folder, from another one."""
    shutil.copy(ROOT / "main.py", folder)
    (folder / "src").symlink_to(ROOT / "src")
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(folder / "main.py")],
        cwd=elsewhere,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "PORT": "0", **variables},
        stderr=subprocess.PIPE,
        text=True,
    )
    limit = threading.Timer(PATIENCE_SECONDS, process.kill)
    limit.start()
    try:
        with process:
            try:
                yield process
            finally:
                process.terminate()
    finally:
        limit.cancel()


def rest(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    read = process.stderr.read()
    process.wait()
    return read


def read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stderr is not None
    read = ""
    for line in process.stderr:
        read += line
        if text in line:
            return read
    pytest.fail(f"{text!r} was never printed:\n{read}")


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_settings_invalid(tmp_path: Path) -> None:
    with started(tmp_path, SCHEDULER="SLUM", PORT="x") as process:
        errors = rest(process)

    assert process.returncode == EXIT_SETTINGS
    assert errors.startswith("The settings cannot be used:\n  - SCHEDULER='SLUM' (from the env")
    assert "PORT='x'" in errors
    assert "Traceback" not in errors


def test_port_taken(tmp_path: Path, taken: int) -> None:
    with started(tmp_path, PORT=str(taken)) as process:
        errors = rest(process)

    assert process.returncode == EXIT_SOCKET
    assert errors == (
        f"Cannot listen on HOST='127.0.0.1', PORT={taken}: Address already in use. "
        "Another service may be running there; choose another HOST or PORT, or stop it.\n"
    )


def test_address_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOST", "203.0.113.7")

    assert serve(tmp_path) == EXIT_SOCKET
    assert "HOST='203.0.113.7'" in capsys.readouterr().err


def test_state_directory_cannot_be_created(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state").touch()

    assert serve(tmp_path) == EXIT_SETTINGS
    assert "STATE_DIRECTORY=" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_service_start_and_stop(number: signal.Signals, tmp_path: Path) -> None:
    with started(tmp_path, ROOT_PATH="/api", LOG_LEVEL="DEBUG") as process:
        log = read_until(process, "Uvicorn running on http://127.0.0.1:")
        address = log.split("Uvicorn running on ")[1].split()[0]
        status = httpx.get(f"{address}/api/health/live").status_code
        process.send_signal(number)
        end = rest(process)

    assert status == 200
    assert process.returncode == 0
    assert "Application shutdown complete" in end
    assert "Traceback" not in end
    assert "can run commands" not in log
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    request = next(line for line in end.splitlines() if "path=/api/health/live" in line)
    assert re.search(r"client=127\.0\.0\.1:\d+", request)


@pytest.mark.parametrize("is_abstract", [False, True])
def test_service_tells_systemd_when_ready(tmp_path: Path, is_abstract: bool) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(PATIENCE_SECONDS)
        manager.bind(f"\0{path}" if is_abstract else str(path))
        with started(tmp_path, NOTIFY_SOCKET=f"@{path}" if is_abstract else str(path)) as process:
            assert manager.recv(99) == b"READY=1"
            assert "Application startup complete" in read_until(process, "Uvicorn running on")
            process.terminate()
            rest(process)


def test_main_env_file_and_state_directory(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CLUSTER_ID=beside\nSTATE_DIRECTORY=records\nPORT=0\n")
    with started(tmp_path) as process:
        read_until(process, "Uvicorn running on")

    assert (tmp_path / "records").is_dir()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_command_env_file_in_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("PORT=none\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PORT", raising=False)

    result = CliRunner().invoke(app, ["serve"])

    assert result.exit_code == EXIT_SETTINGS


@pytest.mark.parametrize("auth", ["none", "peer,token"])
def test_address_public_with_auth_none(tmp_path: Path, auth: str) -> None:
    with started(tmp_path, HOST="0.0.0.0", AUTH=auth) as process:  # noqa: S104
        log = read_until(process, "Uvicorn running on")

    assert ("Everyone who can reach 0.0.0.0 port" in log) is (auth == "none")


def test_log_command_any_folder(tmp_path: Path) -> None:
    with started(tmp_path) as process:
        log = read_until(process, "/jobs")
        token = (tmp_path / "state" / "operator.token").read_text().strip()
        address = re.findall(r"http://127\.0\.0\.1:\d+", log)[-1]
        headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": "192.0.2.1"}
        assert httpx.get(f"{address}/programs", headers=headers).status_code == 200
        assert httpx.get(f"{address}/programs", headers=headers | {"Authorization": ""}).is_error

    assert "operator.token" in log
    assert token not in log


def test_client_before_application_ready() -> None:
    with open_socket("127.0.0.1", 0) as listener:
        socket.create_connection(listener.getsockname(), timeout=PATIENCE_SECONDS).close()


def test_port_reused_after_service_end() -> None:
    with open_socket("127.0.0.1", 0) as listener:
        address = listener.getsockname()
        client = socket.create_connection(address, timeout=PATIENCE_SECONDS)
        listener.accept()[0].close()  # closed on this side first: the port is in TIME_WAIT
        client.close()

    open_socket(*address).close()


def test_open_unix_socket_with_a_mode(tmp_path: Path) -> None:
    path = tmp_path / "hpcq.sock"
    with open_socket(f"unix:{path}", 0, 0o666) as first:
        assert path.stat().st_mode & 0o777 == 0o666
        with pytest.raises(OSError, match="in use"):
            open_socket(f"unix:{path}", 0)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        assert first.family == socket.AF_UNIX
    # Its process has died.
    with open_socket(f"unix:{path}", 0):
        assert path.stat().st_mode & 0o777 == 0o600


def test_open_unix_socket_over_a_file(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("x")
    with pytest.raises(OSError, match="in use"):
        open_socket(f"unix:{path}", 0)
    assert path.read_text() == "x"


@pytest.mark.parametrize("host", ["localhost", "::1"])
def test_listen_names_and_ipv6(host: str) -> None:
    try:
        open_socket(host, 0).close()
    except OSError as error:
        pytest.skip(f"this machine has no {host}: {error}")


def test_command_version() -> None:
    result = CliRunner().invoke(app, ["version"])

    assert (result.exit_code, result.output) == (0, f"{__version__}\n")


def test_command_exit_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORT", "x")

    assert CliRunner().invoke(app, ["serve"]).exit_code == EXIT_SETTINGS


def test_service_log_pipe_unread(tmp_path: Path) -> None:
    with started(tmp_path, LOG_LEVEL="DEBUG") as process:
        port = re.search(r"running on http://127.0.0.1:(\d+)", read_until(process, "running on"))
        assert port
        # A pipe holds 64 KiB: some 350 of these lines.
        with httpx.Client(base_url=f"http://127.0.0.1:{port[1]}", timeout=60) as client:
            for _ in range(1500):
                assert client.get("/health/live").status_code == 200
        process.terminate()
        assert process.wait(60) == 0
