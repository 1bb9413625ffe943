"""The service as users run it: a process of its own, spoken to over HTTP alone."""

import contextlib
import os
import pwd
import signal
import socket
import time
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Self

import httpx

import hpcq
from hpcq.schedulers.testing.forked import fork_service
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS, until

__all__ = ["CANARY", "INSTALLATION", "ROOT_PATH", "Service", "clean_environment"]

INSTALLATION = Path(hpcq.__file__).resolve().parents[2]
"""The folder above ``src``, or where the package is installed; a service reads its ``.env``."""
ROOT_PATH = "/api/queue"
# In the service's environment but none of a job's business: it must never get there.
CANARY = "a-secret-of-the-service-itself"

# Variables that Python and the C library read once, at their start.
_READ_AT_START = ("LANG", "LC_", "LD_", "PYTHON", "TZ")

# What has a limit in the service has a generous one here, for the machine may be busy; tests of a
# limit set their own.
DEFAULTS = {
    "CLUSTER_ID": "conformance",
    "HOST": "127.0.0.1",
    "POLL_INTERVAL_SECONDS": "0.5",
    "USAGE_INTERVAL_SECONDS": "1",
    "STALE_AFTER_SECONDS": "300",
    "COMMAND_TIMEOUT_SECONDS": "120",
    "CANCEL_GRACE_SECONDS": "5",
    "PATH_WAIT_SECONDS": "0.1",
    "INTERNAL_SCHEDULER_MAX_SLOTS": "8",
    "JOB_FILES": "on",
    "LOG_LEVEL": "DEBUG",
}


def clean_environment() -> dict[str, str]:
    """Return the environment of a service manager, without the test's own variables."""
    account = pwd.getpwuid(os.geteuid())
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "SHELL": "/bin/sh",
    }


class Service:
    """One service process; its state directory outlives it, so that it can be started again.

    Args:
        directory: where its state and its log are kept.
        settings: variables over `DEFAULTS`. With ``PORT`` it listens there at every start.
    """

    running: "list[Service]" = []  # noqa: RUF012  (shared on purpose: for failure reports)

    def __init__(self, directory: Path, settings: Mapping[str, str]) -> None:
        self.directory = directory
        self.state_directory = directory / "state"
        self.log = directory / "service.log"
        self.settings = {**DEFAULTS, **settings, "STATE_DIRECTORY": str(self.state_directory)}
        self.port = 0
        self._process: ForkServerProcess | None = None
        self._client: httpx.Client | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def unix_socket(self) -> Path | None:
        """The socket that it listens on in place of a port, if ``HOST`` is one."""
        kind, _, path = self.settings["HOST"].partition(":")
        return Path(path) if kind == "unix" else None

    @property
    def is_original(self) -> bool:
        """True if the service answers clients of the original implementation."""
        return self.settings.get("COMPATIBILITY") == "original"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the service is not running"
        assert self._process.pid is not None
        return self._process.pid

    @property
    def client(self) -> httpx.Client:
        assert self._client is not None, "the service is not running"
        return self._client

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, *, wait: bool = True) -> None:
        """Start it, on a free port unless one is set, and wait until it is ready."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = int(self.settings.get("PORT") or _free_port())
        environment = {**clean_environment(), **self.settings, "PORT": str(self.port)}
        anew = any(name.startswith(_READ_AT_START) for name in self.settings)
        self._process = fork_service(INSTALLATION, environment, self.log, anew=anew)
        path = self.unix_socket
        transport = None if path is None else httpx.HTTPTransport(uds=str(path))
        self._client = httpx.Client(
            base_url=self.url, timeout=PATIENCE_SECONDS, transport=transport
        )
        Service.running.append(self)
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Poll ``/health/ready`` until it says so."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        said = "nothing"
        while time.monotonic() < deadline:
            if self._process is None or self._process.exitcode is not None:
                raise AssertionError(f"the service ended while starting:\n{self.log_tail()}")
            with contextlib.suppress(httpx.TransportError, OSError):
                self._try_socket()
                answer = self.client.get("/health/ready")
                if answer.status_code == 200:
                    return
                said = f"{answer.status_code} {answer.text}"
            time.sleep(0.02)
        raise AssertionError(f"never ready; it said {said}\n{self.log_tail()}")

    def _try_socket(self) -> None:
        """Connect to the Unix socket, if it has one; raises OSError where nothing listens.

        httpcore 1.0 forgets to close the socket of such an attempt.
        """
        if self.unix_socket is not None:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as attempt:
                attempt.connect(str(self.unix_socket))

    def wait_until_ended(self) -> int:
        """Wait until it ends by itself; returns its exit status."""
        assert self._process is not None, "the service is not running"
        self._process.join(PATIENCE_SECONDS)
        status = self._process.exitcode
        assert status is not None, f"it did not end:\n{self.log_tail()}"
        return status

    def stop(self) -> int | None:
        """End it as a service manager does; returns its exit status."""
        return self._end(signal.SIGTERM)

    def kill9(self) -> int | None:
        """End it as a crash does: the process alone, without a chance to say anything.

        Returns what `stop` does: the negative signal, unless it had ended by itself.
        """
        return self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Start it anew on the same state directory."""
        self.stop()
        self.start()

    def wait_until_logged(self, words: str) -> str:
        """Wait until these words are in its log, which a thread writes behind the answers.

        Returns:
            The log so far.
        """
        until(lambda: words in self.log.read_text(errors="replace"), self.log_tail)
        return self.log.read_text(errors="replace")

    def whole_log(self) -> str:
        """Stop it, so that all is written; returns its log."""
        self.stop()
        return self.log.read_text(errors="replace")

    def log_tail(self, characters: int = 6000) -> str:
        """Return the end of its log, without answered reads and looks at its health."""
        with contextlib.suppress(OSError):
            lines = self.log.read_text(errors="replace").splitlines(keepends=True)
            dull = (("method=GET", "status=200"), ("method=GET", "path=/health/"))
            told = [
                line for line in lines if not any(all(w in line for w in words) for words in dull)
            ]
            return "".join(told)[-characters:]
        return ""

    def _end(self, number: signal.Signals) -> int | None:
        if self._process is None:
            return None
        process, self._process = self._process, None
        self.client.close()
        self._client = None
        Service.running.remove(self)
        if process.exitcode is None and process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)
                # One that a test has frozen does not notice before.
                os.kill(process.pid, signal.SIGCONT)
        process.join(PATIENCE_SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise AssertionError(f"it did not stop on {number.name}:\n{self.log_tail()}")
        return process.exitcode


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
