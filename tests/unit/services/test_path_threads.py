"""A file system that hangs keeps its own requests, and nothing else."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest
from tests.unit.services.kit import service_settings

from hpcq.domain.errors import AccountUnavailable, InvalidSpec, Overloaded, PathUnavailable
from hpcq.domain.jobs import JobSpec
from hpcq.execution.account_files import AccountFiles
from hpcq.execution.accounts import Accounts
from hpcq.schedulers.testing import FakeScheduler
from hpcq.schedulers.testing.waiting import until
from hpcq.services.submission import path_threads, visit
from hpcq.services.submission.paths import PathChecker
from hpcq.services.submission.visit import Mounts, Visit

SOURCES = Path(__file__).parents[3] / "src"


@pytest.fixture
def good(tmp_path: Path) -> JobSpec:
    script = tmp_path / "run.sh"
    script.write_text("#!/bin/sh\n")
    return JobSpec(name="", working_directory=str(tmp_path), script_file=str(script))


@pytest.fixture
def hung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A mount that does not answer until the test ends; a link leads there, too."""
    mount = tmp_path / "hung"
    answers = threading.Event()
    read_link = os.readlink

    def hanging(path: str) -> str:
        if f"{path}/".startswith(f"{mount}/"):
            answers.wait()
        return read_link(path)

    points = frozenset({"/", str(mount)})
    monkeypatch.setattr(visit, "_mount_points", lambda: points)
    monkeypatch.setattr(os, "readlink", hanging)
    (tmp_path / "link").symlink_to(mount)
    yield mount
    answers.set()


@pytest.mark.anyio
@pytest.mark.parametrize("through", ["hung/study", "link/study", "./link/../link/study"])
async def test_mount_hung_others_unaffected(good: JobSpec, hung: Path, through: str) -> None:
    checker = PathChecker(FakeScheduler(), service_settings(path_check_timeout_seconds=1.0))
    there = replace(good, working_directory=f"{hung.parent}/{through}")
    stuck = [asyncio.ensure_future(checker.check(there)) for _ in range(40)]
    await asyncio.sleep(0)
    for _ in range(20):
        await checker.check(good)
    for outcome in await asyncio.gather(*stuck, return_exceptions=True):
        assert isinstance(outcome, PathUnavailable)
        assert repr(str(hung)) in outcome.detail
    # All its places are taken by now, and others need none of them.
    with pytest.raises(PathUnavailable, match="does not answer others"):
        await checker.check(replace(good, script_file=f"{hung}/run.sh"))
    await checker.check(good)
    checker.close()


@pytest.mark.anyio
async def test_mount_recovered(good: JobSpec, tmp_path: Path) -> None:
    mounts = Mounts()
    visits = [Visit(mounts) for _ in range(8)]
    for one in visits:
        one.enter(str(tmp_path))
    late = Visit(mounts)
    with pytest.raises(PathUnavailable):
        late.enter(str(tmp_path))
    visits[0].leave()
    late.enter(str(tmp_path))


@pytest.mark.anyio
async def test_symlink_loop(good: JobSpec, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    checker = PathChecker(FakeScheduler(), service_settings())
    with pytest.raises(InvalidSpec, match="symbolic links"):
        await checker.check(replace(good, working_directory=str(tmp_path / "a")))
    checker.close()


@pytest.mark.anyio
@pytest.mark.parametrize("shortage", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
async def test_file_shortage_of_service(
    good: JobSpec, monkeypatch: pytest.MonkeyPatch, shortage: int
) -> None:
    checker = PathChecker(FakeScheduler(), service_settings())
    await checker.check(good)

    def fail(*_: object, **__: object) -> int:
        raise OSError(shortage, os.strerror(shortage))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(Overloaded):
        await checker.check(good)
    checker.close()


@pytest.mark.anyio
async def test_script_size_limit_setting(good: JobSpec) -> None:
    checker = PathChecker(FakeScheduler(), service_settings(max_script_bytes=4))
    with pytest.raises(InvalidSpec, match="larger than the 4 bytes"):
        await checker.check(good)
    checker.close()


@pytest.mark.anyio
async def test_script_path_many_blanks(good: JobSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = 0
    scan = os.scandir

    def counting(path: str) -> object:
        nonlocal scans
        scans += 1
        return scan(path)

    monkeypatch.setattr(os, "scandir", counting)
    checker = PathChecker(FakeScheduler(), service_settings())
    with pytest.raises(InvalidSpec):
        await checker.check(replace(good, script_file="/ a" * 1360))
    assert scans < 10_000
    checker.close()


PROGRAM = """
import asyncio, threading
from hpcq.services.submission.path_threads import PathThreads
from hpcq.domain.errors import PathUnavailable
def hang(visit):
    visit.enter("/")
    threading.Event().wait()
async def main():
    threads = PathThreads(0.05)
    try:
        await threads.run(hang)
    except PathUnavailable as error:
        print(error.detail)
    threads.close()
asyncio.run(main())
"""


def test_exit_with_hung_mount() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"PYTHONPATH": str(SOURCES)},
        capture_output=True,
        timeout=120,
        text=True,
        check=True,
    )
    assert "The file system of '/' did not answer" in done.stdout


@pytest.mark.anyio
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
async def test_account_helper_stopped(good: JobSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = []

    class Stopped(AccountFiles):
        def __enter__(self) -> Self:
            os.kill(self._process.process.pid, signal.SIGSTOP)
            stopped.append(self._process.process)
            return super().__enter__()

    monkeypatch.setattr(path_threads, "AccountFiles", Stopped)
    settings = service_settings(path_check_timeout_seconds=5.0)
    checker = PathChecker(FakeScheduler(), settings, Accounts(None, 1))
    try:
        job = replace(good, run_as="nobody")
        theirs = [asyncio.ensure_future(checker.check(job)) for _ in range(12)]
        await asyncio.to_thread(until, lambda: len(stopped) == 6)
        await checker.check(good)
        assert not all(check.done() for check in theirs)
        for outcome in await asyncio.gather(*theirs, return_exceptions=True):
            assert isinstance(outcome, PathUnavailable | AccountUnavailable)
        await checker.check(good)
        await asyncio.to_thread(until, lambda: all(p.returncode is not None for p in stopped))
    finally:
        for process in stopped:
            process.kill()
        checker.close()


AT_EXIT = """
import os
from hpcq.execution.opened import OpenedFile
from hpcq.services.submission.path_threads import PathThreads

threads = PathThreads(1.0)
# The interpreter forgets it last: while it ends, and can start no thread.
kept = OpenedFile(os.open("/dev/null", os.O_RDONLY), "/dev/null", lambda d: threads.start(int))
threads.close()
"""


def test_exit_with_open_file() -> None:
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT], env=environment, timeout=30, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
