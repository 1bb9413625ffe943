"""Submit, read, cancel, hold and release jobs."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime

from hpcq.domain import life
from hpcq.domain.errors import (
    JobNotFound,
    SchedulerError,
    SchedulerUnavailable,
    UnsupportedCapability,
    WrongState,
)
from hpcq.domain.ids import read_id
from hpcq.domain.jobs import JobRecord, JobSpec, JobUid, NativeId, Usage
from hpcq.domain.outputs import default_name
from hpcq.domain.states import JobState
from hpcq.domain.submission import IdempotencyKey
from hpcq.domain.validation import check_content
from hpcq.schedulers.base import SchedulerBackend
from hpcq.services.archive import Archive
from hpcq.services.bulletin import Bulletin
from hpcq.services.dependencies import DependencyWish, resolve
from hpcq.services.first_read import FirstReader
from hpcq.services.from_program import FromProgram
from hpcq.services.handing import Handing
from hpcq.services.monitor import Monitor
from hpcq.services.paths import PathChecker
from hpcq.services.snapshot import Board, Entry
from hpcq.services.submission import Submission, Submitter
from hpcq.services.usage import UsageReader
from hpcq.services.wire import WireFormat
from hpcq.storage.jobs import JobStore

__all__ = ["JobService"]

_ALWAYS_EXPRESSED = frozenset(
    {"name", "working_directory", "script_file", "args", "slots", "outputs"}
)
_WIRE_NAMES = {
    "wall_time_limit_seconds": "wallTimeLimit",
    "memory_limit_bytes": "memoryLimit",
}
_OPTIONAL_FIELDS = tuple(f.name for f in fields(JobSpec) if f.name not in _ALWAYS_EXPRESSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobService:
    """The use cases of jobs, over one scheduler.

    All methods that take an id accept the scheduler's own or the permanent uid, and raise
    `JobNotFound` when nobody knows it.
    """

    backend: SchedulerBackend
    store: JobStore
    board: Board
    bulletin: Bulletin
    monitor: Monitor
    handing: Handing
    submitter: Submitter
    usage: UsageReader
    archive: Archive
    first_reader: FirstReader
    wire: WireFormat
    paths: PathChecker
    clock: Callable[[], datetime]

    async def submit(
        self,
        spec: JobSpec,
        key_text: str | None = None,
        program: FromProgram | None = None,
        depends_on: Sequence[DependencyWish] = (),
    ) -> Submission:
        """Hand a job to the scheduler; the intent is on disk before the scheduler is touched.

        Args:
            spec: what is to run.
            key_text: names this submission, however often it has to be sent.
            program: gives the script and the arguments; they are not looked up again for a
                submission that was made before.
            depends_on: the jobs that have to come first; likewise.

        Raises:
            InvalidSpec: its content cannot be a job.
            UnsupportedCapability: this scheduler cannot express one of its fields.
            IdempotencyKeyReused, SubmissionInProgress: see `Submitter.known`.
            SchedulerError: the scheduler surely did not take it.
        """
        if program is None:
            check_content(spec)
        beyond = _beyond(program, depends_on)
        key = None if key_text is None else IdempotencyKey.of(key_text, _named(spec), beyond)
        known = None if key is None else await self.submitter.known(key)
        if known is not None:
            return known
        if program is not None:
            spec = await program.complete(spec)
            check_content(spec)
        self._check_expressible(spec, depends_on)
        self.handing.check_available()
        spec = replace(spec, depends_on=await resolve(depends_on, self._record))
        spec = await self.paths.check(spec)
        submission = await self.submitter.submit(spec, key)
        if submission.record.native_id is None:
            self.monitor.wake()
        return submission

    def _check_expressible(self, spec: JobSpec, depends_on: Sequence[DependencyWish]) -> None:
        expressible = self.backend.capabilities.fields
        asked = {name for name in _OPTIONAL_FIELDS if _is_set(getattr(spec, name))}
        if depends_on:
            asked.add("depends_on")
        for name in _OPTIONAL_FIELDS:
            if name in asked and name not in expressible:
                raise UnsupportedCapability(_wire_name(name), self.backend.name)

    async def _record(self, job_id: str) -> JobRecord:
        return (await self.find(job_id)).record

    async def read(self, job_id: str) -> Entry:
        """Return a job with all that can be known of it; its first reader waits for that."""
        entry = await self.find(job_id)
        await self.first_reader.complete(entry.record)
        return self.board.snapshot.entry(entry.record.uid) or entry

    async def find(self, job_id: str) -> Entry:
        """Return a job, from memory when it is in the queue or ended lately."""
        parsed, is_array = self._parse_id(job_id)
        entry = self.board.snapshot.entry(parsed)
        if entry is None:
            found = await self._find_elsewhere(parsed, is_array=is_array)
            entry = Entry(found, self.wire)
        else:
            self.usage.read(entry.record.uid)
        if is_array and not entry.record.is_array:
            raise JobNotFound(job_id)
        return entry

    def _parse_id(self, text: str) -> tuple[JobUid | NativeId, bool]:
        """Return an id, and whether it was written as only a whole array's is."""
        with contextlib.suppress(ValueError):
            return JobUid(text), False
        with contextlib.suppress(ValueError):
            return read_id(text, self.backend.capabilities.id_forms)
        raise JobNotFound(text)

    async def usage_over_time(self, job_id: str) -> list[Usage]:
        """Return the samples of what a job used while it ran, oldest first.

        Only jobs that were submitted through this service have any.
        """
        record = (await self.find(job_id)).record
        return await self.store.samples(record.uid) if record.is_ours else []

    async def _find_elsewhere(
        self, job_id: JobUid | NativeId, *, is_array: bool = False
    ) -> JobRecord:
        left = self.board.departed(job_id)
        if left is not None and left.native_id is not None:
            # It is the newest with this id; accounting may be late or away.
            with contextlib.suppress(SchedulerError):
                record = await self.archive.look_up(left.native_id)
                if record is not None and (record.seen is None or life.same_job(left, record.seen)):
                    return record
            return left
        if is_array and isinstance(job_id, NativeId):
            record = await self.archive.find_array(job_id)
        else:
            record = await self.archive.find(job_id)
        if record is not None:
            return record
        if not self.monitor.has_seen_queue:
            raise SchedulerUnavailable(
                "The scheduler has not answered yet since this service started, so nobody can say "
                f"whether there is a job {str(job_id)!r}."
            )
        raise JobNotFound(job_id)

    async def cancel(self, job_id: str) -> JobRecord:
        """End a job that is queued or running; a finished one leaves the listing.

        An array is ended with all its tasks, and leaves with them.
        """
        record = (await self.find(job_id)).record
        if not record.state.is_final:
            record = await self._cancel(record)
        if record.is_ours and record.removed_at is None:
            record = await self._remove(record)
        return record

    async def _cancel(self, record: JobRecord) -> JobRecord:
        if record.native_id is None:
            # When it is found it is cancelled, and else not handed over again.
            at = self.clock()
            record = await self._change(record, lambda r: life.cancel_requested(r, at))
        if record.native_id is None or record.hand_over is not None:
            return record
        native_id = record.native_id
        try:
            never_ran = await self.backend.cancel(native_id)
        except JobNotFound:
            # It ended since we last looked; the accounting will tell how.
            never_ran = False
        at = self.clock()

        def asked(job: JobRecord) -> JobRecord:
            job = life.cancel_requested(job, at)
            return life.removed_while_queued(job, at) if never_ran else job

        changed = await self.bulletin.apply(record.uid, asked)
        self.monitor.wake()
        return changed or record

    async def _remove(self, record: JobRecord) -> JobRecord:
        at = self.clock()

        def with_array(task: JobRecord) -> JobRecord:
            wished = task if task.state.is_final else life.cancel_requested(task, at)
            return wished.changed(removed_at=task.removed_at or at)

        if record.is_array:
            records = self.board.snapshot.records()
            tasks = [r.uid for r in records if r.parent_uid == record.uid]
            await asyncio.gather(*(self.bulletin.apply(uid, with_array) for uid in tasks))
        return await self._change(record, lambda r: r.changed(removed_at=at))

    async def _change(
        self, record: JobRecord, change: Callable[[JobRecord], JobRecord]
    ) -> JobRecord:
        """Change a job of ours, whether or not the board shows it."""
        changed = await self.bulletin.apply(record.uid, change)
        return changed or await self.store.change(record.uid, change) or record

    async def hold(self, job_id: str) -> JobRecord:
        """Keep a queued job from starting."""
        record = await self._waiting("hold", job_id)
        await self._tell(self.backend.hold, record)
        at = self.clock()
        return await self.bulletin.apply(record.uid, lambda r: life.held(r, at)) or record

    async def release(self, job_id: str) -> JobRecord:
        """Let a held job start."""
        record = await self._waiting("release", job_id)
        await self._tell(self.backend.release, record)
        self.monitor.wake()
        at = self.clock()
        return await self.bulletin.apply(record.uid, lambda r: life.released(r, at)) or record

    async def _tell(self, change: Callable[[NativeId], Awaitable[None]], record: JobRecord) -> None:
        """Have the scheduler change a job that we know, and that it may not know any more."""
        try:
            await change(_reachable(record))
        except JobNotFound:
            raise WrongState(
                "The scheduler does not have this job in its queue any more, so it can be neither"
                " held nor released."
            ) from None

    async def _waiting(self, action: str, job_id: str) -> JobRecord:
        """Return a job that has not started, if the scheduler knows this action."""
        record = (await self.find(job_id)).record
        if action not in self.backend.capabilities.actions:
            raise UnsupportedCapability(action, self.backend.name)
        if not record.state.is_queued and record.state is not JobState.UNDETERMINED:
            raise WrongState(
                f"Only a queued job can be held or released; this one is {record.state}."
            )
        return record


def _named(spec: JobSpec) -> JobSpec:
    """Return the job as if it had been given the name that is the default."""
    return replace(spec, name=spec.name or default_name(spec.working_directory))


def _reachable(record: JobRecord) -> NativeId:
    if record.native_id is None:
        raise WrongState(
            "The scheduler has not given this job an id yet, so it cannot be told to change it."
        )
    return record.native_id


def _is_set(value: object) -> bool:
    return value is not None and value is not False and value not in ({}, ())


def _beyond(
    program: FromProgram | None, depends_on: Sequence[DependencyWish]
) -> Mapping[str, object]:
    """Return what a submission asks for that its `JobSpec` does not say yet."""
    asked: dict[str, object] = {}
    if program is not None:
        asked["program"] = program.asked()
    if depends_on:
        asked["depends_on"] = [asdict(wish) for wish in depends_on]
    return asked


def _wire_name(field: str) -> str:
    if field in _WIRE_NAMES:
        return _WIRE_NAMES[field]
    first, *rest = field.split("_")
    return first + "".join(word.capitalize() for word in rest)
