import contextlib
import os
import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from tests.faults.fake import FakeScheduler, left_behind, processes_with

from hpcq.domain.errors import SchedulerError
from hpcq.execution import orphans
from hpcq.execution.orphans import end_orphans
from hpcq.schedulers.testing.jobs import Study
from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS, cut_off, until

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts shell scripts, and ends them."""
    started: list[subprocess.Popen[bytes]] = []

    def run(
        script: str, mark: str | None = None, user: int | None = None
    ) -> "subprocess.Popen[bytes]":
        descriptor = os.memfd_create(mark or "other", os.MFD_CLOEXEC)
        process = subprocess.Popen(
            ["/bin/sh", "-c", f"{script}; :"],
            env={"PATH": "/usr/bin:/bin"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(descriptor,),
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
        os.close(descriptor)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def mark() -> str:
    return f"hpcq-{secrets.token_hex(16)}"


def test_end_orphans_mark_on_stdin(mark: str) -> None:
    name = str(secrets.randbelow(10**9))
    started = []
    for word in (mark, "hpcq"):
        descriptor = os.memfd_create(word, os.MFD_CLOEXEC)
        script = f"exec 3<&0; /bin/sleep 300.{name} & exec /bin/sleep 301.{name}"
        started.append(
            subprocess.Popen(["/bin/sh", "-c", script], stdin=descriptor, start_new_session=True)
        )
        os.close(descriptor)
    ours, other = started
    until(lambda: len(processes_with(name)) == 4)
    assert end_orphans(mark) == 2
    assert ours.wait() == -signal.SIGKILL
    assert other.poll() is None
    os.killpg(other.pid, signal.SIGKILL)
    other.wait()


def test_end_orphans_children_and_own_sessions(start: Start, mark: str) -> None:
    name = str(secrets.randbelow(10**9))
    script = f"/bin/sleep 300.{name} & setsid /bin/sh -c '/bin/sleep 301.{name}; :' & echo ready"
    process = start(f"{script}; /bin/sleep 302.{name}", mark)
    until(lambda: len(processes_with(name)) >= 5)
    assert end_orphans(mark) >= 5
    assert processes_with(name) == []
    assert process.wait() == -signal.SIGKILL


def test_end_orphans_forking_process(start: Start, mark: str) -> None:
    name = str(secrets.randbelow(10**9))
    start(f"echo ready; while :; do /bin/sleep 1.{name} & /bin/sleep 0.01; done", mark)
    end_orphans(mark)
    assert processes_with(name) == []


def test_end_orphans_other_marks(start: Start, mark: str) -> None:
    others = [
        start("echo ready; read x"),
        start("echo ready; read x", "hpcq-" + "0" * 32),
        start("echo ready; read x", mark + "0"),
        start("echo ready; read x", mark[:-1]),
    ]
    assert end_orphans(mark) == 0
    assert [process.poll() for process in others] == [None] * len(others)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
def test_end_orphans_other_account_as_root(start: Start, mark: str) -> None:
    other = start("echo ready; read x", mark, user=65534)
    assert end_orphans(mark) == 1
    assert other.wait() == -signal.SIGKILL


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
def test_end_orphans_other_account_not_root(start: Start, mark: str) -> None:
    others = [start("echo ready; read x", mark, user=user) for user in (0, 65533)]
    ours = start("echo ready; read x", mark, user=65534)
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        os._exit(end_orphans(mark))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert ours.wait() == -signal.SIGKILL
    assert [process.poll() for process in others] == [None, None]


def test_end_orphans_process_survives(
    start: Start, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start("echo ready; read x", mark)
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda *_: None)
    monkeypatch.setattr(orphans, "_PATIENCE_MILLISECONDS", 10)
    with pytest.raises(SchedulerError, match="does not end"):
        end_orphans(mark)


@pytest.mark.parametrize("scheduler", ["SLURM", "SGE"])
def test_end_orphans_after_service_killed(
    scheduler: str, start_service: Callable[..., Service], tmp_path: Path, study: Study
) -> None:
    fake = FakeScheduler(tmp_path, scheduler)
    fake.behave(fake.submit, "hang")
    settings = {"SUBMISSION_SETTLE_SECONDS": "2", "COMMAND_TIMEOUT_SECONDS": "300"}
    service = start_service(**fake.settings(), **settings)
    body = study.job(study.script("true\n"))

    def send() -> None:
        key = {"Idempotency-Key": "k"}
        httpx.post(f"{service.url}/jobs", json=body, headers=key, timeout=PATIENCE_SECONDS)

    with cut_off(send):
        until(lambda: processes_with(fake.mark))
        service.kill9()
    assert processes_with(fake.mark), "it outlives the service"
    fake.behave(fake.submit, "take-id")
    service.start()
    until(fake.taken_ids)
    assert left_behind(fake.mark) == []
    assert len(fake.taken_ids()) == 1
