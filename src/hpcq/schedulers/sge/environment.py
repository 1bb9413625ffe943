"""Variables of a job: those that ``qsub -v`` brings unchanged, and those that it cannot."""

import re
from collections.abc import Mapping

from hpcq.domain.errors import InvalidSpec

__all__ = ["LINE_LIMIT_BYTES", "size", "split_environment"]

LINE_LIMIT_BYTES = 4000
"""What a line of the shepherd's files holds in every release; 8.1.9 cuts at 9997."""

# What ``-v`` cannot set: Grid Engine drops the first kind (its execd parameters
# ENABLE_SUBMIT_LIB_PATH and ENABLE_SUBMIT_LD_PRELOAD), and sets the others itself after it has
# read the request (submit(1), "ENVIRONMENTAL VARIABLES"; each seen on 8.1.9).
_DROPPED = re.compile(r"LD_.*|DYLD_.*|LIBPATH|IFS|ENV|BASH_ENV|TMPDIR|.*PRELOAD.*")
_SET_BY_GRID_ENGINE = re.compile(
    r"SGE_.*|GE_.*|COD(?:INE)?_.*|GRD_.*|COMMD_.*|__SGE_PREFIX__.*|PATH|HOME|USER|LOGNAME|SHELL"
    r"|PWD|MAIL|TMP|JOB_.*|TASK_.*|ARC|HOSTNAME|NHOSTS|NQUEUES|NSLOTS|QUEUE|REQNAME"
    r"|REQUEST|RESTARTED|RESERVATIONS|PE(?:_HOSTFILE)?|CKPT_.*|INHERIT_ENV|ENVIRONMENT"
)
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")

# ``-v A=1,B=2`` is cut at commas that do not stand between quotes, and the quotes stay: a quote
# in one value hides the comma before the next variable.
_SPLIT_BY_V = re.compile(r"[,'\"\\\x00-\x1f\x7f]")


def split_environment(
    environment: Mapping[str, str],
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the variables that ``-v NAME=VALUE`` brings unchanged, and the others.

    Nothing ever goes through the environment of ``qsub`` itself, so no name can influence it.

    Raises:
        InvalidSpec: a name that no environment can hold.
    """
    plain: dict[str, str] = {}
    carried: dict[str, str] = {}
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name + value:
            raise InvalidSpec(
                f"{name!r} cannot be the name of an environment variable, or its value holds a"
                " NUL character.",
                field="environment",
            )
        (plain if _survives_v(name, value) else carried)[name] = value
    return plain, carried


def size(*texts: str) -> int:
    """Return how many bytes texts take together."""
    return sum(len(text.encode("utf-8", "surrogateescape")) for text in texts)


def _survives_v(name: str, value: str) -> bool:
    return (
        _VARIABLE_NAME.fullmatch(name) is not None
        and _SPLIT_BY_V.search(value) is None
        and size(name, value) < LINE_LIMIT_BYTES
        and _DROPPED.fullmatch(name) is None
        and _SET_BY_GRID_ENGINE.fullmatch(name) is None
    )
