"""Jobs that wait for others: which conditions are still to be met, and who waits for whom."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import Dependency, DependencyCondition, NativeId
from hpcq.domain.states import JobState
from hpcq.schedulers.local.job import LocalJob

__all__ = ["Decided", "Dependents", "still_to_come"]


def still_to_come(
    depends_on: Sequence[Dependency], ends: Mapping[NativeId, JobState | None]
) -> tuple[Dependency, ...]:
    """Return those dependencies of a new job that are still to be met.

    Args:
        depends_on: all its dependencies.
        ends: the end of each job that the spool knows; None for one that is not over.

    Raises:
        InvalidSpec: a job is not known, or its end does not meet the condition.
    """
    left: list[Dependency] = []
    for dependency in depends_on:
        native_id, condition = dependency.native_id, dependency.condition
        if native_id not in ends:
            raise InvalidSpec(
                f"LOCAL has no job {native_id} any more that another one could wait for.",
                field="dependsOn",
            )
        end = ends[native_id]
        if end is None:
            left.append(dependency)
        elif not condition.is_met_by(end):
            raise InvalidSpec(
                f"The job {native_id} is {end}: a job that waits for its {condition} would never "
                "start.",
                field="dependsOn",
            )
    return tuple(left)


class Decided(NamedTuple):
    """The consequences of an end for the jobs that waited for it.

    Attributes:
        free: those that wait for no other job any more.
        in_vain: those that can never start, each with the dependency that is not met.
    """

    free: list[LocalJob]
    in_vain: list[tuple[LocalJob, Dependency]]


class Dependents:
    """The jobs that wait for others, by the ids of these. They are in no queue meanwhile."""

    def __init__(self) -> None:
        self._waiting: dict[NativeId, dict[int, LocalJob]] = {}

    def add(self, job: LocalJob) -> None:
        """Let a job wait for the jobs in its `LocalJob.waits_for`."""
        for dependency in job.waits_for:
            self._waiting.setdefault(dependency.native_id, {})[job.number] = job

    def discard(self, job: LocalJob) -> None:
        """Let a job wait no longer."""
        for dependency in job.waits_for:
            waiting = self._waiting.get(dependency.native_id, {})
            waiting.pop(job.number, None)
            if not waiting:
                self._waiting.pop(dependency.native_id, None)

    def on_start(self, native_id: NativeId) -> list[LocalJob]:
        """Note that a job has started; return those that wait for no other job any more."""
        met = DependencyCondition.STARTED
        free: list[LocalJob] = []
        for job in tuple(self._waiting.get(native_id, {}).values()):
            self.discard(job)
            if self._wait_for(job, [d for d in job.waits_for if not _is(d, native_id, met)]):
                free.append(job)
        return free

    def on_end(self, native_id: NativeId, end: JobState) -> Decided:
        """Note the end of a job; return its consequences.

        A job that can never start ends with that, which has consequences too.
        """
        decided = Decided([], [])
        ends = deque([(native_id, end)])
        while ends:
            native_id, end = ends.popleft()
            for job in tuple(self._waiting.get(native_id, {}).values()):
                mine = [d for d in job.waits_for if d.native_id == native_id]
                unmet = next((d for d in mine if not d.condition.is_met_by(end)), None)
                self.discard(job)
                if unmet is not None:
                    decided.in_vain.append((job, unmet))
                    ends.append((job.native_id, JobState.FAILED))
                elif self._wait_for(job, [d for d in job.waits_for if d.native_id != native_id]):
                    decided.free.append(job)
        return decided

    def _wait_for(self, job: LocalJob, dependencies: Sequence[Dependency]) -> bool:
        """Let a job wait for these alone; return whether there is none."""
        job.waits_for = tuple(dependencies)
        job.changed()
        self.add(job)
        return not job.waits_for


def _is(dependency: Dependency, native_id: NativeId, condition: DependencyCondition) -> bool:
    return dependency.native_id == native_id and dependency.condition is condition
