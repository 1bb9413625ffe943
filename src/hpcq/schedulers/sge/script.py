"""The script's own options for ``qsub``: lines that begin with ``#$``, anywhere in it (qsub(1)).

Seen on 8.1.9: what the command says replaces what the script says, one ``-l`` resource, ``-v``
variable and ``-ac`` variable at a time; job ids after ``-hold_jid`` come together from both.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hpcq.domain.jobs import JobSpec
from hpcq.domain.outputs import UNKNOWN, as_pattern
from hpcq.schedulers.directives import Directive, read_directives, refuse_directive

__all__ = [
    "CONTEXT_VARIABLE",
    "PATH_VARIABLE",
    "ScriptOptions",
    "place_script_outputs",
    "read_options",
]

CONTEXT_VARIABLE = "hpcq_key"
"""The context variable that holds a job's mark, and that ``qstat -j`` shows."""

# How many words follow an option; those that are not here are qsub's to refuse.
_WITHOUT_VALUE = frozenset(
    ["-V", "-clear", "-cwd", "-h", "-hard", "-help", "-notify", "-soft", "-terse", "-verify"]
)
_WITH_TWO = frozenset({"-pe"})

_REFUSED = {
    "-verify": "It has the job shown, and not submitted.",
    "-help": "It has the options shown, and the job not submitted.",
    "-sync": "It has the command wait for the end of the job; read the job's state instead.",
    "-b": "The script is no binary.",
    "-A": "By the account string the job is found again; a project is asked for with -P.",
    "-dc": "By a context variable the job is found again.",
    "-sc": "By a context variable the job is found again; set others with -ac.",
    "-@": "Options in another file are not read; write them into the script.",
    "-C": "Directives are read behind '#$'.",
    "-w": "It has the job checked, and not submitted.",
}
_ALLOWED_VALUES = {
    "-sync": ("n", "no"),
    "-b": ("n", "no"),
    "-w": ("e", "w", "n"),
    "-C": ("#$",),
}
# What 8.1.9 puts in their place in output paths; two dollars are one.
PATH_VARIABLE = re.compile(r"\$(\$|HOME|USER|JOB_ID|JOB_NAME|HOSTNAME|TASK_ID)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptOptions:
    """What a script asks ``qsub`` for; None, or False, for what it does not mention.

    Attributes:
        stdout, stderr: paths in Grid Engine's own writing, see `output_pattern`.
        joins: whether the standard error goes to the standard output's file.
        is_array: whether it asks for an array.
        parallel_environment: the name of one.
        interpreter: what runs it, where it has no `#!` line, as written behind `-S`.
        takes_environment: whether it asks for the environment of ``qsub`` itself.
    """

    name: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    joins: bool = False
    is_array: bool = False
    parallel_environment: str | None = None
    interpreter: str | None = None
    takes_environment: bool = False


def read_options(script: bytes) -> ScriptOptions:
    """Return what a script asks for.

    Raises:
        InvalidSpec: a directive cannot be honoured; it is named, with its line.
    """
    found: dict[str, str] = {}
    for directive in read_directives(script, "#$", stops_at_command=False):
        for option, value in _options(directive):
            written = f"{option} {value}".strip()
            if option in _REFUSED and value not in _ALLOWED_VALUES.get(option, ()):
                raise refuse_directive(directive, written, _REFUSED[option])
            if option == "-ac" and value.partition("=")[0] == CONTEXT_VARIABLE:
                raise refuse_directive(directive, written, _REFUSED["-dc"])
            found[option] = value
    return ScriptOptions(
        name=found.get("-N"),
        stdout=found.get("-o"),
        stderr=found.get("-e"),
        joins=found.get("-j", "n") in ("y", "yes"),
        is_array="-t" in found,
        parallel_environment=found["-pe"].split()[0] if found.get("-pe") else None,
        interpreter=found.get("-S"),
        takes_environment="-V" in found,
    )


def _options(directive: Directive) -> Iterator[tuple[str, str]]:
    """Yield the options of one line with their values."""
    words = list(directive.words)
    while words:
        option = words.pop(0)
        count = 0 if option in _WITHOUT_VALUE else 2 if option in _WITH_TWO else 1
        yield option, " ".join(words[:count])
        del words[:count]


def place_script_outputs(
    spec: JobSpec, stem: str, options: ScriptOptions, account: Mapping[str, str]
) -> tuple[str, str]:
    """Return the patterns of both outputs' paths where the request gives none.

    Args:
        spec: the job.
        stem: the job's name in Grid Engine.
        options: what its script asks for.
        account: the variables ``HOME`` and ``USER`` of the account that jobs run as.
    """
    stdout, stderr = (
        _place(own, letter, spec.working_directory, stem, options, account)
        for own, letter in ((options.stdout, "o"), (options.stderr, "e"))
    )
    if options.joins and spec.stderr_path is None:
        stderr = stdout if spec.stdout_path is None else as_pattern(spec.stdout_path)
    return stdout, stderr


def _place(
    path: str | None,
    letter: str,
    directory: str,
    stem: str,
    options: ScriptOptions,
    account: Mapping[str, str],
) -> str:
    """Return the pattern of a path as written behind ``-o``, or of the default.

    It may be ``host:/logs/$JOB_ID``, relative to the directory, or a folder, on this machine.
    """
    file = f"{as_pattern(stem)}.{letter}%j" + (".%a" if options.is_array else "")
    if path is None:
        return file
    host, colon, behind = path.partition(":")
    place = behind if colon else path
    values = {
        "$": "$",
        "JOB_ID": "%j",
        "JOB_NAME": as_pattern(stem),
        "TASK_ID": "%a" if options.is_array else "0",
        **{name: as_pattern(value) for name, value in account.items() if name in ("HOME", "USER")},
    }
    unknown = any(found[1] not in values for found in PATH_VARIABLE.finditer(place))
    if unknown or "," in path or (colon and host):
        return UNKNOWN
    is_folder = place.endswith("/") or os.path.isdir(os.path.join(directory, place))
    pattern = PATH_VARIABLE.sub(lambda found: values[found[1]], as_pattern(place))
    return os.path.join(pattern, file) if is_folder else pattern
