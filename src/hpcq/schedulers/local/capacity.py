"""How many CPUs this process may use: the slots of LOCAL unless the site says otherwise."""

import os
from collections.abc import Iterator
from pathlib import Path

from hpcq.schedulers.local.hierarchy import NoGroup, own_group

__all__ = ["count_usable_cpus"]


def count_usable_cpus(process: Path = Path("/proc/self")) -> int:
    """Return how many CPUs this process may use, at least 1.

    The CPUs that it may run on (``taskset``, ``cpuset``), or fewer when a control group, its own
    or one above, has a quota of CPU time (``CPUQuota=``, ``docker run --cpus``). Parts of a CPU
    do not count: a quota of 2.5 CPUs is two.

    Args:
        process: its directory in ``/proc``.
    """
    quotas = (int(quota) for quota in _quotas(process))
    return max(1, min((len(os.sched_getaffinity(0)), *quotas)))


def _quotas(process: Path) -> Iterator[float]:
    """Yield the quotas of the process's groups, in CPUs."""
    for folder in _groups(process, None):
        # cgroup-v2.rst: "$MAX $PERIOD", and the word "max" for no quota.
        yield from _quota(*_words(folder / "cpu.max"))
    for folder in _groups(process, "cpu"):
        # sched-bwc.rst: -1 for no quota.
        yield from _quota(
            *_words(folder / "cpu.cfs_quota_us"), *_words(folder / "cpu.cfs_period_us")
        )


def _groups(process: Path, controller: str | None) -> Iterator[Path]:
    try:
        path = own_group(process, controller).path
    except (NoGroup, OSError):
        return
    # Above the mount point there are no such files.
    yield from (path, *path.parents)


def _quota(quota: str = "max", period: str = "0") -> Iterator[float]:
    if quota.isdecimal() and period.isdecimal() and int(period) > 0:
        yield int(quota) / int(period)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text("ascii").split()[:2]
    except OSError:
        return []
