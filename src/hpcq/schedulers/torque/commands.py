"""From a job's description to the arguments of Torque's commands; pure."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import (
    ArrayRange,
    Dependency,
    DependencyCondition,
    JobSpec,
    NativeId,
    SubmissionKey,
)
from hpcq.execution.leftovers import marked
from hpcq.schedulers.pbs_family.carrier import ARRAY_INDEX, JOB_NUMBER, build_carrier
from hpcq.schedulers.torque.attributes import KEY_VARIABLE
from hpcq.schedulers.torque.states import CARRIED_SIGNAL

__all__ = [
    "Submission",
    "acceptable_name",
    "array_range",
    "build_change",
    "build_qstat",
    "build_qsub",
    "check_template",
    "dependencies",
    "resources",
]

_NAME_LIMIT = 200
"""Characters of a job name: Torque takes 236; with ``.o`` and a number it has to fit a file."""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._+-]+")
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/+-]*")
# Of other characters in paths Torque makes hosts, lists, variables, or undelivered output.
_SIMPLE_PATH = re.compile(r"/[A-Za-z0-9._/+-]{0,1000}")
_LEAST_PRIORITY, _MOST_PRIORITY = -1024, 1023
_PLACEHOLDERS = frozenset({"slots", "nodes", "ppn"})
_TEMPLATE = re.compile(r"[A-Za-z0-9_=:+,.{}#-]+")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_THROWN_AWAY = "/dev/null"
_LONGEST_RANGE = 60_000
"""Characters of ``-t``: half of what one argument of a command may have."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One ``qsub``.

    Attributes:
        argv: the command; it reads the script from its standard input.
        cwd: where it runs.
        stdout_path: where the script writes itself, because Torque could not be told so; may
            hold `JOB_NUMBER`.
        stderr_path: the same for its errors.
        environment: what the script is given.
    """

    argv: tuple[str, ...]
    cwd: str
    stdout_path: str | None
    stderr_path: str | None
    environment: Mapping[str, str]

    def carry(self, spec: JobSpec, script: bytes) -> bytes:
        """Return what ``qsub`` reads, for the content of the script file."""
        return build_carrier(
            script,
            spec.args,
            self.environment,
            directory=spec.working_directory,
            stdout_path=self.stdout_path,
            stderr_path=self.stderr_path,
            forgotten=(KEY_VARIABLE, *marked("")),
            task="${PBS_ARRAYID:+-$PBS_ARRAYID}",
            sweeps_home=spec.array is not None,
            signal_offset=CARRIED_SIGNAL,
        )


def build_qsub(
    spec: JobSpec,
    key: SubmissionKey,
    *,
    template: str,
    slots_per_node: int | None,
    arrays: Collection[NativeId] = (),
) -> Submission:
    """Return the ``qsub`` that submits a job, marked with its key.

    The key is a variable of the job (``-v``), which ``qstat`` shows there and in the command line
    of the submission; the script does not get it. Arguments, variables, odd directories and odd
    output paths are brought by a carrier.

    Args:
        spec: the job.
        key: its mark.
        template: how slots are asked for, see `resources`.
        slots_per_node: how many slots a host has; None: as many as any job asks for.
        arrays: which of the jobs that it depends on are arrays.

    Raises:
        InvalidSpec: a value that Torque would read as something else.
    """
    _check_environment(spec.environment)
    name = acceptable_name(spec.name)
    simple = _is_simple(spec.working_directory)
    outputs = _Outputs.of(spec, name, is_simple=simple)
    argv = (
        "qsub",
        *("-v", f"{KEY_VARIABLE}={key}"),
        *("-N", name),
        *("-S", "/bin/sh"),
        *(("-d", spec.working_directory) if simple else ()),
        *("-l", ",".join([resources(template, spec.slots, slots_per_node), *_limits(spec)])),
        *(("-q", _word(spec.queue, "queue", _WORD)) if spec.queue is not None else ()),
        *(("-A", _word(spec.account, "account", _ACCOUNT)) if spec.account is not None else ()),
        *(("-p", _priority(spec.priority)) if spec.priority is not None else ()),
        *outputs.options,
        *(("-h",) if spec.hold else ()),
        *(("-t", array_range(spec.array)) if spec.array is not None else ()),
        *(("-W", f"depend={dependencies(spec.depends_on, arrays)}") if spec.depends_on else ()),
    )
    return Submission(
        argv=argv,
        cwd=spec.working_directory if simple else "/",
        stdout_path=outputs.stdout_path,
        stderr_path=outputs.stderr_path,
        environment={"PBS_O_WORKDIR": spec.working_directory, **spec.environment},
    )


def acceptable_name(name: str) -> str:
    """Return a job name that every Torque takes: ``2024/run 1`` becomes ``J2024_run_1``.

    6.1.3 refuses blanks and what is not ASCII, older releases a leading digit too.
    """
    cleaned = _NOT_IN_NAMES.sub("_", name)
    if not cleaned[:1].isalpha():
        cleaned = "J" + cleaned
    return cleaned[:_NAME_LIMIT]


def array_range(array: ArrayRange) -> str:
    """Return what ``-t`` takes: ``1-5%2``; with a step a list, for Torque knows none.

    Raises:
        InvalidSpec: the list is too long for a command.
    """
    whole = f"{array.first}-{array.last}"
    text = whole if array.step == 1 else ",".join(map(str, array.tasks))
    if len(text) > _LONGEST_RANGE:
        raise InvalidSpec(
            "Torque knows no step, and the list of so many jobs is too long for it.",
            field="array",
        )
    return text if array.max_running is None else f"{text}%{array.max_running}"


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


def resources(template: str, slots: int, slots_per_node: int | None) -> str:
    """Return the request for a number of slots: ``nodes=2:ppn=4``.

    Args:
        template: may hold ``{slots}``, ``{nodes}`` and ``{ppn}``.
        slots: how many.
        slots_per_node: what a host has. All hosts get the same number, so that slots which do
            not divide evenly are rounded up: 10 slots on hosts of 4 are ``nodes=3:ppn=4``.
    """
    nodes = 1 if slots_per_node is None else -(-slots // slots_per_node)
    return template.format(slots=slots, nodes=nodes, ppn=-(-slots // nodes))


def check_template(template: str) -> None:
    """Return if a template can be used.

    Raises:
        ValueError: it says in words why not.
    """
    names = set(_PLACEHOLDER.findall(template))
    rest = _PLACEHOLDER.sub("", template)
    if names - _PLACEHOLDERS or "{" in rest or "}" in rest:
        raise ValueError("it may hold {slots}, {nodes} and {ppn}, and no other braces")
    if not names:
        raise ValueError("it holds none of {slots}, {nodes} and {ppn}: every job would be alike")
    if _TEMPLATE.fullmatch(template) is None or template.startswith("-"):
        raise ValueError("it is not a resource list such as nodes={nodes}:ppn={ppn}")


def build_change(command: str, native_id: NativeId, *, is_array: bool) -> tuple[str, ...]:
    """Return ``qdel``, ``qhold`` or ``qrls`` of one job, of one job of an array, or of an array.

    These take ``45[]`` for that array; ``qstat`` without ``-t`` would show every job there is.
    """
    return (command, _brackets(native_id) if is_array else native_id)


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


@dataclass(frozen=True, slots=True)
class _Outputs:
    """Where output goes: what ``qsub`` is told, and what the script does itself."""

    options: tuple[str, ...] = ()
    stdout_path: str | None = None
    stderr_path: str | None = None

    @classmethod
    def of(cls, spec: JobSpec, name: str, *, is_simple: bool) -> "_Outputs":
        options: list[str] = []
        kept = ""
        own: list[str | None] = []
        for option, letter, path in (
            ("-o", "o", spec.stdout_path),
            ("-e", "e", spec.stderr_path),
        ):
            if path is None and is_simple:
                own.append(None)  # NAME.oID in the working directory
                continue
            where = f"{name}.{letter}{JOB_NUMBER}" if path is None else path
            if path is not None and is_simple and not path.startswith("/"):
                where = f"{spec.working_directory}/{path}"
            is_thrown_away = where == _THROWN_AWAY
            if path is not None and _is_simple(where) and not (is_thrown_away and spec.array):
                options += [option, where]
                own.append(None)
            elif spec.array is None:
                options += [option, _THROWN_AWAY]
                own.append(where)
            else:
                # Torque adds the index to every path: /dev/null-2 is no place to throw things.
                kept += letter
                own.append(where if is_thrown_away else where + ARRAY_INDEX)
        options += ["-k", kept] if kept else []
        return cls(tuple(options), own[0], own[1])


def _is_simple(path: str) -> bool:
    return _SIMPLE_PATH.fullmatch(path) is not None and all(len(p) < 256 for p in path.split("/"))


def _limits(spec: JobSpec) -> list[str]:
    limits = []
    if spec.wall_time_limit_seconds is not None:
        limits.append(f"walltime={spec.wall_time_limit_seconds}")
    if spec.memory_limit_bytes is not None:
        limits.append(f"mem={-(-spec.memory_limit_bytes // 1024)}kb")
    return limits


def _check_environment(environment: Mapping[str, str]) -> None:
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name + value:
            raise InvalidSpec(
                f"{name!r} cannot be the name of an environment variable, or its value holds a"
                " NUL character.",
                field="environment",
            )


def _priority(priority: int) -> str:
    if not _LEAST_PRIORITY <= priority <= _MOST_PRIORITY:
        raise InvalidSpec(
            f"The priority is {priority}; Torque takes {_LEAST_PRIORITY} to {_MOST_PRIORITY}.",
            field="priority",
        )
    return str(priority)


def _word(text: str, wire: str, pattern: re.Pattern[str]) -> str:
    if pattern.fullmatch(text) is None:
        raise InvalidSpec(f"{text!r} cannot be a name in Torque.", field=wire)
    return text
