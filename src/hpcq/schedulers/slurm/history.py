"""Ends of jobs: from accounting, and from what the controller still knows."""

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import fields as fields_of
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hpcq.domain.errors import SchedulerError
from hpcq.domain.jobs import NativeId, Observation, SubmissionKey
from hpcq.domain.states import FailureKind
from hpcq.schedulers.base import Listing
from hpcq.schedulers.command_errors import ErrorKind
from hpcq.schedulers.command_line import CommandLine, new_delimiter
from hpcq.schedulers.slurm import commands, fields, parse
from hpcq.schedulers.slurm.accounting import (
    AccountedJobs,
    find_key,
    parse_history,
    recognise_memory_kill,
)
from hpcq.schedulers.slurm.arrays import ArraySummaries, ended_arrays
from hpcq.schedulers.slurm.errors import ERRORS, keeps_no_accounting

__all__ = ["History", "combine", "without_nameless_tasks"]

_ACCOUNTING_GRACE = timedelta(seconds=5)
"""Time after a job's end in which its accounting record, which alone has its usage, is waited for
before the controller's word is taken."""
_OUTCOME = ("failure_kind", "state_reason", "reason_code", "exit_code", "exit_signal")
_UNCLEAR = (FailureKind.UNKNOWN, FailureKind.NON_ZERO_EXIT)
# The code belongs to the words of whoever tells the end.
_NAMES = tuple(field.name for field in fields_of(Observation) if field.name != "reason_code")


class History:
    """Ends of jobs, and jobs by their keys; through ``sacct`` and ``squeue``.

    Args:
        cli: runs the commands.
        marks: fence free text in squeue's answers.
        arrays: the arrays that the listings of the queue showed.
    """

    def __init__(self, cli: CommandLine, marks: commands.Marks, arrays: ArraySummaries) -> None:
        self._cli = cli
        self._marks = marks
        self._arrays = arrays
        self._over_since: dict[tuple[NativeId, datetime], float] = {}

    async def find(
        self, key: SubmissionKey, owner: str | None, run_as: str | None = None
    ) -> NativeId | None:
        """Look for the key in the queue, then in accounting.

        Args:
            key: what is looked for.
            owner: the service's account: only its jobs can carry it; None for any.
            run_as: the account that carries it in place of the service's.
        """
        argv, environment = commands.build_find_in_queue(self._marks, run_as)
        queue = await self._cli.check_output(argv, extra_environment=environment, listing=True)
        native_id = parse.find_key(queue, key, self._marks)
        if native_id is None:
            delimiter = new_delimiter()
            stdout = await self._sacct(
                commands.build_find_in_accounting(delimiter, run_as or owner)
            )
            native_id = find_key(stdout, delimiter, key)
        if native_id is None or await self._was_refused(native_id):
            return None
        return native_id

    async def _was_refused(self, native_id: NativeId) -> bool:
        seen = (await self.controller([native_id])).observations
        if not seen:
            seen = (await self.accounted([native_id])).listing.observations
        return any(one.native_id == native_id and _is_refused(one) for one in seen)

    async def ends(self, ids: Sequence[NativeId]) -> Listing:
        """Ask both at once; either adds to the other, and can do without."""
        accounted, seen = await asyncio.gather(
            self.accounted(ids), self.controller(ids), return_exceptions=True
        )
        if isinstance(seen, BaseException):
            if not isinstance(seen, SchedulerError) or isinstance(accounted, BaseException):
                raise seen if not isinstance(accounted, BaseException) else accounted
            seen = Listing()
        missing: SchedulerError | None = None
        if isinstance(accounted, BaseException):
            if not isinstance(accounted, SchedulerError) or not seen.observations:
                raise accounted
            missing, accounted = accounted, AccountedJobs()
        accounted = without_nameless_tasks(accounted, seen)
        waiting = self._lately_over(seen)
        listing = combine(accounted.listing, seen, waiting=waiting)
        told = {one.native_id for one in (*listing.observations, *seen.observations)}
        ended = [*listing.observations, *self._arrays.cancelled_while_waiting(ids, told, accounted)]
        # Without accounting some of their tasks may be forgotten.
        arrays = [] if missing else ended_arrays(ids, ended, accounted, seen.observations)
        return replace(listing, observations=[*ended, *arrays], partial_reason=missing)

    def _lately_over(self, seen: Listing) -> set[NativeId]:
        """Return the jobs that ended so short a while ago that accounting may still tell more.

        The controller's clock may be ahead of ours, so that ends lie in the future for minutes:
        no job is waited for any longer than from when its end was first seen.
        """
        late, here = datetime.now(UTC) - _ACCOUNTING_GRACE, time.monotonic()
        ends = ((one.native_id, one.end_time) for one in seen.observations)
        over = {(job, end) for job, end in ends if end is not None and end > late}
        known = {end: since for end, since in self._over_since.items() if end[1] > late}
        self._over_since = dict.fromkeys(over, here) | known
        patient_since = here - _ACCOUNTING_GRACE.total_seconds()
        return {end[0] for end in over if self._over_since[end] > patient_since}

    async def accounted(self, ids: Sequence[NativeId]) -> AccountedJobs:
        """Ask accounting, a second time for the arrays of tasks that it does not tell one by one.

        Those are tasks of arrays that never ran, and components since 24.11.
        """
        history = await self._ask(ids, ids)
        told = {seen.native_id for seen in history.listing.observations} | history.unfinished
        missing = [i for i in ids if fields.base_id(i) != i and i not in told]
        if not missing:
            return history
        parents = list(dict.fromkeys(NativeId(fields.base_id(i)) for i in missing))
        more = await self._ask(parents, missing)
        wanted = set(missing)
        added = [seen for seen in more.listing.observations if seen.native_id in wanted]
        listing = replace(history.listing, observations=[*history.listing.observations, *added])
        return AccountedJobs(
            listing, history.unfinished | more.unfinished, history.known | more.known
        )

    async def _ask(self, ids: Sequence[NativeId], wanted: Sequence[NativeId]) -> AccountedJobs:
        delimiter = new_delimiter()
        stdout = await self._sacct(commands.build_history(ids, delimiter))
        return await asyncio.to_thread(parse_history, stdout, delimiter, wanted)

    async def _sacct(self, argv: Sequence[str]) -> bytes:
        """Run sacct; a site without accounting answers with nothing."""
        try:
            done = await self._cli.run(argv, extra_environment=commands.EPOCH_TIMES, listing=True)
            if keeps_no_accounting(done):
                return b""
            ERRORS.check(done)
        except SchedulerError as error:
            error.of_accounting = True
            raise
        return done.stdout

    async def controller(self, ids: Sequence[NativeId]) -> Listing:
        """Run ``squeue`` for jobs that the controller still knows, ended ones included."""
        return parse.parse_details(await self.squeue(ids, finished=True), self._marks)

    async def squeue(self, ids: Sequence[NativeId], *, finished: bool) -> bytes:
        """Run ``squeue`` with all columns for some jobs; unknown ones are absent."""
        argv, environment = commands.build_details(ids, self._marks, finished=finished)
        done = await self._cli.run(argv, extra_environment=environment, listing=True)
        if ERRORS.kind_of(done) is ErrorKind.UNKNOWN_JOB:
            return b""
        ERRORS.check(done)
        return done.stdout


def without_nameless_tasks(accounted: AccountedJobs, seen: Listing) -> AccountedJobs:
    """Leave out what sacct says of one task as if it were its whole array.

    For a second or two after its end, the task that has the array's own number is a job of that
    number without a partition (``2186``, not ``2186_5``; seen in 22.05).

    Args:
        accounted: from sacct.
        seen: from squeue, for the same ids; it shows the tasks of arrays as such.
    """
    arrays = {one.array_job_id for one in seen.observations if one.array_job_id is not None}
    told = accounted.listing.observations
    tasks = {
        one.native_id
        for one in told
        if one.queue is None and one.array_job_id is None and one.native_id in arrays
    }
    kept = tuple(one for one in told if one.native_id not in tasks)
    listing = replace(accounted.listing, observations=kept)
    return replace(accounted, listing=listing, unfinished=accounted.unfinished | tasks)


def combine(accounted: Listing, seen: Listing, *, waiting: Collection[NativeId] = ()) -> Listing:
    """Return the final states of jobs.

    Args:
        accounted: from sacct.
        seen: from squeue, for the same ids; jobs that are not over are left aside.
        waiting: jobs for which the controller's word alone is not taken yet.
    """
    over = {one.native_id: one for one in seen.observations if one.state.is_final}
    known = {one.native_id for one in accounted.observations}
    alone = [one for i, one in over.items() if i not in known and i not in waiting]
    completed = (_complete(one, over) for one in accounted.observations)
    return replace(accounted, observations=[*completed, *alone])


def _complete(accounted: Observation, over: dict[NativeId, Observation]) -> Observation:
    """Complete accounting's word on a job with the controller's.

    sacct shows exit codes from 128 on less 128 (137 as 9, and 128 as none; until 25.05), spoils
    quotes and characters beyond the BMP in names, and its record may lack most columns at first
    (all seen in 22.05).
    """
    seen = over.get(accounted.native_id)
    if seen is None or accounted.submit_time not in (None, seen.submit_time):
        return accounted
    gaps = {name: getattr(seen, name) for name in _NAMES if getattr(accounted, name) is None}
    gaps["name"] = seen.name
    is_unclear = accounted.failure_kind in _UNCLEAR
    # At first sacct has no reason beside a state (seen in 22.05); it names whoever cancelled a job.
    lacks_reason = accounted.native_state == "CANCELLED" and seen.reason_code is not None
    if (is_unclear and seen.failure_kind not in (None, FailureKind.UNKNOWN)) or lacks_reason:
        gaps |= {name: getattr(seen, name) for name in _OUTCOME}
    return recognise_memory_kill(replace(accounted, **gaps))


def _is_refused(seen: Observation) -> bool:
    """Return whether a job is what Slurm keeps of one that it did not take.

    sbatch then says no, yet a job with a number is left behind, ``FAILED``, which never had a host
    (BadConstraints; seen in 22.05).
    """
    return seen.native_state == "FAILED" and seen.hosts is None
