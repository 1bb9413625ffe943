"""From a job's description to the arguments of Grid Engine's commands; pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from hpcq.domain.errors import InvalidSpec, UnsupportedCapability
from hpcq.domain.jobs import (
    Dependency,
    DependencyCondition,
    JobSpec,
    NativeId,
    SubmissionKey,
)
from hpcq.domain.units import format_clock

__all__ = [
    "CONTEXT_VARIABLE",
    "DEFAULT_PARALLEL_ENVIRONMENT",
    "Submission",
    "acceptable_name",
    "build_change",
    "build_qsub",
    "is_job_id",
    "job_number",
    "split_environment",
]

CONTEXT_VARIABLE = "hpcq_key"
DEFAULT_PARALLEL_ENVIRONMENT = "orte"

_NAME_LIMIT = 200
"""Characters of a job name: with ``.o`` and a number it still has to fit a file name."""

_LINE_LIMIT_BYTES = 4000
"""What a line of the shepherd's files holds in every release; 8.1.9 cuts at 9997."""

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._+-]+")
_RESERVED_NAMES = frozenset({"NONE", "ALL", "TEMPLATE"})

# sge_submit(1), "-o path": expanded in paths, the working directory included (seen on 8.1.9).
_PSEUDO_VARIABLES = re.compile(
    r"\$(?:HOME|USER|JOB_ID|JOB_NAME|HOSTNAME|TASK_ID|SGE_TASK_ID|ARC)"
    r"|\$\{?(?:HOME|USER|JOB_ID|JOB_NAME|HOSTNAME|TASK_ID|SGE_TASK_ID|ARC)\}"
)
_JOB_ID = re.compile(r"([0-9]{1,18})(?:\[[0-9]{1,18}\])?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NAMES = re.compile(r"[A-Za-z0-9_@][A-Za-z0-9_.@,+-]*")  # all.q, all.q@node7, a.q,b.q, @rack1
_LONG_COMPONENT_BYTES = 255

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One ``qsub``.

    Attributes:
        argv: the command; without the script when a carrier is needed.
        carried_args, carried_environment: what only a carrier can bring (see `carrier`); the
            script then goes to the command's standard input.
        needs_carrier: whether it does.
    """

    argv: tuple[str, ...]
    needs_carrier: bool = False
    carried_args: tuple[str, ...] = ()
    carried_environment: Mapping[str, str] = field(default_factory=dict)


def build_qsub(
    spec: JobSpec,
    key: SubmissionKey,
    *,
    parallel_environment: str = DEFAULT_PARALLEL_ENVIRONMENT,
) -> Submission:
    """Return the ``qsub`` that submits a job, marked with its key.

    The key is the account string (``-A``), which the accounting keeps, and a context variable
    (``-ac``), which a user's own ``#$ -A`` does not hide. The account asked for is the project
    (``-P``). Slots always come from the parallel environment, one slot included.

    Raises:
        InvalidSpec: a value that Grid Engine would read as something else.
    """
    plain, carried = split_environment(spec.environment)
    needs_carrier = bool(carried) or any(_breaks_a_line(arg) for arg in spec.args)
    if needs_carrier:
        # A POSIX shell drops variables with such names when it starts.
        carried |= {n: v for n, v in plain.items() if not n.isidentifier()}
        plain = {n: v for n, v in plain.items() if n not in carried}
    argv = [
        "qsub",
        "-terse",
        *("-sync", "n"),
        *("-b", "n"),
        *("-N", acceptable_name(spec.name)),
        *("-wd", _directory(spec.working_directory)),
        *("-A", key),
        *("-ac", f"{CONTEXT_VARIABLE}={key}"),
        *("-pe", parallel_environment, str(spec.slots)),
        *_requests(spec),
        *_outputs(spec),
        *(["-h"] if spec.hold else []),
        *(["-v", ",".join(f"{n}={v}" for n, v in plain.items())] if plain else []),
    ]
    if needs_carrier:
        return Submission(
            argv=(*argv, "-S", "/bin/sh"),
            needs_carrier=True,
            carried_args=spec.args,
            carried_environment=carried,
        )
    return Submission(argv=(*argv, _script(spec.script_file), *spec.args))


def acceptable_name(name: str) -> str:
    r"""Return a job name that Grid Engine takes: ``2024/run 1`` becomes ``_2024_run_1``.

    It refuses ``/ : @ * ? \`` and blanks, a leading digit, and the words NONE, ALL and
    TEMPLATE; of other characters outside ASCII 8.1.9 even loses its own answer.
    """
    cleaned = _NOT_IN_NAMES.sub("_", name)[:_NAME_LIMIT]
    if not cleaned or not (cleaned[0].isalpha() or cleaned[0] == "_"):
        cleaned = "_" + cleaned
    return cleaned + "_" if cleaned.upper() in _RESERVED_NAMES else cleaned


def split_environment(
    environment: Mapping[str, str],
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the variables that ``-v NAME=VALUE`` brings unchanged, and the others.

    Nothing ever goes through the environment of ``qsub`` itself, so no name can influence it.

    Raises:
        InvalidSpec: a name that no environment can hold.
    """
    plain: dict[str, str] = {}
    carried: dict[str, str] = {}
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name + value:
            raise InvalidSpec(
                f"{name!r} cannot be the name of an environment variable, or its value holds a"
                " NUL character.",
                field="environment",
            )
        (plain if _survives_v(name, value) else carried)[name] = value
    return plain, carried


def build_change(command: str, native_id: NativeId) -> tuple[str, ...]:
    """Return ``qdel``, ``qhold`` or ``qrls`` of one job or of one array task (``9[2]``).

    Raises:
        ValueError: the id is not one of Grid Engine's.
    """
    number = job_number(native_id)
    task = native_id.removeprefix(number)
    return (command, f"{number}.{task[1:-1]}" if task else number)


def is_job_id(native_id: str) -> bool:
    """Whether an id can be one of Grid Engine's: ``9`` or ``9[2]``."""
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


def _survives_v(name: str, value: str) -> bool:
    return (
        _VARIABLE_NAME.fullmatch(name) is not None
        and _SPLIT_BY_V.search(value) is None
        and _size(name, value) < _LINE_LIMIT_BYTES
        and _DROPPED.fullmatch(name) is None
        and _SET_BY_GRID_ENGINE.fullmatch(name) is None
    )


def _breaks_a_line(arg: str) -> bool:
    return "\n" in arg or _size(arg) >= _LINE_LIMIT_BYTES


def _size(*texts: str) -> int:
    return sum(len(text.encode("utf-8", "surrogateescape")) for text in texts)


def _requests(spec: JobSpec) -> list[str]:
    limits = []
    if spec.wall_time_limit_seconds is not None:
        limits.append(f"h_rt={format_clock(spec.wall_time_limit_seconds)}")
    if spec.memory_limit_bytes is not None:
        # h_vmem is counted per slot; rounded up, so that a job gets at least what it asked for.
        limits.append(f"h_vmem={-(-spec.memory_limit_bytes // spec.slots)}")
    return [
        *(["-q", _word(spec.queue, "queue")] if spec.queue is not None else []),
        *(["-P", _word(spec.account, "account")] if spec.account is not None else []),
        *(["-p", str(spec.priority)] if spec.priority is not None else []),
        *(["-l", ",".join(limits)] if limits else []),
        *(["-hold_jid", ",".join(map(_predecessor, spec.depends_on))] if spec.depends_on else []),
    ]


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


def _outputs(spec: JobSpec) -> list[str]:
    """Without a path Grid Engine writes NAME.oID and NAME.eID in the working directory."""
    argv = []
    for option, path, wire in (
        ("-o", spec.stdout_path, "stdoutPath"),
        ("-e", spec.stderr_path, "stderrPath"),
    ):
        if path is not None:
            _refuse(path, wire, _CONTROL, "control characters")
            _refuse(path, wire, re.compile(","), "a comma, at which it splits lists of paths")
            _refuse(path, wire, _PSEUDO_VARIABLES, "a variable such as $HOME, which it expands")
            if any(_size(part) > _LONG_COMPONENT_BYTES for part in path.split("/")):
                raise InvalidSpec(f"A file name in the {wire} is too long.", field=wire)
            # What stands before a colon is taken for a host; nothing before it is any host.
            argv += [option, f":{path}" if ":" in path else path]
    return argv


def _directory(path: str) -> str:
    _refuse(path, "workingDirectory", _CONTROL, "control characters")
    _refuse(path, "workingDirectory", _PSEUDO_VARIABLES, "a variable such as $HOME")
    return path


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
