"""How jobs ended: from the accounting logs, else from what ``tracejob`` finds in the logs."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from hpcq.domain.errors import excerpt
from hpcq.domain.jobs import NativeId, Observation
from hpcq.domain.states import JobState
from hpcq.domain.units import from_epoch
from hpcq.schedulers.base import Unreadable
from hpcq.schedulers.pbs_family.accounting import (
    AccountingLine,
    local_moment,
    parse_accounting_line,
    parse_attributes,
)
from hpcq.schedulers.pbs_family.values import JobId, hosts_in, parse_job_id, parse_whole
from hpcq.schedulers.torque.attributes import (
    memory_limit_of,
    slots_of,
    usage_of,
    wall_time_limit_of,
)
from hpcq.schedulers.torque.states import ending_of

__all__ = ["observe_lines", "parse_tracejob"]

_ENDED, _DELETED, _ABORTED, _RERUN = "E", "D", "A", "R"
_TOLD = frozenset({_ENDED, _DELETED, _ABORTED, _RERUN})
_TRACE_HEADING = re.compile(r"\s*Job: (\S+)")
# A rerun's record is empty and has no newline behind it: two lines in one.
_TRACE_LINE = re.compile(
    r"\s*([0-9]{2}/[0-9]{2}/[0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]+)? {1,2}([A-Z]) {4}(.*)$"
)
_TRACE_GOES_ON = re.compile(r"\n\s{20,}")
_FROM_SERVER_LOG = "(from the server's log; the accounting logs cannot be read)"


def observe_lines(lines: Iterable[bytes]) -> tuple[list[Observation], list[Unreadable]]:
    """Return the ends that lines of the accounting logs tell, and the lines that are none.

    A job has ended when its last record is ``E``, or ``D`` or ``A`` without one; after ``R`` it
    runs again. A number that was used again gives one observation for each job.

    Args:
        lines: in the order they were written.
    """
    records: dict[str, list[AccountingLine]] = {}
    unreadable: list[Unreadable] = []
    for line in filter(bytes.strip, lines):
        try:
            record = parse_accounting_line(line)
            if record.kind in _TOLD:
                records.setdefault(record.job_id, []).append(record)
        except ValueError as error:
            unreadable.append(Unreadable(reason=str(error), excerpt=excerpt(line)))
    observations: list[Observation] = []
    for job_id, ours in records.items():
        try:
            observations += _ends_of(parse_job_id(job_id), ours)
        except ValueError as error:
            unreadable.append(Unreadable(reason=str(error), excerpt=excerpt(job_id)))
    return observations, unreadable


def parse_tracejob(output: bytes, wanted: JobId) -> Observation | None:
    """Return how a job ended by what ``tracejob`` prints; None when that does not tell.

    It exits with 0 whatever it finds, shows other jobs whose ids begin alike, and lines that are
    not in the order of time. Its ``dequeuing`` is not the end but the end of the job's keeping.
    Accounting records (``A``) are there for those who may read them; the server's own log
    (``S``) has the exit status and the usage.

    Args:
        output: what it printed; its times are the server's local ones, taken for this machine's.
        wanted: whose end is asked for.
    """
    attributes: dict[str, str] = {}
    deleted: datetime | None = None
    ended: datetime | None = None
    is_ours = is_accounting = False
    text = output.replace(b"\0", b"?").decode("utf-8", "replace")
    for line in _TRACE_GOES_ON.sub(" ", text).split("\n"):
        heading = _TRACE_HEADING.match(line)
        if heading is not None:
            is_ours = _is_same(heading[1], wanted)
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
    seen = _observation(wanted, attributes, ended or deleted)
    if is_accounting:
        return seen
    return replace(
        seen, state_reason=f"{seen.state_reason or 'ended'} {_FROM_SERVER_LOG}", start_time=None
    )


def _ends_of(job_id: JobId, records: Sequence[AccountingLine]) -> list[Observation]:
    ends: list[tuple[str | None, Observation]] = []
    deleted: AccountingLine | None = None
    for record in records:
        if record.kind == _RERUN:
            deleted = None
            if ends and ends[-1][0] is not None:
                ends.pop()
        elif record.kind in (_DELETED, _ABORTED):
            deleted = record
        elif record.kind == _ENDED:
            deleted = None
            created = record.attributes.get("ctime")
            if ends and ends[-1][0] == created:
                ends.pop()
            at = local_moment(record.moment)
            ends.append((created, _observation(job_id, record.attributes, at, started=True)))
    if deleted is not None and not ends:
        ends.append((None, _observation(job_id, {}, local_moment(deleted.moment))))
    return [seen for _, seen in ends]


def _observation(
    job_id: JobId, attributes: Mapping[str, str], at: datetime | None, *, started: bool = False
) -> Observation:
    status = parse_whole(attributes.get("Exit_status"))
    ending = ending_of(status, started=started)
    end = from_epoch(parse_whole(attributes.get("end"))) or at
    return Observation(
        native_id=NativeId(job_id.short),
        state=JobState.DONE if ending.kind is None else JobState.FAILED,
        native_state="C" if status is None else f"exit_status={status}",
        state_reason=ending.reason,
        failure_kind=ending.kind,
        exit_code=ending.code,
        exit_signal=ending.signal,
        name=attributes.get("jobname") or None,
        owner=attributes.get("user") or None,
        queue=attributes.get("queue") or None,
        account=attributes.get("account") or None,
        submit_time=from_epoch(parse_whole(attributes.get("ctime"))),
        start_time=from_epoch(parse_whole(attributes.get("start"))),
        end_time=end,
        slots=slots_of(attributes),
        hosts=hosts_in(attributes.get("exec_host")),
        wall_time_limit_seconds=wall_time_limit_of(attributes),
        memory_limit_bytes=memory_limit_of(attributes),
        usage=usage_of(attributes, end) if started or status is not None else None,
        array_job_id=None if job_id.task is None else job_id.number,
        array_task_id=int(job_id.task) if job_id.task else None,
    )


def _is_same(text: str, wanted: JobId) -> bool:
    try:
        found = parse_job_id(text)
    except ValueError:
        return False
    return (found.number, found.task) == (wanted.number, wanted.task)
