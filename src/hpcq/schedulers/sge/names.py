"""Names and ids of jobs, as Grid Engine takes and gives them."""

import re
from collections.abc import Iterable

from hpcq.domain.jobs import NativeId

__all__ = ["acceptable_name", "is_job_id", "job_number", "job_numbers"]

_NAME_LIMIT = 200
"""Characters of a job name: with ``.o`` and a number it still has to fit a file name."""

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._+-]+")
_RESERVED_NAMES = frozenset({"NONE", "ALL", "TEMPLATE"})

_JOB_ID = re.compile(r"([0-9]{1,18})(?:\[[0-9]{1,18}\])?")


def acceptable_name(name: str) -> str:
    r"""Return a job name that Grid Engine takes.

    It refuses ``/ : @ * ? \`` and blanks, a leading digit, and the words NONE, ALL and
    TEMPLATE; of other characters outside ASCII 8.1.9 even loses its own answer.

    >>> acceptable_name("2024/run 1")
    '_2024_run_1'
    """
    cleaned = _NOT_IN_NAMES.sub("_", name)[:_NAME_LIMIT]
    if not cleaned or not (cleaned[0].isalpha() or cleaned[0] == "_"):
        cleaned = "_" + cleaned
    return cleaned + "_" if cleaned.upper() in _RESERVED_NAMES else cleaned


def is_job_id(native_id: str) -> bool:
    """Return whether an id can be one of Grid Engine's: ``9`` or ``9[2]``."""
    return _JOB_ID.fullmatch(native_id) is not None


def job_number(native_id: str) -> str:
    """Return the number of the job that an id belongs to: ``9`` of ``9[2]``.

    Raises:
        ValueError: the id is not one of Grid Engine's.
    """
    match = _JOB_ID.fullmatch(native_id)
    if match is None:
        raise ValueError(f"not a Grid Engine job id: {native_id!r}")
    return match[1]


def job_numbers(ids: Iterable[NativeId]) -> list[str]:
    """Return the numbers of jobs, each once; what is no id of Grid Engine's names no job."""
    return list(dict.fromkeys(job_number(i) for i in ids if is_job_id(i)))
