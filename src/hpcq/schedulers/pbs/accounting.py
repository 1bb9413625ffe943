"""Ends of jobs by PBS's accounting logs: for a server that keeps no finished jobs."""

import asyncio
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from hpcq.domain.errors import excerpt
from hpcq.domain.jobs import JobSpec, NativeId, Observation, SubmissionKey
from hpcq.domain.states import FailureKind
from hpcq.domain.units import from_epoch
from hpcq.schedulers.base import Listing, ParseFailure
from hpcq.schedulers.meanings import Outcome
from hpcq.schedulers.pbs.arrays import as_task, whole_of
from hpcq.schedulers.pbs.qstat_job import group_of, slots_asked
from hpcq.schedulers.pbs.script import acceptable_name
from hpcq.schedulers.pbs.settings import read_conf
from hpcq.schedulers.pbs.states import outcome_of
from hpcq.schedulers.pbs_family.accounting import (
    AccountingLine,
    AccountingLogs,
    in_question,
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
    usage_of,
)

__all__ = ["Accounting", "accounting_folder", "parse_accounting"]

_TOLD = frozenset("EDAR")
_HOPELESS = re.compile(r"dependency|Reject reply .*Unknown Job Id")
_UNKNOWN = Outcome(FailureKind.UNKNOWN, "The record of its end does not say how it ended.")


class Accounting:
    """PBS's accounting logs, as far as this account may read them.

    Args:
        environment: says where PBS is configured.
        owner: the service's account.
    """

    def __init__(self, environment: Mapping[str, str], owner: str | None) -> None:
        self._environment = environment
        self._owner = owner
        self._logs: AccountingLogs | None = None

    async def logs(self) -> AccountingLogs | None:
        """Return the accounting logs, if this account may read them."""
        folder = await asyncio.to_thread(accounting_folder, self._environment)
        if folder is None:
            return None
        if self._logs is None or self._logs.directory != folder:
            self._logs = AccountingLogs(folder)
        return self._logs

    async def ended(self, wanted: Sequence[NativeId]) -> Listing | None:
        """Return what the accounting tells of jobs, and of arrays by their tasks and with them.

        Returns:
            None where it cannot be read.
        """
        logs = await self.logs()
        if logs is None:
            return None
        numbers = dict.fromkeys(native_id.partition("[")[0] for native_id in wanted)
        lines = await asyncio.to_thread(logs.lines, numbers)
        told = parse_accounting(lines, None)
        tasks = [seen for seen in told.observations if seen.array_job_id is not None]
        ends = {
            seen.native_id: whole_of(
                seen, [task for task in tasks if task.array_job_id == seen.native_id]
            )
            for seen in told.observations
        }
        known = {native_id: ends.get(native_id) or as_task(native_id, ends) for native_id in wanted}
        known |= {task.native_id: task for task in tasks if task.array_job_id in known}
        observations = [seen for seen in known.values() if seen is not None]
        return Listing(observations=observations, unreadable=told.unreadable)

    async def find(self, key: SubmissionKey) -> NativeId | None:
        """Look for a job whose account is the key."""
        logs = await self.logs()
        if logs is None:
            return None
        line = await asyncio.to_thread(logs.find, f'account="{key}"'.encode())
        return None if line is None else parse_job_id(parse_accounting_line(line).job_id).short

    async def find_similar_ended(self, spec: JobSpec, since: datetime) -> Sequence[NativeId]:
        """Look in the accounting for ended jobs of this account with this name, and no key.

        Args:
            spec: names the job.
            since: not before then, by this machine's clock.
        """
        logs = await self.logs()
        if logs is None:
            return ()
        mark = f" jobname={acceptable_name(spec.name)} ".encode()
        lines = await asyncio.to_thread(logs.having, mark)
        told = parse_accounting([line for line in lines if b' account="hpcq-' not in line], None)
        ends = in_question(told.observations, self._owner, since)
        return [seen.native_id for seen in ends if seen.array_task_id is None]


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
    unreadable: list[ParseFailure] = []
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
                requestors[native_id] = by = line.attributes.get("requestor", "")
                outcome = outcome_of(None, deleted_by=by)
                last.setdefault(native_id, _removed(job, line, outcome))
            elif line.kind == "A":
                last.setdefault(native_id, _removed(job, line, _why_aborted(raw)))
            elif line.kind == "R":
                last.pop(native_id, None)
            elif line.kind == "E":
                last[native_id] = _ended(job, line, requestors.get(native_id))
        except ValueError as error:
            unreadable.append(ParseFailure(reason=str(error), excerpt=excerpt(raw)))
    return Listing(
        observations=[
            replace(seen, is_array=True) if native_id in arrays else seen
            for native_id, seen in last.items()
        ],
        unreadable=unreadable,
    )


def _removed(job: JobId, line: AccountingLine, outcome: Outcome) -> Observation:
    """Return the end of a job that left the queue without a record of its run."""
    seen = Observation(
        native_id=job.short,
        state=outcome.state,
        native_state=line.kind,
        end_time=local_moment(line.moment),
        array_job_id=job.array_job_id,
        array_task_id=job.array_task_id,
    )
    return outcome.apply(seen)


def _why_aborted(raw: bytes) -> Outcome:
    said = excerpt(raw.partition(b";A;")[2].partition(b";")[2])
    if _HOPELESS.search(said):
        return outcome_of(None, has_dependency=True)
    reason = f"PBS aborted it: {said}" if said else "PBS aborted it."
    return Outcome(FailureKind.SCHEDULER_ERROR, reason)


def _ended(job: JobId, line: AccountingLine, requestor: str | None) -> Observation:
    told = line.attributes
    status = parse_whole(told.get("Exit_status"))
    asked, used = group_of(told, "Resource_List"), group_of(told, "resources_used")
    outcome = _UNKNOWN
    if status is not None:
        outcome = outcome_of(status, deleted_by=requestor, asked=asked, used=used)
    ended_at = _moment(told.get("end")) or local_moment(line.moment)
    wall_time = read_figure(parse_duration, asked.get("walltime"))
    account = told.get("account")
    seen = Observation(
        native_id=job.short,
        state=outcome.state,
        native_state="E",
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
        usage=usage_of(told, ended_at),
        array_job_id=job.array_job_id,
        array_task_id=job.array_task_id,
    )
    return outcome.apply(seen)


def _moment(text: str | None) -> datetime | None:
    return from_epoch(parse_whole(text))
