"""Output paths: where a job's standard output and standard error go.

A path is known before the job has an id, as a pattern in which ``%j`` stands for the number of the
id, ``%a`` for the number of an array's task and ``%%`` for a per cent sign.
"""

import os
import re
from pathlib import PurePosixPath
from typing import Literal

from hpcq.domain.jobs import JobRecord, JobSpec, NativeId, Outputs

__all__ = [
    "UNKNOWN",
    "Stream",
    "as_pattern",
    "default_name",
    "fill_pattern",
    "output_path",
    "place_outputs",
]

Stream = Literal["stdout", "stderr"]
"""One of the two ways in which a job writes."""

UNKNOWN = ""
"""The pattern of a path that only the scheduler can tell."""

_MARK = re.compile(r"%([jax%])")
_NUMBER = re.compile(r"[0-9]+")


def default_name(directory: str) -> str:
    """Return the name of a job that was given none: the last component of its directory.

    Control characters, which a name cannot hold, become ``_``.
    """
    name = PurePosixPath(directory).name
    return "".join("_" if ord(c) < 32 or ord(c) == 127 else c for c in name) or "job"


def as_pattern(text: str) -> str:
    """Return the pattern that stands for a text as it is."""
    return text.replace("%", "%%")


def place_outputs(spec: JobSpec, stdout: str | None, stderr: str | None) -> Outputs:
    """Return where the output of a job goes: what the request says, else a pattern, else a default.

    Args:
        spec: the job, its name complete.
        stdout: the pattern that the script or the scheduler decides on; a relative one begins at
            the working directory, ``%x`` in it stands for the job's name. None stands for
            ``NAME.oID`` there, `UNKNOWN` for a path that cannot be told.
        stderr: likewise; None stands for ``NAME.eID``.
    """
    return Outputs(
        stdout=_place(spec, spec.stdout_path, stdout, "o"),
        stderr=_place(spec, spec.stderr_path, stderr, "e"),
    )


def _place(spec: JobSpec, asked: str | None, pattern: str | None, letter: str) -> str | None:
    if asked is not None:
        # A scheduler that gives each task of an array a file of its own adds to what is asked.
        told = as_pattern(asked)
        pattern = pattern if pattern is not None and pattern.startswith(told) else told
    elif pattern is None:
        pattern = f"{as_pattern(spec.name.replace('/', '_'))}.{letter}%j"
    if pattern == UNKNOWN:
        return None
    name = as_pattern(spec.name)
    named = _MARK.sub(lambda mark: name if mark[1] == "x" else mark[0], pattern)
    return os.path.join(as_pattern(spec.working_directory), named)


def fill_pattern(
    pattern: str | None, native_id: NativeId | None, task_id: int | None = None
) -> str | None:
    """Return the path that a pattern stands for; None while a part of it is not known.

    Args:
        pattern: see the module; None for a path that is not known.
        native_id: the job's id; ``%j`` is the number that it begins with.
        task_id: the number of the array's task.

    >>> fill_pattern("/study/case.o%j", NativeId("45.server"))
    '/study/case.o45'
    """
    if pattern is None:
        return None
    number = None if native_id is None else _NUMBER.match(native_id)
    known = {
        "%": "%",
        "j": None if number is None else number[0],
        "a": None if task_id is None else str(task_id),
    }
    if any(known.get(mark[1]) is None for mark in _MARK.finditer(pattern)):
        return None
    return _MARK.sub(lambda mark: known[mark[1]] or "", pattern)


def output_path(record: JobRecord, stream: Stream) -> str | None:
    """Return where a stream of a job goes: as this service arranged it, else as it was seen."""
    spec, seen = record.spec, record.seen
    pattern = None if spec is None or spec.outputs is None else getattr(spec.outputs, stream)
    if pattern is not None:
        task = None if seen is None else seen.array_task_id
        return fill_pattern(pattern, record.native_id, task)
    told: str | None = None if seen is None else getattr(seen, f"{stream}_path")
    # Records of earlier releases hold no pattern.
    asked: str | None = None if spec is None else getattr(spec, f"{stream}_path")
    return told or asked
