"""What PBS's commands say when they refuse, turned into the service's errors.

A command exits with the server's error number modulo 256 (pbs_error.h), prints the words on
standard error and, with ``-F json``, a valid document without jobs on standard output: a server
that is down, an unknown id, a finished job and an empty queue differ in exit status and words
alone. Messages and numbers are those of 23.06 (recordings).
"""

import re

from hpcq.domain.errors import (
    CommandFailed,
    InvalidSpec,
    JobNotFound,
    NotAuthorized,
    OutputParseError,
    QuotaExceeded,
    SchedulerUnavailable,
    excerpt,
)
from hpcq.domain.jobs import NativeId
from hpcq.execution.protocol import Completed

__all__ = [
    "check_change",
    "check_completed",
    "check_qstat",
    "has_no_history",
    "has_no_json",
    "is_past_changing",
    "is_unknown_job",
    "parse_qsub",
]

_UNKNOWN_JOB = 153  # 15001
_FINISHED = 35  # 15139
_NO_HISTORY = 36  # 15140
_LIMITS = frozenset({38, 39, 198})  # 15142, 15143, 15046: so many jobs or resources at once
# 15016, 15139, 15015, 15050, 15085, 15159: it has ended, is ending, or is deleted already
_PAST_CHANGING = frozenset({168, 35, 167, 202, 237, 55})
_NOT_FOUND = frozenset({153, 204, 54})  # 15001, 15052, 15158
# 15007, 15008, 15019, 15020, 15022, 15023, 15045
_FORBIDDEN_BY = frozenset({159, 160, 171, 172, 174, 175, 197})
_AWAY_BY = frozenset({185, 186, 212, 13, 104, 222})  # 15033, 15034, 15060, 15117, 15208, 15070

_DOWN = re.compile(
    r"cannot connect to server|Couldn't connect to cluster|Connection refused|Unknown Host"
    r"|pbsconf error|[Nn]o active server|Server (?:is )?(?:shutting down|too busy)"
    r"|No free connections|No server specified|[Cc]onnection table full|try again later"
    r"|could not connect to MOM",
)
# The request was sent, and whether it was carried out is not known.
_ANSWER_LOST = re.compile(
    r"End of File|Premature end|[Pp]rotocol (?:failure|error)|Communication failure|[Tt]imed out"
    r"|read error|[Ff]ailed to recv data"
)
_UNKNOWN = re.compile(r"Unknown Job Id")
_HAS_FINISHED = re.compile(
    r"Job (?:\S+ )?has finished|Request invalid for (?:state of job|finished array subjob)"
    r"|Job already in exit state|[Dd]elete already in progress"
)
_BAD_ID = re.compile(r"illegally formed job identifier")
_FORBIDDEN = re.compile(
    r"Unauthorized Request|Bad UID for job execution|Bad GID for job execution"
    r"|Access from host not allowed"
)
_LIMIT_REACHED = re.compile(
    r"would exceed|limit has been reached|exceeds? .*\blimit on\b|Maximum number of jobs already"
)
# What the caller can correct, by the words of qsub, and the field that it concerns. Limits of
# a queue concern slots, time and memory alike: another queue may do.
_CORRECTABLE = (
    (re.compile(r"Unknown queue|[Qq]ueue is not enabled|illegally formed destination"), "queue"),
    (re.compile(r"violates queue and/or server resource limits|No default queue"), "queue"),
    (re.compile(r"illegal -q value"), "queue"),
    (re.compile(r"illegal -N value|Job name is too long"), "name"),
    (re.compile(r"illegal -A value"), "account"),
    (re.compile(r"illegal -p value"), "priority"),
    (re.compile(r"illegal -J value|[Aa]rray job exceeds|[Ss]ubjob limit"), "array"),
    (re.compile(r"illegal -o value"), "stdoutPath"),
    (re.compile(r"illegal -e value"), "stderrPath"),
    (re.compile(r"[Dd]ependency"), "dependsOn"),
    (re.compile(r"(?:value|resource:?|range) \S*\bwalltime\b"), "wallTimeLimit"),
    (re.compile(r"(?:value|resource:?|range) \S*\bmem\b"), "memoryLimit"),
    (re.compile(r"(?:value|resource:?|range) \S*\b(?:ncpus|select|nodes)\b"), "reservedSlots"),
    (re.compile(r"(?:value|resource:?|range) \S*\bPriority\b"), "priority"),
    (
        re.compile(r"illegal -\w value|invalid option|Error \(15002\)|cannot be used with"),
        "scriptFile",
    ),
    (
        re.compile(r"Illegal attribute or resource value|[Uu]nknown resource|value out of range"),
        "scriptFile",
    ),
    (re.compile(r"script contains cr, lf"), "scriptFile"),
)
_USAGE = re.compile(r"^usage:.*", re.MULTILINE | re.DOTALL)
_WITHOUT_HISTORY = re.compile(r"not configured to maintain job history")
_WITHOUT_JSON = re.compile(r"invalid option|illegal -F|conflicting options|^usage:", re.M)

# What qsub says before a refusal. Whatever else fails, a site's wrapper around it for one, may fail
# after qsub has done its work.
_OWN_WORDS = re.compile(r"^(?:(?:/\S*/)?qsub:|usage: qsub|pbsconf error)", re.MULTILINE)

_JOB_ID = re.compile(rb"\s*([0-9]{1,18})(\[\])?(\.[A-Za-z0-9][A-Za-z0-9._-]{0,252})?\s*")


def is_unknown_job(done: Completed) -> bool:
    """Whether a command did not know (one of) the jobs it was asked about."""
    return done.exit_code in _NOT_FOUND or _UNKNOWN.search(_said(done)) is not None


def is_past_changing(done: Completed) -> bool:
    """Whether a change was refused because the job has ended, or is ending."""
    return done.exit_code in _PAST_CHANGING or _HAS_FINISHED.search(_said(done)) is not None


def has_no_history(done: Completed) -> bool:
    """Whether ``qstat -x`` was refused because the server keeps no finished jobs."""
    return done.exit_code == _NO_HISTORY or _WITHOUT_HISTORY.search(_said(done)) is not None


def has_no_json(done: Completed) -> bool:
    """Whether ``qstat`` does not know ``-F json``, ``-E`` or their combination."""
    if done.exit_code == 0 or done.stdout.lstrip().startswith(b"{"):
        return False
    return _WITHOUT_JSON.search(_said(done)) is not None


def check_qstat(done: Completed) -> None:
    """Return if ``qstat`` answered; that it did not know some ids is an answer.

    Raises:
        SchedulerUnavailable: the server is away, whatever the exit status.
        NotAuthorized, CommandFailed: it refused.
    """
    _check_away(done)
    if done.exit_code in (0, _UNKNOWN_JOB, _FINISHED):
        return
    if _UNKNOWN.search(_said(done)) or _HAS_FINISHED.search(_said(done)):
        return
    check_completed(done)


def check_change(done: Completed, native_id: NativeId) -> None:
    """Return if ``qdel``, ``qhold`` or ``qrls`` did it.

    Raises:
        JobNotFound, NotAuthorized, SchedulerUnavailable, CommandFailed: it did not.
    """
    if done.exit_code == 0:
        return
    _check_away(done)
    if is_unknown_job(done) or _BAD_ID.search(_said(done)):
        raise JobNotFound(native_id)
    check_completed(done)


def check_completed(done: Completed) -> None:
    """Return if the command succeeded.

    Raises:
        SchedulerUnavailable: the server is not there.
        NotAuthorized: the job, or the right to touch it, is someone else's.
        QuotaExceeded: a limit on the number of jobs or resources is reached at present.
        CommandFailed: anything else.
    """
    if done.exit_code == 0:
        return
    _check_away(done)
    said = _said(done)
    first, _, _ = said.partition("\n")
    message = excerpt(_USAGE.sub("", said).strip() or first or done.stdout)
    if done.exit_code in _FORBIDDEN_BY or _FORBIDDEN.search(said):
        raise NotAuthorized(f"PBS does not allow it: {message}", scheduler_message=message)
    if done.exit_code in _LIMITS or _LIMIT_REACHED.search(said):
        raise QuotaExceeded(f"PBS takes no more at present: {message}", scheduler_message=message)
    raise CommandFailed(done.argv, done.exit_code, message.encode())


def parse_qsub(done: Completed, program: str = "qsub") -> tuple[NativeId, bool]:
    """Return the number in ``45.host``, and whether it is a whole array (``45[].host``).

    Args:
        done: how ``qsub`` ended.
        program: its path, for messages.

    Raises:
        OutputParseError: it answered something else, died, or its answer was lost: nobody knows
            whether the job exists.
        InvalidSpec: there is no job, for a reason that the caller can correct.
        QuotaExceeded, NotAuthorized, CommandFailed, SchedulerUnavailable: there is no job.
    """
    said = (done.stderr + b"\n" + done.stdout).decode("utf-8", "replace")
    if done.exit_code < 0:
        raise OutputParseError(program, f"signal {-done.exit_code} ended it", said)
    if done.exit_code != 0:
        if _JOB_ID.fullmatch(done.stdout):
            reason = f"it printed an id and exited with {done.exit_code}"
            raise OutputParseError(program, reason, said)
        if _ANSWER_LOST.search(said) and not _DOWN.search(said):
            raise OutputParseError(program, "the answer of the server was lost", said)
        if not (_OWN_WORDS.search(said) or _DOWN.search(said)):
            reason = f"it exited with {done.exit_code}, without words of its own"
            raise OutputParseError(program, reason, said)
        _check_correctable(done)
        check_completed(done)
    match = _JOB_ID.fullmatch(done.stdout)
    if match is None:
        raise OutputParseError(program, "it is not just a job id", done.stdout or done.stderr)
    return NativeId(match[1].decode()), match[2] is not None


def _check_correctable(done: Completed) -> None:
    """Raise what the caller can correct, with PBS's own words and without its usage.

    Raises:
        InvalidSpec: there is such a thing.
    """
    said = _USAGE.sub("", _said(done)).strip()
    for pattern, field in _CORRECTABLE:
        if pattern.search(said):
            raise InvalidSpec(f"PBS refused the job: {excerpt(said)}", field=field)


def _check_away(done: Completed) -> None:
    if done.stdout.lstrip().startswith(b"{") and b'"Jobs"' in done.stdout:
        return
    if done.exit_code in _AWAY_BY or _DOWN.search(_said(done)):
        message = excerpt(done.stderr)
        raise SchedulerUnavailable(f"PBS does not answer: {message}", scheduler_message=message)


def _said(done: Completed) -> str:
    return done.stderr.decode("utf-8", "replace")
