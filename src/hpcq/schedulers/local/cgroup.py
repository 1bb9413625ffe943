"""Control groups: the group of a process, and the group (cgroup v2) of one job.

A job's group gives its figures, its memory limit and a way to end all its processes. The core
files, ``cpu.stat``, ``cgroup.procs``, ``cgroup.freeze`` (Linux 5.2) and ``cgroup.kill`` (5.14), are
in every group;
``memory.*`` and ``io.stat`` are there where `hpcq.schedulers.local.cgroup_setup` could switch on
the controller. A figure with a missing file is None, and the caller has another source for it. See
Documentation/admin-guide/cgroup-v2.rst of the kernel. Standard library only.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Self

__all__ = [
    "CgroupNotFound",
    "CgroupUsage",
    "JobCgroup",
    "ProcessCgroup",
    "find_cgroup",
    "flat_keyed",
    "nested_total",
    "remove_cgroup",
    "write",
]

_KILL = "cgroup.kill"
_FREEZE = "cgroup.freeze"
_PROCESSES = "cgroup.procs"


class CgroupUsage(NamedTuple):
    """Resources used by all processes that ever were in a group; None where a file is missing.

    Attributes:
        cpu_seconds: user and system time, exact, also of processes that were not waited for.
        memory_bytes: memory charged now, without page cache that the kernel can drop.
        max_memory_bytes: the highest memory so far, without such cache as far as it was seen.
        io_bytes: bytes read from and written to block devices.
    """

    cpu_seconds: float | None = None
    memory_bytes: float | None = None
    max_memory_bytes: float | None = None
    io_bytes: float | None = None


class JobCgroup:
    """The group of one job. Its shepherd makes it and stays outside."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held_bytes = self._cache_bytes = 0
        self._limit_bytes: float | None = None
        # The file of the controller instance that has counted from the start. When the controller
        # is switched off this descriptor is dead, and stays so when it is switched on again.
        self._memory = _open(path / "memory.current")

    @classmethod
    def make(cls, path: Path, limit_bytes: float | None) -> Self | None:
        """Make a group, with a memory limit if the controller is on; None if it cannot be made."""
        try:
            path.mkdir(0o755, exist_ok=True)
        except OSError:
            return None
        group = cls(path)
        group._set_up_memory(limit_bytes)
        return group

    @property
    def limits_memory(self) -> bool:
        """True if the kernel keeps the job below its memory limit."""
        return self._limit_bytes is not None and self._memory is not None

    def join(self) -> None:
        """Move the calling process into the group. Takes the kernel about 10 ms.

        Raises:
            OSError: it stays where it is.
        """
        write(self.path / _PROCESSES, "0")

    def members(self) -> list[int]:
        """Return the pids of the processes in the group."""
        # The kernel writes a process of another pid namespace as 0.
        return [int(pid) for pid in _read(self.path / _PROCESSES).split() if pid != "0"]

    def kill(self) -> None:
        """Kill all processes at once, set-user-ID ones included, if the kernel can."""
        with contextlib.suppress(OSError):
            write(self.path / _KILL, "1")

    def freeze(self, is_frozen: bool) -> None:
        """Stop all processes, set-user-ID ones included, or let them go on, if the kernel can."""
        with contextlib.suppress(OSError):
            write(self.path / _FREEZE, "1" if is_frozen else "0")

    def usage(self) -> CgroupUsage:
        """Return the resources that the job has used."""
        cpu = flat_keyed(_read(self.path / "cpu.stat")).get("usage_usec")
        io = _read(self.path / "io.stat")
        held, peak = self._memory_usage()
        return CgroupUsage(
            cpu_seconds=None if cpu is None else cpu / 1e6,
            memory_bytes=held,
            max_memory_bytes=peak,
            io_bytes=nested_total(io, ("rbytes", "wbytes")) if io else None,
        )

    def out_of_memory(self) -> str | None:
        """Return the reason for an out-of-memory kill, in a sentence; None if there was none."""
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
        remove_cgroup(self.path)

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

    def _memory_usage(self) -> tuple[float | None, float | None]:
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
            # The controller was switched off; when it comes back its count begins anew.
            os.close(self._memory)
            self._memory = None
            return None


class CgroupNotFound(Exception):
    """The group of a process cannot be seen; the message is a sentence that says why."""


class ProcessCgroup(NamedTuple):
    """The control group of a process.

    Attributes:
        path: its directory.
        name: its path as the kernel gives it, ``/`` for the top of what can be seen.
    """

    path: Path
    name: str


def find_cgroup(process: Path, controller: str | None = None) -> ProcessCgroup:
    """Return the group of a process.

    Args:
        process: its directory in ``/proc``.
        controller: a controller of cgroup v1, for its tree; None for the one tree of v2.

    Raises:
        CgroupNotFound: there is no such tree, or its group cannot be seen.
    """
    version = "v2" if controller is None else f"v1 with {controller!r}"
    name = _cgroup_name((process / "cgroup").read_text("utf-8", "surrogateescape"), controller)
    if name is None:
        raise CgroupNotFound(f"This kernel has no cgroup {version}.")
    mounts = (process / "mountinfo").read_text("utf-8", "surrogateescape")
    for root, point in _cgroup_mounts(mounts, controller):
        path = Path(os.path.normpath(f"{point}/{os.path.relpath(name, root)}"))
        # The kernel writes a group outside the namespace's own as "/../…".
        is_below = os.path.commonpath((root, name)) == root and ".." not in name.split("/")
        if is_below and path.is_dir():
            return ProcessCgroup(path, name)
    raise CgroupNotFound(
        f"The cgroup {version} tree is not mounted where this service can see its group."
    )


def _cgroup_name(text: str, controller: str | None) -> str | None:
    # proc_pid_cgroup(5): ID:CONTROLLER,CONTROLLER:PATH, and 0::PATH for v2.
    for line in text.splitlines():
        number, controllers, name = line.split(":", 2)
        if number == "0" if controller is None else controller in controllers.split(","):
            return name
    return None


def _cgroup_mounts(text: str, controller: str | None) -> Iterator[tuple[str, str]]:
    """Yield the root and the mount point of each mount of a tree, see proc_pid_mountinfo(5)."""
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        is_wanted = (
            kind == "cgroup2"
            if controller is None
            else kind == "cgroup" and controller in options.split(",")
        )
        if is_wanted:
            root, point = before.split(" ")[3:5]
            yield _unescape(root), _unescape(point)


def _unescape(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


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


def remove_cgroup(path: Path) -> None:
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
