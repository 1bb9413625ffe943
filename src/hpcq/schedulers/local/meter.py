"""What a job uses, measured by its shepherd. Standard library only."""

import resource
import time
from collections.abc import Sequence

from hpcq.schedulers.local.cgroup import Figures, Leaf
from hpcq.schedulers.local.files import Sample
from hpcq.schedulers.local.processes import (
    Process,
    children_io_bytes,
    measure,
    proportional_memory,
)

__all__ = ["Meter"]


class Meter:
    """Adds up what the processes of one job use. Lives in the process that waits for them.

    Each figure comes from the job's control group where that has it, else from its processes.
    """

    def __init__(self, leaf: Leaf | None = None) -> None:
        self._leaf = leaf
        self._peak_bytes = 0.0
        self._byte_seconds: float | None = None
        self._cpu_seconds = 0.0

    def sample(self, processes: Sequence[Process]) -> Sample:
        """Return what the job has used so far, given its living processes."""
        seen, group = measure(processes), self._figures()
        cpu_seconds = _either(group.cpu_seconds, seen.cpu_seconds + _waited_for_cpu_seconds())
        memory_bytes = _either(group.memory_bytes, seen.memory_bytes)
        self._add(cpu_seconds, memory_bytes, group.max_memory_bytes or 0)
        return Sample(
            cpu_seconds=cpu_seconds,
            memory_byte_seconds=self._byte_seconds,
            memory_bytes=memory_bytes,
            max_memory_bytes=self._peak_bytes,
            io_bytes=_io_bytes(seen.io_bytes + children_io_bytes(), group),
            sampled_at=time.time(),
            processes=[(process.pid, process.start_ticks) for process in processes],
        )

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
            memory_bytes=None,
            max_memory_bytes=max(self._peak_bytes, _either(group.max_memory_bytes, largest)),
            io_bytes=_io_bytes(children_io_bytes(), group),
            sampled_at=time.time(),
            processes=[],
        )

    def _figures(self) -> Figures:
        return Figures() if self._leaf is None else self._leaf.figures()

    def _add(self, cpu_seconds: float, memory_bytes: float, peak_bytes: float) -> None:
        grown = max(0.0, cpu_seconds - self._cpu_seconds)
        self._byte_seconds = (self._byte_seconds or 0.0) + grown * memory_bytes
        self._cpu_seconds = max(self._cpu_seconds, cpu_seconds)
        self._peak_bytes = max(self._peak_bytes, memory_bytes, peak_bytes)


def _either(of_group: float | None, of_processes: float) -> float:
    return of_processes if of_group is None else of_group


def _io_bytes(of_processes: int, group: Figures) -> float:
    # What read() and write() moved includes network file systems, which io.stat does not know;
    # io.stat includes mapped files. Neither is too much, so the larger is nearer to the truth.
    return max(of_processes, group.io_bytes or 0)


def _waited_for_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
