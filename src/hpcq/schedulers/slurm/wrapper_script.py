r"""A script around the user's script, for what ``sbatch`` cannot bring to a job.

Variables that would steer ``sbatch`` itself (``SBATCH_*``, ``LD_PRELOAD`` …), the number of an
array's task, and outputs in a folder whose name has a backslash, are set on the node: the job is
submitted as a *wrapper*, a POSIX shell script that holds them, followed by the user's script as it
is. On the node the wrapper writes that part to a file that nobody else can read, opens it, removes
it and becomes it (``/proc/self/fd/9``): nothing is left behind.

The user's ``#SBATCH`` lines stand at the wrapper's beginning, where ``sbatch`` reads them. It reads
none behind the first command, so no value can be taken for one.
"""

import re
from collections.abc import Iterator, Mapping

from hpcq.domain.arrays import TASK_VARIABLE
from hpcq.schedulers.slurm.script import read_header

__all__ = ["build_wrapper"]

_INTERPRETER_LINE = re.compile(rb"#![ \t]*([^ \t\r\n]+)(?:[ \t]+([^\r\n]*?))?[ \t]*\r?(?:\n|\Z)")
_SHELL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OUTPUT_MARK = re.compile(r"%([ja%])")
_DIRECTIVES = (b"#SBATCH", b"#PBS", b"#BSUB")
_FILE = "/proc/self/fd/9"


def build_wrapper(
    script: bytes,
    environment: Mapping[str, str],
    *,
    stdout: str | None = None,
    stderr: str | None = None,
    is_array: bool = False,
) -> bytes:
    """Return the script to submit in place of ``script``, with the same arguments.

    Args:
        script: the user's script; it begins with ``#!``.
        environment: variables to set; no NUL. Those that Slurm itself has set for the job
            (``SLURM_JOB_ID``) keep Slurm's value, but for ``SLURM_CONF``.
        stdout: a file that it writes to itself, as a pattern (`hpcq.domain.outputs`); None: the
            one that ``sbatch`` got.
        stderr: the same for its errors.
        is_array: whether the script runs as an array; each task then gets `TASK_VARIABLE`.
    """
    kept = {name: f"_hpcq_{number}" for number, name in enumerate(environment) if _is_slurm_s(name)}
    words = [
        f'"{name}=${{{name}-${kept[name]}}}"' if name in kept else _quoted(f"{name}={value}")
        for name, value in environment.items()
    ]
    if is_array:
        words.append(f'"{TASK_VARIABLE}=$SLURM_ARRAY_TASK_ID"')
    lines = [
        "_hpcq_newline=$(printf '\\n.'); _hpcq_newline=${_hpcq_newline%.}",
        "_hpcq_return=$(printf '\\r')",
        '_hpcq_file=$(mktemp "${TMPDIR:-/tmp}/hpcq.XXXXXXXXXX" 2> /dev/null) \\',
        "|| _hpcq_file=$(mktemp /tmp/hpcq.XXXXXXXXXX) || exit 126",
        'tail -n "+$_hpcq_start" -- "$0" > "$_hpcq_file" || exit 126',
        'exec 9< "$_hpcq_file" || exit 126',
        'rm -f "$_hpcq_file"',
        *(f"{variable}={_quoted(environment[name])}" for name, variable in kept.items()),
        *_redirections(stdout, stderr, is_array=is_array),
        " ".join(["exec /usr/bin/env", *words, *_interpreter(script), _FILE, '"$@"']),
    ]
    header = [b"#!/bin/sh", *(line for line in read_header(script) if line.startswith(_DIRECTIVES))]
    # The user's script begins on the line behind this one and the others.
    lines.insert(0, f"_hpcq_start={len(header) + len(lines) + 2}")
    body = [line.encode("utf-8", "surrogateescape") for line in lines]
    return b"\n".join([*header, *body, script])


def _is_slurm_s(name: str) -> bool:
    is_slurm_s = name.startswith(("SLURM", "_SLURM")) and name != "SLURM_CONF"
    return is_slurm_s and _SHELL_NAME.fullmatch(name) is not None


def _interpreter(script: bytes) -> list[str]:
    """Return what runs the script, as the kernel would: a program and at most one argument."""
    line = _INTERPRETER_LINE.match(script)
    parts = (b"/bin/sh",) if line is None else line.groups()
    return [_quoted(part.decode("utf-8", "surrogateescape")) for part in parts if part]


def _redirections(stdout: str | None, stderr: str | None, *, is_array: bool) -> Iterator[str]:
    if stdout is not None:
        yield f"exec > {_file(stdout, is_array=is_array)} || exit 126"
    if stderr is not None:
        file = "&1" if stderr == stdout else f" {_file(stderr, is_array=is_array)}"
        yield f"exec 2>{file} || exit 126"


def _file(pattern: str, *, is_array: bool) -> str:
    number = '"$SLURM_ARRAY_JOB_ID"' if is_array else '"$SLURM_JOB_ID"'
    values = {"j": number, "a": '"$SLURM_ARRAY_TASK_ID"', "%": "%"}
    parts, position = [], 0
    for mark in _OUTPUT_MARK.finditer(pattern):
        parts += [_quoted(pattern[position : mark.start()]), values[mark[1]]]
        position = mark.end()
    return "".join([*parts, _quoted(pattern[position:])])


def _quoted(text: str) -> str:
    """Return one shell word on one line, as ``sbatch`` takes no line ends of DOS in a script."""
    word = "'" + text.replace("'", "'\\''") + "'"
    return word.replace("\n", "'\"$_hpcq_newline\"'").replace("\r", "'\"$_hpcq_return\"'")
