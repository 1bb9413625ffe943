"""The end of jobs whose shepherd cannot report it, because it, the machine or a file is gone."""

import signal
import time
from collections.abc import Callable, Collection

from hpcq.domain.jobs import Dependency
from hpcq.domain.states import FailureKind, ReasonCode
from hpcq.schedulers.local.cgroup import JobCgroup
from hpcq.schedulers.local.files import Result, ShepherdStart, UsageSample
from hpcq.schedulers.local.processes import (
    Process,
    descendants,
    has_environment,
    identify,
    is_running,
    send,
)
from hpcq.schedulers.local.report import JobReport

__all__ = ["end_without_result", "lost", "never_started", "waited_in_vain"]

_PATIENCE_SECONDS = 10.0
_KILL_AGAIN_SECONDS = 0.02


def end_without_result(
    report: JobReport,
    started: ShepherdStart | None,
    key: str,
    group: JobCgroup | None,
    protected: Callable[[], Collection[Process]],
) -> Result:
    """Return the result of a job whose shepherd has ended and left none; end its processes.

    Args:
        report: without a result.
        started: its shepherd, as the spool knows it.
        key: the job's submission key.
        group: its control group, if it has one.
        protected: the processes that certainly belong to something else.
    """
    log = report.log()
    sample = report.sample()
    ended = _end_left_over(key, group, sample, protected)
    why = f"broke ({log})" if log else "was killed, or its report was removed or changed"
    reason = (
        f"The process that watched the job {why}, so its exit status is not known; {ended} of its "
        "processes were still there and were ended."
    )
    return lost(sample, started, FailureKind.SCHEDULER_ERROR, reason, _now(started))


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


def waited_in_vain(dependency: Dependency) -> Result:
    """Return the result of a job with a dependency that can never be met any more."""
    result = never_started()
    result["reason"] = (
        "It was cancelled before it started: it depends on the condition "
        f"{dependency.condition.value!r} of the job {dependency.native_id}, which ended otherwise."
    )
    result["reason_code"] = ReasonCode.DEPENDENCY_NEVER_SATISFIED.value
    return result


def lost(
    sample: UsageSample | None,
    started: ShepherdStart | None,
    kind: FailureKind,
    reason: str,
    ended: float | None,
) -> Result:
    """Return the result of a job that ended unseen.

    Args:
        sample: its last one.
        started: its shepherd.
        kind: of failure.
        reason: a sentence.
        ended: the time of its end in seconds since the epoch; None for the last trace of it.
    """
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


def _now(started: ShepherdStart | None) -> float:
    """Return the time by the clock as it was set when the job began."""
    if started is None or "began" not in started:
        return time.time()
    return started["start_time"] + time.monotonic() - started["began"]


def _end_left_over(
    key: str,
    group: JobCgroup | None,
    sample: UsageSample | None,
    protected: Callable[[], Collection[Process]],
) -> int:
    """Kill the processes of a job that lost its shepherd; return their number.

    They are the processes in the job's control group, those with its key in their environment,
    those of the last sample, and their descendants. A job may have written the sample, so it
    names no process that certainly belongs to something else. The script itself dies with its
    shepherd (``PR_SET_PDEATHSIG``).
    """
    ended: set[Process] = set()
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while left := _left_over(key, group, sample, protected):
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


def _left_over(
    key: str,
    group: JobCgroup | None,
    sample: UsageSample | None,
    protected: Callable[[], Collection[Process]],
) -> set[Process]:
    found = set(has_environment(f"HPCQ_JOB_KEY={key}".encode()))
    members = map(identify, () if group is None else group.members())
    found.update(process for process in members if process is not None)
    found.update(Process(*pair) for pair in (sample["processes"] if sample else ()))
    found = {process for process in found if is_running(process)}
    for process in tuple(found):
        found.update(descendants(process.pid))
    found = {process for process in found if is_running(process)}
    return found.difference(protected()) if found else found


def _kill(process: Process) -> bool:
    try:
        return send(process, signal.SIGKILL)
    except PermissionError:
        return False
