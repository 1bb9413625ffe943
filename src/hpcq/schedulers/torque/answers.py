"""What Torque's commands say when they refuse, turned into the service's errors.

A command exits with the low byte of the server's error number (PBSE_*, pbs_error_db.h; 15001 is
153), with 1 to 3 for mistakes that it finds itself, with an errno for a connection that fails.
All of it was recorded from 6.1.3.
"""

import re
from collections.abc import Mapping
from enum import Enum, auto

from hpcq.domain.errors import (
    CommandFailed,
    CommandMissing,
    InvalidSpec,
    JobNotFound,
    NotAuthorized,
    OutputParseError,
    QuotaExceeded,
    SchedulerUnavailable,
    WrongState,
    excerpt,
)
from hpcq.domain.jobs import NativeId
from hpcq.execution.protocol import Completed
from hpcq.schedulers.pbs_family.values import JobId, parse_job_id

__all__ = [
    "Meaning",
    "check_completed",
    "check_is_torque",
    "check_refusal",
    "meaning_of",
    "parse_qsub",
]

# What `qsub` refuses that a caller can mend, and the field that it is about. Words go before exit
# statuses, and the particular before the general.
_FIELDS_BY_WORDS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"Invalid Job Dependency|illegal -W (?:dependency )?value"), "dependsOn"),
    (re.compile(r"Bad Job Array Request|illegal -t value"), "array"),
    (re.compile(r"Unknown resource type|Undefined attribute|default resources"), "scriptFile"),
    (re.compile(r"queue (?:max|min) walltime|Resource_List\.walltime"), "wallTimeLimit"),
    (re.compile(r"queue (?:max|min) p?v?mem\b|Resource_List\.p?v?mem\b"), "memoryLimit"),
    (re.compile(r"[Ii]nvalid [Aa]ccount|illegal -A value"), "account"),
    (re.compile(r"[Uu]nknown [Qq]ueue|[Qq]ueue is not enabled|default queue|illegal -q"), "queue"),
    (re.compile(r"illegal -p value"), "priority"),
    (
        re.compile(r"feasible nodes|queue (?:max|min) |Resource_List\.|exceeds queue"),
        "reservedSlots",
    ),
    (re.compile(r"illegal -[A-Za-z] value|invalid option|invalid -[A-Za-z] syntax"), "scriptFile"),
)
_FIELDS_BY_STATUS: Mapping[int, str] = {
    208: "dependsOn",  # 15056 PBSE_BADDEPEND
    235: "array",  # 15083 PBSE_BAD_ARRAY_REQ
    203: "account",  # 15051 PBSE_BADACCT
    **dict.fromkeys((172, 175, 191, 193), "queue"),  # UNKQUE, QUNOENB, QUENODFLT, ROUTEREJ
    **dict.fromkeys((154, 189), "scriptFile"),  # NOATTR, UNKRESC
    190: "reservedSlots",  # 15038 PBSE_EXCQRESC
}
_HINTS = {"dependsOn": " (One of these jobs may have ended meanwhile.)"}
_USAGE = re.compile(r"^\s*usage:.*", re.MULTILINE | re.DOTALL)
_OTHERS = re.compile(r"pbs_version|\b[A-Z]*GE [0-9]|\bOGS/GE\b|Grid Engine|slurm", re.IGNORECASE)


class Meaning(Enum):
    """What a failed command tells."""

    AWAY = auto()
    UNKNOWN_JOB = auto()
    FORBIDDEN = auto()
    WRONG_STATE = auto()
    LIMIT_REACHED = auto()
    REFUSED = auto()


# 15001 is 153. Releases before 4 count two less from 15008 on: words go first.
_BY_STATUS: Mapping[int, Meaning] = {
    **dict.fromkeys((153, 206, 234, 238), Meaning.UNKNOWN_JOB),  # UNKJOBID … JOBNOTFOUND
    159: Meaning.FORBIDDEN,  # 15007 PBSE_PERM
    **dict.fromkeys((173, 174), Meaning.FORBIDDEN),  # 15021, 15022 credentials
    **dict.fromkeys((176, 177, 199), Meaning.FORBIDDEN),  # QACESS, BADUSER, BADGRP
    **dict.fromkeys((169, 170, 204), Meaning.WRONG_STATE),  # MODATRRUN, BADSTATE, ALRDYEXIT
    200: Meaning.LIMIT_REACHED,  # 15048 PBSE_MAXQUED
    228: Meaning.LIMIT_REACHED,  # 15076 PBSE_MAXUSERQUED
    **dict.fromkeys((160, 161), Meaning.AWAY),  # 15008, 15009: it could not authenticate
    162: Meaning.AWAY,  # 15010 PBSE_BADHOST: the server's host is not known
    185: Meaning.AWAY,  # 15033 PBSE_PROTOCOL, seen from a server that is too busy
    **dict.fromkeys((187, 188, 214), Meaning.AWAY),  # NOCONNECTS, NOSERVER, SVRDOWN
    198: Meaning.AWAY,  # 15046 PBSE_RESCUNAV
    **dict.fromkeys((195, 211), Meaning.AWAY),  # 15043 PBSE_MOMREJECT, 15059 PBSE_NORELYMOM
    **dict.fromkeys((237, *range(248, 253)), Meaning.AWAY),  # TIMEOUT, PBSE_SOCKET_*
    **dict.fromkeys((10, 16), Meaning.AWAY),  # 15114 PREMATURE_EOF, 15120 CONNECT
    **dict.fromkeys((29, 30, 31, 33), Meaning.AWAY),  # 15133 … 15137: server, trqauthd
    111: Meaning.AWAY,  # ECONNREFUSED
}
# Older releases, and commands such as pbsnodes, exit with 1 or 2 whatever happened.
_BY_WORDS: tuple[tuple[re.Pattern[str], Meaning], ...] = (
    (
        re.compile(
            r"cannot connect to server|Cannot connect to specified|Cannot resolve specified"
            r"|could not connect to trqauthd|too busy|Communication failure|Connection refused"
            r"|Unable to communicate with|Connection to server timed out|[Ss]erver shutting down"
            r"|No free connections|Could not connect to batch server|Can not establish connection"
            r"|[Uu]nable to authenticate|Resource temporarily unavailable|Premature [Ee]nd of"
            r"|Batch protocol error|data from socket|Time out"
            r"|(?i:(?:connect(?:ion)? to|communicating with) (?:the )?(?:pbs_)?mom\b)"
            r"|Execution server rejected"
        ),
        Meaning.AWAY,
    ),
    (
        re.compile(
            r"[Uu]nknown [Jj]ob [Ii]d|nonexistent job id|illegally formed job identifier"
            r"|Unknown Array ID|Job not found"
        ),
        Meaning.UNKNOWN_JOB,
    ),
    (
        re.compile(
            r"Unauthorized [Rr]equest|can not be run as root|ACL rejected|Access .* denied"
            r"|Bad UID for job|Bad GID for job|Access from host not allowed"
            r"|(?:Invalid|Expired) credential"
        ),
        Meaning.FORBIDDEN,
    ),
    (
        re.compile(
            r"Request invalid for state of job|Job already in exit state"
            r"|Cannot modify attribute while job running"
        ),
        Meaning.WRONG_STATE,
    ),
    (re.compile(r"Maximum number of jobs already in queue"), Meaning.LIMIT_REACHED),
)
# What qsub says before a refusal of the server, and before its own complaints. Whatever else
# fails, a site's wrapper or submission filter for one, may fail after qsub has done its work.
_OWN_WORDS = re.compile(
    r"^(?:\[?(?:/\S*/)?qsub[: ]|\[index issues|\[The -|usage: qsub|invalid -[A-Za-z] syntax)",
    re.MULTILINE,
)
# Nothing was sent. Other failures of the connection may come after the job was.
_NOT_CONNECTED = re.compile(
    r"cannot connect to server|Cannot connect to specified|Can ?not resolve|too busy"
    r"|could not connect to trqauthd"
)


def meaning_of(done: Completed) -> Meaning | None:
    """Return what a finished command tells; None for one that did what it was asked to.

    Words win over the exit status. ``qdel`` of a job whose host hangs gives up after five
    minutes, says so on standard output and exits with 0; a command that reached the server at a
    second attempt has complaints on standard error, and exits with 0 too.
    """
    if done.exit_code == 0:
        gave_up = not done.stderr and done.stdout.startswith(b"Connection to server timed out")
        return Meaning.AWAY if gave_up else None
    said = (done.stderr + b"\n" + done.stdout).decode("utf-8", "replace")
    for pattern, meaning in _BY_WORDS:
        if pattern.search(said):
            return meaning
    return _BY_STATUS.get(done.exit_code, Meaning.REFUSED)


def check_completed(done: Completed, native_id: NativeId | None = None) -> None:
    """Return if the command succeeded.

    Args:
        done: a finished command.
        native_id: the job it was about.

    Raises:
        SchedulerUnavailable: the server, or trqauthd, is not there or too busy.
        JobNotFound: there is no such job, or no longer.
        NotAuthorized: the job or the right to touch it is someone else's.
        WrongState: the job has ended, or is about to.
        QuotaExceeded: the site's limit of jobs is reached.
        CommandFailed: anything else.
    """
    meaning = meaning_of(done)
    message = _words_of(done)
    match meaning:
        case None:
            return
        case Meaning.AWAY:
            raise SchedulerUnavailable(
                f"Torque does not answer: {message}", scheduler_message=message
            )
        case Meaning.UNKNOWN_JOB if native_id is not None:
            raise JobNotFound(native_id)
        case Meaning.FORBIDDEN:
            raise NotAuthorized(f"Torque does not allow it: {message}", scheduler_message=message)
        case Meaning.WRONG_STATE:
            raise WrongState(f"The job's state does not allow it: {message}")
        case Meaning.LIMIT_REACHED:
            raise QuotaExceeded(
                f"Torque takes no more jobs at present: {message}", scheduler_message=message
            )
        case _:
            raise CommandFailed(done.argv, done.exit_code, message.encode())


def _words_of(done: Completed) -> str:
    """Return what a command said, without the lines about its usage that follow a complaint."""
    said = done.stderr if done.stderr.strip() else done.stdout
    words = _USAGE.sub("", said.decode("utf-8", "replace")).replace("[exiting]", "")
    return excerpt(words.strip() or said)


def check_is_torque(program: str, done: Completed) -> None:
    """Return unless a ``qstat`` is another scheduler's.

    Args:
        program: its path.
        done: ``qstat --version``; OpenPBS has the option, Grid Engine says that it has not.

    Raises:
        CommandMissing: it is.
    """
    said = (done.stdout + b" " + done.stderr).decode("utf-8", "replace")
    if _OTHERS.search(said):
        raise CommandMissing(
            f"The program {program} is not Torque's, but another scheduler's: it says"
            f" {excerpt(said, 60)!r}. Put the folder of Torque's commands first in"
            " SCHEDULER_PATH.",
            scheduler_message=excerpt(said),
        )


def parse_qsub(done: Completed) -> JobId:
    """Return the id that ``qsub`` printed: ``45.server``, ``45[].server`` for an array.

    Raises:
        OutputParseError: it answered something else, or its answer was lost: nobody knows whether
            the job exists.
        CommandFailed, NotAuthorized, QuotaExceeded, SchedulerUnavailable: it was refused.
    """
    said = done.stderr + done.stdout
    if done.exit_code < 0:
        raise OutputParseError("qsub", f"signal {-done.exit_code} ended it", said)
    if done.exit_code != 0:
        words = said.decode("utf-8", "replace")
        is_away = meaning_of(done) is Meaning.AWAY
        if is_away and not _NOT_CONNECTED.search(words):
            raise OutputParseError("qsub", "the answer of the server was lost", said)
        if not is_away and not _OWN_WORDS.search(words):
            reason = f"it exited with {done.exit_code}, without words of its own"
            raise OutputParseError("qsub", reason, said)
    check_completed(done)
    try:
        return parse_job_id(done.stdout.decode("ascii", "replace"))
    except ValueError:
        answer = done.stdout or done.stderr
        raise OutputParseError("qsub", "it is not just a job id", answer) from None


def check_refusal(error: CommandFailed) -> None:
    """Say of a refusal by ``qsub`` which field is to blame, where that can be told.

    Raises:
        InvalidSpec: it can.
    """
    said = error.scheduler_message or ""
    found = (field for pattern, field in _FIELDS_BY_WORDS if pattern.search(said))
    field = next(found, _FIELDS_BY_STATUS.get(error.exit_code))
    if field is None:
        return
    hint = _HINTS.get(field, "")
    raise InvalidSpec(f"Torque does not take the job: {said}{hint}", field=field) from error
