"""The run directory: what the service and the shepherd of one job tell each other on disk.

========================  ==========  ====================================================
file                      written by  content
========================  ==========  ====================================================
``job.json``              service     what to run: `Order`
``script``                service     the job's script, as it was when the job was submitted
``started.json``          shepherd    its pid, start time and boot: `Started`
``usage.json``            shepherd    the last sample: figures and processes
``cancel``                service     exists when the job is to be ended
``result.json``           shepherd    how it ended: `Result`
``shepherd.log``          shepherd    why it broke, if it ever does
========================  ==========  ====================================================

A shepherd outlives the service that started it, so a newer version reads what an older one
writes: fields may be added, never removed or given another meaning. Standard library only.
"""

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import NotRequired, TypedDict

__all__ = [
    "CANCEL",
    "JOB",
    "LOG",
    "RESULT",
    "SCRIPT",
    "STARTED",
    "USAGE",
    "Order",
    "Result",
    "Sample",
    "Started",
    "encode_path",
    "read_json",
    "remove_tree",
    "write_json",
]

JOB = "job.json"
SCRIPT = "script"
STARTED = "started.json"
USAGE = "usage.json"
CANCEL = "cancel"
RESULT = "result.json"
LOG = "shepherd.log"


class Order(TypedDict):
    """What a shepherd is to run. Text is UTF-8, other bytes as surrogate escapes.

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


class Started(TypedDict):
    """Who the shepherd is.

    ``start_time`` is in seconds since the epoch, ``began`` the same moment by the monotonic clock
    of this boot, which nobody sets.
    """

    pid: int
    start_ticks: int
    boot_id: str
    start_time: float
    began: NotRequired[float]


class Sample(TypedDict):
    """What the job has used until ``sampled_at``."""

    cpu_seconds: float
    memory_byte_seconds: float | None
    memory_bytes: float | None
    max_memory_bytes: float
    io_bytes: float
    io_wait_seconds: NotRequired[float | None]
    sampled_at: float
    processes: list[tuple[int, int]]


class Result(TypedDict):
    """How the job ended; ``failure_kind`` is a `hpcq.domain.states.FailureKind` or None."""

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
        content: what ``json`` takes.
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


def read_json(path: Path) -> object | None:
    """Return the content of a file that `write_json` wrote; None if there is none.

    A file that was not made durable may be empty after the machine lost power: that is none.
    """
    try:
        content: object = json.loads(path.read_text("ascii"))
    except (FileNotFoundError, ValueError):
        return None
    return content


def encode_path(path: str) -> bytes:
    """Return a path as the system knows it, whatever the locale; text is UTF-8."""
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
