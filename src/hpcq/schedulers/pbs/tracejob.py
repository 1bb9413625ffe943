"""Ends of jobs by ``tracejob``, where PBS keeps neither history nor accounting for this account.

It works on the server's host alone. For ordinary users it leaves the accounting out without a
word (recording tracejob.as-ordinary-user), but the server's own log has the exit status.
"""

import asyncio
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from hpcq.domain.arrays import summarize_array
from hpcq.domain.errors import CommandMissing, OutputParseError, SchedulerError
from hpcq.domain.jobs import NativeId, Observation
from hpcq.schedulers.command_line import CommandLine
from hpcq.schedulers.pbs.arrays import as_task
from hpcq.schedulers.pbs.qstat_job import Record
from hpcq.schedulers.pbs.states import outcome_of
from hpcq.schedulers.pbs.submit import job_word
from hpcq.schedulers.pbs_family.accounting import parse_attributes
from hpcq.schedulers.pbs_family.values import parse_job_id, read_job_id, usage_of

__all__ = ["Tracejob", "parse_tracejob"]

_TRACED_AT_ONCE = 2
_TRACED_DAYS = 7
_ARRAYS_REMEMBERED = 1000
_MOST_TASKS_TRACED = 500
"""The largest array whose end is put together from its tasks: each of them costs a command."""
_HEADING = re.compile(r"Job: (\S+)")
_LINE = re.compile(r"([0-9]{2}/[0-9]{2}/[0-9]{4} [0-9:]{8})(?:\.[0-9]+)?  S    (.*)")
_EVENTS = {
    "queued": re.compile(
        r"Job Queued at request of \S+, owner = ([^@\s]+)\S*, job name = (\S+), queue = (\S+)$"
    ),
    "begun": re.compile(r"Job Run at request of "),
    "put back": re.compile(r"Job Rerun at request of |Job requeued"),
    "deleted": re.compile(r"Job to be deleted at request of (\S+)"),
    "hopeless": re.compile(
        r"Job deleted as result of dependency|Dependency request .* rejected"
        r"|\S+ Finished job did not satisfy dependency"
    ),
    "ended": re.compile(r"Exit_status=(-?[0-9]{1,6})(?: |$)"),
}
_SOURCE = "This is from the server's log."


class Tracejob:
    """Queries to ``tracejob``, and the tasks of arrays that it is asked about.

    Args:
        cli: runs commands.
        arrays: the jobs that are known to be arrays, as they become known.
    """

    def __init__(self, cli: CommandLine, arrays: Collection[NativeId]) -> None:
        self._cli = cli
        self._arrays = arrays
        self._places = asyncio.Semaphore(_TRACED_AT_ONCE)
        self._is_installed = True
        self._tasks: dict[NativeId, dict[NativeId, Record | None]] = {}

    def expect(self, native_id: NativeId, tasks: Iterable[NativeId]) -> None:
        """Take note of the tasks of an array that was just submitted."""
        self._tasks[native_id] = dict.fromkeys(tasks)

    def remember(self, records: Iterable[Record]) -> None:
        """Take note of what a listing tells of the tasks of arrays."""
        listed: set[NativeId] = set()
        for record in records:
            seen = record.observation
            if seen.array_job_id is not None:
                array = NativeId(seen.array_job_id)
                listed.add(array)
                self._tasks.setdefault(array, {})[seen.native_id] = record
        gone = [array for array in self._tasks if array not in listed]
        for array in gone[: max(len(gone) - _ARRAYS_REMEMBERED, 0)]:
            del self._tasks[array]

    async def ended(self, missing: Sequence[NativeId]) -> list[Observation]:
        """Return how jobs ended that nothing else tells of; others are absent."""
        traced = await self._trace_all(missing)
        for native_id in missing:
            if native_id in self._arrays and native_id not in traced:
                array = await self._trace_array(native_id)
                if array is not None:
                    traced[native_id] = array
        arrays = dict.fromkeys(
            NativeId(job.number)
            for job in map(parse_job_id, missing)
            if job.task and job.short not in traced
        )
        over = await self._trace_all(arrays)
        known = (traced.get(native_id) or as_task(native_id, over) for native_id in missing)
        return [seen for seen in known if seen is not None]

    async def _trace_array(self, native_id: NativeId) -> Observation | None:
        """Return how an array ended by its tasks, for the whole has no lines of its own.

        None where the end of a task is not known.
        """
        tasks = self._tasks.get(native_id, {})
        if not 0 < len(tasks) <= _MOST_TASKS_TRACED:
            return None
        over = {i: record.complete for i, record in tasks.items() if record and record.is_over}
        ended = over | await self._trace_all(i for i in tasks if i not in over)
        return (
            summarize_array(native_id, list(ended.values())) if len(ended) == len(tasks) else None
        )

    async def _trace_all(self, ids: Iterable[NativeId]) -> dict[NativeId, Observation]:
        words = [job_word(native_id, self._arrays) for native_id in ids]
        found = await asyncio.gather(*map(self._trace, words))
        return {seen.native_id: seen for seen in found if seen is not None}

    async def _trace(self, word: str) -> Observation | None:
        """Ask how one job ended; what it fails to tell is not known."""
        if not self._is_installed:
            return None
        try:
            async with self._places:
                argv = ("tracejob", "-n", str(_TRACED_DAYS), word)
                done = await self._cli.run(argv, listing=True)
            if done.exit_code != 0:
                return None
            return parse_tracejob(done.stdout, parse_job_id(word).short)
        except CommandMissing:
            self._is_installed = False
            return None
        except SchedulerError:
            return None


def parse_tracejob(output: bytes, wanted: NativeId) -> Observation | None:
    """Return how a job ended; None if the output does not say so.

    Of a job that ran several times the last run counts.

    Args:
        output: what it printed; its times are the server's local ones, taken for this machine's.
        wanted: whose end is asked for.

    Raises:
        OutputParseError: the time of an event is none.
    """
    is_ours = False
    told: dict[str, tuple[datetime, re.Match[str]]] = {}
    for line in output.decode("utf-8", "replace").split("\n"):
        heading = _HEADING.match(line)
        if heading is not None:
            job_id = read_job_id(heading[1])
            is_ours = job_id is not None and job_id.short == wanted
        found = _LINE.fullmatch(line) if is_ours else None
        if found is None:
            continue
        for event, pattern in _EVENTS.items():
            match = pattern.match(found[2])
            if match is not None:
                told[event] = _moment(found[1]), match
    decisive = next((event for event in ("ended", "hopeless", "deleted") if event in told), None)
    if decisive is None or (decisive == "deleted" and "begun" in told):
        return None  # it waits or runs, or is being deleted
    at = told[decisive][0]
    if "put back" in told and told["put back"][0] >= at:
        return None
    return _observation(wanted, told, at)


def _observation(
    wanted: NativeId, told: dict[str, tuple[datetime, re.Match[str]]], at: datetime
) -> Observation:
    times = {event: moment for event, (moment, _) in told.items()}
    words = {event: match.groups() for event, (_, match) in told.items()}
    status = int(words["ended"][0]) if "ended" in words else None
    outcome = outcome_of(
        status,
        deleted_by=words["deleted"][0] if "deleted" in words else None,
        has_dependency="hopeless" in words,
        began="begun" in words,
    )
    owner, name, queue = words.get("queued", (None, None, None))
    task = parse_job_id(wanted)
    seen = Observation(
        native_id=wanted,
        state=outcome.state,
        native_state="F" if status is None else f"Exit_status={status}",
        owner=owner,
        name=name,
        queue=queue,
        submit_time=times.get("queued"),
        start_time=times.get("begun"),
        end_time=at,
        usage=usage_of(parse_attributes(told["ended"][1].string), at) if "ended" in told else None,
        array_job_id=task.array_job_id,
        array_task_id=task.array_task_id,
    )
    if outcome.reason:
        outcome = replace(outcome, reason=f"{outcome.reason} {_SOURCE}")
    return outcome.apply(seen)


def _moment(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%m/%d/%Y %H:%M:%S").astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise OutputParseError("tracejob", f"it is no time: {error}", text.encode()) from error
