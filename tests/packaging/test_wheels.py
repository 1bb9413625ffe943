"""The packages for pip, each in a fresh virtual environment: the service, and the client alone."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from zipfile import ZipFile

import httpx
import pytest

import hpcq
from hpcq.schedulers.testing.service import Service, clean_environment
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.xdist_group("packaging")

SERVICE = f"hpc_queue_api-{hpcq.__version__}-py3-none-any.whl"
CLIENT = f"hpc_queue_api_client-{hpcq.__version__}-py3-none-any.whl"
SUBMIT = """
import importlib.util, sys
from hpcq.client import Client

for name in ("fastapi", "sqlalchemy", "hpcq.api"):
    assert importlib.util.find_spec(name) is None, name
with Client(sys.argv[1]) as client:
    job = client.submit(script="#!/bin/sh\\necho told\\n", working_directory=sys.argv[2])
    print(job.wait().state, job.output().text())
"""


def test_wheel_content(dist: Path) -> None:
    names = set(ZipFile(dist / SERVICE).namelist())
    parts = ("page/index.html", "help/index.html", "storage/migrations/env.py")
    assert {f"hpcq/{part}" for part in parts} <= names
    assert not [name for name in names if "__pycache__" in name or "node_modules" in name]


def test_client_wheel_without_server(
    dist: Path,
    fresh_venv: Callable[..., Path],
    start_service: Callable[..., Service],
    tmp_path: Path,
) -> None:
    programs = fresh_venv(dist / CLIENT)
    service = start_service()
    done = subprocess.run(
        [programs / "python", "-c", SUBMIT, service.url, tmp_path],
        env=clean_environment(),
        capture_output=True,
        text=True,
    )
    assert done.stdout == "DONE told\n\n", done.stderr


def test_client_wheel_licence_and_types(dist: Path) -> None:
    names = set(ZipFile(dist / CLIENT).namelist())
    alone = {"hpcq/__init__.py", "hpcq/py.typed"}
    assert {"hpcq/client/LICENSE", *alone} <= names
    parts = ("hpcq/client/", "hpc_queue_api_client-")
    assert [name for name in names - alone if not name.startswith(parts)] == []


@contextlib.contextmanager
def _served(programs: Path, folder: Path) -> Iterator[httpx.Client]:
    """Run ``hpcq serve`` in a folder without any settings file; stop it at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [programs / "hpcq", "serve"],
            cwd=folder,
            # Its usual port may be taken on a machine of tests.
            env={**clean_environment(), "PORT": str(port)},
            stdout=file,
            stderr=file,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while time.monotonic() < deadline and process.poll() is None:
                with contextlib.suppress(httpx.TransportError):
                    if client.get("/health/ready").status_code == 200:
                        break
                time.sleep(0.1)
            else:
                raise AssertionError(log.read_text())
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0


def test_service_wheel_in_empty_folder(
    dist: Path, fresh_venv: Callable[..., Path], tmp_path: Path
) -> None:
    programs = fresh_venv(dist / SERVICE)
    told = subprocess.run(
        [programs / "hpcq", "--help"], env=clean_environment(), capture_output=True, text=True
    )
    assert "serve" in told.stdout, told.stderr
    folder = tmp_path / "empty"
    folder.mkdir()
    with _served(programs, folder) as client:
        for path in ("/", "/help/", "/docs"):
            answer = client.get(path, follow_redirects=True)
            assert answer.status_code == 200, (path, answer.text)
            assert answer.headers["content-type"].startswith("text/html")
        submit = subprocess.run(
            [programs / "hpcq", "submit", "--wait", "-"],
            input="#!/bin/sh\nexit 3\n",
            cwd=folder,
            env={**clean_environment(), "HPCQ_URL": str(client.base_url)},
            capture_output=True,
            text=True,
        )
        # The exit status of the job.
        assert submit.returncode == 3, submit.stderr
    assert (folder / "state").stat().st_uid == os.geteuid()
