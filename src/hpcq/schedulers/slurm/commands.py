"""Slurm's orders as argv: submit, end, hold, release. Pure functions, nothing is run here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import DependencyCondition, JobSpec, NativeId, SubmissionKey
from hpcq.domain.units import format_clock

__all__ = [
    "Submission",
    "build_hold",
    "build_release",
    "build_sbatch",
    "build_scancel",
    "default_output_name",
    "job_name",
    "literal_path",
]

MEBIBYTE = 1 << 20
MAX_ARGUMENT_BYTES = 131071
"""Linux takes no longer string in an argv (MAX_ARG_STRLEN, binfmts.h)."""
MAX_ARGUMENTS_BYTES = 1_000_000
MAX_NAME_BYTES = 200
"""A file name may have 255 bytes, and ``.o`` with the job's id has to fit behind the name."""

_CONDITIONS = {
    DependencyCondition.SUCCESS: "afterok",
    DependencyCondition.FAILURE: "afternotok",
    DependencyCondition.ANY: "afterany",
    DependencyCondition.STARTED: "after",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A submission ready to run.

    Attributes:
        argv: sbatch and its arguments.
        stdin: the job's environment, ``NAME=value`` each ended by a NUL.
    """

    argv: tuple[str, ...]
    stdin: bytes


def build_sbatch(spec: JobSpec, key: SubmissionKey, environment: Mapping[str, str]) -> Submission:
    """Return the submission of one job.

    Args:
        spec: what to run.
        key: put into the job's comment, where `find` looks for it.
        environment: what every job of this service starts with (``PATH``, ``HOME`` …); the
            request's own variables win over it.

    The environment goes through ``--export-file`` (sbatch(1)) on standard input: values arrive
    byte for byte, and sbatch itself, which obeys ``SBATCH_*``, ``SLURM_*`` and ``LD_PRELOAD``,
    never sees them. ``--export=ALL`` means all of that file then; anything else makes Slurm load
    a login environment on the node, which takes seconds and adds to what was asked for.

    Raises:
        InvalidSpec: something that no process can be given: a NUL, text that is not Unicode, an
            argument above 128 KiB.
    """
    name = job_name(spec.name)
    stdout = spec.stdout_path and literal_path(spec.stdout_path)
    stderr = spec.stderr_path and literal_path(spec.stderr_path)
    argv = [
        "sbatch",
        "--parsable",
        f"--comment={key}",
        f"--job-name={name}",
        f"--chdir={spec.working_directory}",
        f"--ntasks={spec.slots}",
        f"--output={stdout or default_output_name(spec.name, 'o')}",
        f"--error={stderr or default_output_name(spec.name, 'e')}",
        "--export=ALL",
        "--export-file=/dev/stdin",
        # The service's own ulimits are no concern of a job's.
        "--propagate=NONE",
        *_optional(spec),
        "--",
        spec.script_file,
        *spec.args,
    ]
    _check_arguments(argv)
    variables = {**environment, "SLURM_JOB_NAME": name, **spec.environment}
    return Submission(argv=tuple(argv), stdin=_environment_file(variables))


def _optional(spec: JobSpec) -> list[str]:
    options = []
    if spec.queue is not None:
        options.append(f"--partition={spec.queue}")
    if spec.account is not None:
        options.append(f"--account={spec.account}")
    if spec.wall_time_limit_seconds is not None:
        # 0 would mean "no limit" (sbatch(1)).
        options.append(f"--time={format_clock(max(spec.wall_time_limit_seconds, 1))}")
    if spec.memory_limit_bytes is not None:
        options.append(_memory_option(spec.memory_limit_bytes, spec.slots))
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


def _memory_option(memory_bytes: int, slots: int) -> str:
    # --mem is per node. The limit is the whole job's, whose slots may lie on several nodes.
    # 0 would mean "all memory of the node".
    mebibytes = max(-(-memory_bytes // (slots * MEBIBYTE)), 1)
    return f"--mem={mebibytes}M" if slots == 1 else f"--mem-per-cpu={mebibytes}M"


def job_name(name: str) -> str:
    """Return the name as Slurm gets it: without control characters, at most 200 bytes.

    Slurm would take a newline, and every listing made for people would break on it.
    """
    printable = "".join(c if c.isprintable() else "_" for c in name)
    return _cut(printable, MAX_NAME_BYTES) or "job"


def default_output_name(name: str, kind: str) -> str:
    r"""Return the pattern of ``NAME.oID`` or ``NAME.eID`` as sbatch wants it.

    ``/`` and ``\`` become ``_``: the first would name a directory, the second makes Slurm leave
    all patterns alone (sbatch(1), FILENAME PATTERN).

    Args:
        name: the job's name as the user gave it.
        kind: ``o`` or ``e``.
    """
    flat = job_name(name).replace("/", "_").replace("\\", "_")
    return f"{flat.replace('%', '%%')}.{kind}%j"


def literal_path(path: str) -> str:
    r"""Return a path so that Slurm takes it as it is.

    A backslash anywhere turns patterns off and is itself removed, once (seen in 22.05).
    """
    return path.replace("\\", "\\\\") if "\\" in path else path.replace("%", "%%")


def _cut(text: str, limit_bytes: int) -> str:
    return text.encode("utf-8", "replace")[:limit_bytes].decode("utf-8", "ignore")


def _check_arguments(argv: Iterable[str]) -> None:
    sizes = [len(_encode(text, None)) for text in argv]
    if max(sizes) > MAX_ARGUMENT_BYTES or sum(sizes) > MAX_ARGUMENTS_BYTES:
        raise InvalidSpec(
            "The arguments are too long: 128 KiB each, 1 MB all together.", field="args"
        )


def _environment_file(variables: Mapping[str, str]) -> bytes:
    if any(not name or "=" in name for name in variables):
        raise InvalidSpec("A variable's name is empty or holds '='.", field="environment")
    entries = (f"{name}={value}" for name, value in variables.items())
    return b"".join(_encode(entry, "environment") + b"\0" for entry in entries)


def _encode(text: str, field: str | None) -> bytes:
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InvalidSpec("The text is not valid Unicode.", field=field) from None
    if b"\0" in data:
        raise InvalidSpec("The text holds a NUL character.", field=field)
    return data


def build_scancel(native_id: NativeId) -> tuple[str, ...]:
    """Return the argv that ends a job.

    Without ``--verbose`` scancel is silent about an unknown id and exits 0 (seen in 22.05).
    """
    return ("scancel", "--verbose", native_id)


def build_hold(native_id: NativeId) -> tuple[str, ...]:
    """Return the argv that holds a job, so that its owner can release it (scontrol(1))."""
    return ("scontrol", "uhold", native_id)


def build_release(native_id: NativeId) -> tuple[str, ...]:
    """Return the argv that releases a job."""
    return ("scontrol", "release", native_id)
