"""Arguments of ``sbatch``, made from a job's description; pure."""

import os
import re
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import replace

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import DependencyCondition, Gpus, JobSpec, NativeId, SubmissionKey
from hpcq.domain.layout import Layout, lay_out
from hpcq.domain.outputs import default_name, place_outputs
from hpcq.domain.units import format_clock
from hpcq.schedulers.abilities import SubmissionPlan
from hpcq.schedulers.base import ScriptDirectives
from hpcq.schedulers.slurm.outputs import job_name, output_options, output_patterns
from hpcq.schedulers.slurm.script import (
    MEMORY_OPTIONS,
    ScriptOptions,
    directive_lines,
    read_options,
    without_options,
)
from hpcq.schedulers.slurm.wrapper_script import build_wrapper

__all__ = [
    "build_sbatch",
    "build_trial",
    "build_update",
    "directives_of",
]

MEBIBYTE = 1 << 20
MAX_ARGUMENT_BYTES = 131071
"""Linux takes no longer string in an argv (MAX_ARG_STRLEN, binfmts.h)."""
MAX_ARGUMENTS_BYTES = 1_000_000
_MAX_VARIABLE_NAME_BYTES = 255
"""Slurm drops variables with a longer name (_env_array_entry_splitter in env.c)."""
_SHELL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SET_ON_NODE = re.compile(
    # Slurm's commands and what they load obey these …
    r"_?SLURM.*|S(?:BATCH|PANK)_.*|MUNGE_.*|HOME|TZ(?:DIR)?"
    # … the C library these …
    r"|LD_.*|GLIBC_TUNABLES|GCONV_PATH|LOCPATH|NLSPATH|MALLOC_.*|RES_OPTIONS|HOSTALIASES"
    r"|LOCALDOMAIN|RESOLV_.*"
    # … and a script that a site puts before sbatch these.
    r"|BASH_.*|BASHOPTS|SHELLOPTS|ENV|IFS|PYTHON.*|PERL.*|LUA_.*|SGE_.*|PBS_.*"
    # Slurm sets these itself.
    r"|HOSTNAME|ENVIRONMENT",
    re.DOTALL,
)

_CONDITIONS = {
    DependencyCondition.SUCCESS: "afterok",
    DependencyCondition.FAILURE: "afternotok",
    DependencyCondition.ANY: "afterany",
    DependencyCondition.STARTED: "after",
}


def build_sbatch(
    spec: JobSpec,
    key: SubmissionKey,
    script: bytes,
    *,
    account: Mapping[str, str],
    interpreter: str = "/bin/bash",
    site_options: Sequence[str] = (),
) -> SubmissionPlan:
    """Return the submission of one job.

    Args:
        spec: what to run.
        key: put into the job's comment, where `find` looks for it.
        script: the content of the script file.
        account: what every job of this service starts with (``PATH``, ``HOME`` …); the request's
            own variables win over it.
        site_options: options of the request that the site allows, checked.
        interpreter: runs a script that has no ``#!`` line, which sbatch does not take.

    With ``--export=ALL`` a job gets sbatch's own environment, byte for byte, in every version
    (``--export-file`` is missing in 23.11; any other ``--export`` makes Slurm load a login
    environment on the node). What would steer sbatch there, and what Slurm replaces, is set on the
    node instead (`wrapper_script`).

    Raises:
        InvalidSpec: a directive of the script cannot be honoured; or something that no process can
            be given: a NUL, text that is not Unicode, an argument above 128 KiB.
    """
    options = read_options(script).with_array(spec.array)
    options.check()
    environment = {**account, **options.environment, **spec.environment}
    carried = {
        name: value
        for name, value in environment.items()
        if _is_set_on_node(name) and account.get(name) != value
    }
    layout = _layout(spec, options)
    outputs = spec.outputs or place_outputs(
        spec, *output_patterns(spec, options, account), options.task_suffix
    )
    told, written = output_options(outputs, spec, options)
    submitted = script
    if not script.startswith(b"#!"):
        submitted = b"#!" + os.fsencode(interpreter) + b"\n" + script
    if spec.memory_limit_bytes is not None:
        submitted = without_options(submitted, MEMORY_OPTIONS)
    if carried or written or options.is_array:
        # The shell that runs the wrapper drops variables whose names it cannot have.
        carried |= {n: v for n, v in environment.items() if _SHELL_NAME.fullmatch(n) is None}
        submitted = build_wrapper(submitted, carried, **written, is_array=options.is_array)
    is_read_by_sbatch = bool(spec.script_file) and submitted == script
    argv = (
        "sbatch",
        "--parsable",
        # First: what a user can write stands behind it in the accounting's line.
        f"--comment={' '.join(filter(None, (key, options.values.get('comment'))))}",
        # One without its value would take the next word for it: that one does no harm.
        *((*site_options, "--parsable") if site_options else ()),
        f"--job-name={job_name(spec.name)}",
        f"--chdir={spec.working_directory}",
        f"--ntasks={layout.tasks}",
        *told,
        "--export=ALL",
        # The service's own ulimits are no concern of a job's.
        *(() if "propagate" in options.values else ("--propagate=NONE",)),
        *_optional(spec, layout),
        *([] if spec.array is None else [f"--array={options.values['array']}"]),
        "--",
        spec.script_file if is_read_by_sbatch else "/dev/stdin",
        *spec.args,
    )
    _check_arguments(argv)
    _check_environment(environment)
    return SubmissionPlan(
        argv=argv,
        environment={name: environment[name] for name in environment.keys() - carried.keys()},
        cwd=spec.working_directory,
        stdin=b"" if is_read_by_sbatch else submitted,
        directives=directive_lines(submitted),
    )


def build_trial(account: Mapping[str, str]) -> SubmissionPlan:
    """Return what tells whether sbatch takes the options of `build_sbatch`; it submits nothing.

    Args:
        account: as there.
    """
    options = ("--comment=hpcq", "--job-name=hpcq", "--chdir=/", "--ntasks=1")
    outputs = ("--output=/dev/null", "--error=/dev/null")
    always = ("--export=ALL", "--propagate=NONE", "--kill-on-invalid-dep=yes")
    return SubmissionPlan(
        argv=("sbatch", "--parsable", "--test-only", *options, *outputs, *always, "/dev/stdin"),
        environment=account,
        cwd="/",
        stdin=b"#!/bin/sh\n",
    )


def build_update(native_id: NativeId, spec: JobSpec, fields: Set[str]) -> tuple[str, ...]:
    """Return the ``scontrol`` that changes a pending job.

    Args:
        native_id: the job.
        spec: the job as it is to be.
        fields: those of its fields that change.
    """
    words = {
        "name": f"JobName={job_name(spec.name)}",
        "queue": f"Partition={spec.queue}",
        "account": f"Account={spec.account}",
        "priority": f"Nice={-(spec.priority or 0)}",
    }
    if spec.wall_time_limit_seconds is not None:
        words["wall_time_limit_seconds"] = f"TimeLimit={format_clock(spec.wall_time_limit_seconds)}"
    if spec.memory_limit_bytes is not None:
        mebibytes, is_per_node = _memory(spec.memory_limit_bytes, spec, lay_out(spec))
        # Without a unit, which 22.05 does not take here.
        word = "MinMemoryNode" if is_per_node else "MinMemoryCPU"
        words["memory_limit_bytes"] = f"{word}={mebibytes}"
    changes = (word for name, word in words.items() if name in fields)
    return ("scontrol", "update", f"JobId={native_id}", *changes)


def directives_of(spec: JobSpec, script: bytes, account: Mapping[str, str]) -> ScriptDirectives:
    """Return what the script decides; see `SchedulerBackend.check_script`.

    Raises:
        InvalidSpec: a directive cannot be honoured; it is named, with its line.
    """
    options = read_options(script).with_array(spec.array)
    options.check()
    _optional(spec, _layout(spec, options))
    name = options.values.get("job-name")
    named = spec if spec.name else replace(spec, name=name or default_name(spec.working_directory))
    stdout, stderr = output_patterns(named, options, account)
    return ScriptDirectives(
        name=name,
        stdout=stdout,
        stderr=stderr,
        task_suffix=options.task_suffix,
        asks_time_limit=options.asks_time_limit,
    )


def _is_set_on_node(name: str) -> bool:
    """Return whether a variable is kept from sbatch, and set where the job runs.

    It would steer sbatch or what a site runs in its place (a script), or Slurm replaces or loses
    it on its way.
    """
    is_long = len(name.encode("utf-8", "replace")) > _MAX_VARIABLE_NAME_BYTES
    return is_long or _SET_ON_NODE.fullmatch(name) is not None


def _layout(spec: JobSpec, options: ScriptOptions) -> Layout:
    """Return the places of the slots; the script's tasks stand where the request is silent."""
    if spec.cpus_per_task is None:
        tasks = options.tasks(spec.slots)
        spec = replace(spec, cpus_per_task=spec.slots // tasks)
    return lay_out(spec)


def _optional(spec: JobSpec, layout: Layout) -> list[str]:
    options = []
    if spec.queue is not None:
        options.append(f"--partition={spec.queue}")
    if spec.account is not None:
        options.append(f"--account={spec.account}")
    if spec.wall_time_limit_seconds is not None:
        # 0 would mean "no limit" (sbatch(1)).
        options.append(f"--time={format_clock(max(spec.wall_time_limit_seconds, 1))}")
    if spec.memory_limit_bytes is not None:
        mebibytes, is_per_node = _memory(spec.memory_limit_bytes, spec, layout)
        options.append(f"--mem={mebibytes}M" if is_per_node else f"--mem-per-cpu={mebibytes}M")
    if layout.nodes is not None:
        options.append(f"--nodes={layout.nodes}")
        options.append(f"--ntasks-per-node={layout.tasks_per_node}")
    if spec.cpus_per_task is not None:
        options.append(f"--cpus-per-task={spec.cpus_per_task}")
    if spec.gpus is not None:
        options.append(f"--gpus={_gpus(spec.gpus)}")
    if spec.exclusive:
        options.append("--exclusive")
    if spec.qos is not None:
        options.append(f"--qos={spec.qos}")
    if spec.reservation is not None:
        options.append(f"--reservation={spec.reservation}")
    if spec.constraints:
        options.append(f"--constraint={'&'.join(spec.constraints)}")
    if spec.mail_to is not None:
        options.append(f"--mail-user={spec.mail_to}")
        options.append(f"--mail-type={','.join(spec.mail_on).upper() or 'NONE'}")
    if spec.priority:
        # --priority is ignored for all but operators, without a word; --nice is not.
        options.append(f"--nice={-spec.priority}")
    if spec.hold:
        options.append("--hold")
    if spec.depends_on:
        wanted = (f"{_CONDITIONS[job.condition]}:{job.native_id}" for job in spec.depends_on)
        # A job that can never start is ended, as other schedulers do.
        options += [f"--dependency={','.join(wanted)}", "--kill-on-invalid-dep=yes"]
    return options


def _gpus(gpus: Gpus) -> str:
    return str(gpus.count) if gpus.type is None else f"{gpus.type}:{gpus.count}"


def _memory(memory_bytes: int, spec: JobSpec, layout: Layout) -> tuple[int, bool]:
    """Return a memory limit in MiB, and whether it is of each node, not of each CPU."""
    # --mem is per node. The limit is the whole job's, whose slots may lie on several nodes.
    nodes = 1 if spec.slots == 1 else layout.nodes
    if nodes is None and spec.exclusive:
        # Slurm multiplies --mem-per-cpu by all CPUs of the nodes (seen in 22.05).
        raise InvalidSpec(
            "With exclusive, Slurm limits the memory of each node: say how many there are in"
            " nodes.",
            field="memoryLimit",
        )
    # 0 would mean "all memory of the node".
    return max(-(-memory_bytes // ((nodes or spec.slots) * MEBIBYTE)), 1), nodes is not None


def _check_arguments(argv: Collection[str]) -> None:
    sizes = [len(_encode(text, None)) for text in argv]
    if max(sizes) > MAX_ARGUMENT_BYTES or sum(sizes) > MAX_ARGUMENTS_BYTES:
        raise InvalidSpec(
            "The arguments are too long: 128 KiB each, 1 MB all together.", field="args"
        )


def _check_environment(variables: Mapping[str, str]) -> None:
    if any(not name or "=" in name for name in variables):
        raise InvalidSpec("A variable's name is empty or holds '='.", field="environment")
    sizes = [len(_encode(f"{n}={v}", "environment")) for n, v in variables.items()]
    if max(sizes, default=0) > MAX_ARGUMENT_BYTES or sum(sizes) > MAX_ARGUMENTS_BYTES:
        raise InvalidSpec(
            "The environment is too large: 128 KiB a variable, 1 MB all together.",
            field="environment",
        )


def _encode(text: str, field: str | None) -> bytes:
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InvalidSpec("The text is not valid Unicode.", field=field) from None
    if b"\0" in data:
        raise InvalidSpec("The text holds a NUL character.", field=field)
    return data
