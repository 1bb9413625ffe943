"""Refusals of Grid Engine's commands as the service's errors, and answers of ``qsub`` and ``qdel``.

The messages are those of 8.1.9 (recordings ``qdel_*``, ``qsub_*``, ``qmaster_down_*``). They go to
standard output or standard error depending on the command.
"""

import re

from hpcq.domain.errors import InvalidSpec, OutputParseError, WrongState
from hpcq.domain.jobs import NativeId
from hpcq.execution.protocol import Completed
from hpcq.schedulers.command_errors import ErrorKind, ErrorTable

__all__ = ["ERRORS", "check_qmod", "never_ran", "parse_qsub", "tasks_never_run"]

# Of a path, "fopen" prints 99 characters: the end of a long one is cut off.
_AWAY = (
    r"unable to (?:send message to|contact) qmaster|got select error|got send error"
    r"|cell directory \S+ doesn't exist|SGE_ROOT directory \S+ doesn't exist"
    r"|can't (?:read|open) .*act_qmaster|can't resolve hostname of qmaster"
    r"|unable to read qmaster name|fopen\([^)]+\) failed"
    r"|Please set the environment variable SGE_ROOT|qmaster is not (?:running|reachable)"
)
_ANSWER_LOST = (
    r"Error reading answer list from qmaster|receive timeout|got read error|failed receiving gdi"
)
_FORBIDDEN = (
    r"(?i)necessary privileges|must be (?:at least owner|manager|operator)"
    r"|not an? (?:admin|submit) host"
    r"|has no permission|User .* not (?:known|registered)|access denied"
)
_OWN_WORDS = (
    r"^(?:Unable to run job: |Unable to read script file |(?:/\S*/)?qsub: |error: |denied: )"
)

ERRORS = ErrorTable(
    scheduler="Grid Engine",
    words=(
        (re.compile(_AWAY), ErrorKind.UNAVAILABLE),
        (re.compile(_ANSWER_LOST), ErrorKind.ANSWER_LOST),
        (re.compile(_FORBIDDEN), ErrorKind.FORBIDDEN),
        (
            re.compile(r"does not exist|do not exist|not found|comprises no tasks"),
            ErrorKind.UNKNOWN_JOB,
        ),
        (re.compile(r"^invalid queue or job ", re.MULTILINE), ErrorKind.UNKNOWN_JOB),
    ),
    # sge_submit(1), EXIT STATUS: refused now, may be accepted later. 8.1.9 and 2011.11 say so of
    # max_u_jobs and max_jobs, which pass when jobs end; an array that is too large exits with 1.
    statuses={25: ErrorKind.LIMIT_REACHED},
    # What qsub finds in its own options but in none of these stands in the script's ``#$`` lines.
    fields=(
        (re.compile(r"more than \d+ tasks"), "array"),
        (re.compile(r"unknown queue|queue \S+ does not exist"), "queue"),
        (re.compile(r"\bproject\b"), "account"),
        (re.compile(r"advance reservation"), "reservation"),
        (re.compile(r"priority"), "priority"),
        (re.compile(r"argument to -N|not a valid object name"), "name"),
        (re.compile(r"no suitable queues"), None),
        (
            re.compile(
                r"Unable to read script file|unknown resource"
                r"|attribute \S+ is not a|can't resolve hostname \""
                r"|^(?:/\S*/)?qsub: (?:ERROR! )?(?:invalid|unknown|argument) ",
                re.MULTILINE | re.IGNORECASE,
            ),
            "scriptFile",
        ),
    ),
    own_words=re.compile(f"{_OWN_WORDS}|{_AWAY}", re.MULTILINE),
    noise=re.compile(
        r"^Unable to run job: |\s*^Exiting\.\s*$|\s*^[Uu]sage:.*", re.MULTILINE | re.DOTALL
    ),
    reads_stdout=True,
)
_DELETED_TASKS = re.compile(
    rb" has deleted job-array task(?:s ([0-9,:-]+) of job [0-9]+| [0-9]+\.([0-9]+))$", re.MULTILINE
)
_TASKS = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9})(?::([0-9]{1,9}))?)?")
_JOB_ID = re.compile(rb"\s*([0-9]{1,18})(?:\.[0-9]+-[0-9]+:[0-9]+)?\s*")


def parse_qsub(done: Completed, *, asks_array: bool = False) -> NativeId:
    """Return the id that ``qsub -terse`` printed: ``5``, also of ``5.1-3:1`` for an array.

    Args:
        done: how it ended.
        asks_array: whether the request asks for an array: else its script does, by a directive.

    Raises:
        OutputParseError: it answered something else, or its answer was lost: the job may exist.
        HpcqError: there is no job, see `ErrorTable.check_submission`.
    """
    try:
        ERRORS.check_submission(done, _JOB_ID)
    except InvalidSpec as error:
        if error.field != "array" or asks_array:
            raise
        raise InvalidSpec(error.detail, field="scriptFile") from None
    match = _JOB_ID.fullmatch(done.stdout)
    if match is None:
        raise OutputParseError("qsub", "it is not just a job id", done.stdout or done.stderr)
    return NativeId(match[1].decode())


def never_ran(done: Completed) -> bool:
    """Return whether ``qdel`` took the job out of the queue at once: it was waiting.

    Grid Engine writes no accounting record of such a job. One that runs is only ``registered for
    deletion``.
    """
    return b" has deleted job" in done.stdout and b" has registered " not in done.stdout


def tasks_never_run(done: Completed) -> set[int]:
    """Return the numbers of the tasks that ``qdel`` took out of the queue at once.

    It prints ``has deleted job-array tasks 4-6:1,9 of job 7``, ``has deleted job-array task 7.8``
    (seen in 8.1.9).
    """
    numbers: set[int] = set()
    for several, one in _DELETED_TASKS.findall(done.stdout):
        for part in _TASKS.finditer((several or one).decode()):
            first, last, step = int(part[1]), int(part[2] or part[1]), int(part[3] or 1)
            numbers.update(range(first, last + 1, step or 1))
    return numbers


def check_qmod(done: Completed) -> None:
    """Return unless ``qmod -rj`` refused to put a job back, which it does with exit status 0.

    Raises:
        WrongState: the job is not one that may run twice.
    """
    if b"not rerunable" in done.stdout + done.stderr:
        raise WrongState(
            "Grid Engine puts only those jobs back into the queue that may run twice: a script says"
            f" so with the line '#$ -r y'. Its own words: {ERRORS.words_of(done)}"
        )
