"""Paths to which Torque, or the job itself, writes a job's output."""

import os.path
import re
from collections.abc import Mapping
from dataclasses import dataclass

from hpcq.domain.jobs import JobSpec
from hpcq.domain.outputs import (
    UNKNOWN,
    as_pattern,
    fill_pattern,
    render,
    requested_pattern,
)
from hpcq.schedulers.pbs_family.choices import OutputOptions
from hpcq.schedulers.pbs_family.directives import Option, joined_streams
from hpcq.schedulers.pbs_family.values import path_of
from hpcq.schedulers.pbs_family.wrapper_script import ARRAY_INDEX, JOB_NUMBER

__all__ = ["is_simple", "place"]

# Of other characters in paths Torque makes hosts, lists, variables, or undelivered output.
_SIMPLE_PATH = re.compile(r"/[A-Za-z0-9._/+-]{0,1000}")
_EXPANDED = re.compile(r"[$~]|/$")
_THROWN_AWAY = "/dev/null"


@dataclass(frozen=True, slots=True)
class _Stream:
    """Path of one stream: by Torque's option, to Torque's file at home, or by itself."""

    option: str | None
    is_kept: bool
    own: str | None
    pattern: str


def place(spec: JobSpec, last: Mapping[str, Option], name: str, *, is_array: bool) -> OutputOptions:
    """Return where the output goes: as the request says, else the script, else beside it.

    Args:
        spec: the job.
        last: the script's options by their letters.
        name: the job's, as Torque has it.
        is_array: whether each output ends in the index of its job.

    Raises:
        InvalidSpec: the script's ``-j`` cannot be read.
    """
    suffix = "-%a" if is_array else None
    asked_out = requested_pattern(spec, "stdout", suffix)
    asked_err = requested_pattern(spec, "stderr", suffix)
    out = _stream(spec, asked_out, last, "o", name, is_array)
    err = _stream(spec, asked_err, last, "e", name, is_array)
    joined = joined_streams(last, spec)
    is_same = out.pattern != UNKNOWN and _is_same(spec.working_directory, out, err)
    if joined is None and is_same:
        joined = "o"  # the default names differ, so the same path was given for both
    if joined is not None:
        out = err = out if joined == "o" else err
    options: list[str] = []
    for letter, stream in (("o", out), ("e", err)):
        is_other = joined is not None and letter != joined
        if stream.option is not None and not (is_other and stream.own is None):
            options += [f"-{letter}", stream.option]
    kept = "".join(letter for letter, stream in (("o", out), ("e", err)) if stream.is_kept)
    options += ["-k", kept] if kept else []
    if joined is not None and out.own is None:
        options += ["-j", "oe" if joined == "o" else "eo"]
    return OutputOptions(tuple(options), out.own, err.own, out.pattern, err.pattern, suffix)


def _is_same(folder: str, one: _Stream, other: _Stream) -> bool:
    paths = {os.path.normpath(os.path.join(folder, each.pattern)) for each in (one, other)}
    return len(paths) == 1 and paths != {_THROWN_AWAY}


def _stream(
    spec: JobSpec,
    asked: str | None,
    last: Mapping[str, Option],
    letter: str,
    name: str,
    is_array: bool,
) -> _Stream:
    folder = spec.working_directory
    task = "-%a" if is_array else ""
    pattern = asked
    if asked is None:
        if "k" in last and letter in last["k"].value:
            return _Stream(None, True, None, UNKNOWN)
        if letter in last:
            value = last[letter].value
            path = path_of(value)
            pattern = as_pattern(os.path.join(folder, path or ""))
            if path is None or path != value or _EXPANDED.search(path):
                is_told = path is not None and not _EXPANDED.search(path)
                return _Stream(value, False, None, pattern + task if is_told else UNKNOWN)
            pattern += "" if pattern == _THROWN_AWAY else task
    if pattern is None:
        pattern = f"{as_pattern(name)}.{letter}%j{task}"
        if is_simple(folder):
            return _Stream(None, False, None, pattern)
    # Torque adds the task to every path: /dev/null-2 is no place to throw things.
    told = fill_pattern(pattern.removesuffix(task), None)
    is_thrown_away = told == _THROWN_AWAY
    if told is not None and is_simple(told) and not (is_thrown_away and is_array):
        return _Stream(told, False, None, pattern)
    own = render(pattern, JOB_NUMBER, ARRAY_INDEX)
    return _Stream(None if is_array else _THROWN_AWAY, is_array, own, pattern)


def is_simple(path: str) -> bool:
    """Return whether Torque takes an absolute path as it is."""
    return _SIMPLE_PATH.fullmatch(path) is not None and all(len(p) < 256 for p in path.split("/"))
