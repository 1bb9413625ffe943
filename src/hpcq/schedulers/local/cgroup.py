"""The control group (cgroup v2) of one job: its figures, its memory limit, its end.

The core files, ``cpu.stat``, ``cgroup.procs`` and ``cgroup.kill`` (Linux 5.14), are in every group;
``memory.*`` and ``io.stat`` are there where `hpcq.schedulers.local.delegation` could switch on the
controller. A figure whose file is missing is None, and the caller has another way to it. See
Documentation/admin-guide/cgroup-v2.rst of the kernel. Standard library only.
"""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

__all__ = ["Figures", "Leaf", "flat_keyed", "nested_total", "remove_group", "write"]

_KILL = "cgroup.kill"
_PROCESSES = "cgroup.procs"


class Figures(NamedTuple):
    """What all processes that ever were in a group have used; None where nothing tells.

    Attributes:
        cpu_seconds: user and system time, exact, processes nobody waited for included.
        memory_bytes: charged now, without page cache that the kernel can drop.
        max_memory_bytes: the most that ever was, without such cache as far as it was seen.
        io_bytes: read from and written to block devices.
    """

    cpu_seconds: float | None = None
    memory_bytes: float | None = None
    max_memory_bytes: float | None = None
    io_bytes: float | None = None


class Leaf:
    """A job's group. Made by its shepherd, which stays outside."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held_bytes = self._cache_bytes = 0
        self._limit_bytes: float | None = None
        # The file of the controller instance that has counted from the start. When the controller
        # is switched off this descriptor is dead, and stays so when it is switched on again.
        self._memory = _open(path / "memory.current")

    @classmethod
    def make(cls, path: Path, limit_bytes: float | None) -> Self | None:
        """Make a group, with a memory limit where there is the controller; None if it cannot be."""
        try:
            path.mkdir(0o755, exist_ok=True)
        except OSError:
            return None
        leaf = cls(path)
        leaf._set_up_memory(limit_bytes)
        return leaf

    @property
    def limits_memory(self) -> bool:
        """Whether the kernel keeps the job below its memory limit."""
        return self._limit_bytes is not None and self._memory is not None

    def join(self) -> None:
        """Move the calling process into the group. Takes the kernel about 10 ms.

        Raises:
            OSError: it stays where it is.
        """
        write(self.path / _PROCESSES, "0")

    def members(self) -> list[int]:
        """Return the pids of the processes in the group."""
        # A process of another pid namespace is told as 0.
        return [int(pid) for pid in _read(self.path / _PROCESSES).split() if pid != "0"]

    def kill(self) -> None:
        """Kill all processes at once, set-user-ID ones included, if the kernel can."""
        with contextlib.suppress(OSError):
            write(self.path / _KILL, "1")

    def figures(self) -> Figures:
        """Return what the job has used."""
        cpu = flat_keyed(_read(self.path / "cpu.stat")).get("usage_usec")
        io = _read(self.path / "io.stat")
        held, peak = self._memory_figures()
        return Figures(
            cpu_seconds=None if cpu is None else cpu / 1e6,
            memory_bytes=held,
            max_memory_bytes=peak,
            io_bytes=nested_total(io, ("rbytes", "wbytes")) if io else None,
        )

    def out_of_memory(self) -> str | None:
        """Return why the kernel killed the job for want of memory, in a sentence; None if not."""
        events = flat_keyed(_read(self.path / "memory.events"))
        if not events.get("oom_kill"):
            return None
        # "oom" counts how often this group's own limit was hit, "oom_kill" the kills for any cause.
        if self._limit_bytes is not None and events.get("oom"):
            return f"It used more than its memory limit of {self._limit_bytes:.0f} bytes."
        return "The kernel ended it because the machine ran out of memory."

    def remove(self) -> None:
        """Remove the group once no process is in it."""
        if self._memory is not None:
            os.close(self._memory)
            self._memory = None
        remove_group(self.path)

    def _set_up_memory(self, limit_bytes: float | None) -> None:
        if self._memory is None:
            return
        # A kill for want of memory ends the whole job, not one process that the rest waits for.
        with contextlib.suppress(OSError):
            write(self.path / "memory.oom.group", "1")
        if limit_bytes is None:
            return
        with contextlib.suppress(OSError):
            write(self.path / "memory.max", f"{limit_bytes:.0f}")
            self._limit_bytes = limit_bytes
        # Not there on a kernel without swap.
        with contextlib.suppress(OSError):
            write(self.path / "memory.swap.max", "0")

    def _memory_figures(self) -> tuple[float | None, float | None]:
        current = self._current_bytes()
        if current is None:
            return None, None
        stat = flat_keyed(_read(self.path / "memory.stat"))
        # "file" counts shared memory too, which cannot be dropped.
        cache = min(current, max(0, stat.get("file", 0) - stat.get("shmem", 0)))
        self._cache_bytes = max(self._cache_bytes, cache)
        self._held_bytes = max(self._held_bytes, current - cache)
        # At its peak the group held at most as much cache as was ever seen, if none went unseen.
        peak = _read(self.path / "memory.peak").strip()
        without_cache = int(peak) - self._cache_bytes if peak.isdecimal() else 0
        return float(current - cache), float(max(self._held_bytes, without_cache))

    def _current_bytes(self) -> int | None:
        if self._memory is None:
            return None
        try:
            return int(os.pread(self._memory, 32, 0))
        except (OSError, ValueError):
            # The controller was switched off; if it comes back it will not know what was before.
            os.close(self._memory)
            self._memory = None
            return None


def flat_keyed(text: str) -> dict[str, int]:
    """Return the content of a flat keyed file: ``cpu.stat``, ``memory.stat``, ``memory.events``."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def nested_total(text: str, keys: tuple[str, ...]) -> int:
    """Return the sum of these keys over all lines of a nested keyed file (``io.stat``)."""
    total = 0
    for line in text.splitlines():
        values: Mapping[str, str] = dict(
            word.split("=", 1) for word in line.split()[1:] if "=" in word
        )
        total += sum(int(values[key]) for key in keys if values.get(key, "").isdecimal())
    return total


def write(path: Path, text: str) -> None:
    """Write a file of the kernel, in one piece.

    Raises:
        OSError: the kernel refused.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode("ascii"))
    finally:
        os.close(descriptor)


def remove_group(path: Path) -> None:
    """Remove a group and those that were made below it; those that hold processes stay."""
    for directory, _, _ in os.walk(path, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)


def _open(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except OSError:
        return ""
