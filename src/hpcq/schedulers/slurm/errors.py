"""Refusals of Slurm's commands as the service's errors.

The texts are those of ``slurm_strerror`` (``src/common/slurm_errno.c``), which versions keep.
"""

import re
from collections.abc import Callable, Mapping
from typing import NoReturn

from hpcq.domain.errors import (
    CommandFailed,
    CommandMissing,
    CommandTimedOut,
    InvalidSpec,
    SchedulerError,
    excerpt,
)
from hpcq.domain.jobs import JobSpec
from hpcq.execution.protocol import Completed
from hpcq.schedulers.command_errors import ErrorKind, ErrorTable

__all__ = [
    "ERRORS",
    "check_submission",
    "check_trial",
    "keeps_no_accounting",
    "raise_timeout",
]

_AWAY = re.compile(
    r"Unable to contact slurm controller|Slurm backup controller in standby mode"
    r"|Connection refused|Unable to establish control(?:ler)? machine|Unable to resolve"
    r"|establish (?:a )?configuration source|Unable to process configuration file"
    r"|failed to fetch config|s_p_parse_file: cannot stat file|Protocol authentication error"
    r"|Munge encode failed|Problem talking to the database|open persistent connection"
    r"|Sending PersistInit|Unable to connect to database"
    r"|Unexpected message received"  # scontrol's words when the controller is down (22.05)
    r"|No route to host|Network is unreachable|Connection timed out"
)
_ANSWER_LOST = re.compile(
    r"Socket timed out|Zero Bytes were transmitted|Message receive failure|Message send failure"
    r"|Transport endpoint is not connected|Communication connection failure"
)
_FORBIDDEN = re.compile(
    r"Access/permission denied|Invalid user id|User not found on host|not permitted to use"
    r"|Access denied"
)
# The controller has no room now (MaxJobCount); sbatch waits for some until it is ended.
_NO_ROOM = re.compile(r"temporarily unable to accept job|job queue full")
_NO_ACCOUNT = "Invalid account or account/partition combination"
# Each limit's word says what it limits: how many jobs there are is all that passes by waiting
# (QOSMaxSubmitJobPerUserLimit); others, the job itself exceeds (AssocMaxCpuPerJobLimit).
_EXCEEDED = r"\b(?=(?:Assoc|QOS)[A-Z]|Max\w+PerAccount\b)(?!\w*(?:Submit|Jobs))"
_UNKNOWN_OPTION = re.compile(r"(?:unrecognized|invalid|ambiguous) option(?: --)? '?(-*[\w-]+)")


class _SlurmErrors(ErrorTable):
    def words_of(self, done: Completed) -> str:
        """Return a command's complaint as one line without its own name before each sentence."""
        said = (excerpt(done.stderr) or excerpt(done.stdout)).splitlines()
        lines = [_PREAMBLE.sub("", line).strip() for line in said]
        told = [line for line in lines if line and not line.startswith("Try ")]
        return _SENTENCE_END.sub(". ", " ".join(dict.fromkeys(told)))


_PREAMBLE = re.compile(
    r"^(?:\S*(?:sbatch|squeue|sacct|sstat|scancel|scontrol|sinfo): )?(?:(?:error|fatal): )?"
    r"(?:Batch job submission failed: )?"
)
# Between two of sbatch's lines, of which the first is a sentence without a full stop.
_SENTENCE_END = re.compile(r"(?<=[a-z)]) (?=(?:Batch|Requested|Invalid|Job) )")

ERRORS = _SlurmErrors(
    scheduler="Slurm",
    words=(
        (re.compile(r"Invalid job id specified|Invalid Job Id"), ErrorKind.UNKNOWN_JOB),
        (_AWAY, ErrorKind.UNAVAILABLE),
        (_ANSWER_LOST, ErrorKind.ANSWER_LOST),
        (_FORBIDDEN, ErrorKind.FORBIDDEN),
        (re.compile(r"already completing or completed|already finished"), ErrorKind.WRONG_STATE),
        (re.compile(r"Job is (?:not suspended|pending execution)"), ErrorKind.WRONG_STATE),
        (re.compile(r"Job is no longer (?:running|pending execution)"), ErrorKind.WRONG_STATE),
        (re.compile(rf"{_EXCEEDED}\w"), ErrorKind.OTHER),
        (re.compile(r"Job violates accounting/QOS policy"), ErrorKind.LIMIT_REACHED),
        (_NO_ROOM, ErrorKind.LIMIT_REACHED),
    ),
    fields=(
        (re.compile(rf"{_EXCEEDED}\w*(?:Wall|TimeLimit)"), "wallTimeLimit"),
        (re.compile(rf"{_EXCEEDED}\w*Mem"), "memoryLimit"),
        (re.compile(rf"{_EXCEEDED}\w*(?:Cpu|CPU|Node)"), "reservedSlots"),
        (re.compile(rf"{_EXCEEDED}\w"), None),
        (_UNKNOWN_OPTION, "scriptFile"),
        (re.compile(r"nvalid partition|No partition specified"), "queue"),
        (re.compile(r"Required partition not available"), "queue"),
        (re.compile(r"Requested partition configuration not available"), "queue"),
        (re.compile(_NO_ACCOUNT), "account"),
        (re.compile(r"Job dependency problem|Invalid --dependency"), "dependsOn"),
        (re.compile(r"Invalid (?:--)?nice value|Priority must be|Invalid --priority"), "priority"),
        (re.compile(r"Memory specification can not be satisfied"), "memoryLimit"),
        (re.compile(r"Memory required by task is not available"), "memoryLimit"),
        (re.compile(r"time limit is invalid|Invalid --time specification"), "wallTimeLimit"),
        (re.compile(r"More processors requested than permitted"), "reservedSlots"),
        (re.compile(r"Requested node configuration is not available"), "reservedSlots"),
        (re.compile(r"Node count specification invalid"), "reservedSlots"),
        (re.compile(r"Invalid generic resource|Invalid GRES"), "gpus"),
        (re.compile(r"Requested reservation is invalid"), "reservation"),
        (re.compile(r"Invalid feature specification"), "constraints"),
        (re.compile(r"Invalid qos"), "qos"),
        (re.compile(r"Invalid job array specification"), "array"),
        (
            re.compile(
                r"Invalid (?!user id|job id)|mutually exclusive|does not look like a batch script"
                r"|DOS line breaks|atch script is empty"
                r"|Unable to open file"
            ),
            "scriptFile",
        ),
    ),
    own_words=re.compile(
        r"^(?:/\S*/)?sbatch: (?:error|fatal|unrecognized option|invalid option|option )",
        re.MULTILINE,
    ),
)
_GIVEN: Mapping[str, Callable[[JobSpec], object]] = {
    "queue": lambda spec: spec.queue,
    "account": lambda spec: spec.account,
    "gpus": lambda spec: spec.gpus,
    "reservation": lambda spec: spec.reservation,
    "constraints": lambda spec: spec.constraints,
    "qos": lambda spec: spec.qos,
    "dependsOn": lambda spec: spec.depends_on,
    "priority": lambda spec: spec.priority,
    "memoryLimit": lambda spec: spec.memory_limit_bytes,
    "wallTimeLimit": lambda spec: spec.wall_time_limit_seconds,
    "array": lambda spec: spec.array,
}
# The site's limits, and what the site itself has no default for, are no directive's fault.
_NOT_GIVEN = re.compile(rf"{_EXCEEDED}\w|No partition specified")
_ANYTHING = re.compile(rb"(?s).*\S.*")
_NOT_FOUND = 127
"""The shell's exit status for a command that does not exist."""
_NOT_FOUND_WORDS = re.compile(rb"sbatch\S*: (?:command )?not found|sbatch: No such file")


def check_submission(done: Completed, timeout_seconds: float, spec: JobSpec) -> None:
    """Return if ``sbatch`` exited with 0.

    Args:
        done: how it ended.
        timeout_seconds: how long it was given.
        spec: what was asked for.

    Raises:
        CommandTimedOut, OutputParseError: the job may exist nevertheless.
        InvalidSpec: there is no job. Fields are named where the request gives them: else the
            script does, by a directive.
        HpcqError: there is no job, see `ErrorTable.check_submission`.
    """
    if ERRORS.kind_of(done) is ErrorKind.ANSWER_LOST:
        raise CommandTimedOut(done.argv, timeout_seconds, done.stdout, done.stderr)
    if done.exit_code == _NOT_FOUND and _NOT_FOUND_WORDS.search(done.stderr):
        raise CommandMissing(
            "The command 'sbatch' was not found. Is Slurm's client installed on this machine?",
            scheduler_message=excerpt(done.stderr),
        )
    try:
        ERRORS.check_submission(done, _ANYTHING)
    except InvalidSpec as error:
        unknown = _UNKNOWN_OPTION.search(error.detail)
        if unknown is not None and any(word.startswith(unknown[1]) for word in done.argv):
            # One that this service gives is no mistake of the caller's.
            raise CommandFailed(done.argv, done.exit_code, done.stderr) from None
        given = _GIVEN.get(error.field or "")
        is_named = given is None or given(spec) or _NOT_GIVEN.search(error.detail)
        field = error.field if is_named else "scriptFile"
        raise InvalidSpec(error.detail, field=field) from None


def raise_timeout(error: CommandTimedOut) -> NoReturn:
    """Raise the error for an ``sbatch`` that was ended because it did not end by itself.

    It waits for as long as the controller has no room for another job, or its configuration is not
    there, and says so.

    Raises:
        QuotaExceeded, SchedulerUnavailable: there is no job.
        CommandTimedOut: the job may exist.
    """
    done = Completed(argv=error.argv, exit_code=-9, stdout=error.stdout, stderr=error.stderr)
    waits = ERRORS.kind_of(done) in (ErrorKind.UNAVAILABLE, ErrorKind.LIMIT_REACHED)
    if waits and not done.stdout.strip():
        ERRORS.check(done)
    raise error


def check_trial(done: Completed) -> None:
    """Return unless what `commands.build_trial` made ``sbatch`` say keeps all jobs out.

    It also fails where no node is free, or the site has no default partition.

    Raises:
        SchedulerUnavailable: the controller did not answer.
        SchedulerError: no job of this account is taken.
    """
    kind, message = ERRORS.kind_of(done), ERRORS.words_of(done)
    if kind in (ErrorKind.UNAVAILABLE, ErrorKind.ANSWER_LOST):
        ERRORS.check(done)
    is_refused = kind is ErrorKind.FORBIDDEN or _NO_ACCOUNT in message
    if kind is not None and (is_refused or _UNKNOWN_OPTION.search(message)):
        raise SchedulerError(
            f"Slurm takes no job from this service: {message}",
            scheduler_message=excerpt(done.stderr),
        )


def keeps_no_accounting(done: Completed) -> bool:
    """Return whether ``sacct`` failed because the site keeps no accounting."""
    return done.exit_code != 0 and b"ccounting storage is disabled" in done.stderr
