"""Arguments of PBS's commands, made from a job's description; pure."""

import re
from collections.abc import Collection, Sequence, Set

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import DependencyCondition, JobSpec, NativeId, SubmissionKey
from hpcq.schedulers.command_line import check_environment
from hpcq.schedulers.pbs.qstat_job import KEY_VARIABLE
from hpcq.schedulers.pbs.resources import choose_limits
from hpcq.schedulers.pbs.script import acceptable_name
from hpcq.schedulers.pbs_family.actions import build_alteration
from hpcq.schedulers.pbs_family.choices import Choices
from hpcq.schedulers.pbs_family.wrapper_script import build_wrapper

__all__ = [
    "build_alterations",
    "build_qdel_tasks",
    "build_qstat",
    "build_qsub",
    "build_stdin",
    "job_word",
]

_CONDITIONS = {
    DependencyCondition.SUCCESS: "afterok",
    DependencyCondition.FAILURE: "afternotok",
    DependencyCondition.ANY: "afterany",
    DependencyCondition.STARTED: "after",
}
_QUEUE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:+/-]*")
# Shells that can read the wrapper; for others PBS is told to take /bin/sh.
_BOURNE_SHELLS = frozenset({"sh", "bash", "dash", "ksh", "mksh", "zsh", "ash"})


def build_qsub(
    spec: JobSpec,
    choices: Choices,
    key: SubmissionKey,
    *,
    key_is_account: bool,
    arrays: Collection[NativeId] = (),
    login_shell: str | None = None,
    site_options: Sequence[str] = (),
) -> tuple[str, ...]:
    """Return the ``qsub`` that reads the job from standard input, marked with its key.

    ``-f`` has it speak to the server itself: the background process that otherwise does has
    answered with the error of an earlier call (recordings qsub.stale-*).

    Args:
        spec: the job.
        choices: what it and its script ask for.
        key: stands in the variable ``HPCQ_KEY``, which ``qstat -f`` shows there and in the
            command line of the submission; the script does not get it.
        key_is_account: whether the key is the account too, unless the job has one. The
            accounting keeps it.
        arrays: which of the jobs that it waits for are whole arrays.
        login_shell: the account's own, which PBS gives the wrapper to.
        site_options: options of the request that the site allows, checked.

    Raises:
        InvalidSpec: a value that PBS would read as something else.
    """
    _check_names(spec)
    account = choices.account or (key if key_is_account else None)
    is_bourne = login_shell is None or login_shell.rpartition("/")[2] in _BOURNE_SHELLS
    return (
        "qsub",
        "-f",
        *site_options,
        *("-v", f"{KEY_VARIABLE}={key}"),
        *("-N", acceptable_name(choices.name)),
        *(word for request in choices.requests for word in ("-l", request)),
        *(["-q", choices.queue] if choices.queue is not None else []),
        *(["-A", account] if account is not None else []),
        *(["-p", choices.priority] if choices.priority is not None else []),
        *choices.outputs.options,
        *(["-h"] if choices.hold else []),
        *(["-J", choices.array] if choices.array is not None else []),
        *(["-W", f"depend={_dependencies(spec, arrays)}"] if spec.depends_on else []),
        *choices.others,
        *([] if is_bourne else ["-S", "/bin/sh"]),
    )


def _check_names(spec: JobSpec) -> None:
    for value, wire, pattern in (
        (spec.queue, "queue", _QUEUE),
        (spec.account, "account", _ACCOUNT),
    ):
        if value is not None and pattern.fullmatch(value) is None:
            raise InvalidSpec(f"{value!r} cannot be the name of a {wire} in PBS.", field=wire)


def build_alterations(spec: JobSpec, fields: Set[str], select: str | None) -> list[tuple[str, ...]]:
    """Return the commands that change a queued job, without the job.

    Args:
        spec: the job as it is to be.
        fields: those of its fields that change.
        select: the chunks that it asks for now.

    Raises:
        InvalidSpec: a value that PBS would read as something else.
    """
    _check_names(spec)
    limits = list(choose_limits(spec, fields, select))
    return build_alteration(spec, fields, acceptable_name(spec.name), limits)


def build_stdin(
    spec: JobSpec, choices: Choices, script: bytes, job_shell: str | None = None
) -> bytes:
    """Return what ``qsub`` reads: the user's script in a wrapper.

    PBS starts jobs in the home directory; its ``-v`` doubles backslashes, loses quotes and may
    die of a comma; a script cannot be given arguments. The wrapper brings all three, and writes
    to the outputs whose paths PBS would read as something else.

    Args:
        spec: the job.
        choices: what it and its script ask for.
        script: the content of the script.
        job_shell: the interpreter of scripts that name none; None for the account's own shell,
            as PBS has it.

    Raises:
        InvalidSpec: no environment can hold a variable.
    """
    check_environment(spec.environment)
    return build_wrapper(
        script,
        choices.args,
        {**choices.variables, **spec.environment},
        directory=spec.working_directory,
        stdout_path=choices.outputs.stdout_path,
        stderr_path=choices.outputs.stderr_path,
        # Jobs that this one submits with its environment must not carry its key.
        forgotten=(KEY_VARIABLE,),
        task_variable=None if choices.array is None else "PBS_ARRAY_INDEX",
        shell=choices.shell,
        default_shell=job_shell,
    )


def job_word(native_id: NativeId, arrays: Collection[NativeId] = ()) -> str:
    """Return an id as PBS's commands take it: that of a whole array with its brackets.

    >>> job_word(NativeId("45"), arrays=[NativeId("45")])
    '45[]'
    """
    return f"{native_id}[]" if native_id in arrays and native_id.isdigit() else native_id


def build_qdel_tasks(array: NativeId, ranges: Sequence[str]) -> tuple[str, ...]:
    """Return the ``qdel`` of some tasks of an array (recording qdel.array-range)."""
    return ("qdel", *(f"{array}[{tasks}]" for tasks in ranges))


def build_qstat(
    words: Sequence[str],
    delimiter: str,
    *,
    history: bool = False,
    tasks: bool = False,
    grouped: bool = True,
) -> tuple[str, ...]:
    """Return the ``qstat`` that prints all jobs, or these, in its delimiter format.

    Args:
        words: the ids as PBS has them; none for all jobs, the tasks of arrays included.
        delimiter: stands between the attributes.
        history: whether finished jobs are printed too.
        tasks: whether the tasks of a whole array are printed too.
        grouped: whether the server is asked about all ids at once (``-E``).
    """
    with_tasks = tasks or not words
    return (
        "qstat",
        *(["-x"] if history else []),
        *(["-t"] if with_tasks else ["-E"] if grouped else []),
        *("-f", "-F", "dsv", "-D", delimiter),
        *words,
    )


def _dependencies(spec: JobSpec, arrays: Collection[NativeId]) -> str:
    """Return ``afterok:45:46[],afterany:47``."""
    groups: dict[str, list[str]] = {}
    for dependency in spec.depends_on:
        word = job_word(dependency.native_id, arrays)
        groups.setdefault(_CONDITIONS[dependency.condition], []).append(word)
    return ",".join(":".join([condition, *words]) for condition, words in groups.items())
