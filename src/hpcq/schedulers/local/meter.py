"""What a job uses, measured by its shepherd. Standard library only."""

import resource
import time
from collections.abc import Callable, Sequence

from hpcq.schedulers.local.cgroup import Figures, Leaf
from hpcq.schedulers.local.files import Sample
from hpcq.schedulers.local.processes import (
    Process,
    children_io_bytes,
    counts_io_wait,
    identify,
    io_wait_seconds,
    measure,
    proportional_memory,
)

__all__ = ["Meter"]


class Meter:
    """Adds up what the processes of one job use. Lives in the process that waits for them.

    Each figure comes from the job's control group where that has it, else from its processes.

    Args:
        leaf: the job's control group.
        now: the present, in seconds since the epoch.
    """

    def __init__(self, leaf: Leaf | None = None, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._leaf = leaf
        self._waits: _Waits | None = _Waits() if counts_io_wait() else None
        self._peak_bytes = 0.0
        self._byte_seconds: float | None = None
        self._cpu_seconds = 0.0

    def sample(self, processes: Sequence[Process]) -> Sample:
        """Return what the job has used so far, given its living processes."""
        seen, group = measure(processes), self._figures()
        cpu_seconds = _either(group.cpu_seconds, seen.cpu_seconds + _waited_for_cpu_seconds())
        memory_bytes = _either(group.memory_bytes, seen.memory_bytes)
        self._add(cpu_seconds, memory_bytes, group.max_memory_bytes or 0)
        if self._waits is not None:
            self._waits.see(processes)
        return Sample(
            cpu_seconds=cpu_seconds,
            memory_byte_seconds=self._byte_seconds,
            memory_bytes=memory_bytes,
            max_memory_bytes=self._peak_bytes,
            io_bytes=_io_bytes(seen.io_bytes + children_io_bytes(), group),
            io_wait_seconds=None if self._waits is None else self._waits.seconds,
            sampled_at=self._now(),
            processes=[(process.pid, process.start_ticks) for process in processes],
        )

    def see_end(self, pid: int) -> None:
        """Take note of a process that is dead and was not waited for yet."""
        process = None if self._waits is None else identify(pid)
        if self._waits is not None and process is not None:
            self._waits.see_end(process)

    def is_over(self, limit_bytes: float, seen: Sample) -> bool:
        """Return whether the job uses more memory than it may, shared pages counted once."""
        if (seen["memory_bytes"] or 0) <= limit_bytes:
            return False
        # Dear, so asked only when the cheap figure, which counts shared pages twice, is over.
        return proportional_memory(Process(*pair) for pair in seen["processes"]) > limit_bytes

    def final(self) -> Sample:
        """Return what the job has used, all its processes waited for, as the kernel says.

        Without a group that counts memory, the peak is at least that of the largest single process,
        to which the kernel also counts the moment before it became the script's program (about
        10 MB).
        """
        group = self._figures()
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        return Sample(
            cpu_seconds=_either(group.cpu_seconds, _waited_for_cpu_seconds()),
            memory_byte_seconds=self._byte_seconds,
            memory_bytes=0.0,
            max_memory_bytes=max(self._peak_bytes, _either(group.max_memory_bytes, largest)),
            io_bytes=_io_bytes(children_io_bytes(), group),
            io_wait_seconds=None if self._waits is None else self._waits.seconds,
            sampled_at=self._now(),
            processes=[],
        )

    def _figures(self) -> Figures:
        return Figures() if self._leaf is None else self._leaf.figures()

    def _add(self, cpu_seconds: float, memory_bytes: float, peak_bytes: float) -> None:
        grown = max(0.0, cpu_seconds - self._cpu_seconds)
        self._byte_seconds = (self._byte_seconds or 0.0) + grown * memory_bytes
        self._cpu_seconds = max(self._cpu_seconds, cpu_seconds)
        self._peak_bytes = max(self._peak_bytes, memory_bytes, peak_bytes)


class _Waits:
    """How long processes have waited for block devices, as far as it was seen while they lived."""

    def __init__(self) -> None:
        self._of_the_living: dict[Process, float] = {}
        self._of_the_dead = 0.0

    @property
    def seconds(self) -> float:
        return self._of_the_dead + sum(self._of_the_living.values())

    def see(self, processes: Sequence[Process]) -> None:
        before, self._of_the_living = self._of_the_living, {}
        for process in processes:
            # What its threads that have ended had waited is no longer told.
            seen = max(before.pop(process, 0.0), io_wait_seconds(process))
            self._of_the_living[process] = seen
        self._of_the_dead += sum(before.values())

    def see_end(self, process: Process) -> None:
        seen = self._of_the_living.pop(process, 0.0)
        self._of_the_dead += max(seen, io_wait_seconds(process))


def _either(of_group: float | None, of_processes: float) -> float:
    return of_processes if of_group is None else of_group


def _io_bytes(of_processes: int, group: Figures) -> float:
    # What read() and write() moved includes network file systems, which io.stat does not know;
    # io.stat includes mapped files. Neither is too much, so the larger is nearer to the truth.
    return max(of_processes, group.io_bytes or 0)


def _waited_for_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
