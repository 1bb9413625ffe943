"""The engine: takes jobs from the queue, starts them, and records their ends.

Crash-only: each step is first written to the spool or the run directory, and a start after a stop
does exactly the same as a start after a crash.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Sequence

import structlog

from hpcq.domain.actions import Action
from hpcq.domain.errors import SchedulerUnavailable
from hpcq.domain.jobs import Dependency, JobSpec, SubmissionKey
from hpcq.schedulers.base import SchedulerOptions
from hpcq.schedulers.local.accounts import AccountUnusable
from hpcq.schedulers.local.active_jobs import ActiveJobs
from hpcq.schedulers.local.arrays import LocalArray
from hpcq.schedulers.local.files import Result, ShepherdStart
from hpcq.schedulers.local.job import LocalJob
from hpcq.schedulers.local.job_control import JobControl
from hpcq.schedulers.local.processes import Process, send
from hpcq.schedulers.local.recovery import recover
from hpcq.schedulers.local.runs import Runs
from hpcq.schedulers.local.settings import LocalSettings
from hpcq.schedulers.local.spool import Spool
from hpcq.schedulers.local.spool_file import NothingWritten
from hpcq.schedulers.local.spool_row import Phase, end_of, spec_to_json
from hpcq.schedulers.local.tasks import Tasks

__all__ = ["Engine"]

_log = structlog.get_logger("hpcq.local")

_PAUSE_SECONDS = 2.0
_DRAIN_SECONDS = 2.0
_LOOK_SECONDS = 2.0
_STOPPED_LOOKS = 5
# Runs of a job are told apart by their starts, see `hpcq.domain.runs`.
_RUNS_APART_SECONDS = 1.0


class Engine:
    """Runs the jobs of one spool. All but file work happens on the event loop.

    Attributes:
        spool: keeps all jobs.
        runs: those that run, outside of this process.
        jobs: those that are not over.
        control: does what people ask for.
    """

    def __init__(
        self, options: SchedulerOptions, settings: LocalSettings, boot_id: Callable[[], str]
    ) -> None:
        directory = options.state_directory / "local"
        self.spool = Spool(directory)
        self.runs = Runs(directory, options, settings.cancel_grace_seconds)
        slots = settings.internal_scheduler_max_slots
        self.jobs = ActiveJobs(slots, self._dispatch_soon, self._end_in_vain)
        self._tasks = Tasks()
        self.control = JobControl(self.jobs, self.spool, self.runs, self._tasks)
        self._boot_id = boot_id
        self._boot = ""
        self._is_open = self._is_stopped = False
        self._is_dispatch_due = False
        self._pauses = 0
        self._looking: asyncio.Task[None] | None = None
        self._problem: str | None = None

    async def start(self, wake: Callable[[], None]) -> None:
        """Open the spool, recover its jobs, and go on with them.

        Raises:
            SchedulerUnavailable: another service uses the spool, or it cannot be used.
        """
        self.jobs.wake = wake
        self._boot = self._boot_id()
        lock = await self.spool.lock()
        try:
            await self.runs.start(lock)
            await self.spool.open()
            started = await recover(self.jobs, self.spool, self.runs, self._boot)
            for job, found in started:
                if found.started is not None and found.result is None:
                    self._watch(job, found.started)
                    self.control.repeat(job)
                else:
                    self._on_shepherd_ended(job, found.result)
            await self.runs.keep_only(self.jobs.holding)
        except BaseException:
            await self.stop()
            raise
        self._is_open = True
        self._looking = asyncio.create_task(self._look())
        self._dispatch_soon()

    def check(self) -> None:
        """Raise if nothing that is written now outlives a restart.

        Raises:
            NothingWritten: the spool was removed.
        """
        if self._problem is not None:
            raise NothingWritten(self._problem)

    async def stop(self) -> None:
        """Leave the spool; jobs go on. Harmless when repeated."""
        if self._is_stopped:
            return
        self._is_open, self._is_stopped = False, True
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._tasks.stop(_DRAIN_SECONDS)
        await self.runs.stop()
        await self.spool.close()

    async def admit(self, spec: JobSpec, key: SubmissionKey, script: bytes) -> int:
        """Put a job into the spool and the queue; return its number."""
        return await self._tasks.complete(self._admit(spec, key, script))

    async def _admit(self, spec: JobSpec, key: SubmissionKey, script: bytes) -> int:
        self.check()
        phase = Phase.HELD if spec.hold else Phase.QUEUED
        now = time.time()
        tasks = () if spec.array is None else spec.array.tasks
        added = await self.spool.add(
            key, spec_to_json(spec), script, now, phase, spec.depends_on, tasks
        )
        number = added.number
        if not added.is_new:
            return number
        # Nothing has happened since the spool answered: a job that was not over then is not over
        # here, and tells its end to this one.
        waits_for = self.jobs.unmet(added.waits_for)
        whole = LocalJob(number=number, key=key, spec=spec, submitted=now, phase=phase)
        jobs = [
            LocalJob(
                number=own, key=key, spec=spec, submitted=now, phase=phase, array=number, task=task
            )
            for own, task in enumerate(tasks, start=number + 1)
        ]
        if jobs:
            self.jobs.arrays[number] = LocalArray(whole)
        for job in jobs or [whole]:
            job.waits_for = waits_for
            self.jobs.add(job)
        self.jobs.wake()
        self._dispatch_soon()
        return number

    # Starting jobs

    def _dispatch_soon(self) -> None:
        if self._is_open and not self._is_dispatch_due:
            self._is_dispatch_due = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._is_dispatch_due = False
        if not self._is_open or self._pauses:
            return
        for job in self.jobs.take_slots():
            job.phase, job.note, job.attempt = Phase.DISPATCHED, None, job.attempt + 1
            job.launching = self._tasks.start(self._launch(job))
            self.jobs.publish(job)

    async def _launch(self, job: LocalJob) -> None:
        try:
            script = await self.spool.script(job.array or job.number)
            waiting = await self.runs.begin(job, script)
            try:
                # Its own boot id is the kernel's; the spool's is the one that this engine knows.
                waiting.started["boot_id"] = self._boot
                await self.spool.dispatch(job.number, job.attempt, waiting.started)
            except Exception:
                waiting.withdraw()
                raise
            except BaseException:
                waiting.leave_to_spool()
                raise
            waiting.start()
        except AccountUnusable as error:
            # It may be usable again one day; until then the job is in nobody's way.
            await self._put_back(job, Phase.HELD, f"It is held until someone releases it: {error}")
        except Exception as error:
            # Whatever it is, a job stays in the queue as long as its start is not recorded.
            self._pauses += 1
            asyncio.get_running_loop().call_later(_PAUSE_SECONDS, self._end_pause)
            await self._put_back(job, Phase.QUEUED, f"It could not be started yet: {error}")
        else:
            self._watch(job, waiting.started)
        finally:
            job.launching = None

    async def _put_back(self, job: LocalJob, phase: str, reason: str) -> None:
        await self.runs.remove(job)
        # A commit that failed may have been written all the same.
        with contextlib.suppress(SchedulerUnavailable):
            await self.spool.move([job.number], phase)
        self.jobs.give_back_slots(job)
        job.note = reason
        self.jobs.set_phase(job, phase)

    def _end_pause(self) -> None:
        # Counted, not compared with the clock, which rounds differently from timers.
        self._pauses -= 1
        self._dispatch_soon()

    # Watching jobs that run

    def _watch(self, job: LocalJob, started: ShepherdStart) -> None:
        job.started, job.shepherd = started, Process(started["pid"], started["start_ticks"])
        job.start_time, job.began = started["start_time"], started.get("began")
        self.jobs.publish(job)
        self.jobs.on_start(job)
        try:
            self.runs.watch(job.shepherd, lambda: self._on_shepherd_ended(job))
        except OSError:
            # No descriptor is free; the job goes on, and its end is seen a little later.
            loop = asyncio.get_running_loop()
            loop.call_later(_PAUSE_SECONDS, self._watch, job, started)

    def _on_shepherd_ended(self, job: LocalJob, result: Result | None = None) -> None:
        if self._is_stopped:
            return  # the next start finds its end
        job.is_ending = True
        self.jobs.publish(job)
        self._tasks.start(self._finish(job, result))

    async def _finish(self, job: LocalJob, result: Result | None) -> None:
        result = result or await self._result(job)
        if job.request is not Action.REQUEUE:
            # Before its slots are given to others; after a crash its result is the same.
            self.jobs.on_end(job.native_id, end_of(result))
        self.jobs.give_back_slots(job)
        while True:
            try:
                if job.request is Action.REQUEUE and await self._requeue(job):
                    return
                await self.spool.finish([job.number], result)
            except SchedulerUnavailable:
                # A full disk; the result also stands in the run directory until this is done.
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                break
        self.jobs.remove(job, result)
        await self.runs.remove(job)

    async def _requeue(self, job: LocalJob) -> bool:
        """Put a job back that has ended; return False if somebody has cancelled it meanwhile."""
        started_since = time.time() - (job.start_time or 0.0)
        await asyncio.sleep(min(_RUNS_APART_SECONDS, _RUNS_APART_SECONDS - started_since))
        if not await self.spool.put_back(job.number) or job.cancel_requested:
            return False
        # Not before: until the spool has it back, its result stands there alone.
        await self.runs.remove(job)
        if job.cancel_requested:
            return False
        job.put_back()
        self.jobs.set_phase(job, Phase.QUEUED)
        return True

    async def _result(self, job: LocalJob) -> Result:
        while True:
            try:
                return await self.runs.result(job, self.jobs.holding)
            except OSError as error:
                # The result is on disk and cannot be read now; nothing else is the truth.
                job.note = f"Its result cannot be read: {error}"
                self.jobs.publish(job)
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _look(self) -> None:
        """Look again and again at what changes without notice."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                self._problem = await self.runs.in_thread(self.spool.missing)
                running = [job for job in self.jobs.holding if job.shepherd is not None]
                stopped = await self.runs.continue_stopped(running)
            except OSError as error:
                # No descriptor is free, for example.
                _log.warning("local.look_failed", error=str(error))
                continue
            for job in running:
                job.stopped = job.stopped + 1 if job in stopped else 0
                if job in stopped:
                    _log.warning("local.shepherd_stopped", job=job.native_id, looks=job.stopped)
                if job.stopped >= _STOPPED_LOOKS and job.shepherd is not None:
                    # Its limits would never be enforced; the job ends as one without a shepherd.
                    send(job.shepherd, signal.SIGKILL)

    def _end_in_vain(self, jobs: Sequence[LocalJob], dependency: Dependency) -> None:
        # After a stop the next start does so.
        if not self._is_stopped:
            self._tasks.start(self.control.end_in_vain(jobs, dependency))
