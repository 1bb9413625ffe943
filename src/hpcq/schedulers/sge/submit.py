"""Arguments of Grid Engine's commands, made from a job's description; pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import ArrayRange, JobSpec, SubmissionKey
from hpcq.schedulers.command_line import COMMAND_ENVIRONMENT
from hpcq.schedulers.sge.names import acceptable_name
from hpcq.schedulers.sge.outputs import escaped, output_options
from hpcq.schedulers.sge.resources import Complexes, build_requests
from hpcq.schedulers.sge.script import CONTEXT_VARIABLE, read_options
from hpcq.schedulers.sge.wrapper_script import (
    LINE_LIMIT_BYTES,
    Wrapped,
    size,
    split_environment,
)

__all__ = ["SubmitCommand", "build_qsub"]

_NO_COMPLEXES = Complexes()


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitCommand:
    """One ``qsub``.

    Attributes:
        argv: the command; without the script when something is wrapped.
        wrapped: what only a wrapper can bring (see `wrapper_script`); the script then goes to the
            command's standard input.
    """

    argv: tuple[str, ...]
    wrapped: Wrapped | None = None


def build_qsub(
    spec: JobSpec,
    key: SubmissionKey,
    script: bytes = b"#!/bin/sh\n",
    *,
    parallel_environment: str = "orte",
    complexes: Complexes = _NO_COMPLEXES,
    job_shell: str | None = None,
    site_options: Sequence[str] = (),
) -> SubmitCommand:
    """Return the ``qsub`` that submits a job, marked with its key.

    The key is the account string (``-A``), which the accounting keeps, and a context variable
    (``-ac``). The account asked for is the project (``-P``). Slots always come from the parallel
    environment, one slot included.

    Args:
        spec: the job.
        key: its mark.
        script: the content of its script file.
        parallel_environment: where the script names no other one.
        complexes: the site's names of resources.
        job_shell: the interpreter of a script that names none; None for the queue's.
        site_options: options of the request that the site allows, checked.

    Raises:
        InvalidSpec: a value that Grid Engine would read as something else, or a directive of the
            script that cannot be honoured.
    """
    options = read_options(script).with_array(spec.array)
    plain, wrapped = split_environment(spec.environment)
    shell = options.interpreter or (None if script.startswith(b"#!") else job_shell)
    outputs, stdout, stderr = output_options(spec, acceptable_name(spec.name), options)
    needs_wrapper = (
        bool(wrapped)
        or not spec.script_file
        or stdout is not None
        or stderr is not None
        or options.takes_environment
        or options.is_array
        # Under ``shell_start_mode unix_behavior`` Grid Engine does not look at -S.
        or (shell is not None and options.interpreter is None)
        or any(_breaks_a_line(arg) for arg in spec.args)
    )
    if needs_wrapper:
        # A POSIX shell drops variables with such names when it starts.
        wrapped |= {
            n: v for n, v in plain.items() if options.takes_environment or not n.isidentifier()
        }
        plain = {n: v for n, v in plain.items() if n not in wrapped}
    argv = [
        "qsub",
        "-terse",
        # First: of two that contradict each other Grid Engine takes the later.
        *site_options,
        *("-sync", "n"),
        *("-b", "n"),
        *("-N", acceptable_name(spec.name)),
        *("-wd", _directory(spec.working_directory)),
        *("-A", key),
        *("-ac", f"{CONTEXT_VARIABLE}={key}"),
        *("-pe", options.parallel_environment or parallel_environment, str(spec.slots)),
        *build_requests(spec, complexes),
        *outputs,
        *(["-h"] if spec.hold else []),
        *([] if spec.array is None else _tasks(spec.array)),
        *(["-v", ",".join(f"{n}={v}" for n, v in plain.items())] if plain else []),
    ]
    if needs_wrapper:
        return SubmitCommand(
            argv=(*argv, "-S", "/bin/sh"),
            wrapped=Wrapped(
                args=spec.args,
                environment=wrapped,
                dropped=tuple(COMMAND_ENVIRONMENT) if options.takes_environment else (),
                stdout=stdout,
                stderr=stderr,
                is_array=options.is_array,
                interpreter=_first_path(shell) if shell else "/bin/sh",
            ),
        )
    return SubmitCommand(argv=(*argv, _script(spec.script_file), *spec.args))


def _first_path(shell: str) -> str:
    """Return the path in a value of ``-S``: ``/bin/bash``, ``host:/bin/bash,/bin/sh``."""
    return shell.split(",")[0].rpartition(":")[2]


def _breaks_a_line(arg: str) -> bool:
    return "\n" in arg or size(arg) >= LINE_LIMIT_BYTES


def _tasks(array: ArrayRange) -> list[str]:
    if array.first < 1:
        raise InvalidSpec(
            "Grid Engine counts the tasks of an array from 1 on.", field="array.first"
        )
    limit = [] if array.max_running is None else ["-tc", str(array.max_running)]
    return ["-t", array.text, *limit]


def _directory(path: str) -> str:
    _refuse(path, "workingDirectory", re.compile(r"[\x00-\x1f\x7f]"), "control characters")
    return escaped(path)


def _script(path: str) -> str:
    _refuse(path, "scriptFile", re.compile("\0"), "a NUL character")
    if not path.startswith("/"):
        raise InvalidSpec("The script file must be an absolute path.", field="scriptFile")
    return path


def _refuse(text: str, wire: str, pattern: re.Pattern[str], what: str) -> None:
    if not text:
        raise InvalidSpec(f"The {wire} is empty.", field=wire)
    if pattern.search(text):
        raise InvalidSpec(f"Grid Engine cannot take {what} in {text!r}.", field=wire)
