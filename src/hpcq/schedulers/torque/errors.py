"""Refusals of Torque's commands as the service's errors, and the answer of ``qsub``.

A command exits with the low byte of the server's error number (PBSE_*, pbs_error_db.h; 15001 is
153), with 1 to 3 for mistakes that it finds itself, with an errno for a connection that fails.
All of it was recorded from 6.1.3. Releases before 4 count two less from 15008 on, and older ones
and commands such as pbsnodes exit with 1 or 2 whatever happened: words go first.
"""

import re
from dataclasses import replace

from hpcq.domain.errors import CommandMissing, InvalidSpec, OutputParseError, excerpt
from hpcq.domain.jobs import NativeId
from hpcq.execution.protocol import Completed
from hpcq.schedulers.command_errors import ErrorKind, ErrorTable
from hpcq.schedulers.pbs_family.values import JobId, parse_job_id

__all__ = ["ERRORS", "check_completed", "check_is_torque", "parse_qsub"]

# Nothing was sent. Other failures of the connection may come after the job was.
_NOT_CONNECTED = (
    r"cannot connect to server|Cannot connect to specified|Can ?not resolve|too busy"
    r"|could not connect to trqauthd"
)
_ANSWER_LOST = (
    r"Communication failure|Connection refused|Unable to communicate with"
    r"|Connection to server timed out|[Ss]erver shutting down"
    r"|No free connections|Could not connect to batch server|Can not establish connection"
    r"|[Uu]nable to authenticate|Resource temporarily unavailable|Premature [Ee]nd of"
    r"|Batch protocol error|data from socket|Time out"
    r"|(?i:(?:connect(?:ion)? to|communicating with) (?:the )?(?:pbs_)?mom\b)"
    r"|Execution server rejected"
)
_UNKNOWN = (
    r"[Uu]nknown [Jj]ob [Ii]d|nonexistent job id|illegally formed job identifier"
    r"|Unknown Array ID|Job not found"
)
_FORBIDDEN = (
    r"Unauthorized [Rr]equest|can not be run as root|ACL rejected|Access .* denied"
    r"|Bad UID for job|Bad GID for job|Access from host not allowed"
    r"|(?:Invalid|Expired) credential"
)
_WRONG_STATE = (
    r"Request invalid for state of job|Job already in exit state"
    r"|Cannot modify attribute while job running"
)
_OWN_WORDS = (
    r"^(?:\[?(?:/\S*/)?qsub[: ]|\[index issues|\[The -|usage: qsub|invalid -[A-Za-z] syntax)"
)

ERRORS = ErrorTable(
    scheduler="Torque",
    words=(
        (re.compile(_NOT_CONNECTED), ErrorKind.UNAVAILABLE),
        (re.compile(_ANSWER_LOST), ErrorKind.ANSWER_LOST),
        (re.compile(_UNKNOWN), ErrorKind.UNKNOWN_JOB),
        (re.compile(_FORBIDDEN), ErrorKind.FORBIDDEN),
        (re.compile(_WRONG_STATE), ErrorKind.WRONG_STATE),
        (re.compile(r"Maximum number of jobs already in queue"), ErrorKind.LIMIT_REACHED),
    ),
    statuses={
        **dict.fromkeys((153, 206, 234, 238), ErrorKind.UNKNOWN_JOB),  # UNKJOBID … JOBNOTFOUND
        159: ErrorKind.FORBIDDEN,  # 15007 PBSE_PERM
        **dict.fromkeys((173, 174), ErrorKind.FORBIDDEN),  # 15021, 15022 credentials
        **dict.fromkeys((176, 177, 199), ErrorKind.FORBIDDEN),  # QACESS, BADUSER, BADGRP
        **dict.fromkeys((169, 170, 204), ErrorKind.WRONG_STATE),  # MODATRRUN, BADSTATE, ALRDYEXIT
        200: ErrorKind.LIMIT_REACHED,  # 15048 PBSE_MAXQUED
        228: ErrorKind.LIMIT_REACHED,  # 15076 PBSE_MAXUSERQUED
        **dict.fromkeys((160, 161), ErrorKind.ANSWER_LOST),  # 15008, 15009: authentication
        162: ErrorKind.ANSWER_LOST,  # 15010 PBSE_BADHOST: the server's host is not known
        185: ErrorKind.ANSWER_LOST,  # 15033 PBSE_PROTOCOL, seen from a server that is too busy
        **dict.fromkeys((187, 188, 214), ErrorKind.ANSWER_LOST),  # NOCONNECTS, NOSERVER, SVRDOWN
        198: ErrorKind.ANSWER_LOST,  # 15046 PBSE_RESCUNAV
        **dict.fromkeys((195, 211), ErrorKind.ANSWER_LOST),  # 15043 MOMREJECT, 15059 NORELYMOM
        **dict.fromkeys((237, *range(248, 253)), ErrorKind.ANSWER_LOST),  # TIMEOUT, PBSE_SOCKET_*
        **dict.fromkeys((10, 16), ErrorKind.ANSWER_LOST),  # 15114 PREMATURE_EOF, 15120 CONNECT
        **dict.fromkeys((29, 30, 31, 33), ErrorKind.ANSWER_LOST),  # 15133 … 15137: trqauthd
        111: ErrorKind.ANSWER_LOST,  # ECONNREFUSED
    },
    # The particular before the general.
    fields=(
        (re.compile(r"Invalid Job Dependency|illegal -W (?:dependency )?value"), "dependsOn"),
        (re.compile(r"Bad Job Array Request|illegal -t value"), "array"),
        (re.compile(r"Unknown resource type|Undefined attribute|default resources"), "scriptFile"),
        (re.compile(r"queue (?:max|min) walltime|Resource_List\.walltime"), "wallTimeLimit"),
        (re.compile(r"queue (?:max|min) p?v?mem\b|Resource_List\.p?v?mem\b"), "memoryLimit"),
        (re.compile(r"[Ii]nvalid [Aa]ccount|illegal -A value"), "account"),
        (
            re.compile(r"[Uu]nknown [Qq]ueue|[Qq]ueue is not enabled|default queue|illegal -q"),
            "queue",
        ),
        (re.compile(r"illegal -p value"), "priority"),
        (
            re.compile(r"feasible nodes|queue (?:max|min) |Resource_List\.|exceeds queue"),
            "reservedSlots",
        ),
        (
            re.compile(r"illegal -[A-Za-z] value|invalid option|invalid -[A-Za-z] syntax"),
            "scriptFile",
        ),
    ),
    field_statuses={
        208: "dependsOn",  # 15056 PBSE_BADDEPEND
        235: "array",  # 15083 PBSE_BAD_ARRAY_REQ
        203: "account",  # 15051 PBSE_BADACCT
        **dict.fromkeys((172, 175, 191, 193), "queue"),  # UNKQUE, QUNOENB, QUENODFLT, ROUTEREJ
        **dict.fromkeys((154, 189), "scriptFile"),  # NOATTR, UNKRESC
        190: "reservedSlots",  # 15038 PBSE_EXCQRESC
    },
    own_words=re.compile(f"{_OWN_WORDS}|{_NOT_CONNECTED}", re.MULTILINE),
    noise=re.compile(r"^\s*usage:.*|\[exiting\]", re.MULTILINE | re.DOTALL),
    reads_stdout=True,
)
_OTHERS = re.compile(r"pbs_version|\b[A-Z]*GE [0-9]|\bOGS/GE\b|Grid Engine|slurm", re.IGNORECASE)
_JOB_ID = re.compile(rb"\s*[0-9]{1,18}(?:\[\])?\.\S+\s*")


def check_completed(done: Completed, native_id: NativeId | None = None) -> None:
    """Return if a command succeeded, as `ErrorTable.check` does.

    ``qdel`` of a job whose host hangs gives up after five minutes, says so on standard output and
    exits with 0. A command that reached the server at a second attempt has complaints on standard
    error, and exits with 0 too.
    """
    gave_up = not done.stderr and done.stdout.startswith(b"Connection to server timed out")
    ERRORS.check(replace(done, exit_code=done.exit_code or 1) if gave_up else done, native_id)


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
        OutputParseError: it answered something else, or its answer was lost: the job may exist.
        HpcqError: there is no job, see `ErrorTable.check_submission`.
    """
    try:
        ERRORS.check_submission(done, _JOB_ID)
        return parse_job_id(done.stdout.decode("ascii", "replace"))
    except InvalidSpec as error:
        if error.field == "dependsOn":
            hint = f"{error.detail} (One of these jobs may have ended meanwhile.)"
            raise InvalidSpec(hint, field=error.field) from None
        raise
    except ValueError:
        answer = done.stdout or done.stderr
        raise OutputParseError("qsub", "it is not just a job id", answer) from None
