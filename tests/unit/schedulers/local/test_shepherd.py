"""The shepherd of one job, in a process of its own, with a clock that is set meanwhile."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

import hpcq
from hpcq.schedulers.local.files import JobOrder, Result, make_run_directory
from hpcq.schedulers.local.report import JobReport
from hpcq.schedulers.local.shepherd import SIGNALS, supervise


def run(directory: Path, script: str, step: float, limit: float | None = None) -> Result:
    """Run a job while the clock is set by so many seconds right after its start."""
    order = JobOrder(
        args=[],
        environment={"PATH": "/usr/bin:/bin"},
        working_directory=str(directory),
        script=str(directory / "spool" / "scripts" / "1.1" / "script"),
        stdout_path=str(directory / "out"),
        stderr_path=str(directory / "err"),
        wall_time_limit_seconds=limit,
        memory_limit_bytes=None,
        grace_seconds=60.0,
    )
    (directory / "spool" / "scripts").mkdir(parents=True)
    place = directory / "run"
    descriptor = make_run_directory(place, order, b"#!/bin/sh\n" + script.encode())
    pid = os.fork()
    if pid == 0:
        _tend(place, step)
    _, status = os.waitpid(pid, 0)
    assert status == 0
    report = JobReport(place, descriptor)
    result = report.result()
    report.close()
    assert result is not None
    return result


def _tend(place: Path, step: float) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    now = time.time

    def set_the_clock(_: object) -> bool:
        time.time = lambda: now() + step
        return True

    status = 1
    try:
        supervise(place, set_the_clock)
        status = 0
    finally:
        os._exit(status)


@pytest.mark.parametrize("step", [-(10**7), 10**7])
def test_clock_step_duration(tmp_path: Path, step: float) -> None:
    before = time.time()
    result = run(tmp_path, "sleep 0.4\n", step, limit=60)
    assert (result["exit_code"], result["failure_kind"]) == (0, None)
    started = result["start_time"]
    assert started is not None
    assert before <= started <= time.time()
    assert 0.4 <= result["end_time"] - started <= time.time() - before
    assert result["usage"] is not None
    assert started <= result["usage"]["sampled_at"] <= result["end_time"]


def test_signal_value_invalid(tmp_path: Path) -> None:
    """A job may send its shepherd anything."""
    job = (
        "import os, sys; sys.path[:0] = sys.argv[1:]\n"
        "from hpcq.schedulers.local.processes import identify, send\n"
        "from hpcq.schedulers.local.shepherd import PASS_ON\n"
        "for value in (-1, 0, 32, 65, 1 << 30):\n"
        "    send(identify(os.getppid()), PASS_ON, value)\n"
        "os.kill(os.getppid(), PASS_ON)\n"
    )
    (tmp_path / "job.py").write_text(job)
    source = Path(hpcq.__file__).parents[1]
    result = run(tmp_path, f"exec {sys.executable} job.py {source}\n", 0)
    assert (result["exit_code"], result["failure_kind"]) == (0, None), result


@pytest.mark.parametrize("step", [-(10**7), 10**7])
def test_clock_step_wall_time_limit_and_grace(tmp_path: Path, step: float) -> None:
    result = run(tmp_path, "trap 'exit 0' TERM\nwhile :; do sleep 0.1; done\n", step, limit=0.5)
    assert (result["failure_kind"], result["exit_code"]) == ("TIME_LIMIT", 0)
    started = result["start_time"]
    assert started is not None
    assert 0.5 <= result["end_time"] - started < 60.0, "its grace was not cut, nor used up"
