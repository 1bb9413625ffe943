"""The run directory: the files through which the service and the shepherd of a job communicate.

========================  ==========  ====================================================
file                      written by  content
========================  ==========  ====================================================
``job.json``              service     the job to run: `JobOrder`
``report.json``           shepherd    the last sample, at the end the result: `Report`
``shepherd.log``          shepherd    the traceback, if the shepherd ever fails
========================  ==========  ====================================================

A job that runs as the account of the service may remove or change all of them. So both sides open
the report before the job starts, and use no path afterwards; the job's script lies elsewhere, and
nothing that a job is given leads here. The service believes none of it: see `report`.

A shepherd outlives the service that started it, so a newer version reads what an older one
writes: fields may be added, never removed or given another meaning. Standard library only.
"""

import contextlib
import json
import os
import shutil
import stat
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from hpcq.schedulers.local.accounts import AccountIds

__all__ = [
    "LOG",
    "LONGEST_REPORT_BYTES",
    "REPORT",
    "REPORT_DESCRIPTOR",
    "JobOrder",
    "Report",
    "Result",
    "ShepherdStart",
    "UsageSample",
    "encode_path",
    "make_run_directory",
    "open_regular",
    "read_order",
    "remove_tree",
    "write_report",
]

_JOB = "job.json"
REPORT = "report.json"
LOG = "shepherd.log"

REPORT_DESCRIPTOR = 90
"""The descriptor of the report in a shepherd: a next service finds the file by it."""

LONGEST_REPORT_BYTES = 4 << 20


class JobOrder(TypedDict):
    """A job for a shepherd to run. Text is UTF-8, other bytes are surrogate escapes.

    ``script`` is a copy of the job's script, as it was when the job was submitted. ``cgroup`` is
    the directory of the job's control group, to be made by the shepherd. ``shell`` runs a script
    without a ``#!`` line. ``folder`` is the job's own, to be removed at its end: it holds its
    temporary files and the list of its hosts. With ``account`` the job runs as that, and its script
    lies in ``folder``, see `job_folder`.
    """

    args: list[str]
    environment: dict[str, str]
    working_directory: str
    script: str
    stdout_path: str
    stderr_path: str
    wall_time_limit_seconds: float | None
    memory_limit_bytes: float | None
    grace_seconds: float
    cgroup: NotRequired[str | None]
    shell: NotRequired[str | None]
    folder: NotRequired[str]
    account: NotRequired[AccountIds]


class ShepherdStart(TypedDict):
    """The identity of a shepherd, and the start of its job.

    ``start_time`` is in seconds since the epoch, ``began`` is the same moment by the monotonic
    clock of this boot, which cannot be set. ``folder`` is as in `JobOrder`. With
    ``passes_signals_on`` the shepherd knows `hpcq.schedulers.local.shepherd.PASS_ON`.
    """

    pid: int
    start_ticks: int
    boot_id: str
    start_time: float
    began: NotRequired[float]
    folder: NotRequired[str]
    passes_signals_on: NotRequired[bool]


class UsageSample(TypedDict):
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
    """The end of a job.

    ``failure_kind`` is a `hpcq.domain.states.FailureKind` or None; ``reason_code`` is a
    `hpcq.domain.states.ReasonCode`, never given by a shepherd.
    """

    exit_code: int | None
    exit_signal: int | None
    failure_kind: str | None
    reason: str | None
    start_time: float | None
    end_time: float
    usage: UsageSample | None
    reason_code: NotRequired[str]


class Report(TypedDict, total=False):
    """The content of ``report.json``: nothing, the last sample, or the result."""

    sample: UsageSample
    result: Result


def write_report(descriptor: int, report: Report, *, durable: bool) -> None:
    """Write a report over the one before it.

    Args:
        descriptor: of ``report.json``.
        report: the new content.
        durable: whether it has to survive the machine losing power right after.
    """
    content = json.dumps(report).encode("ascii")
    before = os.fstat(descriptor).st_size
    if before > LONGEST_REPORT_BYTES:
        # The job has written into it.
        os.ftruncate(descriptor, 0)
    else:
        # Blanks cover the rest of a longer one, so that a reader finds one document at each moment.
        content = content.ljust(before)
    written = 0
    while written < len(content):
        written += os.pwrite(descriptor, content[written:], written)
    os.ftruncate(descriptor, len(content.rstrip()))
    if durable:
        os.fsync(descriptor)


def read_order(directory: Path) -> JobOrder:
    """Return the job that a run directory is for. To be called before the job starts."""
    return cast(JobOrder, json.loads((directory / _JOB).read_text("ascii")))


def make_run_directory(directory: Path, order: JobOrder, script: bytes | None) -> int:
    """Make the run directory that a shepherd needs.

    Args:
        directory: to be made.
        order: the job.
        script: the content of its script, to be copied; None if the copy is there.

    Returns:
        A descriptor of the empty report.
    """
    directory.mkdir(mode=0o700)
    if script is not None:
        path = Path(os.fsdecode(encode_path(order["script"])))
        path.parent.mkdir(mode=0o700)
        path.write_bytes(script)
        path.chmod(0o700)
    (directory / _JOB).write_text(json.dumps(order), "ascii")
    new = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.open(directory / REPORT, new, 0o600)


def open_regular(path: str | Path, flags: int = os.O_RDONLY) -> int:
    """Open a regular file of this account, and nothing that could block or lead elsewhere.

    Raises:
        OSError: there is no such file.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        os.close(descriptor)
        raise FileNotFoundError(f"{str(path)!r} is not a file of this account.")
    return descriptor


def encode_path(path: str) -> bytes:
    """Return a path in the system's bytes, whatever the locale; text is UTF-8."""
    return path.encode("utf-8", "surrogateescape")


def remove_tree(path: bytes) -> None:
    """Remove a file or a folder and all in it, as far as that is allowed; follow no link."""
    with contextlib.suppress(OSError):
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
    # A folder too deep for us stays.
    with contextlib.suppress(RecursionError):
        shutil.rmtree(path, ignore_errors=True)
        if os.path.lexists(path):
            # Some programs make folders that they may not write themselves, as Go for modules.
            with contextlib.suppress(OSError):
                _unlock(path, None)
            shutil.rmtree(path, ignore_errors=True)


def _unlock(name: bytes | str, parent: int | None) -> None:
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    found = os.open(name, flags, dir_fd=parent)
    folder = None
    try:
        os.chmod(f"/proc/self/fd/{found}", 0o700)
        folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=found)
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    _unlock(entry.name, folder)
    finally:
        os.close(found)
        if folder is not None:
            os.close(folder)
