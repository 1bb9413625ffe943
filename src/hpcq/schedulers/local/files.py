"""The run directory: the files through which the service and the shepherd of a job communicate.

========================  ==========  ====================================================
file                      written by  content
========================  ==========  ====================================================
``job.json``              service     the job to run: `JobOrder`
``script``                service     the job's script, as it was when the job was submitted
``started.json``          shepherd    its pid, start time and boot: `ShepherdStart`
``usage.json``            shepherd    the last sample: figures and processes
``cancel``                service     exists when the job is to be ended
``result.json``           shepherd    the end of the job: `Result`
``shepherd.log``          shepherd    the traceback, if the shepherd ever fails
========================  ==========  ====================================================

A shepherd outlives the service that started it, so a newer version reads what an older one
writes: fields may be added, never removed or given another meaning. Standard library only.
"""

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import NotRequired, TypedDict, cast

__all__ = [
    "CANCEL",
    "LOG",
    "RESULT",
    "SCRIPT",
    "STARTED",
    "USAGE",
    "JobOrder",
    "Result",
    "Sample",
    "ShepherdStart",
    "encode_path",
    "make_run_directory",
    "read_order",
    "read_result",
    "read_sample",
    "read_started",
    "remove_run_directory",
    "remove_tree",
    "write_json",
]

_JOB = "job.json"
SCRIPT = "script"
STARTED = "started.json"
USAGE = "usage.json"
CANCEL = "cancel"
RESULT = "result.json"
LOG = "shepherd.log"


class JobOrder(TypedDict):
    """A job for a shepherd to run. Text is UTF-8, other bytes are surrogate escapes.

    ``cgroup`` is the directory of the job's control group, to be made by the shepherd. ``shell``
    runs a script without a ``#!`` line. ``folder`` is the job's own, to be removed at its end: it
    holds its temporary files and the list of its hosts.
    """

    args: list[str]
    environment: dict[str, str]
    working_directory: str
    stdout_path: str
    stderr_path: str
    wall_time_limit_seconds: float | None
    memory_limit_bytes: float | None
    grace_seconds: float
    cgroup: NotRequired[str | None]
    shell: NotRequired[str | None]
    folder: NotRequired[str]


class ShepherdStart(TypedDict):
    """The identity of a shepherd, and the start of its job.

    ``start_time`` is in seconds since the epoch, ``began`` is the same moment by the monotonic
    clock of this boot, which cannot be set.
    """

    pid: int
    start_ticks: int
    boot_id: str
    start_time: float
    began: NotRequired[float]


class Sample(TypedDict):
    """The resources that the job has used until ``sampled_at``."""

    cpu_seconds: float
    memory_byte_seconds: float | None
    memory_bytes: float | None
    max_memory_bytes: float
    io_bytes: float
    io_wait_seconds: NotRequired[float | None]
    sampled_at: float
    processes: list[tuple[int, int]]


class Result(TypedDict):
    """The end of a job; ``failure_kind`` is a `hpcq.domain.states.FailureKind` or None."""

    exit_code: int | None
    exit_signal: int | None
    failure_kind: str | None
    reason: str | None
    start_time: float | None
    end_time: float
    usage: Sample | None


def write_json(path: Path, content: object, *, durable: bool) -> None:
    """Write a file so that it is seen whole or not at all.

    Args:
        path: the file.
        content: an object that ``json`` can write.
        durable: whether it has to survive the machine losing power right after.
    """
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="ascii", closefd=False) as file:
            json.dump(content, file)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
    if durable:
        _sync_directory(path.parent)


def _read_json(path: Path) -> object | None:
    """Return the content of a file that `write_json` wrote; None if there is none.

    A file that was not made durable may be empty after the machine lost power: that is none.
    """
    try:
        content: object = json.loads(path.read_text("ascii"))
    except (FileNotFoundError, ValueError):
        return None
    return content


def read_order(directory: Path) -> JobOrder | None:
    """Return the job that a run directory is for."""
    return cast(JobOrder | None, _read_json(directory / _JOB))


def read_started(directory: Path) -> ShepherdStart | None:
    """Return the shepherd of a run directory; None if there never was one."""
    return cast(ShepherdStart | None, _read_json(directory / STARTED))


def read_sample(directory: Path) -> Sample | None:
    """Return the last sample of a run directory."""
    return cast(Sample | None, _read_json(directory / USAGE))


def read_result(directory: Path) -> Result | None:
    """Return the result of a run directory; None as long as there is none."""
    return cast(Result | None, _read_json(directory / RESULT))


def make_run_directory(directory: Path, order: JobOrder, script: bytes) -> None:
    """Make the run directory that a shepherd needs."""
    directory.mkdir(mode=0o700)
    path = directory / SCRIPT
    path.write_bytes(script)
    path.chmod(0o700)
    (directory / _JOB).write_text(json.dumps(order), "ascii")


def remove_run_directory(directory: Path) -> None:
    """Remove a run directory, and the job's own folder if its shepherd could not."""
    order = read_order(directory)
    if order is not None and "folder" in order:
        remove_tree(encode_path(order["folder"]))
    shutil.rmtree(directory, ignore_errors=True)


def encode_path(path: str) -> bytes:
    """Return a path in the system's bytes, whatever the locale; text is UTF-8."""
    return path.encode("utf-8", "surrogateescape")


def remove_tree(path: bytes) -> None:
    """Remove a folder and all in it, as far as that is allowed; follow no link."""
    shutil.rmtree(path, ignore_errors=True)
    if os.path.lexists(path):
        # Some programs make folders that they may not write themselves, as Go does for modules.
        with contextlib.suppress(OSError, RecursionError):
            _unlock(path)
        shutil.rmtree(path, ignore_errors=True)


def _unlock(path: bytes) -> None:
    os.chmod(path, 0o700)
    for entry in os.scandir(path):
        if entry.is_dir(follow_symlinks=False):
            _unlock(entry.path)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
