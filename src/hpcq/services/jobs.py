"""Submit, read, cancel and change jobs."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime

from hpcq.domain import identity, job_changes, job_merge
from hpcq.domain.actions import Action, Signal, check_state, has_effect_already
from hpcq.domain.errors import (
    CommandFailed,
    InvalidSpec,
    JobNotFound,
    NotAuthorized,
    SchedulerError,
    SchedulerUnavailable,
    StoreUnavailable,
    UnsupportedCapability,
    WrongState,
)
from hpcq.domain.ids import read_id
from hpcq.domain.jobs import Dependency, JobRecord, JobSpec, JobUid, NativeId, Usage
from hpcq.domain.outputs import default_name
from hpcq.domain.principals import Principal, Role
from hpcq.domain.submission import IdempotencyKey, is_set, task_of
from hpcq.domain.validation import SizeLimits, check_content
from hpcq.schedulers.base import Capabilities, SchedulerBackend, SubmissionPlan
from hpcq.services.array_tasks import cancel_tasks, waiting_task
from hpcq.services.job_updates import NO_ID_YET, JobUpdater
from hpcq.services.listing.job_entry import JobEntry, entries_of
from hpcq.services.listing.job_lookup import JobLookup
from hpcq.services.listing.job_table import JobTable
from hpcq.services.listing.publisher import JobPublisher
from hpcq.services.listing.wire import WireFormat, request_name
from hpcq.services.mail.recipients import take_over_mails
from hpcq.services.mail.settings import MailSettings
from hpcq.services.monitoring.job_details import DetailsReader, UsageReader
from hpcq.services.monitoring.monitor import Monitor
from hpcq.services.programs.request import ProgramRequest
from hpcq.services.submission.attempt import SubmissionRunner
from hpcq.services.submission.dependencies import DependencyRequest, resolve
from hpcq.services.submission.paths import PathChecker
from hpcq.services.submission.submitter import Outcome, Submission, Submitter
from hpcq.storage.jobs import JobStore

__all__ = ["JobService"]

_ALWAYS_EXPRESSED = frozenset(
    {"name", "working_directory", "script_file", "args", "slots", "outputs"}
)
_MAIL_FIELDS = frozenset({"mail_to", "mail_on"})
_OPTIONAL_FIELDS = tuple(f.name for f in fields(JobSpec) if f.name not in _ALWAYS_EXPRESSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobService:
    """The use cases of jobs, over one scheduler, each on behalf of a principal.

    All methods that take an id accept the scheduler's own or the permanent uid, and raise
    `JobNotFound` when there is no such job, or none that the principal may see. Those that change
    a job raise `NotAuthorized` when the principal may only see it.

    Attributes:
        outcomes: how many requests to submit came to what.
    """

    backend: SchedulerBackend
    store: JobStore
    table: JobTable
    publisher: JobPublisher
    monitor: Monitor
    runner: SubmissionRunner
    submitter: Submitter
    usage: UsageReader
    lookup: JobLookup
    details_reader: DetailsReader
    updater: JobUpdater
    wire: WireFormat
    paths: PathChecker
    sizes: SizeLimits
    mail: MailSettings
    clock: Callable[[], datetime]
    outcomes: Counter[Outcome] = field(default_factory=Counter)

    @property
    def capabilities(self) -> Capabilities:
        """The scheduler's, and the mails where this service sends them."""
        known = self.backend.capabilities
        return replace(
            known, fields=known.fields | (_MAIL_FIELDS if self.mail.sends_mails else set())
        )

    async def submit(
        self,
        principal: Principal,
        spec: JobSpec,
        key_text: str | None = None,
        program: ProgramRequest | None = None,
        depends_on: Sequence[DependencyRequest] = (),
    ) -> Submission:
        """Hand a job to the scheduler; the intent is on disk before the scheduler is asked.

        Args:
            principal: whose job it is to be.
            spec: what is to run.
            key_text: names this submission of theirs, however often it has to be sent.
            program: gives the script and the arguments; they are not looked up again for a
                submission that was made before.
            depends_on: the jobs that have to come first; likewise.

        Raises:
            InvalidSpec: its content cannot be a job.
            UnsupportedCapability: this scheduler cannot express one of its fields.
            NotAuthorized: the principal has no account to submit in the name of.
            IdempotencyKeyReused, SubmissionInProgress: see `Submitter.known`.
            SchedulerError: the scheduler surely did not take it.
        """
        try:
            with _field_of_script(spec):
                submission = await self._submit(principal, spec, key_text, program, depends_on)
        except Exception as error:
            self.outcomes[Outcome.of_error(error)] += 1
            raise
        self.outcomes[submission.outcome] += 1
        return submission

    async def _submit(
        self,
        principal: Principal,
        spec: JobSpec,
        key_text: str | None,
        program: ProgramRequest | None,
        depends_on: Sequence[DependencyRequest],
    ) -> Submission:
        if program is None:
            check_content(spec, self.sizes)
        outside_spec = _outside_spec(program, depends_on)
        key = None
        if key_text is not None:
            key = IdempotencyKey.of(key_text, _named(spec), outside_spec, principal.user)
        known = None if key is None else await self.submitter.known(key)
        if known is not None:
            return known
        # After the key, which names the same request whatever the settings say.
        spec = await self._complete(principal, spec, program, depends_on)
        submission = await self.submitter.submit(principal, spec, key)
        if submission.record.native_id is None:
            self.monitor.wake()
        return submission

    async def _complete(
        self,
        principal: Principal,
        spec: JobSpec,
        program: ProgramRequest | None,
        depends_on: Sequence[DependencyRequest],
    ) -> JobSpec:
        """Return the job as it can be handed to the scheduler. Raises as `submit` does."""
        if program is not None:
            spec = await program.complete(spec)
            check_content(spec, self.sizes)
        self._check_expressible(spec, depends_on)
        spec = take_over_mails(spec, self.mail)
        self.runner.check_available()
        spec = replace(spec, run_as=await self.paths.account_of(principal.user))
        spec = replace(spec, depends_on=await self._resolve(principal, depends_on))
        return await self.paths.check(spec)

    async def plan(
        self,
        principal: Principal,
        spec: JobSpec,
        program: ProgramRequest | None = None,
        depends_on: Sequence[DependencyRequest] = (),
    ) -> tuple[SubmissionPlan, JobSpec, bytes]:
        """Return what `submit` would run, and write and submit nothing.

        Returns:
            The command, the job with its variables, and the script; see `SubmissionRunner.plan`.
        """
        with _field_of_script(spec):
            if program is None:
                check_content(spec, self.sizes)
            return await self.runner.plan(
                await self._complete(principal, spec, program, depends_on)
            )

    def _check_expressible(self, spec: JobSpec, depends_on: Sequence[DependencyRequest]) -> None:
        expressible = self.capabilities.fields
        asked = {name for name in _OPTIONAL_FIELDS if is_set(getattr(spec, name))}
        if depends_on:
            asked.add("depends_on")
        for name in _OPTIONAL_FIELDS:
            if name in asked and name not in expressible:
                raise UnsupportedCapability(request_name(name), self.backend.name)

    async def _resolve(
        self, principal: Principal, depends_on: Sequence[DependencyRequest]
    ) -> tuple[Dependency, ...]:
        async def find(job_id: str) -> JobRecord:
            return (await self.find(principal, job_id)).record

        return await resolve(depends_on, find)

    async def read(self, principal: Principal, job_id: str) -> JobEntry:
        """Return a job with its details; the first reader waits while they are fetched."""
        entry = await self.find(principal, job_id)
        await self.details_reader.complete(entry.record)
        return self.table.entry(entry.record.uid) or entry

    async def find(self, principal: Principal, job_id: str) -> JobEntry:
        """Return a job, from memory when it is in the queue or ended lately."""
        parsed, is_array = self._parse_id(job_id)
        entry = self.table.entry(parsed)
        if entry is None:
            found = await self._find_elsewhere(parsed, is_array=is_array)
            (entry,) = await entries_of([found], self.store, self.wire)
        else:
            self.usage.mark_viewed(entry.record.uid)
        if is_array and not entry.record.is_array:
            raise JobNotFound(job_id)
        if not principal.may_see(entry.record):
            raise JobNotFound(job_id)
        return entry

    def _parse_id(self, text: str) -> tuple[JobUid | NativeId, bool]:
        """Return an id, and whether it was written as only a whole array's is."""
        with contextlib.suppress(ValueError):
            return JobUid(text), False
        with contextlib.suppress(ValueError):
            return read_id(text, self.backend.capabilities.id_forms)
        raise JobNotFound(text)

    async def usage_over_time(self, principal: Principal, job_id: str) -> list[Usage]:
        """Return the samples of what a job used while it ran, oldest first.

        Only jobs that were submitted through this service have any.
        """
        record = (await self.find(principal, job_id)).record
        return await self.store.samples(record.uid) if record.submitted_here else []

    async def _find_elsewhere(
        self, job_id: JobUid | NativeId, *, is_array: bool = False
    ) -> JobRecord:
        left = self.table.recently_left(job_id)
        if left is not None and left.native_id is not None:
            # It is the newest with this id; accounting may be late or away.
            with contextlib.suppress(SchedulerError):
                record = await self.lookup.look_up(left.native_id)
                if record is not None and (
                    record.seen is None or identity.same_job(left, record.seen)
                ):
                    return record
            return left
        if is_array and isinstance(job_id, NativeId):
            record = await self.lookup.find_array(job_id)
        else:
            record = await self.lookup.find(job_id)
        if record is not None:
            return record
        if not self.monitor.has_seen_queue:
            raise SchedulerUnavailable(
                "The scheduler has not answered since this service started, so this service cannot "
                f"say whether there is a job {str(job_id)!r}. Try again in a moment."
            )
        raise JobNotFound(job_id)

    async def _find_to_change(self, principal: Principal, job_id: str) -> JobRecord:
        record = (await self.find(principal, job_id)).record
        # A name that users share with an account need not be the same person's.
        is_theirs = (
            principal.role is Role.OPERATOR
            or record.submitted_here
            or self.paths.is_account_of(principal.user, record.belongs_to)
        )
        if not principal.may_change(record) or not is_theirs:
            raise NotAuthorized(
                f"The job {job_id!r} is not yours. Its owner and operators can change it."
            )
        return record

    async def cancel(self, principal: Principal, job_id: str) -> JobRecord:
        """End a job that is queued or running; a finished one leaves the listing.

        An array is ended with all its tasks, and leaves with them.
        """
        record = await self._find_to_change(principal, job_id)
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
        array = await self._find_to_change(principal, job_id)
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
        """Return the tasks with these numbers; one that nobody has seen yet is not stored."""
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
        """Return the account in whose name the scheduler is told to change a job."""
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
        record = await self._find_to_change(principal, job_id)
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
        record = await self._find_to_change(principal, job_id)
        self.updater.check(values)
        try:
            await self.updater.update(record, values, await self._account_of(record))
        finally:
            self.monitor.wake()
        return await self.find(principal, str(record.uid))


@contextlib.contextmanager
def _field_of_script(spec: JobSpec) -> Iterator[None]:
    """Name the field of a request in refusals of its script: ``script``, where that has its text.

    The schedulers' packages do not know where a script is from.
    """
    try:
        yield
    except InvalidSpec as error:
        if spec.script is None or error.field != "scriptFile":
            raise
        raise InvalidSpec(error.detail, field="script") from error


def _named(spec: JobSpec) -> JobSpec:
    """Return the job as if it had been given the name that is the default."""
    return replace(spec, name=spec.name or default_name(spec.working_directory))


def _outside_spec(
    program: ProgramRequest | None, depends_on: Sequence[DependencyRequest]
) -> Mapping[str, object]:
    """Return the content of a submission that its `JobSpec` does not hold yet."""
    asked: dict[str, object] = {}
    if program is not None:
        asked["program"] = program.asked()
    if depends_on:
        asked["depends_on"] = [asdict(request) for request in depends_on]
    return asked
