r"""A script around the user's script, which brings to the node what ``qsub`` cannot.

Torque's ``-F`` runs through a shell on the node, OpenPBS loses empty arguments, and both alter or
crash on some values of ``-v``. So a job is submitted as a *wrapper*: a POSIX shell script in ASCII
alone, which holds the user's script, its arguments, its variables, its directory and its outputs.
What is not plain text stands as octal escapes of ``printf``, so no value can begin a line, end a
quotation or look like a directive.

On the node the wrapper unpacks the user's script into a file that nobody else can read, opens it,
removes it and becomes it (``/proc/self/fd/9``): nothing is left behind, whatever ends the job.
It works for a shell that is given the wrapper as a file, on its standard input or by name.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from hpcq.domain.arrays import TASK_VARIABLE

__all__ = ["ARRAY_INDEX", "JOB_NUMBER", "build_wrapper"]

JOB_NUMBER = "\0"
"""Stands for the number of the job in the names of its outputs; no path can hold it."""
ARRAY_INDEX = "\0index\0"
"""Stands there for the number of an array's task."""

_INTERPRETER_LINE = re.compile(rb"#![ \t]*([^ \t\r\n]+)(?:[ \t]+([^\r\n]*?))?[ \t]*\r?(?:\n|\Z)")
_QUOTABLE = frozenset(range(32, 127)) - frozenset(b"'")
# At the beginning of a format, a hyphen would make it an option.
_LITERAL = _QUOTABLE - frozenset(b"\\%-")
_CHUNK_BYTES = 240
_FILE = "/proc/self/fd/9"
_COMMAND_FILE = "/proc/self/fd/8"


def build_wrapper(
    script: bytes,
    args: Sequence[str],
    environment: Mapping[str, str],
    *,
    directory: str,
    stdout_path: str | None = None,
    stderr_path: str | None = None,
    forgotten: Sequence[str] = (),
    task_variable: str | None = None,
    sweeps_home: bool = False,
    signal_offset: int | None = None,
    shell: str | None = None,
    default_shell: str | None = "/bin/sh",
) -> bytes:
    """Return the script to submit in place of ``script``; it takes no arguments.

    It has no directives: what the user's decide ``qsub`` gets as options.

    Args:
        script: the content of the user's script file, of any kind.
        args: what it is to be given; no NUL.
        environment: variables to set before it starts; no NUL.
        directory: where it starts, absolute.
        stdout_path: a file that it writes to itself, relative to the directory; `JOB_NUMBER` in
            it becomes the job's number, `ARRAY_INDEX` the task's. None: the scheduler's own.
        stderr_path: the same for its errors.
        forgotten: variables that it does not get from the scheduler.
        task_variable: the scheduler's variable with the number of an array's task, which the
            script gets as `TASK_VARIABLE` too; None for a job that is no array.
        sweeps_home: whether a file in the home directory that the scheduler has opened in vain
            for such an output is removed.
        signal_offset: for a scheduler that tells a script which a signal ended like one that
            exits with 128 and more: the wrapper waits for the script, and ends the job's first
            process by that signal's number plus this offset. None: it becomes the script.
        shell: the interpreter, whatever the script's first line names.
        default_shell: the interpreter of a script that names none; None for the account's own.
    """
    run = ["exec"]
    if environment or forgotten or task_variable:
        run += ["/usr/bin/env", *(f"-u{name}" for name in forgotten)]
        run += [_quoted(f"{name}={value}") for name, value in environment.items()]
        run += [] if task_variable is None else [f'"{TASK_VARIABLE}=${task_variable}"']
    run += [*_interpreter(script, shell, default_shell), _FILE, *map(_quoted, args), "</dev/null"]
    newline = "_hpcq_newline=$(printf '\\012.'); _hpcq_newline=${_hpcq_newline%.}"
    if signal_offset is not None:
        run.append("8<&-")
    command = [newline, " \\\n".join(run)]
    lines = [
        "#!/bin/sh",
        *_unpacked(script, 9),
        newline,
        f"cd {_quoted(directory)} || exit 126",
        *_redirections(stdout_path, stderr_path, task_variable, sweeps_home=sweeps_home),
        *(command if signal_offset is None else _watched(command, signal_offset)),
    ]
    return "".join(line + "\n" for line in lines).encode("ascii")


def _unpacked(content: bytes, descriptor: int) -> Iterator[str]:
    """Yield the lines that open a file with this content, which has no name any more."""
    yield '_hpcq_file=$(mktemp "${TMPDIR:-/tmp}/hpcq.XXXXXXXXXX" 2> /dev/null) \\'
    yield "|| _hpcq_file=$(mktemp /tmp/hpcq.XXXXXXXXXX) || exit 126"
    # Each line is a command of its own: bash keeps a group whole, and dies of a large one.
    yield f'exec {descriptor}> "$_hpcq_file" || exit 126'
    yield from (f"printf '{_escaped(chunk)}' >&{descriptor} || exit 126" for chunk in _cut(content))
    yield 'chmod 700 "$_hpcq_file" || exit 126'
    yield f'exec {descriptor}< "$_hpcq_file" || exit 126'
    yield 'rm -f "$_hpcq_file"'


def _watched(command: Sequence[str], signal_offset: int) -> list[str]:
    """Return the lines that run a command and tell how it ended.

    A shell cannot: to it an exit status of 137 and signal 9 are the same. ``awk`` can: for a
    signal its ``system`` returns a fraction of 256, or 256 and more. The command is run without it
    where there is none, and where the wrapper is the job's first process itself, whose signal the
    scheduler sees.
    """
    program = (
        f'BEGIN {{ s = system("exec /bin/sh {_COMMAND_FILE}")\n'
        "if (s < 0) exit 126\n"
        "if (s < 256 && s == int(s)) exit s\n"
        "n = s >= 512 ? s - 512 : s >= 256 ? s - 256 : s * 256 % 128\n"
        f'system("kill -" (n + {signal_offset}) " " first " 2> /dev/null")\n'
        "exit 128 + n }"
    )
    return [
        *_unpacked("".join(line + "\n" for line in command).encode("ascii"), 8),
        "read -r _hpcq_stat < /proc/$$/stat",
        "set -- ${_hpcq_stat##*\\) }",
        'if [ "$4" != $$ ] && [ -z "${POSIXLY_CORRECT+x}" ] && command -v awk > /dev/null; then',
        f"exec awk -v \"first=$4\" '{program}'",
        "fi",
        f"exec /bin/sh {_COMMAND_FILE}",
    ]


def _interpreter(script: bytes, shell: str | None, default: str | None) -> Iterator[str]:
    """Yield the shell words that run the script, as the kernel would: none for a program.

    It is started by name, so a temporary folder from which nothing may be executed will do.
    """
    line = _INTERPRETER_LINE.match(script)
    if shell is not None:
        yield _quoted(shell)
    elif line is not None:
        yield from (
            _quoted(part.decode("utf-8", "surrogateescape")) for part in line.groups() if part
        )
    elif not script.startswith(b"\x7fELF"):
        yield '"${SHELL:-/bin/sh}"' if default is None else _quoted(default)


def _redirections(
    stdout_path: str | None,
    stderr_path: str | None,
    task_variable: str | None,
    *,
    sweeps_home: bool,
) -> list[str]:
    if stdout_path is None and stderr_path is None:
        return []
    out = [] if stdout_path is None else [f"> {_file(stdout_path)}"]
    err = [] if stderr_path is None else [f"2> {_file(stderr_path)}"]
    if stderr_path is not None and stdout_path == stderr_path:
        err = ["2>&1"]
    own = [number for number, path in ((1, stdout_path), (2, stderr_path)) if path is not None]
    swept = own if sweeps_home else []
    return [
        "_hpcq_number=${PBS_JOBID%%[!0-9]*}",
        *([] if task_variable is None else [f"_hpcq_task=${task_variable}"]),
        *(f"_hpcq_kept{number}=$(readlink /proc/$$/fd/{number})" for number in swept),
        " ".join(["exec", *out, *err, "|| exit 126"]),
        *(
            f'case $_hpcq_kept{number} in "$HOME"/*)'
            f' [ -s "$_hpcq_kept{number}" ] || rm -f "$_hpcq_kept{number}" ;; esac'
            for number in swept
        ),
    ]


def _file(path: str) -> str:
    return '"$_hpcq_task"'.join(map(_with_number, path.split(ARRAY_INDEX)))


def _with_number(path: str) -> str:
    return '"$_hpcq_number"'.join(_quoted(part) if part else "" for part in path.split(JOB_NUMBER))


def _quoted(text: str) -> str:
    """Return one shell word with exactly these bytes, in ASCII on lines of moderate length."""
    parts = text.encode("utf-8", "surrogateescape").split(b"\n")
    return '"$_hpcq_newline"'.join(map(_without_newline, parts))


def _without_newline(raw: bytes) -> str:
    # Between quotation marks $(…) changes nothing but newlines at the end.
    if _QUOTABLE.issuperset(raw):
        quoted = (f"'{chunk.decode('ascii')}'" for chunk in _cut(raw))
    else:
        quoted = (f"\"$(printf '{_escaped(chunk)}')\"" for chunk in _cut(raw))
    return "\\\n".join(quoted) or "''"


def _cut(raw: bytes) -> Iterator[bytes]:
    return (raw[start : start + _CHUNK_BYTES] for start in range(0, len(raw), _CHUNK_BYTES))


def _escaped(raw: bytes) -> str:
    """Return a format of ``printf`` that prints these bytes."""
    return "".join(chr(byte) if byte in _LITERAL else f"\\{byte:03o}" for byte in raw)
