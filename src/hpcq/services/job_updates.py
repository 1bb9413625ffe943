"""Changes of what was asked for a job, made by the scheduler while the job waits."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from weakref import WeakValueDictionary

from hpcq.domain import identity, job_changes, job_merge
from hpcq.domain.errors import (
    HpcqError,
    InvalidSpec,
    JobNotFound,
    PartlyChanged,
    UnsupportedCapability,
    WrongState,
)
from hpcq.domain.jobs import JobRecord, JobSpec, JobUid, Observation
from hpcq.domain.outputs import Stream
from hpcq.domain.validation import SizeLimits, check_content
from hpcq.schedulers.abilities import AltersJobs
from hpcq.schedulers.base import SchedulerBackend
from hpcq.services.listing.job_table import JobTable
from hpcq.services.listing.publisher import JobPublisher
from hpcq.services.listing.wire import request_name

__all__ = ["NO_ID_YET", "JobUpdater"]

NO_ID_YET = "The scheduler has not given this job an id yet, so it cannot be told to change it."
_GONE = "The scheduler does not have this job in its queue any more, so nothing can be changed."
_ANY_JOB = JobSpec(name="job", working_directory="/", script_file="/")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobUpdater:
    """Changer of queued jobs, one change of a job after another; records follow."""

    backend: SchedulerBackend
    table: JobTable
    publisher: JobPublisher
    sizes: SizeLimits
    clock: Callable[[], datetime]
    _turns: WeakValueDictionary[JobUid, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    def check(self, values: Mapping[str, object]) -> None:
        """Return if values can be given to jobs of this scheduler.

        Args:
            values: fields of `JobSpec`; None takes one back.

        Raises:
            InvalidSpec: as for a submission; or a job cannot be without the field.
            UnsupportedCapability: this scheduler cannot change one of the fields.
        """
        capabilities = self.backend.capabilities
        for name, value in values.items():
            field = request_name(name)
            if name not in capabilities.changes:
                raise UnsupportedCapability(
                    field,
                    self.backend.name,
                    f"The {self.backend.name} scheduler of this cluster cannot change {field!r} of"
                    " a job in its queue.",
                )
            if value in (None, "") and name in ("name", "queue", "account"):
                raise InvalidSpec(f"{field} cannot be taken back; give another one.", field=field)
            if value is None and name not in capabilities.removals:
                raise UnsupportedCapability(
                    field,
                    self.backend.name,
                    f"The {self.backend.name} scheduler of this cluster cannot take back {field!r}"
                    " of a job in its queue; give another value.",
                )
        check_content(replace(_ANY_JOB, **values), self.sizes)  # type: ignore[arg-type]

    async def update(
        self, record: JobRecord, values: Mapping[str, object], run_as: str | None
    ) -> None:
        """Change a job that waits, an array with all its tasks.

        Args:
            record: the job.
            values: as `check` takes them.
            run_as: the account in whose name the scheduler is asked; None for the service's own.

        Raises:
            WrongState: it does not wait, or is a task of an array.
            InvalidSpec: the scheduler does not take a value.
            PartlyChanged: it made some of the changes, and refused the others.
            SchedulerError, NotAuthorized: it made none, or may have made some.
        """
        async with self._turns.setdefault(record.uid, asyncio.Lock()):
            entry = self.table.entry(record.uid)
            await self._update(record if entry is None else entry.record, values, run_as)

    async def _update(
        self, record: JobRecord, values: Mapping[str, object], run_as: str | None
    ) -> None:
        _check_may_change(record)
        before = await self._look(record)
        # A move to where it is may cost a job its place there.
        asked = frozenset(n for n in values if n != "queue" or values[n] != before.queue)
        if not asked or not isinstance(self.backend, AltersJobs):
            return
        spec = replace(record.spec or _spec_of(before), **values)  # type: ignore[arg-type]
        await self._apply(record, None, lambda job: job_changes.altering(job, asked))
        try:
            await self.backend.alter(before.native_id, spec, asked, run_as)
        except HpcqError as error:
            changed = await self._find_changed(record, before, asked, error)
            if changed:
                raise PartlyChanged(changed, error) from error
            if isinstance(error, JobNotFound):
                raise WrongState(_GONE) from None
            raise
        after = await self._look_again(record)
        moved = _moved(before, after)
        await self._apply(record, after, lambda job: job_changes.altered(job, values, moved))

    async def _look(self, record: JobRecord) -> Observation:
        """Return what the scheduler says of a queued job now.

        Raises:
            WrongState: it is not queued any more, or a task of an array.
        """
        if record.native_id is None:
            raise WrongState(NO_ID_YET)
        listing = await self.backend.details([record.native_id])
        for seen in listing.observations:
            if seen.native_id == record.native_id and identity.same_job(record, seen):
                _check_may_change(seen)
                return seen
        raise WrongState(_GONE)

    async def _look_again(self, record: JobRecord) -> Observation | None:
        """Return what the scheduler says of the job now; None if it does not, or it has begun."""
        with contextlib.suppress(HpcqError):
            return await self._look(record)
        return None

    async def _find_changed(
        self, record: JobRecord, before: Observation, asked: Set[str], error: HpcqError
    ) -> Sequence[str]:
        """Let the record follow what came of a change that failed.

        Returns:
            The fields that the scheduler changed nevertheless, by their names on the wire.
        """
        after = await self._look_again(record) if error.reached_scheduler else None
        known = () if after is None else sorted(asked)
        changed = [n for n in known if getattr(after, n, None) != getattr(before, n, None)]
        # A command that did not end may have its effect later.
        unknown = asked if error.transient and error.reached_scheduler else changed
        await self._apply(record, after, lambda job: job_changes.not_altered(job, record, unknown))
        return [request_name(name) for name in changed]

    async def _apply(
        self,
        record: JobRecord,
        seen: Observation | None,
        change: Callable[[JobRecord], JobRecord],
    ) -> None:
        """Change the record of a job, then let the scheduler's word count; and those of tasks."""
        at = self.clock()

        def changed(job: JobRecord) -> JobRecord:
            return change(job) if seen is None else job_merge.with_details(change(job), seen, at)

        await self.publisher.apply(record.uid, changed)
        if record.is_array:
            tasks = self.table.tasks_of(record).values()
            await asyncio.gather(*(self.publisher.apply(task.uid, change) for task in tasks))


def _check_may_change(job: JobRecord | Observation) -> None:
    if not job.state.is_queued:
        raise WrongState(
            f"Only a job that waits in the queue can be changed; this one is {job.state}."
        )
    seen = job.seen if isinstance(job, JobRecord) else job
    if seen is not None and seen.array_task_id is not None:
        raise WrongState(
            "A task of an array cannot be changed alone. Change the whole array:"
            f" {seen.array_job_id}."
        )


def _moved(before: Observation, after: Observation | None) -> Sequence[Stream]:
    """Return the outputs that go elsewhere after a change: their paths may hold the job's name."""
    streams: tuple[Stream, ...] = ("stdout", "stderr")
    paths = [(s, getattr(before, f"{s}_path"), getattr(after, f"{s}_path", None)) for s in streams]
    return [stream for stream, old, new in paths if None not in (old, new) and old != new]


def _spec_of(seen: Observation) -> JobSpec:
    """Return what counts of a job that did not come through this service: its slots."""
    return replace(_ANY_JOB, slots=seen.slots or 1)
