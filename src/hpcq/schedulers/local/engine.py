"""The engine: takes jobs from the queue, starts them, and records their ends.

Crash-only: each step is first written to the spool or the run directory, and a start after a stop
does exactly the same as a start after a crash.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import structlog

from hpcq.domain.actions import Action
from hpcq.domain.errors import SchedulerUnavailable, WrongState
from hpcq.domain.jobs import Dependency, DependencyCondition, JobSpec, NativeId, SubmissionKey
from hpcq.domain.states import JobState
from hpcq.schedulers.base import SchedulerOptions
from hpcq.schedulers.local.accounts import AccountUnusable
from hpcq.schedulers.local.arrays import LocalArray
from hpcq.schedulers.local.dependencies import Dependents
from hpcq.schedulers.local.files import Result, ShepherdStart
from hpcq.schedulers.local.ids import is_local, split_id, task_id
from hpcq.schedulers.local.job import LocalJob
from hpcq.schedulers.local.job_control import JobControl
from hpcq.schedulers.local.processes import Process, send
from hpcq.schedulers.local.queue import JobQueue
from hpcq.schedulers.local.recovery import never_started, waited_in_vain
from hpcq.schedulers.local.runs import Runs
from hpcq.schedulers.local.settings import LocalSettings
from hpcq.schedulers.local.spool import Spool
from hpcq.schedulers.local.spool_file import NothingWritten
from hpcq.schedulers.local.spool_row import Phase, SpoolRow, end_of, spec_to_json

__all__ = ["Engine"]

_log = structlog.get_logger("hpcq.local")

_PAUSE_SECONDS = 2.0
_DRAIN_SECONDS = 2.0
_LOOK_SECONDS = 2.0
_STOPPED_LOOKS = 5
# Runs of a job are told apart by their starts, see `hpcq.domain.runs`.
_RUNS_APART_SECONDS = 1.0

_T = TypeVar("_T")


class Engine:
    """Runs the jobs of one spool. All but file work happens on the event loop.

    Changes are tasks of their own, so that each runs to its end even if its caller is cancelled.
    """

    def __init__(
        self, options: SchedulerOptions, settings: LocalSettings, boot_id: Callable[[], str]
    ) -> None:
        self.jobs: dict[int, LocalJob] = {}
        self.arrays: dict[int, LocalArray] = {}
        directory = options.state_directory / "local"
        self.spool = Spool(directory)
        self.runs = Runs(directory, options, settings.cancel_grace_seconds)
        self._control = JobControl(self.spool, self.runs, self._publish)
        self._boot_id = boot_id
        self._queue = JobQueue(settings.internal_scheduler_max_slots)
        self._dependents = Dependents()
        self._holding: dict[int, LocalJob] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._wake: Callable[[], None] = lambda: None
        self._boot = ""
        self._is_open = self._is_stopped = False
        self._is_dispatch_due = False
        self._pauses = 0
        self._looking: asyncio.Task[None] | None = None
        self._problem: str | None = None

    @property
    def slots_used(self) -> int:
        """The number of slots that jobs hold now."""
        return sum(self._queue.slots_of(job) for job in self._holding.values())

    def planned_starts(self) -> dict[int, float]:
        """Return the seconds until queued jobs start, by number, as far as that is known."""
        return self._queue.plan(self._holding.values())

    async def start(self, wake: Callable[[], None]) -> None:
        """Open the spool, recover its jobs, and go on with them.

        Raises:
            SchedulerUnavailable: another service uses the spool, or it cannot be used.
        """
        self._wake = wake
        self._boot = self._boot_id()
        lock = await self.spool.lock()
        try:
            await self.runs.start(lock)
            await self.spool.open()
            await self._recover(await self.spool.unfinished())
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

    def array(self, native_id: NativeId) -> LocalArray | None:
        """Return the array with this id; None for any other job, and for one that is over."""
        is_whole = is_local(native_id) and native_id.isdecimal()
        return self.arrays.get(int(native_id)) if is_whole else None

    def job(self, native_id: NativeId) -> LocalJob | None:
        """Return the job or the task with this id; None for an array, and for one that is over."""
        if not is_local(native_id):
            return None
        number, task = split_id(native_id)
        array = None if task is None else self.arrays.get(number)
        found = self.jobs.get(number) if array is None else array.tasks.get(task or 0)
        # Each task has a number of its own, which is no id.
        is_it = found is not None and found.task == task and found.result is None
        return found if is_it else None

    async def stop(self) -> None:
        """Leave the spool; jobs go on. Harmless when repeated."""
        if self._is_stopped:
            return
        self._is_open, self._is_stopped = False, True
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        loop = asyncio.get_running_loop()
        give_up = loop.time() + _DRAIN_SECONDS
        # One may begin others.
        while self._tasks and (left := give_up - loop.time()) > 0:
            await asyncio.wait(self._tasks, timeout=left)
        late = tuple(self._tasks)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        await self.runs.stop()
        await self.spool.close()

    async def admit(self, spec: JobSpec, key: SubmissionKey, script: bytes) -> int:
        """Put a job into the spool and the queue; return its number."""
        return await self._complete(self._admit(spec, key, script))

    async def hold(self, jobs: Sequence[LocalJob]) -> None:
        """Keep a queued job from starting, or those tasks of an array that are queued.

        Raises:
            WrongState: all have started, or are cancelled.
        """
        await self._complete(self._move(jobs, Phase.HELD))

    async def release(self, jobs: Sequence[LocalJob]) -> None:
        """Let held jobs start, at the places in the queue that they had.

        Raises:
            WrongState: all have started, or are cancelled.
        """
        held = [job for job in _waiting(jobs) if job.phase == Phase.HELD]
        if held:
            await self._complete(self._move(held, Phase.QUEUED))

    async def alter(self, jobs: Sequence[LocalJob], spec: JobSpec) -> None:
        """Ask for something else for a job that waits; it keeps its slots and its place.

        Args:
            jobs: the job, or all tasks of an array that are not over.
            spec: what is asked for now.

        Raises:
            WrongState: it has started, or is cancelled; or a task has started.
        """
        await self._complete(self._alter(jobs, spec))

    async def send_signal(self, jobs: Sequence[LocalJob], number: signal.Signals) -> None:
        """Send a signal to all processes of a job that runs; see `JobControl.send_signal`."""
        await _each(jobs, lambda job: self._control.send_signal(job, number))

    async def request(self, jobs: Sequence[LocalJob], action: Action) -> None:
        """Suspend, resume or requeue a job that runs; see `JobControl.request`."""
        await self._complete(_each(jobs, lambda job: self._control.request(job, action)))

    async def cancel(self, jobs: Sequence[LocalJob]) -> bool:
        """End jobs: at once if they have not started, else through their shepherds.

        Returns:
            Whether none had started.
        """
        return await self._complete(self._cancel(jobs))

    # Starting jobs

    def _dispatch_soon(self) -> None:
        if self._is_open and not self._is_dispatch_due:
            self._is_dispatch_due = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._is_dispatch_due = False
        if not self._is_open or self._pauses:
            return
        for job in self._queue.take(self._holding.values()):
            self._holding[job.number] = job
            job.phase, job.note, job.attempt = Phase.DISPATCHED, None, job.attempt + 1
            job.launching = self._spawn(self._launch(job))
            self._publish(job)

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
        del self._holding[job.number]
        job.note = reason
        self._set_phase(job, phase)

    def _end_pause(self) -> None:
        # Counted, not compared with the clock, which rounds differently from timers.
        self._pauses -= 1
        self._dispatch_soon()

    # Watching jobs that run

    def _watch(self, job: LocalJob, started: ShepherdStart) -> None:
        job.started, job.shepherd = started, Process(started["pid"], started["start_ticks"])
        job.start_time, job.began = started["start_time"], started.get("began")
        self._publish(job)
        for native_id in (job.native_id, *_ids_of_array(job)):
            for other in self._dependents.on_start(native_id):
                self._let_go(other)
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
        self._publish(job)
        self._spawn(self._finish(job, result))

    async def _finish(self, job: LocalJob, result: Result | None) -> None:
        result = result or await self._result(job)
        del self._holding[job.number]
        self._queue.discard(job)
        if job.request is not Action.REQUEUE:
            # Before its slots are given to others; after a crash its result is the same.
            self._decide(job.native_id, end_of(result))
        self._dispatch_soon()
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
        self._remove(job, result)
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
        self._set_phase(job, Phase.QUEUED)
        return True

    async def _result(self, job: LocalJob) -> Result:
        while True:
            try:
                return await self.runs.result(job, self._holding.values())
            except OSError as error:
                # The result is on disk and cannot be read now; nothing else is the truth.
                job.note = f"Its result cannot be read: {error}"
                self._publish(job)
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _look(self) -> None:
        """Look again and again at what tells nobody when it changes."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                self._problem = await self.runs.in_thread(self.spool.missing)
                running = [job for job in self._holding.values() if job.shepherd is not None]
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

    # Requests

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
        waits_for = self._without_started(added.waits_for)
        whole = LocalJob(number=number, key=key, spec=spec, submitted=now, phase=phase)
        jobs = [
            LocalJob(
                number=own, key=key, spec=spec, submitted=now, phase=phase, array=number, task=task
            )
            for own, task in enumerate(tasks, start=number + 1)
        ]
        if jobs:
            self.arrays[number] = LocalArray(whole)
        for job in jobs or [whole]:
            job.waits_for = waits_for
            self._add(job)
        self._wake()
        self._dispatch_soon()
        return number

    async def _move(self, jobs: Sequence[LocalJob], phase: str) -> None:
        # Some may have started since this was asked for.
        jobs = _waiting(jobs)
        before = [job.phase for job in jobs]
        self._queue.discard_all(jobs)
        for job in jobs:
            job.note = None
            self._set_phase(job, phase)
        try:
            await self.spool.move([job.number for job in jobs], phase)
        except SchedulerUnavailable:
            for job, earlier in zip(jobs, before, strict=True):
                if job.phase == phase and not job.is_ending:
                    self._set_phase(job, earlier)
            raise

    async def _alter(self, jobs: Sequence[LocalJob], spec: JobSpec) -> None:
        number, before = jobs[0].array or jobs[0].number, jobs[0].spec
        array = self.arrays.get(number)
        parts = jobs if array is None else [array.whole, *array.tasks.values()]
        if len(_waiting(jobs)) < len(jobs) or any(job.has_started for job in parts):
            raise WrongState("Some tasks of the array have started already.")
        # In memory first: should one start meanwhile, it starts as the spool will have it.
        self._set_spec(parts, spec)
        try:
            await self.spool.alter(number, spec_to_json(spec))
        except SchedulerUnavailable:
            if all(job.spec is spec and job.phase != Phase.DISPATCHED for job in parts):
                self._set_spec(parts, before)
            raise

    def _set_spec(self, jobs: Iterable[LocalJob], spec: JobSpec) -> None:
        for job in jobs:
            job.spec = spec
            self._publish(job)
        # With another time limit one may fit before others.
        self._dispatch_soon()

    def _set_phase(self, job: LocalJob, phase: str) -> None:
        self._queue.discard(job)
        job.phase = phase
        # One that is put back while it is cancelled is about to be ended.
        if phase == Phase.QUEUED and not job.waits_for and not job.cancel_requested:
            self._queue.add(job)
        self._publish(job)
        self._dispatch_soon()

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
                    await self._control.withdraw_requeue(job)
            put_back = [job for job in others if _waits(job)]
            await self._end_unstarted(put_back, never_started())
            while others:
                if others[-1].phase == Phase.DISPATCHED and not others[-1].is_ending:
                    self.runs.request_end(others[-1])
                others.pop()
        except SchedulerUnavailable:
            self._mark_cancelled(others, False)
            for job in filter(_waits, others):
                self._set_phase(job, job.phase)
            raise
        return len(waiting) + len(put_back) == len(jobs)

    def _mark_cancelled(self, jobs: Iterable[LocalJob], is_cancelled: bool) -> None:
        for job in jobs:
            job.cancel_requested = is_cancelled
            self._publish(job)

    async def _end_unstarted(self, jobs: Sequence[LocalJob], result: Result) -> None:
        if not jobs:
            return
        self._queue.discard_all(jobs)
        for job in jobs:
            job.is_ending = True
            self._publish(job)
        self._dispatch_soon()
        try:
            await self.spool.finish([job.number for job in jobs], result)
        except SchedulerUnavailable:
            for job in jobs:
                job.is_ending = False
                self._set_phase(job, job.phase)
            raise
        for job in jobs:
            self._remove(job, result)

    async def _end_in_vain(self, jobs: Sequence[LocalJob], result: Result) -> None:
        while left := [job for job in jobs if job.result is None]:
            waiting = [job for job in left if _waits(job)]
            try:
                await self._end_unstarted(waiting, result)
            except SchedulerUnavailable:
                await asyncio.sleep(_PAUSE_SECONDS)
            if len(waiting) < len(left):
                # Somebody cancels them at this moment.
                await asyncio.sleep(_PAUSE_SECONDS)

    # After a restart

    async def _recover(self, rows: Sequence[SpoolRow]) -> None:
        recovered = await self.runs.recover(rows, self._boot)
        active = {job.native_id for job, _ in recovered}
        arrays = [job for job, _ in recovered if job.is_whole_array]
        self.arrays = {job.number: LocalArray(job) for job in arrays}
        ended = await self.spool.finished([job.native_id for job in arrays])
        for task in await self.runs.in_thread(lambda: list(map(LocalJob.from_row, ended))):
            self.arrays[task.array or 0].add(task)
        others = {one.native_id for job, _ in recovered for one in job.spec.depends_on}
        ends = await self.spool.ends(sorted(others - active))
        known = active | ends.keys()
        started = [(job, found) for job, found in recovered if found is not None]
        for job, _ in started:
            self._holding[job.number] = job
            self._queue.keep(job)
            self._add(job)
        for job, found in recovered:
            if found is None and not job.is_whole_array:
                # A job that the spool has forgotten ended as it had to, or this one had ended too.
                job.waits_for = self._without_started(
                    one for one in job.spec.depends_on if one.native_id in known
                )
                self._add(job)
        for job, found in started:
            if found.started is not None and found.result is None:
                self._watch(job, found.started)
                self._control.repeat(job)
            else:
                self._on_shepherd_ended(job, found.result)
        for native_id, end in ends.items():
            if end is not None:
                self._decide(native_id, end)
        await self.runs.keep_only(self._holding.values())

    def _without_started(self, dependencies: Iterable[Dependency]) -> tuple[Dependency, ...]:
        """Return the dependencies that are not met by a start that was before."""

        def is_met(one: Dependency) -> bool:
            job, array = self.job(one.native_id), self.array(one.native_id)
            started = [job] if array is None else array.tasks.values()
            return one.condition is DependencyCondition.STARTED and any(
                other is not None and other.has_started for other in started
            )

        return tuple(one for one in dependencies if not is_met(one))

    def _add(self, job: LocalJob) -> None:
        self.jobs[job.number] = job
        if job.array is not None:
            self.arrays[job.array].add(job)
        self._dependents.add(job)
        if job.phase == Phase.QUEUED and not job.waits_for:
            self._queue.add(job)

    def _remove(self, job: LocalJob, result: Result) -> None:
        del self.jobs[job.number]
        job.result = result
        job.changed()
        self._dependents.discard(job)
        self._decide(job.native_id, end_of(result))
        if job.array is not None:
            array = self.arrays[job.array]
            end = array.on_end()
            if end is not None:
                del self.arrays[job.array]
                self._decide(array.whole.native_id, end)
        self._wake()

    def _decide(self, native_id: NativeId, end: JobState) -> None:
        """Let those jobs go that waited for this end, and end those that can never start now."""
        if self._is_stopped:
            # The next start does so.
            return
        decided = self._dependents.on_end(native_id, end)
        for job in decided.free:
            self._let_go(job)
        in_vain: dict[Dependency, list[LocalJob]] = {}
        for job, dependency in decided.in_vain:
            in_vain.setdefault(dependency, []).append(job)
        for dependency, jobs in in_vain.items():
            self._spawn(self._end_in_vain(jobs, waited_in_vain(dependency)))

    def _let_go(self, job: LocalJob) -> None:
        """Let a job start that has waited for others."""
        if not job.is_ending:
            self._set_phase(job, job.phase)

    def _publish(self, job: LocalJob) -> None:
        job.changed()
        self._wake()

    def _spawn(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _complete(self, work: Coroutine[Any, Any, _T]) -> _T:
        return await asyncio.shield(self._spawn(work))


def _waiting(jobs: Sequence[LocalJob]) -> Sequence[LocalJob]:
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


def _ids_of_array(job: LocalJob) -> tuple[NativeId, ...]:
    return () if job.array is None else (task_id(job.array, None),)
