"""Ends of jobs: from the accounting logs, else from what ``tracejob`` finds in the logs."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from hpcq.domain.errors import excerpt
from hpcq.domain.jobs import NativeId, Observation
from hpcq.domain.states import FailureKind
from hpcq.domain.units import from_epoch
from hpcq.schedulers.base import ParseFailure
from hpcq.schedulers.meanings import Outcome
from hpcq.schedulers.pbs_family.accounting import (
    AccountingLine,
    local_moment,
    parse_accounting_line,
    parse_attributes,
)
from hpcq.schedulers.pbs_family.values import (
    JobId,
    hosts_in,
    parse_job_id,
    parse_whole,
    read_job_id,
    usage_of,
)
from hpcq.schedulers.torque.qstat_job import memory_limit_of, slots_of, wall_time_limit_of
from hpcq.schedulers.torque.states import outcome_of

__all__ = ["KINDS", "arrays_not_over", "observe_lines", "parse_tracejob"]

KINDS = "QSRDAE"
"""The records that are read: queued, started, run again, deleted, aborted, ended."""

_TRACE_HEADING = re.compile(r"\s*Job: (\S+)")
# A rerun's record is empty and has no newline behind it: two lines in one.
_TRACE_LINE = re.compile(
    r"\s*([0-9]{2}/[0-9]{2}/[0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]+)? {1,2}([A-Z]) {4}(.*)$"
)
_TRACE_GOES_ON = re.compile(r"\r?\n[ \t]{20,}(?=\S)")
_TASK = re.compile(r"([0-9]+)(?:\[[0-9]+\]|-[0-9]+)")
_OVER = ("E", "D", "A")
_WHY_ABORTED = "as a rule because a job that it depends on did not end as it had to"
_FROM_SERVER_LOG = "This is from the server's log; the accounting logs cannot be read."


def observe_lines(
    lines: Iterable[bytes], wrapped: Collection[str] = (), gone: Collection[str] = ()
) -> tuple[list[Observation], list[ParseFailure]]:
    """Return the ends that lines of the accounting logs tell, and the lines that are none.

    A job has ended when its last record is ``E``, or ``D`` or ``A`` without one; after ``R`` or
    ``S`` it runs again. A number that was used again gives one observation for each job.

    Args:
        lines: in the order they were written.
        wrapped: the ids of jobs and arrays whose scripts a wrapper runs, see `outcome_of`.
        gone: the numbers of arrays that Torque no longer has. Of a job that waited when its array
            was deleted it writes no record (recording accounting.20261122, ``46[2]``).
    """
    records, unreadable = _records_of_jobs(lines)
    observations: list[Observation] = []
    for name, ours in records.items():
        try:
            job_id = parse_job_id(name)
            is_wrapped = job_id.short in wrapped or job_id.number in wrapped
            ends = _ends_of(job_id, ours, is_wrapped)
            if not ends and job_id.task and job_id.number in gone:
                ends = [_vanished(job_id, ours[-1])]
            observations += ends
        except ValueError as error:
            unreadable.append(ParseFailure(reason=str(error), excerpt=excerpt(name)))
    return observations, unreadable


def arrays_not_over(lines: Iterable[bytes]) -> set[str]:
    """Return the numbers of the arrays with jobs that do not end in these lines."""
    open_arrays = set()
    for job_id, ours in _records_of_jobs(lines)[0].items():
        match = _TASK.match(job_id)
        if match is not None and ours[-1].kind not in _OVER:
            open_arrays.add(match[1])
    return open_arrays


def _records_of_jobs(
    lines: Iterable[bytes],
) -> tuple[dict[str, list[AccountingLine]], list[ParseFailure]]:
    records: dict[str, list[AccountingLine]] = {}
    unreadable: list[ParseFailure] = []
    for line in filter(bytes.strip, lines):
        try:
            record = parse_accounting_line(line)
        except ValueError as error:
            unreadable.append(ParseFailure(reason=str(error), excerpt=excerpt(line)))
        else:
            if record.kind in KINDS:
                records.setdefault(record.job_id, []).append(record)
    return records, unreadable


def parse_tracejob(
    output: bytes, wanted: JobId, wrapped: Collection[str] = ()
) -> Observation | None:
    """Return how a job ended by what ``tracejob`` prints; None when that does not tell.

    It exits with 0 whatever it finds, shows other jobs whose ids begin alike, and lines that are
    not in the order of time. Its ``dequeuing`` is not the end but the end of the job's keeping.
    Accounting records (``A``) are there for those who may read them; the server's own log
    (``S``) has the exit status and the usage.

    Args:
        output: what it printed; its times are the server's local ones, taken for this machine's.
        wanted: whose end is asked for.
        wrapped: see `observe_lines`.
    """
    attributes: dict[str, str] = {}
    deleted: datetime | None = None
    ended: datetime | None = None
    is_ours = is_accounting = False
    text = output.replace(b"\0", b"?").decode("utf-8", "replace")
    for line in _TRACE_GOES_ON.sub(" ", text).split("\n"):
        heading = _TRACE_HEADING.match(line)
        if heading is not None:
            found = read_job_id(heading[1])
            is_ours = found is not None and replace(found, server=wanted.server) == wanted
        match = _TRACE_LINE.match(line) if is_ours else None
        if match is None:
            continue
        match = _TRACE_LINE.match(match[3]) or match
        moment, source, text = match.groups()
        if source in "AS" and "Exit_status=" in text and not is_accounting:
            attributes, ended = parse_attributes(text), local_moment(moment)
            is_accounting = source == "A"
        elif source == "S" and text.startswith("Job deleted at request of "):
            deleted = local_moment(moment)
        elif source == "S" and text.startswith("Job Rerun at request of "):
            attributes, ended = {}, None
    if not attributes and deleted is None:
        return None
    status = parse_whole(attributes.get("Exit_status"))
    is_wrapped = wanted.short in wrapped or wanted.number in wrapped
    outcome = outcome_of(status, started=bool(attributes), wrapped=is_wrapped)
    if deleted is not None and (status is None or status >= 0):
        when = "while it ran" if attributes else "before it started"
        outcome = replace(
            outcome, failure_kind=FailureKind.CANCELLED, reason=f"It was deleted {when}."
        )
    seen = _observation(wanted, attributes, outcome, ended or deleted)
    if is_accounting:
        return seen
    return replace(
        seen, state_reason=f"{seen.state_reason or 'It ended.'} {_FROM_SERVER_LOG}", start_time=None
    )


def _ends_of(
    job_id: JobId, records: Sequence[AccountingLine], is_wrapped: bool
) -> list[Observation]:
    ends: list[tuple[str | None, Observation]] = []
    start: AccountingLine | None = None
    removal: AccountingLine | None = None
    for record in records:
        if record.kind == "Q":
            start = removal = None
        elif record.kind == "S":
            start, removal = record, None
        elif record.kind == "R":
            start = removal = None
            if ends and ends[-1][0] is not None:
                ends.pop()
        elif record.kind in "DA" and (removal is None or removal.kind != "D"):
            removal = record
        elif record.kind == "E":
            created = record.attributes.get("ctime")
            if ends and ends[-1][0] == created:
                ends.pop()
            ends.append((created, _ended(job_id, record, removal, is_wrapped)))
            start = removal = None
    if removal is not None:
        ends.append((None, _removed(job_id, removal, start)))
    return [seen for _, seen in ends]


def _ended(
    job_id: JobId, record: AccountingLine, removal: AccountingLine | None, is_wrapped: bool
) -> Observation:
    status = parse_whole(record.attributes.get("Exit_status"))
    outcome = outcome_of(status, started=True, wrapped=is_wrapped)
    # Torque itself ends it at a limit, whoever deletes it meanwhile.
    if removal is not None and removal.kind == "D" and (status is None or status >= 0):
        reason = f"{_deleted_by(removal)} while it ran."
        outcome = replace(outcome, failure_kind=FailureKind.CANCELLED, reason=reason)
    return _observation(job_id, record.attributes, outcome, local_moment(record.moment))


def _vanished(job_id: JobId, last: AccountingLine) -> Observation:
    """Return the end of a job without a record, of an array that is gone."""
    if last.kind == "Q":
        outcome = Outcome(FailureKind.CANCELLED, "It was deleted with its array before it started.")
        return _observation(job_id, {}, outcome, None)
    outcome = Outcome(FailureKind.UNKNOWN, "Torque has written no record of its end.")
    return _observation(job_id, last.attributes, outcome, None)


def _removed(job_id: JobId, removal: AccountingLine, start: AccountingLine | None) -> Observation:
    """Return the end of a job that Torque removed without a record of its end."""
    when = "before it started" if start is None else "while it ran"
    if removal.kind == "D":
        outcome = Outcome(FailureKind.CANCELLED, f"{_deleted_by(removal)} {when}.")
    elif start is None:
        # The record is empty, whatever the reason; seen of jobs whose dependency failed.
        outcome = Outcome(FailureKind.CANCELLED, f"Torque aborted it {when}, {_WHY_ABORTED}.")
    else:
        outcome = Outcome(FailureKind.SCHEDULER_ERROR, f"Torque aborted it {when}.")
    attributes = {} if start is None else start.attributes
    return _observation(job_id, attributes, outcome, local_moment(removal.moment))


def _deleted_by(removal: AccountingLine) -> str:
    requestor = removal.attributes.get("requestor")
    return "It was deleted" + (f" by {excerpt(requestor)}" if requestor else "")


def _observation(
    job_id: JobId, attributes: Mapping[str, str], outcome: Outcome, at: datetime | None
) -> Observation:
    status = parse_whole(attributes.get("Exit_status"))
    end = from_epoch(parse_whole(attributes.get("end"))) or at
    start = from_epoch(parse_whole(attributes.get("start")))
    has_run = start is not None or status is not None
    seen = Observation(
        native_id=NativeId(job_id.short),
        state=outcome.state,
        native_state="C" if status is None else f"exit_status={status}",
        name=attributes.get("jobname") or None,
        owner=attributes.get("user") or None,
        queue=attributes.get("queue") or None,
        account=attributes.get("account") or None,
        submit_time=from_epoch(parse_whole(attributes.get("ctime"))),
        start_time=start,
        end_time=end,
        slots=slots_of(attributes),
        hosts=hosts_in(attributes.get("exec_host")),
        wall_time_limit_seconds=wall_time_limit_of(attributes),
        memory_limit_bytes=memory_limit_of(attributes),
        usage=usage_of(attributes, end) if has_run else None,
        array_job_id=None if job_id.task is None else job_id.number,
        array_task_id=job_id.array_task_id,
    )
    return outcome.apply(seen)
