"""From a job's description to the arguments of Grid Engine's commands; pure."""

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from hpcq.domain.actions import Action
from hpcq.domain.errors import InvalidSpec, UnsupportedCapability
from hpcq.domain.jobs import (
    ArrayRange,
    Dependency,
    DependencyCondition,
    JobSpec,
    MailEvent,
    NativeId,
    SubmissionKey,
)
from hpcq.domain.units import format_clock
from hpcq.schedulers.command_line import COMMAND_ENVIRONMENT
from hpcq.schedulers.sge.outputs import escaped, output_options
from hpcq.schedulers.sge.script import CONTEXT_VARIABLE, read_options
from hpcq.schedulers.sge.wrapper_script import (
    LINE_LIMIT_BYTES,
    Wrapped,
    size,
    split_environment,
)

__all__ = [
    "Complexes",
    "SubmitCommand",
    "acceptable_name",
    "build_change",
    "build_qalter",
    "build_qdel_tasks",
    "build_qsub",
    "build_requests",
    "is_job_id",
    "job_number",
]

_NAME_LIMIT = 200
"""Characters of a job name: with ``.o`` and a number it still has to fit a file name."""

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._+-]+")
_RESERVED_NAMES = frozenset({"NONE", "ALL", "TEMPLATE"})

_MAIL_LETTERS = {MailEvent.BEGIN: "b", MailEvent.END: "e", MailEvent.FAIL: "a"}

_JOB_ID = re.compile(r"([0-9]{1,18})(?:\[[0-9]{1,18}\])?")
_NAMES = re.compile(r"[A-Za-z0-9_@][A-Za-z0-9_.@,+-]*")  # all.q, all.q@node7, a.q,b.q, @rack1


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Complexes:
    """Names that a site gave to resources; None where it has no such resource.

    Attributes:
        exclusive: hosts without other jobs.
        gpus: GPUs of the whole job.
    """

    exclusive: str | None = None
    gpus: str | None = None


def build_qsub(
    spec: JobSpec,
    key: SubmissionKey,
    script: bytes = b"#!/bin/sh\n",
    *,
    parallel_environment: str = "orte",
    complexes: Complexes = Complexes(),
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


def acceptable_name(name: str) -> str:
    r"""Return a job name that Grid Engine takes: ``2024/run 1`` becomes ``_2024_run_1``.

    It refuses ``/ : @ * ? \`` and blanks, a leading digit, and the words NONE, ALL and
    TEMPLATE; of other characters outside ASCII 8.1.9 even loses its own answer.
    """
    cleaned = _NOT_IN_NAMES.sub("_", name)[:_NAME_LIMIT]
    if not cleaned or not (cleaned[0].isalpha() or cleaned[0] == "_"):
        cleaned = "_" + cleaned
    return cleaned + "_" if cleaned.upper() in _RESERVED_NAMES else cleaned


LIMITS: Mapping[str, str] = {"wall_time_limit_seconds": "h_rt", "memory_limit_bytes": "h_vmem"}
"""The resources that limit a job, by the fields of a `JobSpec`."""

ACTIONS: Mapping[Action, tuple[str, ...]] = {
    Action.HOLD: ("qhold",),
    Action.RELEASE: ("qrls",),
    Action.REQUEUE: ("qmod", "-rj"),
    Action.SUSPEND: ("qmod", "-sj"),
    Action.RESUME: ("qmod", "-usj"),
}
"""The commands of actions, without the job; Grid Engine has none that sends it a signal."""


def build_change(command: tuple[str, ...], native_id: NativeId) -> tuple[str, ...]:
    """Return ``qdel``, ``qhold`` and the like of one job or of one array task (``9[2]``).

    Raises:
        ValueError: the id is not one of Grid Engine's.
    """
    number = job_number(native_id)
    task = native_id.removeprefix(number)
    return (*command, f"{number}.{task[1:-1]}" if task else number)


def build_qdel_tasks(array: NativeId, words: Iterable[str]) -> tuple[str, ...]:
    """Return the ``qdel`` of some tasks of an array.

    Args:
        array: its number.
        words: the tasks: ``3-7``, ``9``.
    """
    return ("qdel", *(f"{array}.{word}" for word in words))


def is_job_id(native_id: str) -> bool:
    """Return whether an id can be one of Grid Engine's: ``9`` or ``9[2]``."""
    return _JOB_ID.fullmatch(native_id) is not None


def job_number(native_id: str) -> str:
    """Return the number of the job that an id belongs to: ``9`` of ``9[2]``.

    Raises:
        ValueError: the id is not one of Grid Engine's.
    """
    match = _JOB_ID.fullmatch(native_id)
    if match is None:
        raise ValueError(f"not a Grid Engine job id: {native_id!r}")
    return match[1]


def _breaks_a_line(arg: str) -> bool:
    return "\n" in arg or size(arg) >= LINE_LIMIT_BYTES


def build_requests(spec: JobSpec, complexes: Complexes) -> list[str]:
    """Return the options for the request's queue, limits, resources and mails.

    Raises:
        InvalidSpec: a value that Grid Engine would read as something else.
        UnsupportedCapability: Grid Engine, or the site, has no such thing.
    """
    limits = _limits(spec)
    if spec.exclusive:
        limits[_configured(complexes.exclusive, "exclusive")] = "true"
    if spec.gpus is not None:
        if spec.gpus.type is not None:
            raise UnsupportedCapability("gpus.type", "SGE")
        limits[_configured(complexes.gpus, "gpus")] = str(spec.gpus.count)
    return [
        *(["-q", _word(spec.queue, "queue")] if spec.queue is not None else []),
        *_project(spec),
        *(["-p", str(spec.priority)] if spec.priority is not None else []),
        *(["-l", _requests(limits)] if limits else []),
        *(["-ar", _reservation(spec.reservation)] if spec.reservation is not None else []),
        *(["-M", spec.mail_to, "-m", _mail_letters(spec)] if spec.mail_to is not None else []),
        *(["-hold_jid", ",".join(map(_predecessor, spec.depends_on))] if spec.depends_on else []),
    ]


def build_qalter(spec: JobSpec, fields: Set[str], requests: Mapping[str, str]) -> tuple[str, ...]:
    """Return the ``qalter`` that changes a pending job, without the job; it makes all or none.

    Args:
        spec: the job as it is to be.
        fields: those of its fields that change.
        requests: the job's resources now; a new ``-l`` replaces them all.

    Raises:
        InvalidSpec: a value that Grid Engine would read as something else.
    """
    argv = ["qalter"]
    if "name" in fields:
        argv += ["-N", acceptable_name(spec.name)]
    if "queue" in fields and spec.queue is not None:
        argv += ["-q", _word(spec.queue, "queue")]
    if "account" in fields and spec.account is not None:
        argv += ["-P", _word(spec.account, "account")]
    if "priority" in fields:
        argv += ["-p", str(spec.priority or 0)]
    replaced = {LIMITS[field] for field in fields & LIMITS.keys()}
    if replaced:
        kept = {name: value for name, value in requests.items() if name not in replaced}
        limits = {name: value for name, value in _limits(spec).items() if name in replaced}
        argv += ["-l", _requests(kept | limits)]
    return tuple(argv)


def _limits(spec: JobSpec) -> dict[str, str]:
    limits = {}
    if spec.wall_time_limit_seconds is not None:
        limits["h_rt"] = format_clock(spec.wall_time_limit_seconds)
    if spec.memory_limit_bytes is not None:
        # h_vmem is counted per slot; rounded up, so that a job gets at least what it asked for.
        limits["h_vmem"] = str(-(-spec.memory_limit_bytes // spec.slots))
    return limits


def _requests(resources: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in resources.items())


def _tasks(array: ArrayRange) -> list[str]:
    if array.first < 1:
        raise InvalidSpec(
            "Grid Engine counts the tasks of an array from 1 on.", field="array.first"
        )
    limit = [] if array.max_running is None else ["-tc", str(array.max_running)]
    return ["-t", array.text, *limit]


def _configured(name: str | None, field: str) -> str:
    if name is None:
        raise UnsupportedCapability(field, "SGE")
    return name


def _project(spec: JobSpec) -> list[str]:
    if None not in (spec.project, spec.account) and spec.project != spec.account:
        raise InvalidSpec(
            "In Grid Engine account and project are the same thing, and a job has but one. Leave"
            " one of them out.",
            field="project",
        )
    if spec.account is not None:
        return ["-P", _word(spec.account, "account")]
    return [] if spec.project is None else ["-P", spec.project]


def _reservation(number: str) -> str:
    if not number.isdecimal():
        raise InvalidSpec(
            f"The reservation is {number!r}; in Grid Engine it is a number (`qrstat`).",
            field="reservation",
        )
    return number


def _mail_letters(spec: JobSpec) -> str:
    return "".join(_MAIL_LETTERS[event] for event in spec.mail_on) or "n"


def _predecessor(dependency: Dependency) -> str:
    if dependency.condition is not DependencyCondition.ANY:
        raise UnsupportedCapability(
            "dependsOn",
            "SGE",
            "Grid Engine can wait for a job to be over, however it ended: the condition has to be "
            f"'any', not {str(dependency.condition)!r}.",
        )
    if not dependency.native_id.isdigit():
        raise UnsupportedCapability(
            "dependsOn",
            "SGE",
            f"Grid Engine cannot wait for {dependency.native_id}, only for its whole array.",
        )
    return dependency.native_id


def _directory(path: str) -> str:
    _refuse(path, "workingDirectory", re.compile(r"[\x00-\x1f\x7f]"), "control characters")
    return escaped(path)


def _script(path: str) -> str:
    _refuse(path, "scriptFile", re.compile("\0"), "a NUL character")
    if not path.startswith("/"):
        raise InvalidSpec("The script file must be an absolute path.", field="scriptFile")
    return path


def _word(text: str, wire: str) -> str:
    """Refuse patterns (``*``, ``a|b``, ``!x``) too: they would mean any queue, not one."""
    if _NAMES.fullmatch(text) is None:
        raise InvalidSpec(f"{text!r} cannot be a name in Grid Engine.", field=wire)
    return text


def _refuse(text: str, wire: str, pattern: re.Pattern[str], what: str) -> None:
    if not text:
        raise InvalidSpec(f"The {wire} is empty.", field=wire)
    if pattern.search(text):
        raise InvalidSpec(f"Grid Engine cannot take {what} in {text!r}.", field=wire)
