"""Control of jobs: what people ask of those that wait, and of those that run.

A request for a job that runs is in the spool before the shepherd hears of it, and the next start of
the service repeats it. The shepherd carries it out.
"""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from hpcq.domain.actions import Action
from hpcq.domain.errors import SchedulerUnavailable, WrongState
from hpcq.domain.jobs import Dependency, JobSpec
from hpcq.schedulers.local.active_jobs import ActiveJobs
from hpcq.schedulers.local.files import Result
from hpcq.schedulers.local.job import LocalJob
from hpcq.schedulers.local.runs import Runs
from hpcq.schedulers.local.spool import Spool
from hpcq.schedulers.local.spool_row import Phase, spec_to_json
from hpcq.schedulers.local.tasks import Tasks
from hpcq.schedulers.local.unreported_ends import never_started, waited_in_vain

__all__ = ["JobControl"]

_PAUSE_SECONDS = 2.0

_SIGNALS: Mapping[Action, signal.Signals] = {
    Action.SUSPEND: signal.SIGSTOP,
    Action.RESUME: signal.SIGCONT,
}


class JobControl:
    """Actions on jobs that people ask for.

    Args:
        jobs: all that are not over.
        spool: keeps what was asked for.
        runs: reaches the shepherds.
        tasks: has each request done to its end.
    """

    def __init__(self, jobs: ActiveJobs, spool: Spool, runs: Runs, tasks: Tasks) -> None:
        self._jobs = jobs
        self._spool = spool
        self._runs = runs
        self._tasks = tasks

    async def hold(self, jobs: Sequence[LocalJob]) -> None:
        """Keep a queued job from starting, or those tasks of an array that are queued.

        Raises:
            WrongState: all have started, or are cancelled.
        """
        await self._tasks.complete(self._move(jobs, Phase.HELD))

    async def release(self, jobs: Sequence[LocalJob]) -> None:
        """Let held jobs start, at the places in the queue that they had.

        Raises:
            WrongState: all have started, or are cancelled.
        """
        held = [job for job in _require_waiting(jobs) if job.phase == Phase.HELD]
        if held:
            await self._tasks.complete(self._move(held, Phase.QUEUED))

    async def alter(self, jobs: Sequence[LocalJob], spec: JobSpec) -> None:
        """Ask for something else for a job that waits; it keeps its slots and its place.

        Args:
            jobs: the job, or all tasks of an array that are not over.
            spec: what is asked for now.

        Raises:
            WrongState: it has started, or is cancelled; or a task has started.
        """
        await self._tasks.complete(self._alter(jobs, spec))

    async def send_signal(self, jobs: Sequence[LocalJob], number: signal.Signals) -> None:
        """Send a signal to all processes of a job, or of those tasks that run.

        Raises:
            WrongState: none runs.
            SchedulerUnavailable: one cannot be reached now.
        """
        await _each(jobs, lambda job: self._send_signal(job, number))

    async def request(self, jobs: Sequence[LocalJob], action: Action) -> None:
        """Suspend, resume or requeue a job, or those tasks that run. Harmless when repeated.

        A job to be requeued is ended now; `Spool.put_back` follows.

        Raises:
            WrongState: none has started, or all are being ended.
            SchedulerUnavailable: one cannot be reached now, or the spool cannot be written.
        """
        await self._tasks.complete(_each(jobs, lambda job: self._request(job, action)))

    async def cancel(self, jobs: Sequence[LocalJob]) -> bool:
        """End jobs: at once if they have not started, else through their shepherds.

        Returns:
            Whether none had started.
        """
        return await self._tasks.complete(self._cancel(jobs))

    async def end_in_vain(self, jobs: Sequence[LocalJob], dependency: Dependency) -> None:
        """End jobs that wait for something that can never come."""
        result = waited_in_vain(dependency)
        while left := [job for job in jobs if job.result is None]:
            waiting = [job for job in left if _waits(job)]
            try:
                await self._end_unstarted(waiting, result)
            except SchedulerUnavailable:
                await asyncio.sleep(_PAUSE_SECONDS)
            if len(waiting) < len(left):
                # Somebody cancels them at this moment.
                await asyncio.sleep(_PAUSE_SECONDS)

    def repeat(self, job: LocalJob) -> None:
        """Tell a shepherd again what was last requested, for a service that died meanwhile."""
        if job.request is not None:
            # Nearly always it knows already.
            with contextlib.suppress(SchedulerUnavailable):
                self._tell(job, job.request)

    async def _move(self, jobs: Sequence[LocalJob], phase: str) -> None:
        # Some may have started since this was asked for.
        jobs = _require_waiting(jobs)
        before = [job.phase for job in jobs]
        self._jobs.move(jobs, phase)
        try:
            await self._spool.move([job.number for job in jobs], phase)
        except SchedulerUnavailable:
            for job, earlier in zip(jobs, before, strict=True):
                if job.phase == phase and not job.is_ending:
                    self._jobs.set_phase(job, earlier)
            raise

    async def _alter(self, jobs: Sequence[LocalJob], spec: JobSpec) -> None:
        number, before = jobs[0].array or jobs[0].number, jobs[0].spec
        array = self._jobs.arrays.get(number)
        parts = jobs if array is None else [array.whole, *array.tasks.values()]
        if len(_require_waiting(jobs)) < len(jobs) or any(job.has_started for job in parts):
            raise WrongState("Some tasks of the array have started already.")
        # In memory first: should one start meanwhile, it starts as the spool will have it.
        self._jobs.set_spec(parts, spec)
        try:
            await self._spool.alter(number, spec_to_json(spec))
        except SchedulerUnavailable:
            if all(job.spec is spec and job.phase != Phase.DISPATCHED for job in parts):
                self._jobs.set_spec(parts, before)
            raise

    async def _cancel(self, jobs: Sequence[LocalJob]) -> bool:
        # First those that wait, so that none of them takes the place of one that ends.
        waiting = [job for job in jobs if _waits(job)]
        others = [job for job in jobs if job.phase == Phase.DISPATCHED]
        self._mark_cancelled(others, True)
        try:
            await self._end_unstarted(waiting, never_started())
            while launching := [job.launching for job in others if job.launching is not None]:
                await asyncio.wait(launching)
            for job in others:
                if job.request is Action.REQUEUE:
                    await self._withdraw_requeue(job)
            put_back = [job for job in others if _waits(job)]
            await self._end_unstarted(put_back, never_started())
            while others:
                if others[-1].phase == Phase.DISPATCHED and not others[-1].is_ending:
                    self._runs.request_end(others[-1])
                others.pop()
        except SchedulerUnavailable:
            self._mark_cancelled(others, False)
            for job in filter(_waits, others):
                self._jobs.set_phase(job, job.phase)
            raise
        return len(waiting) + len(put_back) == len(jobs)

    def _mark_cancelled(self, jobs: Iterable[LocalJob], is_cancelled: bool) -> None:
        for job in jobs:
            job.cancel_requested = is_cancelled
            self._jobs.publish(job)

    async def _end_unstarted(self, jobs: Sequence[LocalJob], result: Result) -> None:
        if not jobs:
            return
        self._jobs.set_ending(jobs)
        try:
            await self._spool.finish([job.number for job in jobs], result)
        except SchedulerUnavailable:
            for job in jobs:
                job.is_ending = False
                self._jobs.set_phase(job, job.phase)
            raise
        for job in jobs:
            self._jobs.remove(job, result)

    async def _send_signal(self, job: LocalJob, number: signal.Signals) -> None:
        await _check_runs(job)
        if job.request is Action.SUSPEND:
            raise WrongState(f"Job {job.native_id} is suspended.")
        self._runs.send_signal(job, number)

    async def _request(self, job: LocalJob, action: Action) -> None:
        if action is job.request is Action.REQUEUE:
            return
        await _check_runs(job)
        before = job.request
        if action is before or (action is Action.RESUME and before is not Action.SUSPEND):
            return
        self._set_request(job, action)
        try:
            await self._spool.request(job.number, action)
            self._tell(job, action)
        except SchedulerUnavailable:
            if job.request is action:
                self._set_request(job, before)
                # It may have been written all the same.
                with contextlib.suppress(SchedulerUnavailable):
                    await self._spool.request(job.number, before)
            raise

    async def _withdraw_requeue(self, job: LocalJob) -> None:
        """Let a job that is to be requeued end instead.

        Raises:
            SchedulerUnavailable: the spool cannot be written.
        """
        self._set_request(job, None)
        try:
            await self._spool.withdraw_requeue(job.number)
        except SchedulerUnavailable:
            if job.phase == Phase.DISPATCHED:
                self._set_request(job, Action.REQUEUE)
            raise

    def _set_request(self, job: LocalJob, action: Action | None) -> None:
        job.request = action
        self._jobs.publish(job)

    def _tell(self, job: LocalJob, action: Action) -> None:
        if action is Action.REQUEUE:
            self._runs.request_end(job)
        else:
            self._runs.send_signal(job, _SIGNALS[action])


async def _check_runs(job: LocalJob) -> None:
    if job.launching is not None:
        await asyncio.wait([job.launching])
    if job.phase != Phase.DISPATCHED:
        raise WrongState(f"Job {job.native_id} has not started.")
    if job.is_ending or job.cancel_requested or job.request is Action.REQUEUE:
        raise WrongState(f"Job {job.native_id} is being ended.")
    if job.started is None or not job.started.get("passes_signals_on"):
        raise WrongState(
            f"An earlier version of this service has started job {job.native_id}, "
            "and can only end it."
        )


def _require_waiting(jobs: Sequence[LocalJob]) -> Sequence[LocalJob]:
    waiting = [job for job in jobs if _waits(job)]
    if not waiting:
        raise WrongState(f"Job {jobs[0].native_id} does not wait in the queue any more.")
    return waiting


def _waits(job: LocalJob) -> bool:
    return job.phase != Phase.DISPATCHED and not job.is_ending


async def _each(jobs: Sequence[LocalJob], act: Callable[[LocalJob], Awaitable[None]]) -> None:
    """Do something with a job, or with those tasks of an array with which it can be done.

    Raises:
        WrongState: it can be done with none.
    """
    refusals: list[WrongState] = []
    for job in jobs:
        try:
            await act(job)
        except WrongState as error:
            refusals.append(error)
    if len(refusals) == len(jobs):
        raise refusals[0]
