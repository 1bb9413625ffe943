"""What Slurm's commands print when they refuse, as exceptions.

The texts are those of ``slurm_strerror`` (``src/common/slurm_errno.c``), which versions keep.
"""

import re
from collections.abc import Callable, Mapping

from hpcq.domain.errors import (
    CommandFailed,
    CommandMissing,
    CommandTimedOut,
    HpcqError,
    InvalidSpec,
    JobNotFound,
    NotAuthorized,
    OutputParseError,
    QuotaExceeded,
    SchedulerError,
    SchedulerUnavailable,
    excerpt,
)
from hpcq.domain.jobs import JobSpec
from hpcq.execution.protocol import Completed

__all__ = [
    "accounting_failure",
    "failure",
    "is_over",
    "is_unknown_job",
    "submission_failure",
    "submission_timeout",
    "trial_failure",
]

_AWAY = (
    b"Unable to contact slurm controller",
    b"Slurm backup controller in standby mode",
    b"Connection refused",
    b"Unable to establish controller machine",
    b"Unable to resolve",
    b"establish configuration source",
    b"establish a configuration source",
    b"Unable to process configuration file",
    b"failed to fetch config",
    b"s_p_parse_file: cannot stat file",
    b"Protocol authentication error",
    b"Munge encode failed",
    b"Problem talking to the database",
    b"open persistent connection",
    b"Sending PersistInit",
    b"Unable to connect to database",
    b"Unable to establish control machine",
    # scontrol's words when the controller is down (22.05).
    b"Unexpected message received",
    b"No route to host",
    b"Network is unreachable",
    b"Connection timed out",
)
# The request was sent, or may have been: Slurm may have done it.
_UNCERTAIN = (
    b"Socket timed out",
    b"Zero Bytes were transmitted",
    b"Message receive failure",
    b"Message send failure",
    b"Transport endpoint is not connected",
    b"Communication connection failure",
)
_FORBIDDEN = (
    b"Access/permission denied",
    b"Invalid user id",
    b"User not found on host",
    b"not permitted to use",
    b"Access denied",
)
# The controller has no room now (MaxJobCount); sbatch waits for some until it is ended.
_NO_ROOM = (b"temporarily unable to accept job", b"job queue full")
_NO_ROOM_DETAIL = "Slurm has no room for another job now; send it again later."
_NO_ACCOUNT = b"Invalid account or account/partition combination"
_POLICY = b"Job violates accounting/QOS policy"
_LIMIT = re.compile(rb"\b(?:Assoc|QOS)[A-Z]\w+|\bMax\w+PerAccount\b")
# Each limit's word says what it limits: how many jobs there are is all that passes by waiting
# (QOSMaxSubmitJobPerUserLimit); others, the job itself exceeds (AssocMaxCpuPerJobLimit).
_PASSING_LIMIT = re.compile(rb"Submit|Jobs")
_LIMITED_FIELDS = (
    (b"Wall", "wallTimeLimit"),
    (b"TimeLimit", "wallTimeLimit"),
    (b"Mem", "memoryLimit"),
    (b"Cpu", "reservedSlots"),
    (b"CPU", "reservedSlots"),
    (b"Node", "reservedSlots"),
)
# What the caller can correct, and where. Fields of the request are named where it gives them: else
# the script does, by a directive.
_CORRECTABLE: tuple[tuple[bytes, str], ...] = (
    (b"nvalid partition", "queue"),
    (b"No partition specified", "queue"),
    (b"Required partition not available", "queue"),
    (b"Requested partition configuration not available", "queue"),
    (_NO_ACCOUNT, "account"),
    (b"Job dependency problem", "dependsOn"),
    (b"Invalid --dependency", "dependsOn"),
    (b"Invalid --nice value", "priority"),
    (b"Priority must be", "priority"),
    (b"Invalid --priority", "priority"),
    (b"Memory specification can not be satisfied", "memoryLimit"),
    (b"Memory required by task is not available", "memoryLimit"),
    (b"Requested time limit is invalid", "wallTimeLimit"),
    (b"Invalid --time specification", "wallTimeLimit"),
    (b"More processors requested than permitted", "reservedSlots"),
    (b"Requested node configuration is not available", "reservedSlots"),
    (b"Node count specification invalid", "reservedSlots"),
    (b"Invalid ", "scriptFile"),
    (b"Requested reservation is invalid", "scriptFile"),
    (b"mutually exclusive", "scriptFile"),
    (b"does not look like a batch script", "scriptFile"),
    (b"DOS line breaks", "scriptFile"),
    (b"atch script is empty", "scriptFile"),
    (b"Unable to open file", "scriptFile"),
)
_GIVEN: Mapping[str, Callable[[JobSpec], object]] = {
    "queue": lambda spec: spec.queue,
    "account": lambda spec: spec.account,
    "dependsOn": lambda spec: spec.depends_on,
    "priority": lambda spec: spec.priority,
    "memoryLimit": lambda spec: spec.memory_limit_bytes,
    "wallTimeLimit": lambda spec: spec.wall_time_limit_seconds,
}
# Between two of sbatch's lines, of which the first is a sentence without a full stop.
_SENTENCE_END = re.compile(r"(?<=[a-z)]) (?=(?:Batch|Requested|Invalid|Job) )")
_UNKNOWN_OPTION = re.compile(rb"(?:unrecognized|invalid|ambiguous) option(?: --)? '?(-*[\w-]+)")
_PREAMBLE = re.compile(
    r"^(?:\S*sbatch: )?(?:(?:error|fatal): )?(?:Batch job submission failed: )?", re.MULTILINE
)
_UNKNOWN = (b"Invalid job id specified", b"Invalid Job Id")
_OVER = (b"already completing or completed", b"already finished")
_NO_ACCOUNTING = (b"accounting storage is disabled", b"Slurm accounting storage is disabled")

_NOT_FOUND = 127
"""The shell's exit status for a command that does not exist."""
_NOT_FOUND_WORDS = re.compile(rb"sbatch\S*: (?:command )?not found|sbatch: No such file")
# What sbatch says before its own complaints. Whatever else fails, a site's wrapper around it for
# one, may fail after sbatch has done its work.
_OWN_WORDS = re.compile(
    rb"^(?:/\S*/)?sbatch: (?:error|fatal|unrecognized option|invalid option|option )", re.MULTILINE
)


def is_unknown_job(done: Completed) -> bool:
    """Whether the controller does not know the job, or no longer."""
    return _has(done, _UNKNOWN)


def is_over(done: Completed) -> bool:
    """Whether the command came too late, because the job has ended."""
    return _has(done, _OVER)


def failure(done: Completed, job_id: str | None = None) -> HpcqError:
    """Return the exception for a command that failed.

    Args:
        done: a command with another exit status than 0, or with an error on stderr.
        job_id: whose job it was about.
    """
    message = excerpt(done.stderr) or excerpt(done.stdout)
    if job_id is not None and is_unknown_job(done):
        return JobNotFound(job_id)
    if _has(done, _AWAY) or _has(done, _UNCERTAIN):
        return SchedulerUnavailable(
            f"Slurm does not answer {done.argv[0]}: {_last_line(message)}.",
            scheduler_message=message,
        )
    if _has(done, _FORBIDDEN):
        return NotAuthorized(
            "Slurm does not let this service's account do that.", scheduler_message=message
        )
    return CommandFailed(done.argv, done.exit_code, done.stderr, done.stdout)


def submission_failure(done: Completed, timeout_seconds: float, spec: JobSpec) -> HpcqError:
    """Return the exception for an sbatch that failed.

    `CommandTimedOut` and `OutputParseError` say that the job may exist nevertheless.

    Args:
        done: sbatch with another exit status than 0.
        timeout_seconds: how long it was given.
        spec: what was asked for.
    """
    if _has(done, _UNCERTAIN):
        return CommandTimedOut(done.argv, timeout_seconds, done.stdout, done.stderr)
    if done.stdout.strip():
        return OutputParseError(
            "sbatch", f"it printed an id and exited with {done.exit_code}", done.stdout
        )
    if done.exit_code == _NOT_FOUND and _NOT_FOUND_WORDS.search(done.stderr):
        return CommandMissing(
            "The command 'sbatch' was not found. Is Slurm's client installed on this machine?",
            scheduler_message=excerpt(done.stderr),
        )
    if done.exit_code < 0:
        return OutputParseError("sbatch", f"signal {-done.exit_code} ended it", done.stderr)
    if not _OWN_WORDS.search(done.stderr):
        return OutputParseError(
            "sbatch", f"it exited with {done.exit_code}, without words of its own", done.stderr
        )
    return _refusal(done, spec) or failure(done)


def submission_timeout(error: CommandTimedOut) -> HpcqError:
    """Return the exception for an sbatch that was ended because it did not end by itself.

    It waits for as long as the controller has no room for another job, or its configuration is not
    there, and says so.
    """
    message = excerpt(error.stderr)
    if error.stdout.strip():
        return error
    if any(text in error.stderr for text in _NO_ROOM):
        return QuotaExceeded(_NO_ROOM_DETAIL, scheduler_message=message)
    if any(text in error.stderr for text in _AWAY):
        return SchedulerUnavailable(
            f"Slurm does not answer sbatch: {_last_line(message)}.", scheduler_message=message
        )
    return error


def trial_failure(done: Completed) -> SchedulerError | None:
    """Return why no job would be taken; None where that is not said for certain.

    Args:
        done: what `commands.build_trial` made sbatch say. It also fails where no node is free, or
            the site has no default partition.
    """
    if done.exit_code == 0:
        return None
    if _has(done, _AWAY) or _has(done, _UNCERTAIN):
        return SchedulerUnavailable(
            f"Slurm does not answer sbatch: {_own_words(done)}.",
            scheduler_message=excerpt(done.stderr),
        )
    if _UNKNOWN_OPTION.search(done.stderr) or _has(done, (*_FORBIDDEN, _NO_ACCOUNT)):
        return SchedulerError(
            f"Slurm takes no job from this service: {_own_words(done)}.",
            scheduler_message=excerpt(done.stderr),
        )
    return None


def _refusal(done: Completed, spec: JobSpec) -> HpcqError | None:
    """Return the exception for what the caller, or time, can mend."""
    message = excerpt(done.stderr)
    words = _own_words(done)
    if _POLICY in done.stderr:
        limit = _LIMIT.search(done.stderr)
        if limit is None or _PASSING_LIMIT.search(limit[0]):
            return QuotaExceeded(
                f"A limit of the site is reached: {words}.", scheduler_message=message
            )
        field = next((name for word, name in _LIMITED_FIELDS if word in limit[0]), None)
        return InvalidSpec(f"Slurm refuses it, as it exceeds a limit: {words}.", field=field)
    if _has(done, _NO_ROOM):
        return QuotaExceeded(_NO_ROOM_DETAIL, scheduler_message=message)
    unknown = _UNKNOWN_OPTION.search(done.stderr)
    if unknown is not None:
        option = unknown[1].decode("utf-8", "replace")
        # One that this service gives is no mistake of the caller's.
        if any(word.startswith(option) for word in done.argv):
            return None
        return InvalidSpec(
            f"The script has an option that Slurm does not know: {option}.", field="scriptFile"
        )
    if _has(done, _AWAY) or _has(done, _FORBIDDEN):
        return None
    for text, field in _CORRECTABLE:
        if text in done.stderr:
            given = _GIVEN.get(field)
            is_directive_s = given is not None and not given(spec) and b"No part" not in done.stderr
            field = "scriptFile" if is_directive_s else field
            return InvalidSpec(f"Slurm refuses it: {words}.", field=field)
    return None


def _own_words(done: Completed) -> str:
    """Return what sbatch said, as one line without its own name before each."""
    lines = [_PREAMBLE.sub("", line).strip() for line in excerpt(done.stderr).splitlines()]
    told = " ".join(dict.fromkeys(line for line in lines if line and not line.startswith("Try ")))
    return _SENTENCE_END.sub(". ", told).rstrip(".")


def accounting_failure(done: Completed) -> HpcqError | None:
    """Return the exception for a failed sacct; None where the site keeps no accounting."""
    return None if _has(done, _NO_ACCOUNTING) else failure(done)


def _has(done: Completed, texts: tuple[bytes, ...]) -> bool:
    return any(text in done.stderr for text in texts)


def _last_line(message: str) -> str:
    return message.splitlines()[-1].rstrip(".") if message else "it said nothing"
