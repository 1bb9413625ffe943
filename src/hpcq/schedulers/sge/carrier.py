"""A script around the user's script, for what ``qsub`` cannot carry byte for byte.

Grid Engine writes a job's arguments line by line into the shepherd's configuration: an argument
with a newline arrives cut off, and its second line is read as a setting (seen on 8.1.9). Its
``-v`` splits values at commas unless they stand between quotes, its execution daemon drops
``LD_PRELOAD`` and its like, and sets ``HOME``, ``PATH`` and many more itself. In an output path it
takes a comma for the beginning of another path. Only for these, a job is submitted through a
*carrier*: a POSIX shell script that sets such values, followed by the user's script as it is. The
carrier writes that part into the job's own temporary directory and becomes it.

The user's ``#$`` lines still stand in the file, so ``qsub`` reads them; no line of the carrier
can be taken for one, because the values it holds are written without newlines.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Carried", "build_carrier"]

_SHELL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_CANNOT_UNPACK = 'echo "The job script could not be unpacked into $_hpcq_file" >&2; exit 127'


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """Values that a carrier brings to the user's script.

    Attributes:
        args: what the user's script is to be given; no NUL.
        environment: variables to set before it starts; no NUL.
        dropped: variables that it is not to see.
        stdout, stderr: files to write to; None for those that Grid Engine opens.
        interpreter: what runs a script without ``#!``.
    """

    args: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    stdout: str | None = None
    stderr: str | None = None
    interpreter: str = "/bin/sh"


def build_carrier(script: bytes, carried: Carried) -> bytes:
    """Return the script to submit in place of ``script``; it takes no arguments."""
    variables = carried.environment.items()
    exported = [f"export {n}={_quoted(v)}" for n, v in variables if _is_shell_name(n)]
    others = [_quoted(f"{n}={v}") for n, v in variables if not _is_shell_name(n)]
    files = [
        f"{number}>>{_quoted(path)}"
        for number, path in ((1, carried.stdout), (2, carried.stderr))
        if path is not None
    ]
    words = [
        *(["/usr/bin/env", *others] if others else []),
        *([] if script.startswith(b"#!") else [_quoted(carried.interpreter)]),
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
        " ".join(["set", "--", *map(_quoted, carried.args)]),
        *([" ".join(["unset", *carried.dropped])] if carried.dropped else []),
        *exported,
        " ".join(["exec", *words]),
    ]
    lines.insert(1, f"_hpcq_start={len(lines) + 2}")
    return "".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape") + script


def _is_shell_name(name: str) -> bool:
    return _SHELL_NAME.fullmatch(name) is not None


def _quoted(text: str) -> str:
    """Return one shell word on one line: newlines stand as an expansion between the quotes."""
    parts = ("'" + part.replace("'", "'\\''") + "'" for part in text.split("\n"))
    return '"$_hpcq_newline"'.join(parts)
