"""Output paths: where a job's standard output and standard error go.

A path is known before the job has an id, as a pattern in which ``%j`` stands for the number of the
id, ``%a`` for the number of an array's task and ``%%`` for a per cent sign.

A path of a request stands for such a pattern. In its last component, ``%j`` and ``%a`` mean the
same, ``%x`` the job's name and ``%%`` a per cent sign; any other per cent sign stands for itself.
So does one before a letter that another letter follows, and one in a folder's name: the paths of
studies have many (``PLD +20%Norte``, ``20%acima.txt``).
"""

import os
import re
from pathlib import PurePosixPath
from typing import Literal

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import JobRecord, JobSpec, NativeId, Outputs

__all__ = [
    "UNKNOWN",
    "Stream",
    "as_pattern",
    "default_name",
    "file_name",
    "fill_pattern",
    "output_path",
    "place_outputs",
    "render",
    "requested_pattern",
]

Stream = Literal["stdout", "stderr"]
"""One of the two ways in which a job writes."""

UNKNOWN = ""
"""The pattern of a path that only the scheduler can tell."""

_MARK = re.compile(r"%([jax%])")
_PER_CENT_OF_REQUEST = re.compile(r"%(?:%|[jax](?![^\W\d_]))?")
_UNSAFE_IN_FILE_NAMES = re.compile(r"[/\x00-\x1f\x7f]")
_LONGEST_FILE_NAME_BYTES = 200
_NUMBER = re.compile(r"[0-9]+")


def default_name(directory: str) -> str:
    """Return the name of a job that was given none: the last component of its directory.

    Control characters, which a name cannot hold, become ``_``.

    >>> default_name("/home/ana/study 7")
    'study 7'
    """
    name = PurePosixPath(directory).name
    return "".join("_" if ord(c) < 32 or ord(c) == 127 else c for c in name) or "job"


def as_pattern(text: str) -> str:
    """Return the pattern that stands for a text as it is."""
    return text.replace("%", "%%")


def file_name(name: str) -> str:
    """Return a job's name as one component of a path.

    >>> file_name("2024/run 1")
    '2024_run 1'
    """
    safe = _UNSAFE_IN_FILE_NAMES.sub("_", name)[:_LONGEST_FILE_NAME_BYTES] or "job"
    # Cut between characters, not between bytes.
    while len(safe.encode("utf-8", "surrogateescape")) > _LONGEST_FILE_NAME_BYTES:
        safe = safe[:-1]
    return f"_{safe[1:]}" if safe.startswith(".") else safe


def place_outputs(
    spec: JobSpec, stdout: str | None, stderr: str | None, task_suffix: str | None = None
) -> Outputs:
    """Return where the output of a job goes: what the request says, else a pattern, else a default.

    Args:
        spec: the job, its name complete.
        stdout: the pattern that the script or the scheduler decides on; a relative one begins at
            the working directory, ``%x`` in it stands for the job's name. None stands for
            ``NAME.oID`` there, `UNKNOWN` for a path that only the scheduler knows.
        stderr: likewise; None stands for ``NAME.eID``.
        task_suffix: see `requested_pattern`.

    Raises:
        InvalidSpec: see `requested_pattern`.

    >>> spec = JobSpec(name="case", working_directory="/study", script_file="/study/run.sh")
    >>> place_outputs(spec, stdout=None, stderr=None)
    Outputs(stdout='/study/case.o%j', stderr='/study/case.e%j')
    """
    return Outputs(
        stdout=_place(spec, requested_pattern(spec, "stdout", task_suffix), stdout, "o"),
        stderr=_place(spec, requested_pattern(spec, "stderr", task_suffix), stderr, "e"),
    )


def _place(spec: JobSpec, asked: str | None, otherwise: str | None, letter: str) -> str | None:
    pattern = otherwise if asked is None else asked
    if pattern is None:
        pattern = f"{as_pattern(spec.name.replace('/', '_'))}.{letter}%j"
    if pattern == UNKNOWN:
        return None
    return os.path.join(as_pattern(spec.working_directory), _with_name(pattern, spec.name))


def _with_name(pattern: str, name: str) -> str:
    named = as_pattern(file_name(name))
    return _MARK.sub(lambda mark: named if mark[1] == "x" else mark[0], pattern)


def requested_pattern(spec: JobSpec, stream: Stream, task_suffix: str | None) -> str | None:
    """Return the absolute pattern of a path that the request names; None where it names none.

    Args:
        spec: the job. While it has no name, ``%x`` stands for that.
        stream: which of its outputs.
        task_suffix: what is added to a path without ``%a``, but to ``/dev/null``, so that each
            task of an array has a file of its own; None for a job that is no array.

    Raises:
        InvalidSpec: ``%a`` in the path of a job that is no array.

    >>> spec = JobSpec(
    ...     name="case", working_directory="/study", script_file="run.sh", stdout_path="%x.%j"
    ... )
    >>> requested_pattern(spec, "stdout", task_suffix=None)
    '/study/case.%j'
    """
    asked: str | None = getattr(spec, f"{stream}_path")
    if asked is None:
        return None
    if spec.outputs is not None:
        complete: str | None = getattr(spec.outputs, stream)
        return complete
    folder, file = os.path.split(os.path.join(spec.working_directory, asked))
    pattern = _PER_CENT_OF_REQUEST.sub(lambda found: found[0] if found[0] != "%" else "%%", file)
    has_task = any(mark[1] == "a" for mark in _MARK.finditer(pattern))
    if has_task and task_suffix is None:
        field = f"{stream}Path"
        raise InvalidSpec(
            f"%a in {field} stands for the number of an array's task, and this job is no array. "
            "Write %%a for a file that is called so.",
            field=field,
        )
    is_apart = has_task or not file or os.path.join(folder, file) == os.devnull
    if task_suffix is not None and not is_apart:
        pattern += task_suffix
    pattern = _with_name(pattern, spec.name) if spec.name else pattern
    return os.path.join(as_pattern(folder), pattern)


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


def render(pattern: str, number: str, task: str) -> str:
    """Return the path that a pattern stands for, with these words for ``%j`` and ``%a``.

    >>> render("/study/100%%.o%j", "$JOB_ID", "$TASK_ID")
    '/study/100%.o$JOB_ID'
    """
    words = {"%": "%", "j": number, "a": task}
    return _MARK.sub(lambda mark: words.get(mark[1], mark[0]), pattern)


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
