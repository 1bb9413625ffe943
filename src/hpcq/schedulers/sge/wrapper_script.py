"""A script around the user's script, for what ``qsub`` cannot carry byte for byte.

Grid Engine writes a job's arguments line by line into the shepherd's configuration: an argument
with a newline arrives cut off, and its second line is read as a setting (seen on 8.1.9). Its
``-v`` splits values at commas unless they stand between quotes, its execution daemon drops
``LD_PRELOAD`` and its like, and sets ``HOME``, ``PATH`` and many more itself. In an output path it
takes a comma for the beginning of another path. Only for these, a job is submitted through a
*wrapper*: a POSIX shell script that sets such values, followed by the user's script as it is. The
wrapper writes that part into the job's own temporary directory and becomes it.

The user's ``#$`` lines still stand in the file, so ``qsub`` reads them; no line of the wrapper
can be taken for one, because the values it holds are written without newlines.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from hpcq.domain.arrays import TASK_VARIABLE
from hpcq.domain.outputs import render
from hpcq.schedulers.command_line import check_environment

__all__ = ["LINE_LIMIT_BYTES", "Wrapped", "build_wrapper", "size", "split_environment"]

LINE_LIMIT_BYTES = 4000
"""Length of a line that the shepherd's files hold in every release; 8.1.9 cuts at 9997."""

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
_SHELL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_CANNOT_UNPACK = 'echo "The job script could not be unpacked into $_hpcq_file" >&2; exit 127'


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapped:
    """Values that a wrapper brings to the user's script.

    Attributes:
        args: what the user's script is to be given; no NUL.
        environment: variables to set before it starts; no NUL.
        dropped: variables that it is not to see.
        stdout, stderr: patterns (`hpcq.domain.outputs`) of files to write to; None for those that
            Grid Engine opens.
        interpreter: what runs a script without ``#!``.
        is_array: whether it runs as an array: each task gets `TASK_VARIABLE`.
    """

    args: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    stdout: str | None = None
    stderr: str | None = None
    interpreter: str = "/bin/sh"
    is_array: bool = False


def split_environment(
    environment: Mapping[str, str],
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the variables that ``-v NAME=VALUE`` brings unchanged, and those to be wrapped.

    Nothing ever goes through the environment of ``qsub`` itself, so no name can influence it.

    Raises:
        InvalidSpec: a name that no environment can hold.
    """
    plain: dict[str, str] = {}
    wrapped: dict[str, str] = {}
    check_environment(environment)
    for name, value in environment.items():
        (plain if _survives_v(name, value) else wrapped)[name] = value
    return plain, wrapped


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


def build_wrapper(script: bytes, wrapped: Wrapped) -> bytes:
    """Return the script to submit in place of ``script``; it takes no arguments."""
    variables = wrapped.environment.items()
    exported = [f"export {n}={_quoted(v)}" for n, v in variables if _is_shell_name(n)]
    others = [_quoted(f"{n}={v}") for n, v in variables if not _is_shell_name(n)]
    files = [
        f"{number}>>{_file(pattern)}"
        for number, pattern in ((1, wrapped.stdout), (2, wrapped.stderr))
        if pattern is not None
    ]
    words = [
        *(["/usr/bin/env", *others] if others else []),
        *([] if script.startswith(b"#!") else [_quoted(wrapped.interpreter)]),
        '"$_hpcq_file"',
        '"$@"',
    ]
    # The variables named _hpcq_* are not exported: the job never sees them. The temporary
    # directory is read before a requested TMPDIR replaces it.
    lines = [
        "#!/bin/sh",
        "_hpcq_file=${TMPDIR:-${TMP:-/tmp}}/job_script.$$",
        "_hpcq_newline=$(printf '\\n.'); _hpcq_newline=${_hpcq_newline%.}",
        '(umask 077; tail -n "+$_hpcq_start" -- "$0" > "$_hpcq_file") && chmod 700 "$_hpcq_file" ||'
        f" {{ {_CANNOT_UNPACK}; }}",
        *([" ".join(["exec", *files])] if files else []),
        " ".join(["set", "--", *map(_quoted, wrapped.args)]),
        *([" ".join(["unset", *wrapped.dropped])] if wrapped.dropped else []),
        *exported,
        *([f'export {TASK_VARIABLE}="$SGE_TASK_ID"'] if wrapped.is_array else []),
        " ".join(["exec", *words]),
    ]
    lines.insert(1, f"_hpcq_start={len(lines) + 2}")
    return "".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape") + script


def _is_shell_name(name: str) -> bool:
    return _SHELL_NAME.fullmatch(name) is not None


def _file(pattern: str) -> str:
    """Return a path as one shell word; quotation marks end before each variable."""
    ends = (f"""'"${name}"'""" for name in ("JOB_ID", "SGE_TASK_ID"))
    return render(_quoted(pattern), *ends)


def _quoted(text: str) -> str:
    """Return one shell word on one line: newlines stand as an expansion between the quotes."""
    parts = ("'" + part.replace("'", "'\\''") + "'" for part in text.split("\n"))
    return '"$_hpcq_newline"'.join(parts)
