"""What Grid Engine's commands say when they refuse, turned into the service's errors.

The messages are those of 8.1.9 (recordings ``qdel_*``, ``qsub_*``, ``qmaster_down_*``); they go to
standard output or standard error depending on the command, so both are read.
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

__all__ = ["check_completed", "never_ran", "parse_qsub"]

_DOWN = re.compile(
    r"unable to (?:send message to|contact) qmaster|got select error|got send error"
    r"|cell directory \S+ doesn't exist|SGE_ROOT directory \S+ doesn't exist"
    r"|can't (?:read|open) .*act_qmaster|can't resolve hostname of qmaster"
    r"|Please set the environment variable SGE_ROOT|qmaster is not (?:running|reachable)"
)
# The request was sent, and whether it was carried out is not known.
_ANSWER_LOST = re.compile(
    r"Error reading answer list from qmaster|receive timeout|got read error|failed receiving gdi"
)
_NOT_THERE = re.compile(r"does not exist|do not exist|not found")
_FORBIDDEN = re.compile(
    r"necessary privileges|must be (?:at least owner|manager|operator)"
    r"|not an? (?:admin|submit) host"
    r"|has no permission|User .* not (?:known|registered)|access denied",
    re.IGNORECASE,
)
# What qsub says before a refusal of the qmaster, and before its own complaints. Whatever else
# fails, a site's wrapper around it for one, may fail after qsub has done its work.
_OWN_WORDS = re.compile(
    r"^(?:Unable to run job: |Unable to read script file |(?:/\S*/)?qsub: |error: |denied: )",
    re.MULTILINE,
)
# sge_submit(1), EXIT STATUS: refused now, may be accepted later. 8.1.9 and 2011.11 say so of
# max_u_jobs and max_jobs, which pass when jobs end; an array that is too large exits with 1.
_TRY_LATER = 25

# What a submitter can correct, and the field that says it; what qsub finds in its own options but
# in none of these stands in the script's ``#$`` lines.
_CORRECTABLE = (
    (re.compile(r"unknown queue|queue \S+ does not exist"), "queue"),
    (re.compile(r"\bproject\b"), "account"),
    (re.compile(r"priority"), "priority"),
    (re.compile(r"argument to -N|not a valid object name"), "name"),
    (re.compile(r"no suitable queues"), None),
    (
        re.compile(
            r"Unable to read script file|more than \d+ tasks|unknown resource"
            r"|attribute \S+ is not a|can't resolve hostname \""
            r"|^(?:/\S*/)?qsub: (?:ERROR! )?(?:invalid|unknown|argument) ",
            re.MULTILINE | re.IGNORECASE,
        ),
        "scriptFile",
    ),
)
_FRAME = re.compile(
    r"^Unable to run job: |\s*^Exiting\.\s*$|\s*^[Uu]sage:.*", re.MULTILINE | re.DOTALL
)

_JOB_ID = re.compile(rb"\s*([0-9]{1,18})(?:\.[0-9]+-[0-9]+:[0-9]+)?\s*")


def check_completed(done: Completed, native_id: NativeId | None = None) -> None:
    """Return if the command succeeded.

    Args:
        done: a finished command.
        native_id: the job it was about.

    Raises:
        SchedulerUnavailable: the qmaster, or its cell, is not there.
        JobNotFound: there is no such job.
        NotAuthorized: the job or the right to touch it is someone else's.
        CommandFailed: anything else.
    """
    said = (done.stderr + b"\n" + done.stdout).decode("utf-8", "replace")
    if done.exit_code == 0:
        return
    message = excerpt(done.stderr + done.stdout)
    if _DOWN.search(said):
        raise SchedulerUnavailable(
            f"Grid Engine does not answer: {message}", scheduler_message=message
        )
    if native_id is not None and _NOT_THERE.search(said):
        raise JobNotFound(native_id)
    if _FORBIDDEN.search(said):
        raise NotAuthorized(f"Grid Engine does not allow it: {message}", scheduler_message=message)
    raise CommandFailed(done.argv, done.exit_code, done.stderr, done.stdout)


def never_ran(done: Completed) -> bool:
    """Whether ``qdel`` took the job out of the queue at once: it was waiting.

    Grid Engine writes no accounting record of such a job. One that runs is only ``registered for
    deletion``.
    """
    return b" has deleted job" in done.stdout and b" has registered " not in done.stdout


def parse_qsub(done: Completed) -> NativeId:
    """Return the id that ``qsub -terse`` printed: ``5``, also of ``5.1-3:1`` for an array.

    Raises:
        OutputParseError: it answered something else, or its answer was lost: nobody knows whether
            the job exists.
        InvalidSpec: it was refused for what the request or its script asks for.
        QuotaExceeded: the site's limit of jobs is reached.
        CommandFailed, NotAuthorized, SchedulerUnavailable: it was refused; there is no job.
    """
    said = (done.stderr + b"\n" + done.stdout).decode("utf-8", "replace")
    if done.exit_code < 0:
        raise OutputParseError("qsub", f"signal {-done.exit_code} ended it", said)
    if done.exit_code != 0:
        if _JOB_ID.fullmatch(done.stdout):
            reason = f"it printed an id and exited with {done.exit_code}"
            raise OutputParseError("qsub", reason, said)
        if _ANSWER_LOST.search(said) and not _DOWN.search(said):
            raise OutputParseError("qsub", "the answer of the qmaster was lost", said)
        if not (_OWN_WORDS.search(said) or _DOWN.search(said)):
            reason = f"it exited with {done.exit_code}, without words of its own"
            raise OutputParseError("qsub", reason, said)
        if done.exit_code == _TRY_LATER:
            message = excerpt(done.stderr + done.stdout)
            raise QuotaExceeded(
                f"Grid Engine takes no more jobs at present: {message}", scheduler_message=message
            )
        if not _DOWN.search(said):
            _refuse_correctable(said)
        check_completed(done)
    match = _JOB_ID.fullmatch(done.stdout)
    if match is None:
        raise OutputParseError("qsub", "it is not just a job id", done.stdout or done.stderr)
    return NativeId(match[1].decode())


def _refuse_correctable(said: str) -> None:
    """Raise InvalidSpec for a refusal that the submitter can do something about."""
    for pattern, field in _CORRECTABLE:
        if pattern.search(said):
            words = excerpt(_FRAME.sub("", said.strip()))
            raise InvalidSpec(f"Grid Engine refuses it: {words}", field=field)
