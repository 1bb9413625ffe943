"""From a job's description to the arguments of ``oarsub``; pure.

OAR writes a job's name, project, directory and output paths into SQL and into a Perl program
without quoting them (``add_micheline_subjob`` in ``OAR/IO.pm``,
``get_oarexecuser_perl_script_for_oarexec`` in ``OAR/Tools.pm``), and loses characters outside
ASCII on the way of the command. Therefore OAR is told such a value only where it is harmless, and
the command is one line of Perl, which every node of OAR has, with the whole job in base 64: the
directory, the output paths, the variables and the arguments arrive byte for byte. The job's key
stands in that line, where `read_key` finds it.
"""

import base64
import os
import re
from collections.abc import Mapping

from hpcq.domain.errors import InvalidSpec, UnsupportedCapability
from hpcq.domain.jobs import Dependency, DependencyCondition, JobSpec, SubmissionKey
from hpcq.domain.outputs import as_pattern, default_name, fill_pattern, place_outputs
from hpcq.domain.units import format_clock
from hpcq.schedulers.base import ScriptDirectives
from hpcq_oar.script import ScriptOptions, read_options

__all__ = ["build_oarsub", "check_script", "read_key"]

_MOST_COMMAND_BYTES = 120_000
"""Linux takes 128 KiB as one argument."""

# What the node runs: %j in a path stands for the job's id; 127 says what a shell says with it.
_RUNNER = (
    r"my ($d, $o, $e, $n, @a) = split(/\0/, decode_base64($ARGV[1]), -1); "
    r"for ($o, $e) { s/%(.)/$1 eq q(j) ? $ENV{OAR_JOB_ID} : $1/ge } "
    r"chdir($d) or die(qq($d: $+\n)); "
    r"open(STDOUT, q(>>), $o) or die(qq($o: $+\n)); "
    r"open(STDERR, q(>>), $e) or die(qq($e: $+\n)); "
    r"while ($n-- > 0) { my $k = shift(@a); $ENV{$k} = shift(@a) } "
    r"exec({$a[0]} @a) or do { warn(qq($a[0]: cannot be run\n)); exit(127) }"
).replace("$+", "cannot be opened")
_PREFIX = f"exec perl -MMIME::Base64 -e '{_RUNNER}' "
_COMMAND = re.compile(re.escape(_PREFIX) + r"(\S+) [A-Za-z0-9+/=]+")
# Harmless in SQL, in Perl and in OAR's own patterns.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_PATH = re.compile(r"/[A-Za-z0-9_./-]*")
_LONGEST_STEM_BYTES = 230
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")


def build_oarsub(
    spec: JobSpec,
    key: SubmissionKey,
    script: bytes,
    *,
    account: Mapping[str, str],
    resources: str,
    interpreter: str = "/bin/sh",
) -> tuple[str, ...]:
    """Return the ``oarsub`` that submits a job, marked with its key.

    Args:
        spec: what to run.
        key: its mark.
        script: the content of the script file.
        account: the variables that every job begins with (``PATH``, ``HOME`` …).
        resources: what is asked for with ``-l``; ``{slots}`` in it stands for their number.
        interpreter: runs a script without a ``#!`` line.

    Raises:
        InvalidSpec: OAR would read a value as something else; or the job is too large.
        UnsupportedCapability: it is to wait for something that OAR cannot wait for.
    """
    options = read_options(script)
    outputs = spec.outputs or place_outputs(spec, *_output_patterns(spec.name, options))
    limit = spec.wall_time_limit_seconds or options.wall_time_seconds
    queue = spec.queue or options.values.get("--queue")
    project = spec.account or options.values.get("--project")
    variables = {**account, **spec.environment}
    words = (
        *(spec.working_directory, outputs.stdout or "/dev/null", outputs.stderr or "/dev/null"),
        *(str(len(variables)), *(word for pair in variables.items() for word in pair)),
        *(*_interpreter(script, interpreter), spec.script_file, *spec.args),
    )
    data = base64.b64encode("\0".join(words).encode("utf-8", "surrogateescape"))
    command = f"{_PREFIX}{key} {data.decode()}"
    if len(command) > _MOST_COMMAND_BYTES:
        raise InvalidSpec("The arguments and the environment are too long for OAR.", field="args")
    stdout, stderr = (_safe_path(fill_pattern(p, None)) for p in (outputs.stdout, outputs.stderr))
    return (
        "oarsub",
        *options.handed_on,
        f"--resource={resources.format(slots=spec.slots)}"
        + (f",walltime={format_clock(limit)}" if limit else ""),
        f"--name={_acceptable_name(spec.name)}",
        f"--directory={_safe_path(spec.working_directory) or '/'}",
        *(f"--stdout={stdout or '/dev/null'}", f"--stderr={stderr or '/dev/null'}"),
        *([f"--queue={_word(queue, 'queue')}"] if queue else []),
        *([f"--project={_word(project, 'account')}"] if project else []),
        *(f"--anterior={_predecessor(job)}" for job in spec.depends_on),
        *(["--hold"] if spec.hold or "--hold" in options.values else []),
        command,
    )


def read_key(command: str) -> SubmissionKey | None:
    """Return the key in a job's command; None where it was not submitted by `build_oarsub`."""
    match = _COMMAND.fullmatch(command)
    return None if match is None else SubmissionKey.find_in(match[1])


def check_script(spec: JobSpec, script: bytes) -> ScriptDirectives:
    """Return what the script decides; see `SchedulerBackend.check_script`.

    Raises:
        InvalidSpec: a directive cannot be honoured; it is named, with its line.
    """
    options = read_options(script)
    name = options.values.get("--name")
    asked = spec.name or name or default_name(spec.working_directory)
    stdout, stderr = _output_patterns(asked, options)
    return ScriptDirectives(name=name, stdout=stdout, stderr=stderr)


def _output_patterns(name: str, options: ScriptOptions) -> tuple[str, str]:
    stem = as_pattern(
        name.replace("/", "_").encode()[:_LONGEST_STEM_BYTES].decode("utf-8", "ignore")
    )

    def pattern(option: str, otherwise: str) -> str:
        path = options.values.get(option)
        if path is None:
            return otherwise
        return as_pattern(path).replace("%%jobid%%", "%j").replace("%%jobname%%", "%x")

    return pattern("--stdout", f"{stem}.o%j"), pattern("--stderr", f"{stem}.e%j")


def _interpreter(script: bytes, otherwise: str) -> list[str]:
    """Return the interpreter of a script and its argument, as execve(2) reads them."""
    line = script.partition(b"\n")[0]
    words = line[2:].strip().split(None, 1) if line.startswith(b"#!") else []
    return [os.fsdecode(word) for word in words] or [otherwise]


def _acceptable_name(name: str) -> str:
    """Return the name as OAR can be told it: ``São João/1`` becomes ``S_o_Jo_o_1``."""
    cleaned = _NOT_IN_NAMES.sub("_", name)[:64]
    return cleaned if _NAME.fullmatch(cleaned) else f"_{cleaned}"[:64]


def _safe_path(path: str | None) -> str | None:
    """Return the path, or None if OAR has no way to express it."""
    return path if path is not None and _PATH.fullmatch(path) else None


def _word(text: str, field: str) -> str:
    if _NAME.fullmatch(text) is None:
        raise InvalidSpec(f"{text!r} cannot be a name in OAR.", field=field)
    return text


def _predecessor(dependency: Dependency) -> str:
    if dependency.condition is not DependencyCondition.ANY:
        raise UnsupportedCapability(
            "dependsOn",
            "OAR",
            "OAR can wait for a job to be over, however it ended: the condition has to be 'any', "
            f"not {str(dependency.condition)!r}.",
        )
    return dependency.native_id
