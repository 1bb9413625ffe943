"""From a job's description to the arguments of PBS's commands; pure."""

import re
import string
from collections.abc import Collection, Iterable, Iterator

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import ArrayRange, DependencyCondition, JobSpec, NativeId, SubmissionKey
from hpcq.domain.units import format_clock
from hpcq.schedulers.pbs_family.carrier import ARRAY_INDEX, build_carrier

__all__ = [
    "KEY_VARIABLE",
    "acceptable_name",
    "build_change",
    "build_qstat",
    "build_qsub",
    "build_stdin",
    "check_resources",
    "has_memory",
    "job_word",
]

KEY_VARIABLE = "HPCQ_KEY"
_SLOTS = frozenset({"select", "nodes", "ncpus", "mpiprocs"})
"""What asks for slots with ``-l``: PBS refuses most of them beside each other."""
_TASK = "^array_index^"
"""PBS puts the number of the task for it in the paths of outputs."""
_CONDITIONS = {
    DependencyCondition.SUCCESS: "afterok",
    DependencyCondition.FAILURE: "afternotok",
    DependencyCondition.ANY: "afterany",
    DependencyCondition.STARTED: "after",
}

_NAME_LIMIT = 230
"""Characters of a job name (recording qsub.name-too-long-231)."""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._+-]+")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./@+=-]*(?<!/)")
_QUEUE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:+/-]*")
_PLACEHOLDERS = frozenset({"slots", "memory", "memory_per_slot"})
_KIBIBYTE = 1024

_DIRECTIVE = re.compile(rb"[ \t]*#PBS\b")
_NOT_EXECUTABLE = re.compile(rb":|#!|\s*(?:#|$)")
_VARIABLES_DIRECTIVE = re.compile(rb"[ \t]-v[ \t]*([^ \t\r\n'\"\\]+)")


def build_qsub(
    spec: JobSpec,
    key: SubmissionKey,
    script: bytes,
    *,
    resources: str,
    key_is_account: bool,
    arrays: Collection[NativeId] = (),
) -> tuple[str, ...]:
    """Return the ``qsub`` that reads the job from standard input, marked with its key.

    ``-f`` has it speak to the server itself: the background process that otherwise does has
    answered with the error of an earlier call (recordings qsub.stale-*).

    Args:
        spec: the job.
        key: stands in the variable ``HPCQ_KEY``, which ``qstat -f`` shows.
        script: the content of the user's script; variables that its own ``#PBS -v`` names stay.
        resources: what ``-l`` asks for, see `check_resources`.
        key_is_account: whether the key is the account too, unless the job has one. The
            accounting keeps it.
        arrays: which of the jobs that it waits for are whole arrays.

    Raises:
        InvalidSpec: a value that PBS would read as something else.
    """
    account = spec.account if spec.account is not None else key if key_is_account else None
    return (
        "qsub",
        "-f",
        *("-N", acceptable_name(spec.name)),
        *(word for request in _requests(spec, resources) for word in ("-l", request)),
        *(["-q", _name(spec.queue, "queue", _QUEUE)] if spec.queue is not None else []),
        *(["-A", _name(account, "account", _ACCOUNT)] if account is not None else []),
        *(["-p", str(spec.priority)] if spec.priority is not None else []),
        *_outputs(spec),
        *(["-h"] if spec.hold else []),
        *(["-J", _range(spec.array)] if spec.array is not None else []),
        *(["-W", f"depend={_dependencies(spec, arrays)}"] if spec.depends_on else []),
        *("-v", ",".join((*_own_variables(script), f"{KEY_VARIABLE}={key}"))),
    )


def build_stdin(spec: JobSpec, script: bytes) -> bytes:
    """Return what ``qsub`` reads: the user's script in a carrier.

    PBS starts jobs in the home directory; its ``-v`` doubles backslashes, loses quotes and may
    die of a comma; a script cannot be given arguments. The carrier brings all three, and writes
    to the outputs whose paths PBS would read as something else.

    Raises:
        InvalidSpec: no environment can hold a variable, or the script has the line ends of DOS,
            which PBS refuses.
    """
    if b"\r\n" in script:
        raise InvalidSpec(
            "PBS refuses scripts with the line ends of DOS (CR LF); convert it with dos2unix.",
            field="scriptFile",
        )
    for name, value in spec.environment.items():
        if not name or "=" in name or "\0" in name + value:
            raise InvalidSpec(
                f"{name!r} cannot be the name of an environment variable, or its value holds a"
                " NUL character.",
                field="environment",
            )
    return build_carrier(
        script,
        spec.args,
        spec.environment,
        directory=spec.working_directory,
        stdout_path=_own_output(spec, spec.stdout_path),
        stderr_path=_own_output(spec, spec.stderr_path),
        # Jobs that this one submits with its environment must not carry its key.
        forgotten=(KEY_VARIABLE,),
        task=".$PBS_ARRAY_INDEX",
        not_requested=_SLOTS if spec.memory_limit_bytes is None else _SLOTS | {"mem"},
    )


def acceptable_name(name: str) -> str:
    r"""Return a job name that PBS takes: ``2024/run 1`` becomes ``2024_run_1``.

    It refuses blanks, ``/ : @ [ ] " ' \ $ , ; # = |``, control characters, what is not ASCII and
    more than 230 characters (recordings qsub.name-*). A leading hyphen is replaced although 23.06
    takes it.
    """
    cleaned = _NOT_IN_NAMES.sub("_", name)[:_NAME_LIMIT]
    return "_" + cleaned[1:] if not cleaned or cleaned.startswith("-") else cleaned


def check_resources(template: str) -> None:
    """Check a template for ``-l``: ``select=1:ncpus={slots}{memory}``.

    ``{slots}`` is the number of slots, ``{memory}`` is ``:mem=…kb`` where a job has a limit of
    memory and nothing where it has none, ``{memory_per_slot}`` the same divided by the slots.

    Raises:
        ValueError: it has another placeholder, none for the slots, or is no request.
    """
    fields = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    if fields - _PLACEHOLDERS:
        raise ValueError(f"{sorted(fields - _PLACEHOLDERS)[0]!r} is not one of its placeholders")
    if "slots" not in fields:
        raise ValueError("it has no {slots}")
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_.]*=[A-Za-z0-9_.:=+{}-]+", template) is None:
        raise ValueError("it is not a resource request such as select=1:ncpus={slots}")


def has_memory(template: str) -> bool:
    """Whether a job's limit of memory can be expressed with a template."""
    return "{memory" in template or not template.startswith("select=")


def job_word(native_id: NativeId, arrays: Collection[NativeId] = ()) -> str:
    """Return an id as PBS's commands take it: that of a whole array with its brackets."""
    return f"{native_id}[]" if native_id in arrays and native_id.isdigit() else native_id


def build_change(command: str, word: str) -> tuple[str, ...]:
    """Return ``qdel``, ``qhold`` or ``qrls`` of one job."""
    return (command, word)


def build_qstat(
    words: Iterable[str] = (), *, history: bool = False, grouped: bool = True
) -> tuple[str, ...]:
    """Return the ``qstat`` that prints all jobs, or these, as JSON.

    With ids it needs ``-E``: without it one build of 23.06 prints the first job only (recording
    qstat-f-json.two-ids). Without ids it prints the tasks of arrays too, each by itself.

    Args:
        words: the ids as PBS has them.
        history: the finished jobs too.
        grouped: False for one whole array with its tasks.
    """
    named = tuple(words)
    return (
        "qstat",
        *(["-x"] if history else []),
        *(["-E"] if named and grouped else ["-t"]),
        *("-f", "-F", "json"),
        *named,
    )


def _range(array: ArrayRange) -> str:
    """Return ``1-10:4%2``. PBS refuses ``3-3``: one task is the first of two steps."""
    last, step = array.last, array.step
    if len(array.tasks) == 1:
        last, step = array.first + 1, 2
    limit = "" if array.max_running is None else f"%{array.max_running}"
    return f"{array.first}-{last}" + (f":{step}" if step > 1 else "") + limit


def _dependencies(spec: JobSpec, arrays: Collection[NativeId]) -> str:
    """Return ``afterok:45:46[],afterany:47``."""
    groups: dict[str, list[str]] = {}
    for dependency in spec.depends_on:
        word = job_word(dependency.native_id, arrays)
        groups.setdefault(_CONDITIONS[dependency.condition], []).append(word)
    return ",".join(":".join([condition, *words]) for condition, words in groups.items())


def _requests(spec: JobSpec, resources: str) -> list[str]:
    memory = spec.memory_limit_bytes
    whole = "" if memory is None else f":mem={_kibibytes(memory)}kb"
    part = "" if memory is None else f":mem={_kibibytes(-(-memory // spec.slots))}kb"
    requests = [resources.format(slots=spec.slots, memory=whole, memory_per_slot=part)]
    if memory is not None and "{memory" not in resources:
        requests.append(whole.removeprefix(":"))
    if spec.wall_time_limit_seconds is not None:
        requests.append(f"walltime={format_clock(spec.wall_time_limit_seconds)}")
    return requests


def _kibibytes(size_bytes: int) -> int:
    """Rounded up, so that a job gets at least what it asked for."""
    return -(-size_bytes // _KIBIBYTE)


def _outputs(spec: JobSpec) -> Iterator[str]:
    """Without a path PBS writes NAME.oN and NAME.eN in the working directory."""
    for option, path, wire in (
        ("-o", spec.stdout_path, "stdoutPath"),
        ("-e", spec.stderr_path, "stderrPath"),
    ):
        if path is None:
            continue
        if not path or "\0" in path:
            raise InvalidSpec(f"{path!r} cannot be a path.", field=wire)
        if _odd(path):
            yield from (option, "/dev/null")
        else:
            whole = path if path.startswith("/") else _below(spec, path)
            shared = spec.array is None or whole == "/dev/null"
            yield from (option, whole if shared else f"{whole}.{_TASK}")


def _below(spec: JobSpec, path: str) -> str:
    return f"{spec.working_directory.rstrip('/')}/{path}"


def _own_output(spec: JobSpec, path: str | None) -> str | None:
    """Return the path that the job writes to itself, if PBS would not take it as it is."""
    odd = _odd(path)
    return odd if odd is None or spec.array is None else odd + ARRAY_INDEX


def _odd(path: str | None) -> str | None:
    """Return the path if PBS would not take it as it is: a host, a list, a placeholder."""
    return None if path is None or _PLAIN_PATH.fullmatch(path) else path


def _directives(script: bytes) -> Iterator[bytes]:
    """Yield the ``#PBS`` lines that ``qsub`` would read: those before the first command.

    A line that ends in a backslash goes on in the next one.
    """
    goes_on = False
    for line in script.split(b"\n"):
        if goes_on or _DIRECTIVE.match(line):
            if not goes_on or line.lstrip().startswith(b"#"):
                yield line
            goes_on = line.endswith(b"\\")
        elif _NOT_EXECUTABLE.match(line) is None:
            return


def _own_variables(script: bytes) -> Iterator[str]:
    """Yield the lists in ``#PBS -v LIST``, which a ``-v`` of the command would replace."""
    for line in _directives(script):
        for names in _VARIABLES_DIRECTIVE.findall(line):
            yield names.decode("utf-8", "surrogateescape")


def _name(text: str, wire: str, pattern: re.Pattern[str]) -> str:
    if pattern.fullmatch(text) is None:
        raise InvalidSpec(f"{text!r} cannot be the name of a {wire} in PBS.", field=wire)
    return text
