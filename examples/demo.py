"""A job from submission to end, over HTTP: ``make demo``.

Starts the service on its embedded scheduler, submits the sample study beside this file, follows
it, prints the finished job and the address of its page, and stops the service again: on a terminal
when you press Ctrl-C. ``PORT`` chooses the port.

A client needs nothing but HTTP and JSON; this one uses the standard library for both. The
display is rich's.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
STUDY_SCRIPT = ROOT / "examples" / "sample_study.sh"
# Its files stay there, to be looked at afterwards.
STUDY_DIRECTORY = ROOT / ".demo" / "sample-study"
ITERATIONS = 8

READY_WITHIN_SECONDS = 30
ENDED_WITHIN_SECONDS = 120
STOPPED_WITHIN_SECONDS = 15
POLL_SECONDS = 0.5

Job = dict[str, Any]


class DemoError(Exception):
    """The demonstration cannot go on; the text says why."""


class Client:
    """The few requests that a client of the service makes."""

    def __init__(self, url: str) -> None:
        self.url = url
        # Proxies of the environment have no business on the loopback interface.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def request(self, method: str, path: str, body: object = None) -> Any:
        """Send a request and return the JSON of its answer."""
        request = urllib.request.Request(  # noqa: S310 - always http
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with self._opener.open(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            problem = json.load(error)
            raise DemoError(f"{method} {path}: {problem['title']}. {problem['detail']}") from error


def main() -> int:
    """Run the demonstration and return the exit status."""
    console = Console(highlight=False)
    # The terminal may be closed, or the build be ended: that is the same as Ctrl-C.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    port = os.environ.get("PORT") or "5049"
    try:
        with tempfile.TemporaryDirectory(prefix="hpcq-demo-") as folder:
            check_free(port)
            with running_service(Path(folder), port) as client:
                console.print(f"The service runs on {client.url}.")
                job = run_study(client, console)
                show(console, job)
                show_page(console, f"{client.url}/#/jobs/{job['uid']}")
        return 0
    except DemoError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; the job and the service have been stopped.", file=sys.stderr)
        return 130


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def check_free(port: str) -> None:
    """Refuse a port that something else listens on."""
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise DemoError(f"PORT={port} is not a port; it is a whole number from 1 to 65535.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(port)))
        except OSError as error:
            other = int(port) + 1 if int(port) < 65535 else 5049
            raise DemoError(
                f"Port {port} cannot be used: {error.strerror}. "
                f"Choose another one, for example: PORT={other} make demo"
            ) from error


@contextlib.contextmanager
def running_service(folder: Path, port: str) -> Iterator[Client]:
    """Run the service as `hpcq serve` does, with its settings and state below ``folder``."""
    log = folder / "service.log"
    account = ("PATH", "HOME", "USER", "LOGNAME", "LANG")
    environment = {name: os.environ[name] for name in account if name in os.environ}
    environment |= {
        "PYTHONPATH": str(ROOT / "src"),
        "SCHEDULER": "LOCAL",
        "CLUSTER_ID": "demo",
        "HOST": "127.0.0.1",
        "PORT": port,
        "STATE_DIRECTORY": str(folder / "state"),
        "POLL_INTERVAL_SECONDS": "0.5",
        "USAGE_INTERVAL_SECONDS": "0.5",
        "CANCEL_GRACE_SECONDS": "1",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "hpcq", "serve"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    client = Client(f"http://127.0.0.1:{port}")
    try:
        wait_until_ready(client, process, log)
        yield client
    finally:
        stop(process)


def wait_until_ready(client: Client, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for the service, and tell what it said if it does not come up."""
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, DemoError):
            client.request("GET", "/health/ready")
            return
        time.sleep(0.05)
    raise DemoError(f"The service did not start. It said:\n{log.read_text(errors='replace')}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the service."""
    process.terminate()
    try:
        process.wait(STOPPED_WITHIN_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run_study(client: Client, console: Console) -> Job:
    """Submit the study, follow it and return the job as it ended."""
    shutil.rmtree(STUDY_DIRECTORY, ignore_errors=True)
    STUDY_DIRECTORY.mkdir(parents=True)
    submission = {
        "workingDirectory": str(STUDY_DIRECTORY),
        "reservedSlots": 1,
        "scriptFile": str(STUDY_SCRIPT),
        "args": ["november", str(ITERATIONS)],
    }
    console.print(f"POST /jobs {json.dumps(submission, indent=2)}", soft_wrap=True)
    job_id = client.request("POST", "/jobs", submission)["jobId"]
    console.print(f"Submitted as job {job_id}.")
    try:
        return follow(client, job_id, console)
    except BaseException:
        remove(client, job_id)
        raise


def follow(client: Client, job_id: str, console: Console) -> Job:
    """Show the job until it has ended; a table on a terminal, lines elsewhere."""
    deadline = time.monotonic() + ENDED_WITHIN_SECONDS
    with contextlib.ExitStack() as stack:
        live = None
        if console.is_terminal:
            live = stack.enter_context(Live(console=console, auto_refresh=False))
        said = ""
        while time.monotonic() < deadline:
            job: Job = client.request("GET", f"/jobs/{job_id}")
            cells = describe(job)
            if live is not None:
                live.update(table(cells), refresh=True)
            elif (line := " | ".join(f"{k} {v}" for k, v in cells.items() if v)) != said:
                said = line
                console.print(line, soft_wrap=True)
            if job["endTime"] is not None:
                return job
            time.sleep(POLL_SECONDS)
    raise DemoError(f"The job has not ended within {ENDED_WITHIN_SECONDS} s.")


def describe(job: Job) -> dict[str, str]:
    """Return what is shown of a job."""
    usage = job["resourceUsage"] or {"unknown": ["cpuSeconds", "maxTotalMemory"]}
    known = {name: value for name, value in usage.items() if name not in usage["unknown"]}
    memory = known.get("instantTotalMemory") or known.get("maxTotalMemory")
    cpu = known.get("cpuSeconds")
    return {
        "job": job["jobId"],
        "state": job["state"],
        "status": job["status"],
        "elapsed": "" if job["elapsed"] is None else f"{job['elapsed']} s",
        "CPU": "" if cpu is None else f"{cpu:.1f} s",
        "memory": "" if memory is None else f"{memory * 1024:.0f} MB",
        "output": last_line(job["stdoutPath"]),
    }


def table(cells: dict[str, str]) -> Table:
    """Return the cells as a table of one row."""
    shown = Table()
    for name in cells:
        shown.add_column(name, no_wrap=True)
    shown.add_row(*cells.values())
    return shown


def last_line(path: str | None) -> str:
    """Return the last line that the job printed."""
    if path is None:
        return ""
    try:
        lines = Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""


def remove(client: Client, job_id: str) -> None:
    """End the job and wait until it has."""
    with contextlib.suppress(OSError, DemoError):
        client.request("DELETE", f"/jobs/{job_id}")
        deadline = time.monotonic() + STOPPED_WITHIN_SECONDS
        while time.monotonic() < deadline:
            if client.request("GET", f"/jobs/{job_id}")["endTime"] is not None:
                return
            time.sleep(0.1)


def show(console: Console, job: Job) -> None:
    """Print the finished job and what to do next."""
    console.print(f"GET /jobs/{job['jobId']}")
    console.print_json(json.dumps(job))
    if job["state"] != "DONE":
        raise DemoError(f"The study has failed: {job['failureKind']} ({job['stateReason']}).")
    files = " ".join(sorted(path.name for path in STUDY_DIRECTORY.iterdir()))
    console.print(f"\nThe study left {files}\nin {STUDY_DIRECTORY}.", soft_wrap=True)


def show_page(console: Console, page: str) -> None:
    """Show the job in the page: on a desktop in the browser, until Ctrl-C on a terminal."""
    console.print(
        "\nTo start the service for real, put your settings into .env (docs/quickstart.md) and run"
        f"\n  cd {ROOT} && .venv/bin/python main.py",
        soft_wrap=True,
    )
    console.print(f"\nThe page of the job: {page}", soft_wrap=True)
    if not sys.stdin.isatty() or not console.is_terminal:
        return
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(page)
    console.print("The service goes on until you press Ctrl-C.")
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


if __name__ == "__main__":
    sys.exit(main())
