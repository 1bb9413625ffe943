"""The ids of LOCAL's jobs: a number; behind that of an array, the number of a task: ``12[3]``."""

import re

from hpcq.domain.jobs import NativeId

__all__ = ["is_local", "split_id", "task_id", "task_mark"]

_ID_FORM = re.compile(r"[1-9][0-9]{0,17}(?:\[(?:0|[1-9][0-9]{0,8})\])?")


def is_local(native_id: NativeId) -> bool:
    """Return whether an id has the form in which LOCAL gives them."""
    return _ID_FORM.fullmatch(native_id) is not None


def task_id(number: int, task: int | None) -> NativeId:
    """Return the id of a job, or of a task of the array with this number: ``12[3]``."""
    return NativeId(str(number) if task is None else f"{number}[{task}]")


def split_id(native_id: NativeId) -> tuple[int, int | None]:
    """Return the number and the task in an id that `is_local`.

    >>> split_id(NativeId("12[3]")), split_id(NativeId("12"))
    ((12, 3), (12, None))
    """
    number, _, task = native_id.rstrip("]").partition("[")
    return int(number), int(task) if task else None


def task_mark(key: str, task: int | None) -> str:
    """Return the mark of a job, or of a task of the array with this mark."""
    return key if task is None else f"{key}.{task}"
