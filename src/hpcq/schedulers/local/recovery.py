"""What became of a job that was running when the service or its shepherd ended."""

import json
import shutil
import signal
import time
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple, cast

from hpcq.domain.states import FailureKind
from hpcq.schedulers.local import files
from hpcq.schedulers.local.cgroup import Leaf
from hpcq.schedulers.local.files import Order, Result, Sample, Started
from hpcq.schedulers.local.processes import (
    Process,
    descendants,
    has_environment,
    identify,
    is_running,
    send,
)

__all__ = [
    "Fate",
    "fate",
    "never_started",
    "outcome",
    "prepare",
    "read_result",
    "read_sample",
    "read_started",
    "remove_other_runs",
    "remove_run",
]

_PATIENCE_SECONDS = 10.0
_KILL_AGAIN_SECONDS = 0.02


class Fate(NamedTuple):
    """What became of a job.

    Attributes:
        started: its shepherd, alive or not; None when there never was one.
        has_ended: whether its result is in the run directory.
    """

    started: Started | None
    has_ended: bool


def prepare(directory: Path, order: Order, script: bytes) -> None:
    """Make the run directory that a shepherd needs."""
    directory.mkdir(mode=0o700)
    path = directory / files.SCRIPT
    path.write_bytes(script)
    path.chmod(0o700)
    (directory / files.JOB).write_text(json.dumps(order), "ascii")


def read_started(directory: Path) -> Started | None:
    """Return who the shepherd of a run directory is; None if there never was one."""
    return cast(Started | None, files.read_json(directory / files.STARTED))


def read_sample(directory: Path) -> Sample | None:
    """Return the last sample of a run directory."""
    return cast(Sample | None, files.read_json(directory / files.USAGE))


def fate(directory: Path, dispatched_in: str | None, boot_id: str) -> Fate:
    """Return what became of a job that the spool calls dispatched.

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
    return Fate(started, has_ended)


def never_started() -> Result:
    """Return how a job ended that was cancelled before it started."""
    return Result(
        exit_code=None,
        exit_signal=None,
        failure_kind=FailureKind.CANCELLED,
        reason="It was cancelled before it started.",
        start_time=None,
        end_time=time.time(),
        usage=None,
    )


def read_result(directory: Path) -> Result | None:
    """Return how the job of a run directory ended; None if nothing says so."""
    return cast(Result | None, files.read_json(directory / files.RESULT))


def outcome(directory: Path, key: str) -> Result:
    """Return how a job ended whose shepherd has ended; end what the shepherd may have left."""
    result = read_result(directory)
    if result is not None:
        return result
    ended = _end_left_over(directory, key)
    reason = (
        f"The process that watched the job {_what_happened(directory)}, so its exit status is "
        f"not known; {ended} of its processes were still there and were ended."
    )
    return _lost(directory, FailureKind.SCHEDULER_ERROR, reason, _present(directory))


def remove_other_runs(runs: Path, wanted: Collection[str]) -> None:
    """Remove the run directories that no job needs any more."""
    for path in runs.iterdir():
        if path.name not in wanted:
            remove_run(path)


def remove_run(directory: Path) -> None:
    """Remove a run directory, and the job's own folder if its shepherd could not."""
    order = cast(Order | None, files.read_json(directory / files.JOB))
    if order is not None and "folder" in order:
        files.remove_tree(files.encode_path(order["folder"]))
    shutil.rmtree(directory, ignore_errors=True)


def _lost(directory: Path, kind: FailureKind, reason: str, ended: float | None) -> Result:
    started, sample = read_started(directory), read_sample(directory)
    began = None if started is None else started["start_time"]
    last_seen = began if sample is None else sample["sampled_at"]
    if sample is not None:
        # The rest is what it had used until then; memory it holds no more.
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


def _present(directory: Path) -> float:
    """Return the time by the clock as it was when the job began."""
    started = read_started(directory)
    if started is None or "began" not in started:
        return time.time()
    return started["start_time"] + time.monotonic() - started["began"]


def _what_happened(directory: Path) -> str:
    try:
        lines = (directory / files.LOG).read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return "was killed"
    return f"broke ({lines[-1]})" if lines else "broke"


def _end_left_over(directory: Path, key: str) -> int:
    """Kill the processes of a job that lost its shepherd; return how many there were.

    They are those in the job's control group, those that carry its key in their environment, those
    that were there at the last sample, and their descendants. The script itself dies with its
    shepherd (``PR_SET_PDEATHSIG``).
    """
    ended: set[Process] = set()
    leaf = _leaf(directory)
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while left := _left_over(directory, key, leaf):
        for process in left:
            if _kill(process):
                ended.add(process)
        if leaf is not None:
            # set-user-ID programs too.
            leaf.kill()
        if time.monotonic() >= give_up:
            break
        time.sleep(_KILL_AGAIN_SECONDS)
    if leaf is not None:
        leaf.remove()
    return len(ended)


def _leaf(directory: Path) -> Leaf | None:
    order = cast(Order | None, files.read_json(directory / files.JOB))
    path = None if order is None else order.get("cgroup")
    return None if path is None else Leaf(Path(path))


def _left_over(directory: Path, key: str, leaf: Leaf | None) -> set[Process]:
    sample = read_sample(directory)
    found = set(has_environment(f"HPCQ_JOB_KEY={key}".encode()))
    members = map(identify, () if leaf is None else leaf.members())
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
