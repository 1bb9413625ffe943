"""The recovery of jobs that ran when the service, the machine or their shepherd ended."""

import signal
import time
from pathlib import Path
from typing import NamedTuple

from hpcq.domain.states import FailureKind
from hpcq.schedulers.local import files
from hpcq.schedulers.local.cgroup import JobCgroup
from hpcq.schedulers.local.files import (
    Result,
    ShepherdStart,
    read_result,
    read_sample,
    read_started,
)
from hpcq.schedulers.local.processes import (
    Process,
    descendants,
    has_environment,
    identify,
    is_running,
    send,
)

__all__ = ["RecoveredJob", "never_started", "recover", "recover_result"]

_PATIENCE_SECONDS = 10.0
_KILL_AGAIN_SECONDS = 0.02


class RecoveredJob(NamedTuple):
    """The present state of a job that was running before.

    Attributes:
        started: its shepherd, alive or not; None when there never was one.
        has_ended: whether its result is in the run directory.
    """

    started: ShepherdStart | None
    has_ended: bool


def recover(directory: Path, dispatched_in: str | None, boot_id: str) -> RecoveredJob:
    """Find out the state of a job that the spool calls dispatched.

    To be called while no launcher of an earlier service can be alive, that is with the lock held.

    Args:
        directory: its run directory; gets a result if the machine was restarted meanwhile.
        dispatched_in: the boot of the machine it was started in.
        boot_id: the present one.
    """
    started = read_started(directory)
    has_ended = (directory / files.RESULT).exists()
    if not has_ended and dispatched_in != boot_id:
        reason = "The machine was restarted while the job ran."
        lost = _lost(directory, FailureKind.NODE_FAILURE, reason, None)
        directory.mkdir(mode=0o700, exist_ok=True)
        files.write_json(directory / files.RESULT, lost, durable=False)
        has_ended = True
    return RecoveredJob(started, has_ended)


def recover_result(directory: Path, key: str) -> Result:
    """Return the result of a job without a shepherd; end the processes that are left."""
    result = read_result(directory)
    if result is not None:
        return result
    ended = _end_left_over(directory, key)
    reason = (
        f"The process that watched the job {_shepherd_end(directory)}, so its exit status is "
        f"not known; {ended} of its processes were still there and were ended."
    )
    return _lost(directory, FailureKind.SCHEDULER_ERROR, reason, _now(directory))


def never_started() -> Result:
    """Return the result of a job that was cancelled before it started."""
    return Result(
        exit_code=None,
        exit_signal=None,
        failure_kind=FailureKind.CANCELLED,
        reason="It was cancelled before it started.",
        start_time=None,
        end_time=time.time(),
        usage=None,
    )


def _lost(directory: Path, kind: FailureKind, reason: str, ended: float | None) -> Result:
    started, sample = read_started(directory), read_sample(directory)
    began = None if started is None else started["start_time"]
    last_seen = began if sample is None else sample["sampled_at"]
    if sample is not None:
        # The other figures stay; it holds no memory any more.
        sample["memory_bytes"] = 0.0
    return Result(
        exit_code=None,
        exit_signal=None,
        failure_kind=kind.value,
        reason=reason,
        start_time=began,
        end_time=ended or last_seen or time.time(),
        usage=sample,
    )


def _now(directory: Path) -> float:
    """Return the time by the clock as it was set when the job began."""
    started = read_started(directory)
    if started is None or "began" not in started:
        return time.time()
    return started["start_time"] + time.monotonic() - started["began"]


def _shepherd_end(directory: Path) -> str:
    try:
        lines = (directory / files.LOG).read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return "was killed"
    return f"broke ({lines[-1]})" if lines else "broke"


def _end_left_over(directory: Path, key: str) -> int:
    """Kill the processes of a job that lost its shepherd; return their number.

    They are the processes in the job's control group, those with its key in their environment,
    those of the last sample, and their descendants. The script itself dies with its shepherd
    (``PR_SET_PDEATHSIG``).
    """
    ended: set[Process] = set()
    order = files.read_order(directory)
    path = None if order is None else order.get("cgroup")
    group = None if path is None else JobCgroup(Path(path))
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while left := _left_over(directory, key, group):
        for process in left:
            if _kill(process):
                ended.add(process)
        if group is not None:
            # This kills set-user-ID programs too.
            group.kill()
        if time.monotonic() >= give_up:
            break
        time.sleep(_KILL_AGAIN_SECONDS)
    if group is not None:
        group.remove()
    return len(ended)


def _left_over(directory: Path, key: str, group: JobCgroup | None) -> set[Process]:
    sample = read_sample(directory)
    found = set(has_environment(f"HPCQ_JOB_KEY={key}".encode()))
    members = map(identify, () if group is None else group.members())
    found.update(process for process in members if process is not None)
    found.update(Process(*pair) for pair in (sample["processes"] if sample else ()))
    found = {process for process in found if is_running(process)}
    for process in tuple(found):
        found.update(descendants(process.pid))
    return {process for process in found if is_running(process)}


def _kill(process: Process) -> bool:
    try:
        return send(process, signal.SIGKILL)
    except PermissionError:
        return False
