"""Slurm's commands but ``sbatch`` as argv; pure.

What a user can type never decides where a field or a record of Slurm's output ends: free text is
fenced by random marks (`Marks`) that no user can have put into a job's name beforehand.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hpcq.domain.actions import Action, Signal
from hpcq.domain.arrays import ranges_of
from hpcq.domain.jobs import NativeId

__all__ = [
    "DETAIL_COLUMNS",
    "EPOCH_TIMES",
    "FIELD",
    "FIND_COLUMNS",
    "FREE_DETAIL_COLUMNS",
    "FREE_QUEUE_COLUMNS",
    "HISTORY_COLUMNS",
    "QUEUE_COLUMNS",
    "USAGE_COLUMNS",
    "Marks",
    "build_action",
    "build_details",
    "build_find_in_accounting",
    "build_find_in_queue",
    "build_history",
    "build_listing",
    "build_nodes",
    "build_queues",
    "build_scancel",
    "build_scancel_tasks",
    "build_usage",
    "new_marks",
]

FIELD = "\x1f"
"""Stands between the fields of one record (ASCII unit separator)."""

EPOCH_TIMES = {"SLURM_TIME_FORMAT": "%s"}
"""Makes squeue and sacct print times as seconds since 1970, free of any zone."""

FIND_DAYS = 7
"""Days of accounting that are searched for a submission of unknown outcome."""

_UNTIL = "--endtime=now+1days"
"""sacct leaves out what began after its end time, which is the present unless it is told: all of
the last minutes' jobs where the controller's clock is ahead of this machine's (seen in 22.05)."""

_FIRST_COLUMNS = {
    "id": "JobArrayID",
    "state": "State",
    "reason": "Reason",
    "owner": "UserName",
    "queue": "Partition",
    "account": "Account",
    "submit": "SubmitTime",
    "start": "StartTime",
}
# Columns in the order in which they are asked for; the free text comes last.
FREE_QUEUE_COLUMNS = 4
QUEUE_COLUMNS: Mapping[str, str] = {
    **_FIRST_COLUMNS,
    "limit": "TimeLimit",
    "slots": "NumCPUs",
    "hosts": "NodeList",
    "depends": "Dependency",
    "restarts": "RestartCnt",
    "comment": "Comment",
    "directory": "WorkDir",
    "command": "Command",
    "name": "Name",
}
"""squeue -O: only what stays the same while a job stays in its state (no elapsed time, no
priority), so that a record that did not change is the same bytes again."""

FREE_DETAIL_COLUMNS = 6

DETAIL_COLUMNS: Mapping[str, str] = {
    **_FIRST_COLUMNS,
    "end": "EndTime",
    "limit": "TimeLimit",
    "slots": "NumCPUs",
    "hosts": "NodeList",
    "depends": "Dependency",
    "restarts": "RestartCnt",
    "exit": "exit_code",
    "tres": "tres-alloc",
    "raw_id": "JobID",
    "het": "HetJobOffset",
    "comment": "Comment",
    "directory": "WorkDir",
    "command": "Command",
    "stdout": "STDOUT",
    "stderr": "STDERR",
    "name": "Name",
}
"""squeue -O: all that the controller can tell of a job that is of use here."""

HISTORY_COLUMNS: Sequence[str] = (
    "JobID",
    "JobIDRaw",
    "State",
    "ExitCode",
    "Submit",
    "Start",
    "End",
    "User",
    "Account",
    "Partition",
    "ReqCPUS",
    "AllocCPUS",
    "ReqTRES",
    "NodeList",
    "TimelimitRaw",
    "TotalCPU",
    "MaxRSS",
    "TRESUsageInTot",
    "TRESUsageOutTot",
    "Reason",
    "Comment",
    "SubmitLine",
    "WorkDir",
    "JobName",
)
"""sacct -o, for allocations and their steps."""

FIND_COLUMNS: Sequence[str] = ("JobID", "Submit", "Comment", "SubmitLine")
"""sacct -o, for what this account submitted."""

USAGE_COLUMNS: Sequence[str] = ("JobID", "MaxRSS", "TRESUsageInTot", "TRESUsageOutTot")
"""sstat -o, for the steps of running jobs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Fences of free text in squeue's answer.

    Attributes:
        free: stands before every column of free text.
        end: ends a record, before its newline.
    """

    free: str
    end: str


def new_marks() -> Marks:
    """Return marks with 64 random bits, the same for both."""
    secret = secrets.token_hex(8)
    return Marks(free=f"\x1e{secret}\x1e", end=f"\x1d{secret}\x1d")


def build_listing(marks: Marks) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return argv and environment of the whole queue's listing.

    The format goes through the environment, which other users cannot read as they can an argv:
    the marks stay secret.
    """
    form = _form(QUEUE_COLUMNS, FREE_QUEUE_COLUMNS, marks)
    return ("squeue", "--noheader", "--all", "--array"), {"SQUEUE_FORMAT2": form, **EPOCH_TIMES}


def build_details(
    ids: Iterable[NativeId], marks: Marks, *, finished: bool = False
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return argv and environment of the listing of some jobs, with all that is known.

    Args:
        ids: the jobs.
        marks: fence the free text.
        finished: also jobs that ended a short while ago (``MinJobAge``).
    """
    form = _form(DETAIL_COLUMNS, FREE_DETAIL_COLUMNS, marks)
    argv = ["squeue", "--noheader", "--all", "--array", f"--jobs={','.join(ids)}"]
    if finished:
        argv.append("--states=all")
    return tuple(argv), {"SQUEUE_FORMAT2": form, **EPOCH_TIMES}


def _form(names: Mapping[str, str], free: int, marks: Marks) -> str:
    """Return a format in which a plain fence or, before free text, a mark stands behind columns."""
    *columns, last = names.values()
    fences = [FIELD] * (len(columns) - free) + [marks.free] * free
    parts = [f"{column}:{fence}" for column, fence in zip(columns, fences, strict=True)]
    return ",".join([*parts, f"{last}:{marks.end}"])


def build_find_in_queue(marks: Marks, owner: str | None) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return argv and environment of the listing of an account's jobs and their comments.

    Args:
        marks: fence the free text.
        owner: the account; None for the one that asks.
    """
    whose = "--me" if owner is None else f"--user={owner}"
    argv = ("squeue", "--noheader", "--all", "--array", whose, "--states=all")
    return argv, {"SQUEUE_FORMAT": f"%i{marks.free}%k{marks.end}"}


def build_find_in_accounting(delimiter: str, owner: str | None) -> tuple[str, ...]:
    """Return the argv that lists what this account submitted in the last days, with comments."""
    whose = () if owner is None else (f"--user={owner}",)
    return (
        *("sacct", "--allocations", "--duplicates", "--noheader", "--parsable"),
        *(f"--delimiter={delimiter}", f"--starttime=now-{FIND_DAYS}days", _UNTIL, *whose),
        f"--format={','.join(FIND_COLUMNS)}",
    )


def build_history(ids: Iterable[NativeId], delimiter: str) -> tuple[str, ...]:
    """Return the argv that asks accounting for these jobs and their steps.

    ``--parsable`` (not ``--parsable2``) ends every field with the delimiter, the last one too:
    a newline in a name can then be told from the one that ends a record.
    """
    return (
        *("sacct", "--duplicates", "--noheader", "--parsable", f"--delimiter={delimiter}"),
        *(f"--jobs={','.join(ids)}", _UNTIL),
        f"--format={','.join(HISTORY_COLUMNS)}",
    )


def build_usage(ids: Iterable[NativeId]) -> tuple[str, ...]:
    """Return the argv that asks the nodes what running jobs use; nothing in it is free text."""
    return (
        *("sstat", "--allsteps", "--noheader", "--parsable2"),
        f"--jobs={','.join(ids)}",
        f"--format={','.join(USAGE_COLUMNS)}",
    )


def build_queues() -> tuple[str, ...]:
    """Return the argv that lists partitions: name, availability, CPUs, time limit."""
    return ("sinfo", "--noheader", "--all", f"--format=%R{FIELD}%a{FIELD}%C{FIELD}%l")


def build_nodes() -> tuple[str, ...]:
    """Return the argv that lists nodes, one line for each partition a node is in."""
    columns = FIELD.join(("%N", "%T", "%C", "%m", "%R"))
    return ("sinfo", "--noheader", "--all", "--Node", f"--format={columns}")


def build_scancel(native_id: NativeId) -> tuple[str, ...]:
    """Return the argv that ends a job.

    Without ``--verbose`` scancel is silent about an unknown id and exits 0 (seen in 22.05).
    """
    return ("scancel", "--verbose", native_id)


def build_scancel_tasks(array: NativeId, tasks: Mapping[int, NativeId]) -> tuple[str, ...]:
    """Return the argv that ends some tasks of an array, or components of a heterogeneous job.

    Args:
        array: the whole.
        tasks: by their numbers.
    """
    if any("+" in native_id for native_id in tasks.values()):
        return ("scancel", "--verbose", *tasks.values())
    return ("scancel", "--verbose", f"{array}_[{','.join(ranges_of(tasks))}]")


def build_action(action: Action, native_id: NativeId, signal: Signal | None) -> tuple[str, ...]:
    """Return the argv of an action on a job.

    ``uhold`` is the hold that its owner can release (scontrol(1)). ``--full`` sends a signal to the
    script and all that it has started (scancel(1)); without it, to job steps alone.
    """
    if signal is not None:
        return ("scancel", "--verbose", "--full", f"--signal={signal}", native_id)
    return ("scontrol", "uhold" if action is Action.HOLD else action, native_id)
