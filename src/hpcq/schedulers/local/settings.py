"""The settings of LOCAL, and the number of CPUs that is the default number of its slots."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from hpcq.schedulers.local.cgroup import CgroupNotFound, find_cgroup
from hpcq.settings import Section, setting

__all__ = ["LocalSettings", "count_usable_cpus"]


def count_usable_cpus(process: Path = Path("/proc/self")) -> int:
    """Count the CPUs that this process may use; at least 1.

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
        path = find_cgroup(process, controller).path
    except (CgroupNotFound, OSError):
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


class LocalSettings(Section):
    """The number of slots, and the grace period of cancelled jobs."""

    internal_scheduler_max_slots: Annotated[int, Field(ge=1, le=10**6)] = setting(
        count_usable_cpus,
        "LOCAL: the number of slots.",
        allowed="a whole number from 1 to 1000000",
        example="16",
        shown="the CPUs that the service may use",
    )
    cancel_grace_seconds: Annotated[float, Field(ge=0, le=10**9, allow_inf_nan=False)] = setting(
        10.0,
        "LOCAL: the time that a cancelled job gets between TERM and KILL.",
        allowed="seconds, at least 0",
        example="60",
    )
