"""What a job uses, measured by its shepherd. Standard library only."""

import resource
import time
from collections.abc import Sequence

from hpcq.schedulers.local.files import Sample
from hpcq.schedulers.local.processes import (
    Measure,
    Process,
    children_io_bytes,
    measure,
    proportional_memory,
)

__all__ = ["Meter"]


class Meter:
    """Adds up what the processes of one job use. Lives in the process that waits for them."""

    def __init__(self) -> None:
        self._peak_bytes = 0.0
        self._byte_seconds: float | None = None
        self._cpu_seconds = 0.0

    def sample(self, processes: Sequence[Process]) -> Sample:
        """Return what the job has used so far, given its living processes."""
        seen = measure(processes)
        cpu_seconds = seen.cpu_seconds + _waited_for_cpu_seconds()
        self._add(cpu_seconds, seen)
        return Sample(
            cpu_seconds=cpu_seconds,
            memory_byte_seconds=self._byte_seconds,
            memory_bytes=seen.memory_bytes,
            max_memory_bytes=self._peak_bytes,
            io_bytes=seen.io_bytes + children_io_bytes(),
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

        The peak is at least that of the largest single process, to which the kernel also counts
        the moment before it became the script's program (about 10 MB).
        """
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        return Sample(
            cpu_seconds=_waited_for_cpu_seconds(),
            memory_byte_seconds=self._byte_seconds,
            memory_bytes=None,
            max_memory_bytes=max(self._peak_bytes, largest),
            io_bytes=children_io_bytes(),
            sampled_at=time.time(),
            processes=[],
        )

    def _add(self, cpu_seconds: float, seen: Measure) -> None:
        grown = max(0.0, cpu_seconds - self._cpu_seconds)
        self._byte_seconds = (self._byte_seconds or 0.0) + grown * seen.memory_bytes
        self._cpu_seconds = max(self._cpu_seconds, cpu_seconds)
        self._peak_bytes = max(self._peak_bytes, seen.memory_bytes)


def _waited_for_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
