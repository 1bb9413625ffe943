"""Control of jobs that run: signals, and the requests to suspend, resume and requeue them.

A request is in the spool before the shepherd hears of it, and the next start of the service repeats
it. The shepherd carries it out.
"""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Mapping

from hpcq.domain.actions import Action
from hpcq.domain.errors import SchedulerUnavailable, WrongState
from hpcq.schedulers.local.job import LocalJob
from hpcq.schedulers.local.runs import Runs
from hpcq.schedulers.local.spool import Spool
from hpcq.schedulers.local.spool_row import Phase

__all__ = ["JobControl"]

_SIGNALS: Mapping[Action, signal.Signals] = {
    Action.SUSPEND: signal.SIGSTOP,
    Action.RESUME: signal.SIGCONT,
}


class JobControl:
    """Tells shepherds what is wanted of their jobs.

    Args:
        spool: keeps the requests.
        runs: reaches the shepherds.
        publish: called when a job has changed.
    """

    def __init__(self, spool: Spool, runs: Runs, publish: Callable[[LocalJob], None]) -> None:
        self._spool = spool
        self._runs = runs
        self._publish = publish

    async def send_signal(self, job: LocalJob, number: signal.Signals) -> None:
        """Send a signal to all processes of a job.

        Raises:
            WrongState: it does not run.
            SchedulerUnavailable: it cannot be reached now.
        """
        await _check_runs(job)
        if job.request is Action.SUSPEND:
            raise WrongState(f"Job {job.native_id} is suspended.")
        self._runs.send_signal(job, number)

    async def request(self, job: LocalJob, action: Action) -> None:
        """Suspend, resume or requeue a job. Harmless when repeated.

        A job to be requeued is ended now; `Spool.put_back` follows.

        Raises:
            WrongState: it has not started, or is being ended.
            SchedulerUnavailable: it cannot be reached now, or the spool cannot be written.
        """
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

    async def withdraw_requeue(self, job: LocalJob) -> None:
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

    def repeat(self, job: LocalJob) -> None:
        """Tell a shepherd again what was last requested, for a service that died meanwhile."""
        if job.request is not None:
            # Nearly always it knows already.
            with contextlib.suppress(SchedulerUnavailable):
                self._tell(job, job.request)

    def _set_request(self, job: LocalJob, action: Action | None) -> None:
        job.request = action
        self._publish(job)

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
