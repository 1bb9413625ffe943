"""A script around the user's script, for what ``qsub`` cannot carry byte for byte.

Grid Engine writes a job's arguments line by line into the shepherd's configuration: an argument
with a newline arrives cut off, and its second line is read as a setting (seen on 8.1.9). Its
``-v`` splits values at commas unless they stand between quotes, its execution daemon drops
``LD_PRELOAD`` and its like, and sets ``HOME``, ``PATH`` and many more itself. Only for these, a
job is submitted through a *carrier*: a POSIX shell script that sets such values, followed by the
user's script as it is. The carrier writes that part into the job's own temporary directory and
becomes it.

The user's ``#$`` lines still stand in the file, so ``qsub`` reads them; no line of the carrier
can be taken for one, because the values it holds are written without newlines.
"""

import re
from collections.abc import Mapping, Sequence

__all__ = ["build_carrier"]

_SHELL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DIRECTIVE_SHELL = re.compile(rb"^#\$[ \t]+(?:.*[ \t])?-S[ \t]+(/[^ \t\r\n,]+)", re.MULTILINE)

_CANNOT_UNPACK = 'echo "The job script could not be unpacked into $_hpcq_file" >&2; exit 127'


def build_carrier(script: bytes, args: Sequence[str], environment: Mapping[str, str]) -> bytes:
    """Return the script to submit in place of ``script``; it takes no arguments.

    Args:
        script: the content of the user's script file.
        args: what the user's script is to be given; no NUL.
        environment: variables to set before it starts; no NUL.
    """
    exported = [f"export {n}={_quoted(v)}" for n, v in environment.items() if _is_shell_name(n)]
    others = [_quoted(f"{n}={v}") for n, v in environment.items() if not _is_shell_name(n)]
    words = [
        *(["/usr/bin/env", *others] if others else []),
        *([] if script.startswith(b"#!") else [_quoted(_interpreter(script))]),
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
        " ".join(["set", "--", *map(_quoted, args)]),
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


def _interpreter(script: bytes) -> str:
    """Return what runs a script without ``#!``: its ``#$ -S``, else the POSIX shell."""
    match = _DIRECTIVE_SHELL.search(script)
    return "/bin/sh" if match is None else match[1].decode("utf-8", "surrogateescape")
