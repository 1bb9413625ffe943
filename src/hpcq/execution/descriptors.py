"""Open files: how many this process may have, and the end of those that it does not want.

The limit is all that the system allows for this process, and the old one for others.
"""

import contextlib
import os
import resource
import shutil
from collections.abc import Iterable

__all__ = ["RESERVED", "close_all", "raise_limit", "with_own_limit"]

RESERVED = 256
"""The open files that connections leave to the service's own work."""

_NAME = resource.RLIMIT_NOFILE
_prefix: tuple[str, ...] = ()


def raise_limit() -> int:
    """Let this process open as many files as the hard limit allows; return how many.

    Schedulers hand the limit on to jobs, and programs that call ``select`` misbehave above 1024:
    `with_own_limit` starts others with the limit that the service began with. Without
    ``prlimit(1)`` this is not possible, and the limit stays as it is.
    """
    global _prefix
    soft, hard = resource.getrlimit(_NAME)
    prlimit = shutil.which("prlimit", path="/usr/bin:/bin")
    if soft == hard or prlimit is None:
        return soft
    resource.setrlimit(_NAME, (hard, hard))
    _prefix = (prlimit, f"--nofile={soft}:{hard}")
    return hard


def with_own_limit(argv: list[str]) -> list[str]:
    """Return a command that runs ``argv`` with the limit from before `raise_limit`."""
    return [*_prefix, *argv]


def close_all(descriptors: Iterable[int]) -> None:
    """Close descriptors, whatever becomes of one of them."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
