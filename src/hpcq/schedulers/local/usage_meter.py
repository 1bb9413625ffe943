"""The resources that a job uses, measured by its shepherd. Standard library only."""

import resource
import time
from collections.abc import Callable, Sequence

from hpcq.schedulers.local.cgroup import CgroupUsage, JobCgroup
from hpcq.schedulers.local.files import UsageSample
from hpcq.schedulers.local.processes import (
    Process,
    children_io_bytes,
    counts_io_wait,
    identify,
    io_wait_seconds,
    measure,
    proportional_memory,
)

__all__ = ["UsageMeter"]


class UsageMeter:
    """Adds up the resources that one job uses, in the process that waits for the job's processes.

    Each figure comes from the job's control group if that has it, else from its processes.

    Args:
        group: the job's control group.
        now: returns the time, in seconds since the epoch.
    """

    def __init__(
        self, group: JobCgroup | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self._now = now
        self._group = group
        self._waits: _IoWaits | None = _IoWaits() if counts_io_wait() else None
        self._peak_bytes = 0.0
        self._byte_seconds: float | None = None
        self._cpu_seconds = 0.0

    def sample(self, processes: Sequence[Process]) -> UsageSample:
        """Return the figures of the job so far, given its living processes."""
        seen, counted = measure(processes), self._counted()
        cpu_seconds = _first_known(
            counted.cpu_seconds, seen.cpu_seconds + _waited_for_cpu_seconds()
        )
        memory_bytes = _first_known(counted.memory_bytes, seen.memory_bytes)
        self._add(cpu_seconds, memory_bytes, counted.max_memory_bytes or 0)
        if self._waits is not None:
            self._waits.see(processes)
        return UsageSample(
            cpu_seconds=cpu_seconds,
            memory_byte_seconds=self._byte_seconds,
            memory_bytes=memory_bytes,
            max_memory_bytes=self._peak_bytes,
            io_bytes=_io_bytes(seen.io_bytes + children_io_bytes(), counted),
            io_wait_seconds=None if self._waits is None else self._waits.seconds,
            sampled_at=self._now(),
            processes=[(process.pid, process.start_ticks) for process in processes],
        )

    def see_end(self, pid: int) -> None:
        """Take the last figures of a process that is dead and was not waited for yet."""
        process = None if self._waits is None else identify(pid)
        if self._waits is not None and process is not None:
            self._waits.see_end(process)

    def is_over(self, limit_bytes: float, seen: UsageSample) -> bool:
        """Return whether the job uses more memory than its limit, shared pages counted once."""
        if (seen["memory_bytes"] or 0) <= limit_bytes:
            return False
        # Slow, so asked only when the quick figure, which counts shared pages twice, is over.
        return proportional_memory(Process(*pair) for pair in seen["processes"]) > limit_bytes

    def final(self) -> UsageSample:
        """Return the kernel's figures of the job, all its processes waited for.

        Without a group that counts memory, the peak is at least that of the largest single process,
        to which the kernel also counts the moment before it became the script's program (about
        10 MB).
        """
        counted = self._counted()
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        return UsageSample(
            cpu_seconds=_first_known(counted.cpu_seconds, _waited_for_cpu_seconds()),
            memory_byte_seconds=self._byte_seconds,
            memory_bytes=0.0,
            max_memory_bytes=max(self._peak_bytes, _first_known(counted.max_memory_bytes, largest)),
            io_bytes=_io_bytes(children_io_bytes(), counted),
            io_wait_seconds=None if self._waits is None else self._waits.seconds,
            sampled_at=self._now(),
            processes=[],
        )

    def _counted(self) -> CgroupUsage:
        return CgroupUsage() if self._group is None else self._group.usage()

    def _add(self, cpu_seconds: float, memory_bytes: float, peak_bytes: float) -> None:
        grown = max(0.0, cpu_seconds - self._cpu_seconds)
        self._byte_seconds = (self._byte_seconds or 0.0) + grown * memory_bytes
        self._cpu_seconds = max(self._cpu_seconds, cpu_seconds)
        self._peak_bytes = max(self._peak_bytes, memory_bytes, peak_bytes)


class _IoWaits:
    """The time that processes waited for block devices, as far as seen while they lived."""

    def __init__(self) -> None:
        self._of_the_living: dict[Process, float] = {}
        self._of_the_dead = 0.0

    @property
    def seconds(self) -> float:
        return self._of_the_dead + sum(self._of_the_living.values())

    def see(self, processes: Sequence[Process]) -> None:
        before, self._of_the_living = self._of_the_living, {}
        for process in processes:
            # The kernel drops the waits of threads that have ended.
            seen = max(before.pop(process, 0.0), io_wait_seconds(process))
            self._of_the_living[process] = seen
        self._of_the_dead += sum(before.values())

    def see_end(self, process: Process) -> None:
        seen = self._of_the_living.pop(process, 0.0)
        self._of_the_dead += max(seen, io_wait_seconds(process))


def _first_known(counted: float | None, of_processes: float) -> float:
    return of_processes if counted is None else counted


def _io_bytes(of_processes: int, counted: CgroupUsage) -> float:
    # The bytes of read() and write() include network file systems, which io.stat does not know;
    # io.stat includes mapped files. Neither counts too much, so the larger one is nearer.
    return max(of_processes, counted.io_bytes or 0)


def _waited_for_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
