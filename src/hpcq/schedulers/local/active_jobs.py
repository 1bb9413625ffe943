"""The jobs that are not over, in memory: in the queue, waiting for others, or holding slots."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from hpcq.domain.jobs import Dependency, DependencyCondition, JobSpec, NativeId
from hpcq.domain.states import JobState
from hpcq.schedulers.local.arrays import LocalArray
from hpcq.schedulers.local.dependencies import Dependents
from hpcq.schedulers.local.files import Result
from hpcq.schedulers.local.ids import is_local, split_id, task_id
from hpcq.schedulers.local.job import LocalJob
from hpcq.schedulers.local.queue import JobQueue
from hpcq.schedulers.local.spool_row import Phase, end_of

__all__ = ["ActiveJobs"]


class ActiveJobs:
    """All jobs, tasks and arrays that are not over. Whoever changes one does so here.

    Args:
        total_slots: the slots of the machine.
        dispatch: called when a job may be able to start now.
        end_in_vain: called with jobs that can never start, and the dependency that is not met.

    Attributes:
        by_number: the jobs and the tasks by their own numbers.
        arrays: the arrays by their numbers.
        wake: called when the service would see another state of a job.
    """

    def __init__(
        self,
        total_slots: int,
        dispatch: Callable[[], None],
        end_in_vain: Callable[[Sequence[LocalJob], Dependency], None],
    ) -> None:
        self.by_number: dict[int, LocalJob] = {}
        self.arrays: dict[int, LocalArray] = {}
        self.wake: Callable[[], None] = lambda: None
        self._dispatch = dispatch
        self._end_in_vain = end_in_vain
        self._queue = JobQueue(total_slots)
        self._dependents = Dependents()
        self._holding: dict[int, LocalJob] = {}

    @property
    def holding(self) -> Collection[LocalJob]:
        """The jobs that hold slots now."""
        return self._holding.values()

    @property
    def slots_used(self) -> int:
        """The number of slots that jobs hold now."""
        return sum(map(self._queue.slots_of, self.holding))

    def planned_starts(self) -> dict[int, float]:
        """Return the seconds until queued jobs start, by number, as far as that is known."""
        return self._queue.plan(self.holding)

    def find_array(self, native_id: NativeId) -> LocalArray | None:
        """Return the array with this id; None for any other job, and for one that is over."""
        is_whole = is_local(native_id) and native_id.isdecimal()
        return self.arrays.get(int(native_id)) if is_whole else None

    def find_job(self, native_id: NativeId) -> LocalJob | None:
        """Return the job or the task with this id; None for an array, and for one that is over."""
        if not is_local(native_id):
            return None
        number, task = split_id(native_id)
        array = None if task is None else self.arrays.get(number)
        found = self.by_number.get(number) if array is None else array.tasks.get(task or 0)
        # Each task has a number of its own, which is no id.
        is_it = found is not None and found.task == task and found.result is None
        return found if is_it else None

    def unmet(self, dependencies: Iterable[Dependency]) -> tuple[Dependency, ...]:
        """Return the dependencies that are not met by a start that was before."""
        return tuple(one for one in dependencies if not self._is_met(one))

    def add(self, job: LocalJob) -> None:
        """Add a job, or a task of an array that is in `arrays`."""
        self.by_number[job.number] = job
        if job.array is not None:
            self.arrays[job.array].add(job)
        self._dependents.add(job)
        if job.phase == Phase.QUEUED and not job.waits_for:
            self._queue.add(job)

    def add_started(self, job: LocalJob) -> None:
        """Add a job that an earlier service has started."""
        self._holding[job.number] = job
        self._queue.keep(job)
        self.add(job)

    def remove(self, job: LocalJob, result: Result) -> None:
        """Take out a job that is over, and an array with its last task."""
        del self.by_number[job.number]
        job.result = result
        job.changed()
        self._dependents.discard(job)
        self.on_end(job.native_id, end_of(result))
        if job.array is not None:
            array = self.arrays[job.array]
            end = array.on_end()
            if end is not None:
                del self.arrays[job.array]
                self.on_end(array.whole.native_id, end)
        self.wake()

    def take_slots(self) -> Iterator[LocalJob]:
        """Take the jobs out of the queue that start now, and give them their slots."""
        for job in self._queue.take(self.holding):
            self._holding[job.number] = job
            yield job

    def give_back_slots(self, job: LocalJob) -> None:
        """Let others have the slots of a job."""
        del self._holding[job.number]
        self._queue.discard(job)
        self._dispatch()

    def publish(self, job: LocalJob) -> None:
        """Let the service see that a job has changed."""
        job.changed()
        self.wake()

    def set_phase(self, job: LocalJob, phase: str) -> None:
        """Hold a job, or let it wait in the queue, at the place of its number."""
        self._queue.discard(job)
        job.phase = phase
        # One that is put back while it is cancelled is about to be ended.
        if phase == Phase.QUEUED and not job.waits_for and not job.cancel_requested:
            self._queue.add(job)
        self.publish(job)
        self._dispatch()

    def move(self, jobs: Sequence[LocalJob], phase: str) -> None:
        """Hold jobs, or let them wait in the queue, because somebody asked for it."""
        self._queue.discard_all(jobs)
        for job in jobs:
            job.note = None
            self.set_phase(job, phase)

    def set_spec(self, jobs: Iterable[LocalJob], spec: JobSpec) -> None:
        """Ask for something else for jobs that wait."""
        for job in jobs:
            job.spec = spec
            self.publish(job)
        # With another time limit one may fit before others.
        self._dispatch()

    def set_ending(self, jobs: Sequence[LocalJob]) -> None:
        """Let jobs wait no longer that will never start."""
        self._queue.discard_all(jobs)
        for job in jobs:
            job.is_ending = True
            self.publish(job)
        self._dispatch()

    def on_start(self, job: LocalJob) -> None:
        """Let those jobs go that waited for this one, or its array, to start."""
        array = () if job.array is None else (task_id(job.array, None),)
        for native_id in (job.native_id, *array):
            for other in self._dependents.on_start(native_id):
                self._let_go(other)

    def on_end(self, native_id: NativeId, end: JobState) -> None:
        """Let those jobs go that waited for this end, and end those that can never start now."""
        decided = self._dependents.on_end(native_id, end)
        for job in decided.free:
            self._let_go(job)
        in_vain: dict[Dependency, list[LocalJob]] = {}
        for job, dependency in decided.in_vain:
            in_vain.setdefault(dependency, []).append(job)
        for dependency, jobs in in_vain.items():
            self._end_in_vain(jobs, dependency)

    def _is_met(self, dependency: Dependency) -> bool:
        job, array = self.find_job(dependency.native_id), self.find_array(dependency.native_id)
        started = [job] if array is None else array.tasks.values()
        return dependency.condition is DependencyCondition.STARTED and any(
            other is not None and other.has_started for other in started
        )

    def _let_go(self, job: LocalJob) -> None:
        """Let a job start that has waited for others."""
        if not job.is_ending:
            self.set_phase(job, job.phase)
