"""Arguments of Torque's commands, made from a job's description; pure."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence, Set

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import (
    Dependency,
    DependencyCondition,
    JobSpec,
    NativeId,
    SubmissionKey,
)
from hpcq.schedulers.abilities import SubmissionPlan
from hpcq.schedulers.command_line import check_environment
from hpcq.schedulers.pbs_family.actions import build_alteration
from hpcq.schedulers.pbs_family.choices import Choices
from hpcq.schedulers.pbs_family.wrapper_script import build_wrapper
from hpcq.schedulers.torque.outputs import is_simple
from hpcq.schedulers.torque.qstat_job import KEY_VARIABLE
from hpcq.schedulers.torque.script import acceptable_name, limits_of
from hpcq.schedulers.torque.states import WRAPPED_SIGNAL

__all__ = [
    "build_alterations",
    "build_change",
    "build_qdel_tasks",
    "build_qstat",
    "build_qsub",
    "dependencies",
]

_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/+-]*")
_LEAST_PRIORITY, _MOST_PRIORITY = -1024, 1023
_AFTER: Mapping[DependencyCondition, str] = {
    DependencyCondition.SUCCESS: "afterok:{}",
    DependencyCondition.FAILURE: "afternotok:{}",
    DependencyCondition.ANY: "afterany:{}",
    DependencyCondition.STARTED: "after:{}",
}
# An array has failed when one of its jobs has and all are over.
_AFTER_ARRAY: Mapping[DependencyCondition, str] = {
    DependencyCondition.SUCCESS: "afterokarray:{}",
    DependencyCondition.FAILURE: "afternotokarray:{0}[1],afteranyarray:{0}",
    DependencyCondition.ANY: "afteranyarray:{}",
    DependencyCondition.STARTED: "afterstartarray:{}[1]",
}


def build_qsub(
    spec: JobSpec,
    key: SubmissionKey,
    script: bytes,
    choices: Choices,
    *,
    arrays: Collection[NativeId] = (),
    job_shell: str | None = None,
    site_options: Sequence[str] = (),
) -> SubmissionPlan:
    """Return the ``qsub`` that submits a job, marked with its key.

    The key is a variable of the job (``-v``), which ``qstat`` shows there and in the command line
    of the submission; the script does not get it. Arguments, variables, odd directories and odd
    output paths are brought by a wrapper.

    Args:
        spec: the job.
        key: its mark.
        script: the content of its script file.
        choices: what the request and the script decide.
        arrays: which of the jobs that it depends on are arrays.
        job_shell: the interpreter of a script that names none; None for the account's own.
        site_options: options of the request that the site allows, checked.

    Raises:
        InvalidSpec: a value that Torque would read as something else.
    """
    environment = {**choices.variables, **spec.environment}
    check_environment(environment)
    _check_request(spec)
    simple = is_simple(spec.working_directory)
    argv = (
        "qsub",
        *site_options,
        *("-v", f"{KEY_VARIABLE}={key}"),
        *("-N", acceptable_name(choices.name)),
        *("-S", "/bin/sh"),
        *(("-d", spec.working_directory) if simple else ()),
        *("-l", ",".join(choices.requests)),
        *_option("-q", choices.queue),
        *_option("-A", choices.account),
        *_option("-p", choices.priority),
        *choices.outputs.options,
        *(("-h",) if choices.hold else ()),
        *_option("-t", choices.array),
        *(("-W", f"depend={dependencies(spec.depends_on, arrays)}") if spec.depends_on else ()),
        *choices.others,
    )
    wrapper = build_wrapper(
        script,
        choices.args,
        {"PBS_O_WORKDIR": spec.working_directory, **environment},
        directory=spec.working_directory,
        stdout_path=choices.outputs.stdout_path,
        stderr_path=choices.outputs.stderr_path,
        forgotten=(KEY_VARIABLE,),
        task_variable=None if choices.array is None else "PBS_ARRAYID",
        sweeps_home="-k" in choices.outputs.options,
        signal_offset=WRAPPED_SIGNAL,
        default_shell=choices.shell or job_shell,
    )
    return SubmissionPlan(argv=argv, cwd=spec.working_directory if simple else "/", stdin=wrapper)


def _option(name: str, value: str | None) -> tuple[str, ...]:
    return () if value is None else (name, value)


def dependencies(depends_on: Iterable[Dependency], arrays: Collection[NativeId]) -> str:
    """Return the value of ``depend``: ``afterok:45,afteranyarray:46[]``.

    Args:
        depends_on: the jobs that have to come first.
        arrays: which of them are arrays.
    """
    return ",".join(
        _AFTER_ARRAY[one.condition].format(_brackets(one.native_id))
        if one.native_id in arrays
        else _AFTER[one.condition].format(one.native_id)
        for one in depends_on
    )


def _brackets(native_id: NativeId) -> str:
    number, dot, server = native_id.partition(".")
    return f"{number}[]{dot}{server}"


def build_change(
    command: tuple[str, ...], native_id: NativeId, *, is_array: bool
) -> tuple[str, ...]:
    """Return ``qdel``, ``qhold`` and the like of one job, of one job of an array, or of an array.

    These take ``45[]`` for that array; ``qstat`` without ``-t`` would show every job there is.
    """
    return (*command, _brackets(native_id) if is_array else native_id)


def build_alterations(spec: JobSpec, fields: Set[str]) -> list[tuple[str, ...]]:
    """Return the commands that change a queued job, without the job.

    Args:
        spec: the job as it is to be.
        fields: those of its fields that change.

    Raises:
        InvalidSpec: a value that Torque would read as something else.
    """
    _check_request(spec)
    limits = {name: word for name, word in limits_of(spec).items() if name in fields}
    return build_alteration(
        spec, fields, acceptable_name(spec.name), [",".join(limits.values())] if limits else []
    )


def build_qdel_tasks(array: NativeId, ranges: Sequence[str]) -> tuple[str, ...]:
    """Return the ``qdel`` of some jobs of an array (recording qdel.array-t).

    The ranges are written as those of ``qsub -t`` (README.array_changes of Torque 2.5).
    """
    return ("qdel", "-t", ",".join(ranges), _brackets(array))


def build_qstat(*ids: NativeId, are_arrays: bool = False) -> tuple[str, ...]:
    """Return the query for some jobs, or for the whole queue with each job of its arrays.

    Args:
        ids: the jobs; none for all.
        are_arrays: whether they are arrays, all of whose jobs are meant: only together with
            ``-t`` does ``45[]`` mean that array (recording qstat-f-t.id-array-parent).
    """
    if are_arrays:
        return ("qstat", "-x", "-t", *map(_brackets, ids))
    return ("qstat", "-x", *ids) if ids else ("qstat", "-x", "-t")


def _check_request(spec: JobSpec) -> None:
    for name, wire, pattern in (
        (spec.queue, "queue", _WORD),
        (spec.account, "account", _ACCOUNT),
    ):
        if name is not None and pattern.fullmatch(name) is None:
            raise InvalidSpec(f"{name!r} cannot be a name in Torque.", field=wire)
    if spec.priority is not None and not _LEAST_PRIORITY <= spec.priority <= _MOST_PRIORITY:
        raise InvalidSpec(
            f"The priority is {spec.priority}; Torque takes {_LEAST_PRIORITY} to {_MOST_PRIORITY}.",
            field="priority",
        )
