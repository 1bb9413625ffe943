"""Processes: the kernel's figures about them, and signals to the right one.

Standard library only: every shepherd imports this. A process is its pid *and* its start time, so
that a pid that was used again is never taken for the earlier process.
"""

import contextlib
import ctypes
import os
import signal
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "Process",
    "ProcessUsage",
    "boot_id",
    "children_io_bytes",
    "counts_io_wait",
    "descendants",
    "has_environment",
    "holders",
    "identify",
    "io_wait_seconds",
    "is_running",
    "is_stopped",
    "measure",
    "open_pidfd",
    "proportional_memory",
    "send",
]

# asm-generic/siginfo.h, and one number on all of Linux's newer system calls.
_SI_QUEUE = -1
_SIGINFO_BYTES = 128
_PIDFD_SEND_SIGNAL = 424

_libc = ctypes.CDLL(None, use_errno=True)

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

# Positions in /proc/PID/stat after the command's closing bracket, see proc_pid_stat(5).
_STATE = 0
_CPU_TICKS = slice(11, 15)
_START_TICKS = 19
_RESIDENT_PAGES = 21
_IO_WAIT_TICKS = 39


class Process(NamedTuple):
    """One process, and no later one that has the same pid."""

    pid: int
    start_ticks: int


class ProcessUsage(NamedTuple):
    """The resources that some processes use.

    Attributes:
        cpu_seconds: user and system time, with the children that they waited for.
        memory_bytes: memory resident now; shared pages count once for each process.
        io_bytes: bytes read and written, with the children that they waited for.
    """

    cpu_seconds: float
    memory_bytes: int
    io_bytes: int


def boot_id() -> str:
    """Return the id of this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def identify(pid: int) -> Process | None:
    """Return the process that has this pid now, even if it is dead and was not waited for."""
    fields = _stat(pid)
    return None if fields is None else Process(pid, int(fields[_START_TICKS]))


def is_running(process: Process) -> bool:
    """Return whether the process still runs."""
    fields = _stat(process.pid)
    return (
        fields is not None
        and int(fields[_START_TICKS]) == process.start_ticks
        and fields[_STATE] not in (b"Z", b"X")
    )


def is_stopped(process: Process) -> bool:
    """Return whether a signal has stopped the process, or a debugger holds it."""
    fields = _stat(process.pid)
    return (
        fields is not None
        and int(fields[_START_TICKS]) == process.start_ticks
        and fields[_STATE] in (b"T", b"t")
    )


def holders(descriptor: int) -> list[Process]:
    """Return all other processes of this account that have the file of a descriptor open."""
    file, me = os.fstat(descriptor), str(os.getpid())
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        # A process may end meanwhile, or belong to somebody else.
        with contextlib.suppress(OSError):
            folder = f"/proc/{pid}/fd"
            opened = (os.stat(f"{folder}/{name}") for name in os.listdir(folder))
            if pid != me and any(os.path.samestat(file, one) for one in opened):
                process = identify(int(pid))
                found += [] if process is None else [process]
    return found


def open_pidfd(process: Process) -> int | None:
    """Return a descriptor that becomes readable when the process ends; None if it has ended."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if is_running(process):
        return descriptor
    os.close(descriptor)
    return None


def send(process: Process, number: int, value: int | None = None) -> bool:
    """Send a signal to the process, never to another that has its pid; False if it has ended.

    Args:
        process: the process.
        number: the signal.
        value: for the receiver, as sigqueue(3) sends it. Such signals wait in a row if ``number``
            is a real-time signal.

    Raises:
        PermissionError: the process belongs to another account.
        OSError: no descriptor is free, or too many signals with values wait.
    """
    descriptor = open_pidfd(process)
    if descriptor is None:
        return False
    try:
        if value is None:
            signal.pidfd_send_signal(descriptor, number)
        else:
            _send_value(descriptor, number, value)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def _send_value(descriptor: int, number: int, value: int) -> None:
    # siginfo_t: number, errno and code; in a union aligned as a pointer, pid, account and value.
    content = struct.pack("iii0PiIi", number, 0, _SI_QUEUE, os.getpid(), os.getuid(), value)
    information = content.ljust(_SIGINFO_BYTES, b"\0")
    if _libc.syscall(_PIDFD_SEND_SIGNAL, descriptor, number, information, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def descendants(root: int) -> list[Process]:
    """Return all processes below this one, parents before children."""
    found: list[Process] = []
    waiting = list(_children(root))
    while waiting:
        pid = waiting.pop()
        process = identify(pid)
        if process is not None:
            found.append(process)
            waiting.extend(_children(pid))
    return found


def measure(processes: Iterable[Process]) -> ProcessUsage:
    """Return the resources that these processes use together."""
    ticks = pages = transferred = 0
    for process in processes:
        fields = _stat(process.pid)
        if fields is not None:
            ticks += sum(map(int, fields[_CPU_TICKS]))
            pages += int(fields[_RESIDENT_PAGES])
            transferred += _io_bytes(f"/proc/{process.pid}/io")
    return ProcessUsage(ticks / _TICKS_PER_SECOND, pages * _PAGE_BYTES, transferred)


def proportional_memory(processes: Iterable[Process]) -> int:
    """Return the resident memory of these processes, shared pages counted once, in bytes.

    Shared pages of a process of another account count in full where root may not look at it
    closely (without CAP_SYS_PTRACE, as in many containers).
    """
    total = 0
    for process in processes:
        lines = _read(f"/proc/{process.pid}/smaps_rollup").splitlines()
        shares = [int(line.split()[1]) * 1024 for line in lines if line.startswith(b"Pss:")]
        total += sum(shares) if shares else measure([process]).memory_bytes
    return total


def counts_io_wait() -> bool:
    """Return whether the kernel counts the time that programs wait for block devices.

    Since Linux 5.14 it does so only if ``kernel.task_delayacct`` is switched on.
    """
    return _read("/proc/sys/kernel/task_delayacct").strip() == b"1"


def io_wait_seconds(process: Process) -> float:
    """Return the time that a process's threads waited for block devices; it may be dead."""
    try:
        threads = os.listdir(f"/proc/{process.pid}/task")
    except OSError:
        return 0.0
    ticks = 0
    for thread in threads:
        fields = _fields(f"/proc/{process.pid}/task/{thread}/stat")
        ticks += 0 if fields is None else int(fields[_IO_WAIT_TICKS])
    return ticks / _TICKS_PER_SECOND


def children_io_bytes() -> int:
    """Return the bytes that children and their children read and wrote, once waited for.

    The kernel adds a child's figures to its parent's process-wide ones, not to the thread's
    (``task_io_accounting_add`` in kernel/exit.c). For single-threaded processes.
    """
    return _io_bytes("/proc/self/io") - _io_bytes("/proc/thread-self/io")


def has_environment(entry: bytes) -> list[Process]:
    """Return all processes of this machine that were started with this ``NAME=value``."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal() and entry in _read(f"/proc/{name}/environ").split(b"\0"):
            process = identify(int(name))
            if process is not None:
                found.append(process)
    return found


def _stat(pid: int) -> list[bytes] | None:
    return _fields(f"/proc/{pid}/stat")


def _fields(path: str) -> list[bytes] | None:
    text = _read(path)
    # The command may hold blanks and brackets of its own.
    return text[text.rindex(b")") + 2 :].split() if text else None


def _children(pid: int) -> Iterator[int]:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in os.listdir(f"/proc/{pid}/task"):
            yield from map(int, _read(f"/proc/{pid}/task/{task}/children").split())


def _io_bytes(path: str) -> int:
    lines = _read(path).splitlines()
    # rchar and wchar: the bytes of read() and write(), as Grid Engine counts a job's io.
    return sum(int(line.split()[1]) for line in lines[:2])


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
