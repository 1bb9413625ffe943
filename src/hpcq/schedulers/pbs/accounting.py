"""How jobs ended, by PBS's accounting logs: for a server that keeps no finished jobs."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from hpcq.domain.errors import excerpt
from hpcq.domain.jobs import NativeId, Observation, SubmissionKey, Usage
from hpcq.domain.states import FailureKind, JobState
from hpcq.domain.units import from_epoch
from hpcq.schedulers.base import Listing, Unreadable
from hpcq.schedulers.pbs.conf import read_conf
from hpcq.schedulers.pbs.records import slots_asked
from hpcq.schedulers.pbs.states import End, end_of
from hpcq.schedulers.pbs_family.accounting import (
    AccountingLine,
    local_moment,
    parse_accounting_line,
)
from hpcq.schedulers.pbs_family.values import (
    JobId,
    hosts_in,
    parse_duration,
    parse_job_id,
    parse_pbs_size,
    parse_whole,
    read_figure,
    slots_in,
)

__all__ = ["accounting_folder", "parse_accounting"]

_TOLD = frozenset("EDAR")
_ASKED, _USED = "Resource_List.", "resources_used."
_HOPELESS = re.compile(r"dependency|Reject reply .*Unknown Job Id")
_UNKNOWN = End(
    JobState.FAILED, FailureKind.UNKNOWN, "the record of its end does not say how it ended"
)


def accounting_folder(environment: Mapping[str, str]) -> Path | None:
    """Return the folder of the logs, if this account may read it.

    It is on the server's host alone, and closed to ordinary users unless the site opens it.

    Args:
        environment: ``PBS_CONF_FILE`` says where PBS is configured.
    """
    home = read_conf(environment).get("PBS_HOME")
    if home is None:
        return None
    folder = Path(home) / "server_priv" / "accounting"
    return folder if os.access(folder, os.R_OK | os.X_OK) else None


def parse_accounting(lines: Iterable[bytes], wanted: Sequence[NativeId] | None) -> Listing:
    """Return the ends of jobs that the lines tell of.

    A job that ran has an ``E`` record at each end, also when it was put back, and an ``R`` for
    the latter: the last one counts, unless it was put back. A job that was deleted while it
    waited has a ``D`` alone, one that PBS aborted, for its dependency failed, an ``A``.

    Args:
        lines: of these jobs, in the order they were written.
        wanted: the jobs; others in the lines are passed over. None for all.
    """
    last: dict[NativeId, Observation] = {}
    requestors: dict[NativeId, str] = {}
    arrays: set[NativeId] = set()
    unreadable: list[Unreadable] = []
    for raw in filter(bytes.strip, lines):
        try:
            line = parse_accounting_line(raw)
            if line.kind not in _TOLD:
                continue
            job = parse_job_id(line.job_id)
            native_id = job.short
            if job.is_array:
                arrays.add(native_id)
            if wanted is not None and native_id not in wanted:
                continue
            if line.kind == "D":
                requestors[native_id] = line.attributes.get("requestor", "")
                end = _deleted(native_id, requestors[native_id])
                last.setdefault(native_id, _of_task(end, job, line.moment))
            elif line.kind == "A":
                end = _aborted(native_id, raw)
                last.setdefault(native_id, _of_task(end, job, line.moment))
            elif line.kind == "R":
                last.pop(native_id, None)
            elif line.kind == "E":
                last[native_id] = _ended(native_id, line, requestors.get(native_id))
        except ValueError as error:
            unreadable.append(Unreadable(reason=str(error), excerpt=excerpt(raw)))
    return Listing(
        observations=[
            replace(seen, is_array=True) if native_id in arrays else seen
            for native_id, seen in last.items()
        ],
        unreadable=unreadable,
    )


def _of_task(end: Observation, job: JobId, moment: str) -> Observation:
    """Return an end with its time, and its place in an array."""
    return replace(
        end,
        end_time=local_moment(moment),
        array_job_id=job.number if job.task else None,
        array_task_id=int(job.task) if job.task else None,
    )


def _deleted(native_id: NativeId, requestor: str) -> Observation:
    end = end_of(
        None, comment=f"x and terminated by {requestor}" if requestor else "", substate="91"
    )
    return Observation(
        native_id=native_id,
        state=end.state,
        native_state="D",
        state_reason=end.reason,
        failure_kind=end.kind,
    )


def _aborted(native_id: NativeId, raw: bytes) -> Observation:
    said = excerpt(raw.partition(b";A;")[2].partition(b";")[2])
    if _HOPELESS.search(said):
        end = end_of(None, has_dependency=True)
    else:
        reason = f"aborted by PBS: {said}" if said else "aborted by PBS"
        end = End(JobState.FAILED, FailureKind.SCHEDULER_ERROR, reason)
    return Observation(
        native_id=native_id,
        state=end.state,
        native_state="A",
        state_reason=end.reason,
        failure_kind=end.kind,
    )


def _ended(native_id: NativeId, line: AccountingLine, requestor: str | None) -> Observation:
    told = line.attributes
    status = parse_whole(told.get("Exit_status"))
    comment = "" if requestor is None else f"x and terminated by {requestor}"
    asked = {n.removeprefix(_ASKED): told[n] for n in told if n.startswith(_ASKED)}
    used = {n.removeprefix(_USED): told[n] for n in told if n.startswith(_USED)}
    end = _UNKNOWN
    if status is not None:
        end = end_of(status, comment=comment, asked=asked, used=used)
    ended_at = _moment(told.get("end")) or local_moment(line.moment)
    job, wall_time = parse_job_id(line.job_id), read_figure(parse_duration, asked.get("walltime"))
    account = told.get("account")
    return Observation(
        native_id=native_id,
        state=end.state,
        native_state="E",
        state_reason=end.reason,
        failure_kind=end.kind,
        exit_code=end.exit_code,
        exit_signal=end.exit_signal,
        name=told.get("jobname") or None,
        owner=told.get("user") or None,
        queue=told.get("queue") or None,
        submit_time=_moment(told.get("ctime")),
        start_time=_moment(told.get("start")),
        end_time=ended_at,
        account=None if SubmissionKey.find_in(account) == account else account,
        slots=slots_asked(asked) or slots_in(told.get("exec_host")),
        hosts=hosts_in(told.get("exec_host")),
        wall_time_limit_seconds=None if wall_time is None else int(wall_time),
        memory_limit_bytes=read_figure(parse_pbs_size, asked.get("mem")),
        usage=Usage(
            cpu_seconds=read_figure(parse_duration, used.get("cput")),
            max_memory_bytes=read_figure(parse_pbs_size, used.get("mem")),
            sampled_at=ended_at,
        ),
        array_job_id=job.number if job.task else None,
        array_task_id=int(job.task) if job.task else None,
    )


def _moment(text: str | None) -> datetime | None:
    return from_epoch(parse_whole(text))
