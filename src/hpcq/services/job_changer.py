"""Changes of jobs by their users: cancelling, altering, holding, suspending, signals."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from hpcq.domain import job_changes, job_merge
from hpcq.domain.actions import Action, Signal, check_state, has_effect_already
from hpcq.domain.errors import (
    CommandFailed,
    InvalidSpec,
    JobNotFound,
    NotAuthorized,
    StoreUnavailable,
    UnsupportedCapability,
    WrongState,
)
from hpcq.domain.jobs import JobRecord, NativeId
from hpcq.domain.principals import Principal
from hpcq.domain.submission import task_of
from hpcq.schedulers.base import SchedulerBackend
from hpcq.services.array_tasks import cancel_tasks, waiting_task
from hpcq.services.job_reader import JobReader
from hpcq.services.job_updates import NO_ID_YET, JobUpdater
from hpcq.services.listing.job_entry import JobEntry
from hpcq.services.listing.job_lookup import JobLookup
from hpcq.services.listing.job_table import JobTable
from hpcq.services.listing.publisher import JobPublisher
from hpcq.services.monitoring.monitor import Monitor
from hpcq.services.submission.paths import PathChecker
from hpcq.storage.jobs import JobStore

__all__ = ["JobChanger"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobChanger:
    """Changes jobs, each time on behalf of a principal.

    All methods take the scheduler's id of a job or its uid, and raise `JobNotFound` when there is
    no such job, or none that the principal may see, and `NotAuthorized` when the principal may
    only see it.
    """

    backend: SchedulerBackend
    store: JobStore
    table: JobTable
    publisher: JobPublisher
    monitor: Monitor
    jobs: JobReader
    lookup: JobLookup
    updater: JobUpdater
    paths: PathChecker
    clock: Callable[[], datetime]

    async def cancel(self, principal: Principal, job_id: str) -> JobRecord:
        """End a job that is queued or running; a finished one leaves the listing.

        An array is ended with all its tasks, and leaves with them.
        """
        record = await self._find(principal, job_id)
        by = principal.user or None
        if not record.state.is_final:
            record = await self._cancel(record, by)
        if record.submitted_here and record.removed_at is None:
            record = await self._remove(record, by)
        return record

    async def _cancel(self, record: JobRecord, by: str | None) -> JobRecord:
        if record.native_id is None:
            # When it is found it is cancelled, and else not handed over again.
            at = self.clock()
            record = await self._change(record, lambda r: job_changes.cancel_requested(r, at, by))
        if record.native_id is None or record.hand_over is not None:
            return record
        native_id = record.native_id
        try:
            never_ran = await self.backend.cancel(native_id, await self._account_of(record))
        except JobNotFound:
            # It ended since we last looked; the accounting will tell how.
            never_ran = False
        at = self.clock()

        def asked(job: JobRecord) -> JobRecord:
            job = job_changes.cancel_requested(job, at, by)
            return job_merge.removed_while_queued(job, at) if never_ran else job

        changed = await self.publisher.apply(record.uid, asked)
        self.monitor.wake()
        return changed or record

    async def cancel_tasks(
        self, principal: Principal, job_id: str, numbers: Sequence[int]
    ) -> JobRecord:
        """End those tasks of an array that are queued or running; return the array.

        They leave the listing once they have ended, as a job does that is cancelled. Those that
        have ended already are left alone.

        Args:
            principal: who asks.
            job_id: the array.
            numbers: its tasks.

        Raises:
            InvalidSpec: the job is no array.
            JobNotFound: or the array has no such task.
            WrongState: the scheduler has not given it an id yet.
        """
        array = await self._find(principal, job_id)
        if not array.is_array:
            problem = f"The job {job_id!r} is no array, so it has no tasks."
            raise InvalidSpec(problem, field="tasks")
        if array.native_id is None:
            raise WrongState(NO_ID_YET)
        tasks = await self._tasks(array, array.native_id, numbers)
        still_open = {n: task for n, task in tasks.items() if not task.state.is_final}
        if still_open and not array.state.is_final:
            await self._cancel_tasks(array, array.native_id, still_open, principal.user or None)
        return array

    async def _tasks(
        self, array: JobRecord, native_id: NativeId, numbers: Sequence[int]
    ) -> dict[int, JobRecord]:
        """Return the tasks with these numbers; one that was never seen is not stored."""
        known = self.table.tasks_of(array)
        if not (array.state.is_final or known.keys() >= set(numbers)):
            await self.monitor.look_again()
            known = self.table.tasks_of(array)
        uids = {array.uid.of_task(number): number for number in numbers if number not in known}
        if uids and array.submitted_here:
            known |= {uids[task.uid]: task for task in await self.store.by_uids(list(uids))}
        certain = () if array.spec is None or array.spec.array is None else array.spec.array.tasks
        form, at = self.backend.capabilities.task_id, self.clock()

        async def find(number: int) -> JobRecord:
            if number in known:
                return known[number]
            task_id = NativeId(form.format(array=native_id, task=number))
            if number in certain:
                return task_of(array, task_id, number, at)
            task = None if certain else await self.lookup.look_up(task_id)
            if task is None:
                raise JobNotFound(task_id)
            return task

        return dict(zip(numbers, await asyncio.gather(*map(find, numbers)), strict=True))

    async def _cancel_tasks(
        self, array: JobRecord, native_id: NativeId, tasks: Mapping[int, JobRecord], by: str | None
    ) -> None:
        ids = {n: task.native_id for n, task in tasks.items() if task.native_id is not None}
        run_as = await self._account_of(array)
        never_ran = await cancel_tasks(self.backend, native_id, ids, run_as)
        at = self.clock()

        def asked(task: JobRecord) -> JobRecord:
            task = job_changes.cancel_requested(task, at, by)
            if task.native_id in never_ran:
                task = job_merge.removed_while_queued(task, at)
            return task.changed(removed_at=task.removed_at or at) if task.submitted_here else task

        # Neither the queue nor the accounting would ever tell of these.
        unseen = [
            asked(task.changed(seen=waiting_task(native_id, n, ids[n])))
            for n, task in tasks.items()
            if task.seen is None and ids[n] in never_ran
        ]
        written = await self.store.publish([(None, task) for task in unseen], holder=None)
        self.publisher.show(*written)
        await asyncio.gather(*(self._change(task, asked) for task in tasks.values()))
        self.monitor.wake()

    async def _account_of(self, record: JobRecord) -> str | None:
        """Return the account in whose name a job is changed."""
        owner = record.run_as
        if not record.submitted_here and record.seen is not None:
            owner = record.seen.owner
        return await self.paths.usable_account(owner)

    async def _remove(self, record: JobRecord, by: str | None) -> JobRecord:
        at = self.clock()

        def with_array(task: JobRecord) -> JobRecord:
            cancelled = task if task.state.is_final else job_changes.cancel_requested(task, at, by)
            return cancelled.changed(removed_at=task.removed_at or at)

        if record.is_array:
            tasks = self.table.tasks_of(record).values()
            await asyncio.gather(*(self.publisher.apply(task.uid, with_array) for task in tasks))
        return await self._change(record, lambda r: r.changed(removed_at=at))

    async def _change(
        self, record: JobRecord, change: Callable[[JobRecord], JobRecord]
    ) -> JobRecord:
        """Change a job of ours, whether or not the table shows it."""
        changed = await self.publisher.apply(record.uid, change)
        return changed or await self.store.change(record.uid, change) or record

    async def act(
        self, action: Action, principal: Principal, job_id: str, signal: Signal | None = None
    ) -> JobRecord:
        """Have the scheduler do something with a job in its queue; return the job.

        To repeat an action that has its effect already is harmless.

        Args:
            action: what it is to do.
            principal: who asks.
            job_id: the job.
            signal: for `Action.SIGNAL`.

        Raises:
            UnsupportedCapability: this scheduler has no such action.
            WrongState: it makes no sense in the job's state.
        """
        record = await self._find(principal, job_id)
        if action not in self.backend.capabilities.actions:
            raise UnsupportedCapability(action.value, self.backend.name)
        check_state(action, record.state, is_array=record.is_array)
        if record.native_id is None:
            raise WrongState(NO_ID_YET)
        try:
            run_as = await self._account_of(record)
            await self.backend.act(action, record.native_id, run_as, signal)
        except JobNotFound:
            raise WrongState(
                "The scheduler does not have this job in its queue any more, so nothing can be done"
                " with it."
            ) from None
        except (WrongState, CommandFailed):
            if not has_effect_already(action, record.state):
                raise
        self.monitor.wake()
        at = self.clock()
        try:
            changed = await self.publisher.apply(
                record.uid, lambda job: job_changes.acted_on(job, action, at)
            )
        except StoreUnavailable:
            # It is done, and written with a later look: nobody shall ask for it a second time.
            return record
        return changed or record

    async def update(
        self, principal: Principal, job_id: str, values: Mapping[str, object]
    ) -> JobEntry:
        """Have the scheduler change what was asked for a job that waits; return the job.

        Args:
            principal: who asks.
            job_id: the job.
            values: the fields of its `JobSpec` that are to be others; None takes one back.

        Raises:
            HpcqError: see `JobUpdater.check` and `JobUpdater.update`.
        """
        record = await self._find(principal, job_id)
        self.updater.check(values)
        try:
            await self.updater.update(record, values, await self._account_of(record))
        finally:
            self.monitor.wake()
        return await self.jobs.find(principal, str(record.uid))

    async def _find(self, principal: Principal, job_id: str) -> JobRecord:
        record = (await self.jobs.find(principal, job_id)).record
        if not principal.may_change(record):
            raise NotAuthorized(
                f"The job {job_id!r} is not yours. Its owner and operators can change it."
            )
        return record
