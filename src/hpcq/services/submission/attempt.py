"""One attempt to hand a job to the scheduler, and its outcome.

When the answer does not say for certain that the scheduler took the job, its key is looked for. If
that does not tell either, the submission is left unclear, for `SubmissionRecovery`. The table in
`hpcq.domain.submission` shows every step.
"""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NoReturn, TypeVar

import structlog

from hpcq.domain import submission
from hpcq.domain.errors import (
    CircuitOpen,
    CommandFailed,
    HpcqError,
    NotAuthorized,
    QuotaExceeded,
    StoreUnavailable,
    SubmissionInProgress,
    SubmissionUnclear,
    UnsupportedCapability,
)
from hpcq.domain.jobs import HandOver, JobRecord, JobSpec, JobUid, NativeId, SubmissionKey
from hpcq.schedulers.abilities import PlansSubmission, SubmissionPlan
from hpcq.schedulers.base import SchedulerBackend
from hpcq.services.settings import ServiceSettings
from hpcq.storage.jobs import JobStore
from hpcq.storage.pending_writes import PendingWrites

__all__ = ["IN_PROGRESS", "SubmissionRunner", "report"]

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
_SCRIPT_FOLDER = "HPCQ_SCRIPT_DIRECTORY"
"""The variable of a job that holds the folder of its script, as it was submitted.

A script that came as text has none: it is the working directory.
"""
_HIDDEN = "***"
_REFUSALS = (CommandFailed, NotAuthorized, QuotaExceeded)
# A scheduler's queue may show a job a moment after the command that submitted it has ended.
_SECOND_LOOK_SECONDS = 0.5


class SubmissionRunner:
    """Runs attempts, each to its end even if its request has gone.

    Args:
        backend: the scheduler.
        store: holds the intents.
        pending: writes outcomes, now or later.
        me: this process's name; no other has it.
        show: shows a record to all readers.
        rejection: returns the reason why nothing can be submitted now, or None.
        read_script: returns the content of a job's script, as the job's account reads it.
        settings: the time limits.
        job_environment: variables that the site gives to every job.
        clock: the present, aware.

    Attributes:
        me: the same.
        settings: the same.
    """

    def __init__(
        self,
        backend: SchedulerBackend,
        store: JobStore,
        pending: PendingWrites,
        me: str,
        show: Callable[[JobRecord], None],
        rejection: Callable[[], CircuitOpen | None],
        read_script: Callable[[JobSpec], Awaitable[bytes]],
        settings: ServiceSettings,
        job_environment: Mapping[str, str],
        clock: Callable[[], datetime],
    ) -> None:
        self._backend = backend
        self._store = store
        self._pending = pending
        self.me = me
        self._show = show
        self._rejection = rejection
        self._read_script = read_script
        self.settings = settings
        self._job_environment = job_environment
        self._now = clock
        self._under_way: Counter[JobUid] = Counter()
        self._unwritten: dict[JobUid, JobRecord] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def is_under_way(self, uid: JobUid) -> bool:
        """Return whether this process is handing the job over."""
        return uid in self._under_way

    def unwritten(self, uid: JobUid) -> JobRecord | None:
        """Return a job with a new id that is not in the database yet, or None."""
        return self._unwritten.get(uid)

    def check_available(self) -> None:
        """Check that the scheduler can be asked.

        Raises:
            CircuitOpen: it did not answer lately.
        """
        rejection = self._rejection()
        if rejection is not None:
            raise rejection

    async def drain(self) -> None:
        """Return when nothing is under way and every outcome is in the database."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def start(self, record: JobRecord) -> asyncio.Task[JobRecord]:
        """Hand a job over in a task of its own."""
        task = self.keep(self.hand_over(record))
        under_way = self.under_way(record.uid)
        under_way.__enter__()
        task.add_done_callback(lambda _: under_way.__exit__(None, None, None))
        return task

    def keep(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Run a task to its end even if its request has gone; `drain` awaits it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def is_mine(self, record: JobRecord, began_at: datetime) -> bool:
        """Return whether the attempt that began then is this process's."""
        hand_over = record.hand_over
        return hand_over is not None and (hand_over.by, hand_over.began_at) == (self.me, began_at)

    async def hand_over(self, record: JobRecord) -> JobRecord:
        """Hand a job over; return its record, with its id or left unclear.

        Raises:
            SubmissionInProgress: another process does so.
            SubmissionUnclear: it is unclear, and that could not be written down.
            HpcqError: the scheduler surely did not take it.
        """
        record = await self._renew(record)
        spec, hand_over = record.spec, record.hand_over
        if spec is None or hand_over is None:
            raise ValueError("only a job that was to be submitted here can be handed over")
        try:
            script = await self._read_script(spec)
            native_id = await self._backend.submit(
                self._for_scheduler(spec, self._job_environment), record.key, script
            )
        except HpcqError as error:
            return await self._find_out(record, hand_over, error)
        except BaseException:
            # The service is being stopped, or the adapter has a defect: no client is told to wait.
            with contextlib.suppress(HpcqError, RuntimeError):
                await self._mark_unclear(record, _INTERRUPTED, is_promised=False)
            raise
        return self._accepted(record, native_id)

    async def plan(self, spec: JobSpec) -> tuple[SubmissionPlan, JobSpec, bytes]:
        """Return what would hand a job over, the job with its variables, and its script.

        The values of the site's variables, which may be secrets, are hidden.

        Raises:
            UnsupportedCapability: the scheduler's package cannot tell.
            HpcqError: the job cannot be handed over.
        """
        if not isinstance(self._backend, PlansSubmission):
            raise UnsupportedCapability("dryRun", self._backend.name)
        script = await self._read_script(spec)
        spec = self._for_scheduler(spec, dict.fromkeys(self._job_environment, _HIDDEN))
        key = SubmissionKey.for_uid(JobUid.new())
        return await self._backend.plan(spec, key, script), spec, script

    def _for_scheduler(self, spec: JobSpec, site: Mapping[str, str]) -> JobSpec:
        """Return the job with the variables that all have; its own win. No mail is sent twice.

        Schedulers run a copy of the script, which finds the files beside it by the folder.
        """
        folder = {_SCRIPT_FOLDER: os.path.dirname(spec.script_file) or spec.working_directory}
        mail_on = () if spec.is_mailed_here else spec.mail_on
        environment = {**folder, **site, **spec.environment}
        return replace(spec, environment=environment, mail_on=mail_on)

    async def _renew(self, record: JobRecord) -> JobRecord:
        """Return a job that this process may still hand over.

        Other processes take one for dead that was frozen, or waited long for its database.

        Raises:
            SubmissionInProgress: they did, and another process has the job now.
        """
        hand_over, at = record.hand_over, self._now()
        limit = timedelta(seconds=self.settings.command_timeout_seconds)
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

    async def _find_out(
        self, record: JobRecord, hand_over: HandOver, error: HpcqError
    ) -> JobRecord:
        """Find out whether the job exists after an attempt that failed."""
        if not error.reached_scheduler:
            if error.transient and hand_over.attempts > 1:
                # The client has had an answer that promises the job.
                return await self._mark_unclear(record, error.detail)
            return await self._refused(record, error)
        is_refusal = isinstance(error, _REFUSALS)
        try:
            native_id = await self._find(record, is_refusal=is_refusal)
        except HpcqError:
            return await self._promise(record, hand_over, error, is_refusal=is_refusal)
        if native_id is not None:
            _log.warning("submission.found", uid=record.uid, job=native_id, although=error.detail)
            return self._accepted(record, native_id)
        if is_refusal or self._backend.capabilities.absence_is_certain:
            return await self._refused(record, error)
        return await self._promise(record, hand_over, error, is_refusal=False)

    async def _find(self, record: JobRecord, *, is_refusal: bool) -> NativeId | None:
        """Ask for the key until it is found or the request has waited enough."""
        loop = asyncio.get_running_loop()
        patience = _SECOND_LOOK_SECONDS if is_refusal else self.settings.submission_wait_seconds
        if self._backend.capabilities.absence_is_certain:
            patience = 0.0
        deadline = loop.time() + patience
        while True:
            native_id = await self._backend.find(record.key, record.run_as)
            if native_id is not None or loop.time() >= deadline:
                return native_id
            await asyncio.sleep(min(_SECOND_LOOK_SECONDS, max(0.0, deadline - loop.time())))

    def _accepted(self, record: JobRecord, native_id: NativeId) -> JobRecord:
        at = self._now()
        accepted = submission.submitted(record, native_id, at)
        self._show(accepted)
        self._unwritten[record.uid] = accepted
        # The intent is on disk, and its key leads to the id: the answer need not wait for this.
        self.keep(self.record_native_id(record, native_id)).add_done_callback(report)
        return accepted

    async def record_native_id(self, record: JobRecord, native_id: NativeId) -> JobRecord:
        """Write the id that the scheduler gave. Raises as `change` does."""
        at = self._now()
        found = await self.change(record, lambda r: submission.submitted(r, native_id, at))
        self._unwritten.pop(record.uid, None)
        return found

    async def _promise(
        self, record: JobRecord, hand_over: HandOver, error: HpcqError, *, is_refusal: bool
    ) -> JobRecord:
        """Mark a submission unclear and promise that it is carried out, if that can be written."""
        refusal = error.detail if is_refusal else None
        try:
            return await self._mark_unclear(record, error.detail, refusal)
        except StoreUnavailable:
            if not hand_over.is_promised:
                detail = _UNWRITTEN.format(detail=error.detail)
                raise SubmissionUnclear(detail) from error
        # The promise is older, and on disk.
        return record

    async def _mark_unclear(
        self,
        record: JobRecord,
        reason: str,
        refusal: str | None = None,
        *,
        is_promised: bool = True,
    ) -> JobRecord:
        """Mark a submission unclear; recovery finds out later."""
        at = self._now()
        _log.warning("submission.unclear", uid=record.uid, problem=reason)
        return await self.change(
            record,
            lambda r: submission.mark_unclear(
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
        """Mark a job failed, unless its submission has got on meanwhile.

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
        """Write and show what has happened to a job.

        Raises:
            StoreUnavailable: it is shown, and written as soon as that is possible.
        """
        try:
            changed = await self._pending.change(record.uid, change, frees_key=frees_key)
        except StoreUnavailable:
            self._show(change(record))
            raise
        if changed is None:
            raise StoreUnavailable(f"The record of the job {record.uid} has disappeared.")
        self._show(changed)
        return changed

    @contextlib.contextmanager
    def under_way(self, uid: JobUid) -> Iterator[None]:
        """Count a job as being handed over here; may be nested."""
        self._under_way[uid] += 1
        try:
            yield
        finally:
            self._under_way[uid] -= 1
            if not self._under_way[uid]:
                del self._under_way[uid]


def report(task: asyncio.Task[JobRecord]) -> None:
    """Log the failure of an attempt without a waiting request; a callback of its task."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("submission.problem", problem=str(error))
