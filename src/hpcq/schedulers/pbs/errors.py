"""Refusals of PBS's commands as the service's errors, and the answer of ``qsub``.

A command exits with the server's error number modulo 256 (pbs_error.h), prints the words on
standard error and nothing on standard output: a server that is down, an unknown id, a finished job
and an empty queue differ in exit status and words alone. Messages and numbers are those of 23.06
(recordings).
"""

import re
from dataclasses import replace

from hpcq.domain.errors import CommandFailed, InvalidSpec, OutputParseError
from hpcq.domain.jobs import NativeId
from hpcq.execution.protocol import Completed
from hpcq.schedulers.command_errors import ErrorKind, ErrorTable

__all__ = ["ERRORS", "check_qstat", "lacks_dsv", "lacks_history", "parse_qsub"]

_AWAY = (
    r"cannot connect to server|Couldn't connect to cluster|Connection refused|Unknown Host"
    r"|pbsconf error|[Nn]o active server|Server (?:is )?(?:shutting down|too busy)"
    r"|No free connections|No server specified|[Cc]onnection table full|try again later"
    r"|could not connect to MOM"
)
_ANSWER_LOST = (
    r"End of File|Premature end|[Pp]rotocol (?:failure|error)|Communication failure|[Tt]imed out"
    r"|read error|[Ff]ailed to recv data"
)
_UNKNOWN = r"Unknown Job Id|illegally formed job identifier"
_PAST_CHANGING = (
    r"Job (?:\S+ )?has finished|Request invalid for (?:state of job|finished array subjob)"
    r"|Job already in exit state|[Dd]elete already in progress"
)
_FORBIDDEN = (
    r"Unauthorized Request|Bad UID for job execution|Bad GID for job execution"
    r"|Access from host not allowed"
)
_LIMIT_REACHED = (
    r"would exceed|limit has been reached|exceeds? .*\blimit on\b|Maximum number of jobs already"
)
_OWN_WORDS = r"^(?:(?:/\S*/)?qsub:|usage: qsub)"

ERRORS = ErrorTable(
    scheduler="PBS",
    words=(
        (re.compile(_AWAY), ErrorKind.UNAVAILABLE),
        (re.compile(_ANSWER_LOST), ErrorKind.ANSWER_LOST),
        (re.compile(_UNKNOWN), ErrorKind.UNKNOWN_JOB),
        (re.compile(_PAST_CHANGING), ErrorKind.WRONG_STATE),
        (re.compile(_FORBIDDEN), ErrorKind.FORBIDDEN),
        (re.compile(_LIMIT_REACHED), ErrorKind.LIMIT_REACHED),
    ),
    statuses={
        # 15033, 15034, 15060, 15117, 15208, 15070
        **dict.fromkeys((185, 186, 212, 13, 104, 222), ErrorKind.UNAVAILABLE),
        **dict.fromkeys((153, 204, 54), ErrorKind.UNKNOWN_JOB),  # 15001, 15052, 15158
        # 15016, 15139, 15015, 15050, 15085, 15159: it has ended, is ending, or is deleted already
        **dict.fromkeys((168, 35, 167, 202, 237, 55), ErrorKind.WRONG_STATE),
        # 15007, 15008, 15019, 15020, 15022, 15023, 15045
        **dict.fromkeys((159, 160, 171, 172, 174, 175, 197), ErrorKind.FORBIDDEN),
        # 15142, 15143, 15046: so many jobs or resources at once
        **dict.fromkeys((38, 39, 198), ErrorKind.LIMIT_REACHED),
    },
    # Limits of a queue concern slots, time and memory alike: another queue may do.
    fields=(
        (re.compile(r"Unknown queue|[Qq]ueue is not enabled|illegally formed dest"), "queue"),
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
            re.compile(
                r"illegal -\w value|invalid option|Error \(15002\)|cannot be used with"
                r"|Illegal attribute or resource value|[Uu]nknown resource|value out of range"
                r"|script contains cr, lf"
            ),
            "scriptFile",
        ),
    ),
    own_words=re.compile(f"{_OWN_WORDS}|{_AWAY}", re.MULTILINE),
    noise=re.compile(r"^usage:.*", re.MULTILINE | re.DOTALL),
)
_NO_HISTORY = 36  # 15140
_WITHOUT_HISTORY = re.compile(rb"not configured to maintain job history")
_WITHOUT_DSV = re.compile(rb"invalid option|illegal -F|conflicting options|^usage:", re.MULTILINE)
_NO_LIMIT_OF_TASKS = re.compile(rb"illegal -J value|illegal -W value|max_run_subjobs")
_JOB_ID = re.compile(rb"\s*([0-9]{1,18})(\[\])?(\.[A-Za-z0-9][A-Za-z0-9._-]{0,252})?\s*")


def lacks_history(done: Completed) -> bool:
    """Return whether ``qstat -x`` was refused because the server keeps no finished jobs."""
    return done.exit_code == _NO_HISTORY or _WITHOUT_HISTORY.search(done.stderr) is not None


def lacks_dsv(done: Completed) -> bool:
    """Return whether ``qstat`` does not know ``-F dsv``, ``-E`` or their combination."""
    if done.exit_code == 0 or done.stdout.startswith(b"Job Id: "):
        return False
    return _WITHOUT_DSV.search(done.stderr) is not None


def check_qstat(done: Completed) -> None:
    """Return if ``qstat`` answered; that it did not know some ids is an answer.

    Raises:
        SchedulerUnavailable: the server is away, whatever the exit status.
        HpcqError: it refused, see `ErrorTable.check`.
    """
    lists_jobs = done.stdout.startswith(b"Job Id: ")
    if done.exit_code == 0 and not lists_jobs and re.search(_AWAY.encode(), done.stderr):
        done = replace(done, exit_code=1)
    are_unknown = ERRORS.kind_of(done) in (ErrorKind.UNKNOWN_JOB, ErrorKind.WRONG_STATE)
    if not are_unknown or b"illegally formed" in done.stderr:
        ERRORS.check(done)


def parse_qsub(
    done: Completed, program: str = "qsub", *, limits_tasks: bool = False
) -> tuple[NativeId, bool]:
    """Return the number in ``45.host``, and whether it is a whole array (``45[].host``).

    Args:
        done: how ``qsub`` ended.
        program: its path, for messages.
        limits_tasks: whether it was asked to limit how many tasks of an array run.

    Raises:
        OutputParseError: it answered something else, or its answer was lost: the job may exist.
        HpcqError: there is no job, see `ErrorTable.check_submission`.
    """
    try:
        ERRORS.check_submission(done, _JOB_ID, program)
    except (CommandFailed, InvalidSpec) as error:
        if limits_tasks and _NO_LIMIT_OF_TASKS.search(done.stderr):
            raise InvalidSpec(
                "This PBS cannot limit how many tasks of an array run at the same time"
                f" (releases before 2020 cannot). {error}",
                field="array.maxRunning",
            ) from error
        raise
    match = _JOB_ID.fullmatch(done.stdout)
    if match is None:
        raise OutputParseError(program, "it is not just a job id", done.stdout or done.stderr)
    return NativeId(match[1].decode()), match[2] is not None
