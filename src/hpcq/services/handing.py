"""Handing a job to the scheduler, once, and finding out whether it took it.

When the answer does not say for certain that the scheduler took the job, its key is looked for; as
long as that does not tell either, the submission is left open.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NoReturn, TypeVar

import structlog

from hpcq.domain import submission
from hpcq.domain.errors import (
    CommandFailed,
    HpcqError,
    NotAsked,
    NotAuthorized,
    QuotaExceeded,
    SchedulerUnavailable,
    StoreUnavailable,
    SubmissionInProgress,
    SubmissionUnclear,
)
from hpcq.domain.jobs import HandOver, JobRecord, JobSpec, JobUid, NativeId
from hpcq.schedulers.base import SchedulerBackend
from hpcq.services.changes import Changes
from hpcq.storage.jobs import JobStore

__all__ = ["IN_PROGRESS", "Handing", "SubmissionOptions", "report"]

_log = structlog.get_logger("hpcq.submission")

_T = TypeVar("_T")

IN_PROGRESS = "This submission is under way; ask again in a moment."
_INTERRUPTED = "The submission was interrupted; the scheduler is being asked whether it took it."
_UNCERTAIN = "{detail} Whether it took the job is being found out."
_UNWRITTEN = (
    "{detail} The service looks for the job by its key, and cannot write down that it does: "
    "nobody can say now whether the job exists. Look for it in the listing before you submit it "
    "again."
)
_REFUSALS = (CommandFailed, NotAuthorized, QuotaExceeded)
# A scheduler's queue may show a job a moment after the command that submitted it has ended.
_SECOND_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionOptions:
    """How much time things are given.

    Attributes:
        command_seconds: how long the command that submits may take.
        wait_seconds: how long a request waits for a job to be found before it is told to wait.
        settle: how long after an interrupted submission a job may take to show in the scheduler;
            one that is not there by then is surely absent.
        job_environment: variables that the site gives to every job.
    """

    command_seconds: float
    wait_seconds: float
    settle: timedelta
    job_environment: Mapping[str, str] = field(default_factory=dict)


class Handing:
    """Hands jobs over.

    Args:
        backend: the scheduler.
        store: where intents are kept.
        changes: writes down what has happened.
        me: this process's name; no other has it.
        adopt: shows a record to all readers.
        refusal: says why nothing is to be submitted now, or None.
        options: how much time things are given.
        clock: the present, aware.

    Attributes:
        me: the same.
        options: the same.
    """

    def __init__(
        self,
        backend: SchedulerBackend,
        store: JobStore,
        changes: Changes,
        me: str,
        adopt: Callable[[JobRecord], None],
        refusal: Callable[[], NotAsked | None],
        options: SubmissionOptions,
        clock: Callable[[], datetime],
    ) -> None:
        self._backend = backend
        self._store = store
        self._changes = changes
        self.me = me
        self._adopt = adopt
        self._refusal = refusal
        self.options = options
        self._now = clock
        self._under_way: Counter[JobUid] = Counter()
        self._unwritten: dict[JobUid, JobRecord] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def is_under_way(self, uid: JobUid) -> bool:
        """Whether this process is handing the job over."""
        return uid in self._under_way

    def unwritten(self, uid: JobUid) -> JobRecord | None:
        """Return a job with the id that the scheduler has given and that is not written yet."""
        return self._unwritten.get(uid)

    def check_available(self) -> None:
        """Make sure that there is somebody to submit to.

        Raises:
            NotAsked: the scheduler did not answer lately.
        """
        refusal = self._refusal()
        if refusal is not None:
            raise refusal

    async def written(self) -> None:
        """Return once nothing is under way, and all that came of it is in the database."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def start(self, record: JobRecord) -> asyncio.Task[JobRecord]:
        """Hand a job over, to the end even if nobody waits for it any more."""
        task = self.kept(self.hand_over(record))
        counted = self.counted(record.uid)
        counted.__enter__()
        task.add_done_callback(lambda _: counted.__exit__(None, None, None))
        return task

    def kept(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Do something to its end even if nobody waits for it any more; `written` awaits it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def is_mine(self, record: JobRecord, began_at: datetime) -> bool:
        """Whether the job is in this process's hands, by the attempt that began then."""
        hand_over = record.hand_over
        return hand_over is not None and (hand_over.by, hand_over.began_at) == (self.me, began_at)

    async def hand_over(self, record: JobRecord) -> JobRecord:
        """Hand a job over, and return it as it then is: with its id, or left open.

        Raises:
            SubmissionInProgress: another process does so.
            SubmissionUnclear: it is left open, and that could not be written down.
            HpcqError: the scheduler surely did not take it.
        """
        record = await self._renewed(record)
        spec, hand_over = record.spec, record.hand_over
        if spec is None or hand_over is None:
            raise ValueError("only a job that was to be submitted here can be handed over")
        try:
            native_id = await self._backend.submit(self._with_environment(spec), record.key)
        except HpcqError as error:
            return await self._after(record, hand_over, error)
        except BaseException:
            # The service is being stopped, or the adapter has a defect: nobody is told to wait.
            with contextlib.suppress(HpcqError, RuntimeError):
                await self._leave_open(record, _INTERRUPTED, is_promised=False)
            raise
        return self._taken(record, native_id)

    def _with_environment(self, spec: JobSpec) -> JobSpec:
        """Return the job with what the site gives to all; what it asks for itself wins."""
        site = self.options.job_environment
        return replace(spec, environment={**site, **spec.environment}) if site else spec

    async def _renewed(self, record: JobRecord) -> JobRecord:
        """Return a job that this process may still hand over.

        A process that was frozen, or waited for its database, may be taken for dead meanwhile.

        Raises:
            SubmissionInProgress: it was; what becomes of the job is another one's business.
        """
        hand_over, at = record.hand_over, self._now()
        limit = timedelta(seconds=self.options.command_seconds)
        if hand_over is None or not self._store.is_shared or at - hand_over.began_at < limit:
            return record

        def renewed(current: JobRecord) -> JobRecord:
            if current.hand_over != hand_over:
                return current
            return current.changed(hand_over=hand_over.changed(began_at=at))

        current = await self._store.change(record.uid, renewed)
        if current is None or not self.is_mine(current, at):
            raise SubmissionInProgress(IN_PROGRESS)
        return current

    async def _after(self, record: JobRecord, hand_over: HandOver, error: HpcqError) -> JobRecord:
        """Find out whether a job exists whose submission was not answered as it should be."""
        if not error.reached_scheduler:
            if isinstance(error, SchedulerUnavailable) and hand_over.attempts > 1:
                # Whoever counts on it was told so before.
                return await self._leave_open(record, error.detail)
            return await self._refused(record, error)
        is_refusal = isinstance(error, _REFUSALS)
        try:
            native_id = await self._look_for(record, is_refusal=is_refusal)
        except HpcqError:
            return await self._left_open(record, hand_over, error, is_refusal=is_refusal)
        if native_id is not None:
            _log.warning("submission.found", uid=record.uid, job=native_id, although=error.detail)
            return self._taken(record, native_id)
        if is_refusal or self._backend.capabilities.absence_is_certain:
            return await self._refused(record, error)
        return await self._left_open(record, hand_over, error, is_refusal=False)

    async def _look_for(self, record: JobRecord, *, is_refusal: bool) -> NativeId | None:
        """Ask for the key until it is found or nobody should wait any longer."""
        loop = asyncio.get_running_loop()
        patience = _SECOND_LOOK_SECONDS if is_refusal else self.options.wait_seconds
        if self._backend.capabilities.absence_is_certain:
            patience = 0.0
        deadline = loop.time() + patience
        while True:
            native_id = await self._backend.find(record.key)
            if native_id is not None or loop.time() >= deadline:
                return native_id
            await asyncio.sleep(min(_SECOND_LOOK_SECONDS, max(0.0, deadline - loop.time())))

    def _taken(self, record: JobRecord, native_id: NativeId) -> JobRecord:
        at = self._now()
        taken = submission.submitted(record, native_id, at)
        self._adopt(taken)
        self._unwritten[record.uid] = taken
        # The intent is on disk, and the key leads from it to the id: nobody waits for this.
        self.kept(self.found(record, native_id)).add_done_callback(report)
        return taken

    async def found(self, record: JobRecord, native_id: NativeId) -> JobRecord:
        """Write down that the scheduler has the job. Raises as `change` does."""
        at = self._now()
        found = await self.change(record, lambda r: submission.submitted(r, native_id, at))
        self._unwritten.pop(record.uid, None)
        return found

    async def _left_open(
        self, record: JobRecord, hand_over: HandOver, error: HpcqError, *, is_refusal: bool
    ) -> JobRecord:
        """Leave a submission open and promise that it is carried out, if that can be written."""
        refusal = error.detail if is_refusal else None
        try:
            return await self._leave_open(record, error.detail, refusal)
        except StoreUnavailable:
            if not hand_over.is_promised:
                detail = _UNWRITTEN.format(detail=error.detail)
                raise SubmissionUnclear(detail) from error
        # It was promised before, and that is on disk.
        return record

    async def _leave_open(
        self,
        record: JobRecord,
        reason: str,
        refusal: str | None = None,
        *,
        is_promised: bool = True,
    ) -> JobRecord:
        """Have it found out later; whoever asked for it is told to come back."""
        at = self._now()
        _log.warning("submission.unclear", uid=record.uid, problem=reason)
        return await self.change(
            record,
            lambda r: submission.uncertain(
                r,
                _UNCERTAIN.format(detail=reason),
                at,
                is_promised=is_promised,
                refusal=refusal,
            ),
        )

    async def _refused(self, record: JobRecord, error: HpcqError) -> NoReturn:
        with contextlib.suppress(StoreUnavailable):
            await self.fail(record, error.detail)
        raise error

    async def fail(self, record: JobRecord, reason: str, *, frees_key: bool = True) -> None:
        """Declare a job failed, unless its submission has got on meanwhile.

        Another process may have taken this one for dead, and handed the job over again.

        Raises:
            StoreUnavailable: as `change` does.
        """
        at = self._now()

        def failed(current: JobRecord) -> JobRecord:
            if current.hand_over != record.hand_over:
                return current
            return submission.failed(current, reason, at)

        await self.change(record, failed, frees_key=frees_key)

    async def change(
        self,
        record: JobRecord,
        change: Callable[[JobRecord], JobRecord],
        *,
        frees_key: bool = False,
    ) -> JobRecord:
        """Write down, and show, what has happened to a job.

        Raises:
            StoreUnavailable: it is shown, and written as soon as that is possible.
        """
        try:
            changed = await self._changes.make(record.uid, change, frees_key=frees_key)
        except StoreUnavailable:
            # It holds all the same, and is written as soon as that is possible.
            self._adopt(change(record))
            raise
        if changed is None:
            raise StoreUnavailable(f"The record of the job {record.uid} has disappeared.")
        self._adopt(changed)
        return changed

    @contextlib.contextmanager
    def counted(self, uid: JobUid) -> Iterator[None]:
        """Note that a job is being handed over here; may be nested."""
        self._under_way[uid] += 1
        try:
            yield
        finally:
            self._under_way[uid] -= 1
            if not self._under_way[uid]:
                del self._under_way[uid]


def report(task: asyncio.Task[JobRecord]) -> None:
    """Log why a job that nobody waits for was not handed over; to be called when that is done."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("submission.problem", problem=str(error))
