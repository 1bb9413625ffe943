"""Handing jobs to the scheduler: each one once, whatever breaks on the way.

The intent is on disk before the scheduler is touched, and the job carries its key. When the
answer does not say for certain that the scheduler took the job, the key is looked for. Only when
the scheduler was asked and surely does not have it is the submission given up or sent again.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from hpcq.domain import life, submission
from hpcq.domain.errors import (
    CommandFailed,
    HpcqError,
    IdempotencyKeyReused,
    JobNotFound,
    NotAsked,
    NotAuthorized,
    QuotaExceeded,
    StoreUnavailable,
    SubmissionInProgress,
)
from hpcq.domain.jobs import HandOver, JobRecord, JobSpec, JobUid, NativeId, SubmissionKey
from hpcq.domain.submission import IdempotencyKey
from hpcq.schedulers.base import SchedulerBackend
from hpcq.services.changes import Changes
from hpcq.storage.jobs import Claim, JobStore

__all__ = ["Submission", "SubmissionOptions", "Submitter"]

_log = structlog.get_logger("hpcq.submission")

_INTERRUPTED = "The submission was interrupted; the scheduler is being asked whether it took it."
_UNCERTAIN = "{detail} Whether it took the job is being found out."
_NEVER_TAKEN = "The submission was interrupted, and the scheduler has no job that carries its key."
_CANCELLED = "It was cancelled before the scheduler had it."
_GIVEN_UP = "It was handed to the scheduler {attempts} times, and the scheduler never took it."
_IN_PROGRESS = "This submission is under way; ask again in a moment."
_KEY_REUSED = (
    "This Idempotency-Key was used for another submission before. Send that one's body, or take a "
    "new key."
)
_REFUSALS = (CommandFailed, NotAuthorized, QuotaExceeded)
# A scheduler's queue may show a job a moment after the command that submitted it has ended.
_SECOND_LOOK_SECONDS = 0.5
_MOST_ATTEMPTS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionOptions:
    """How much time things are given.

    Attributes:
        command_seconds: how long the command that submits may take.
        wait_seconds: how long a request waits for a job to be found before it is told to wait.
        settle: how long after an interrupted submission a job may take to show in the scheduler;
            one that is not there by then is surely absent.
    """

    command_seconds: float
    wait_seconds: float
    settle: timedelta


@dataclass(frozen=True, slots=True)
class Submission:
    """What became of a request to submit.

    Attributes:
        record: the job; without a native id while nobody knows whether the scheduler took it.
        is_replay: whether the same request had been made before.
    """

    record: JobRecord
    is_replay: bool = False


@dataclass(slots=True)
class _Noticed:
    """A hand-over by another process that was left open.

    Attributes:
        hand_over: which.
        at: since when it is known here, by the clock here: those of replicas differ.
        is_cleaned: whether what it left running has been ended.
    """

    hand_over: HandOver
    at: datetime
    is_cleaned: bool = False


class Submitter:
    """Submits, and settles what was left open.

    Args:
        backend: the scheduler.
        store: where intents are kept.
        changes: writes down what has happened.
        me: this process's name; no other has it.
        adopt: shows a record to all readers.
        end_leftovers: ends what still submits a job in the name of a process that died.
        refusal: says why nothing is to be submitted now, or None.
        options: how much time things are given.
        clock: the present, aware.
    """

    def __init__(
        self,
        backend: SchedulerBackend,
        store: JobStore,
        changes: Changes,
        me: str,
        adopt: Callable[[JobRecord], None],
        end_leftovers: Callable[[SubmissionKey], Awaitable[None]],
        refusal: Callable[[], NotAsked | None],
        options: SubmissionOptions,
        clock: Callable[[], datetime],
    ) -> None:
        self._backend = backend
        self._store = store
        self._changes = changes
        self._me = me
        self._adopt = adopt
        self._end_leftovers = end_leftovers
        self._refusal = refusal
        self._options = options
        self._now = clock
        self._began_at = clock()
        self._under_way: Counter[JobUid] = Counter()
        self._unwritten: dict[JobUid, JobRecord] = {}
        self._noticed: dict[JobUid, _Noticed] = {}
        self._tasks: set[asyncio.Task[JobRecord]] = set()

    def check_available(self) -> None:
        """Make sure that there is somebody to submit to.

        Raises:
            NotAsked: the scheduler did not answer lately.
        """
        refusal = self._refusal()
        if refusal is not None:
            raise refusal

    async def known(self, key: IdempotencyKey) -> Submission | None:
        """Return the job that was submitted under this key before, or None.

        Raises:
            IdempotencyKeyReused: the key names something else.
            SubmissionInProgress: it is being submitted at this moment.
        """
        claim = await self._store.claim(key)
        return None if claim is None else await self._again(claim, key)

    async def submit(self, spec: JobSpec, key: IdempotencyKey | None) -> Submission:
        """Hand a job over that can be a job.

        Raises:
            IdempotencyKeyReused, SubmissionInProgress: see `known`.
            HpcqError: the scheduler surely did not take it; the key is free again.
        """
        record = submission.intent(
            JobUid.new(), spec, self._now(), by=self._me, is_promised=key is not None
        )
        with self._counted(record.uid):
            claim = await self._store.create(record, key)
            if claim is None or key is None:
                return Submission(await asyncio.shield(self._start(record)))
        return await self._again(claim, key)

    async def _again(self, claim: Claim, key: IdempotencyKey) -> Submission:
        if claim.fingerprint != key.fingerprint:
            raise IdempotencyKeyReused(_KEY_REUSED)
        record = self._unwritten.get(claim.uid) or await self._store.by_uid(claim.uid)
        if record is None:
            raise JobNotFound(claim.uid)
        hand_over = record.hand_over
        if record.native_id is None and (hand_over is None or self._may_go_on(record, hand_over)):
            raise SubmissionInProgress(_IN_PROGRESS)
        return Submission(record, is_replay=True)

    async def settle(self, record: JobRecord) -> None:
        """Find out what became of a submission that was left open, as far as that can be said now.

        Raises:
            SchedulerError, StoreUnavailable: it cannot be said at present.
        """
        hand_over = record.hand_over
        if hand_over is None or record.uid in self._under_way:
            return
        at = self._now()
        noticed = self._notice(record.uid, hand_over, at)
        may_go_on = self._may_go_on(record, hand_over)
        if may_go_on and at - hand_over.began_at < timedelta(seconds=self._options.wait_seconds):
            return
        if not may_go_on and hand_over.by != self._me and not noticed.is_cleaned:
            await self._end_leftovers(record.key)
            noticed.is_cleaned = True
        native_id = record.native_id or await self._backend.find(record.key)
        if native_id is not None and record.cancel_requested_at is not None:
            await self._cancel_found(record, native_id)
        elif native_id is not None:
            await self._found(record, native_id)
        elif not may_go_on and at - self._quiet_since(hand_over, noticed) >= self._options.settle:
            await self._conclude(record, hand_over)
        else:
            return
        del self._noticed[record.uid]

    async def _conclude(self, record: JobRecord, hand_over: HandOver) -> None:
        """Give a job up that the scheduler surely does not have, or hand it over again."""
        if record.cancel_requested_at is not None:
            await self._fail(record, _CANCELLED)
        elif hand_over.refusal is not None:
            await self._fail(record, hand_over.refusal)
        elif not hand_over.is_promised:
            await self._fail(record, _NEVER_TAKEN)
        elif hand_over.attempts >= _MOST_ATTEMPTS:
            await self._fail(record, _GIVEN_UP.format(attempts=hand_over.attempts))
        else:
            await self._hand_over_again(record, hand_over)

    async def _hand_over_again(self, record: JobRecord, hand_over: HandOver) -> None:
        at = self._now()

        def mine(current: JobRecord) -> JobRecord:
            if current.hand_over != hand_over:
                return current
            return submission.handed_over_again(current, at, by=self._me)

        with self._counted(record.uid):
            changed = await self._store.change(record.uid, mine)
            if changed is None or not self._is_mine(changed, at):
                return
            self._adopt(changed)
            _log.warning("submission.repeated", uid=record.uid, attempt=hand_over.attempts + 1)
            self._start(changed).add_done_callback(_report)

    async def written(self) -> None:
        """Return once nothing is under way, and all that came of it is in the database."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _start(self, record: JobRecord) -> asyncio.Task[JobRecord]:
        """Hand a job over, to the end even if nobody waits for it any more."""
        task = self._kept(self._hand_over(record))
        counted = self._counted(record.uid)
        counted.__enter__()
        task.add_done_callback(lambda _: counted.__exit__(None, None, None))
        return task

    def _kept(self, work: Coroutine[Any, Any, JobRecord]) -> asyncio.Task[JobRecord]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _is_mine(self, record: JobRecord, began_at: datetime) -> bool:
        hand_over = record.hand_over
        return hand_over is not None and (hand_over.by, hand_over.began_at) == (self._me, began_at)

    async def _hand_over(self, record: JobRecord) -> JobRecord:
        spec = record.spec
        if spec is None:
            raise ValueError("a job that somebody else submitted cannot be handed over")
        record = await self._renewed(record)
        try:
            native_id = await self._backend.submit(spec, record.key)
        except HpcqError as error:
            return await self._after(record, error)
        except BaseException:
            # The service is being stopped, or the adapter has a defect: nobody is told to wait.
            with contextlib.suppress(HpcqError, RuntimeError):
                await self._leave_open(record, _INTERRUPTED, is_promised=False)
            raise
        return self._taken(record, native_id)

    async def _after(self, record: JobRecord, error: HpcqError) -> JobRecord:
        """Find out whether a job exists whose submission was not answered as it should be."""
        if not error.reached_scheduler:
            await self._fail(record, error.detail)
            raise error
        try:
            native_id = await self._look_for(record, is_refusal=isinstance(error, _REFUSALS))
        except HpcqError:
            refusal = error.detail if isinstance(error, _REFUSALS) else None
            return await self._leave_open(record, error.detail, refusal)
        if native_id is not None:
            _log.warning("submission.found", uid=record.uid, job=native_id, although=error.detail)
            return self._taken(record, native_id)
        if isinstance(error, _REFUSALS):
            await self._fail(record, error.detail)
            raise error
        return await self._leave_open(record, error.detail)

    async def _look_for(self, record: JobRecord, *, is_refusal: bool) -> NativeId | None:
        """Ask for the key until it is found or nobody should wait any longer."""
        loop = asyncio.get_running_loop()
        patience = _SECOND_LOOK_SECONDS if is_refusal else self._options.wait_seconds
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
        self._kept(self._found(record, native_id)).add_done_callback(_report)
        return taken

    async def _found(self, record: JobRecord, native_id: NativeId) -> JobRecord:
        at = self._now()
        changed = await self._changes.make(
            record.uid, lambda r: submission.submitted(r, native_id, at)
        )
        self._unwritten.pop(record.uid, None)
        return self._adopted(record, changed)

    async def _cancel_found(self, record: JobRecord, native_id: NativeId) -> None:
        """Carry out what was asked of a job before it was known whether there is one."""
        never_ran = False
        with contextlib.suppress(JobNotFound):
            never_ran = await self._backend.cancel(native_id)
        at = self._now()

        def cancelled(job: JobRecord) -> JobRecord:
            job = submission.submitted(job, native_id, at)
            return life.removed_while_queued(job, at) if never_ran else job

        self._adopted(record, await self._changes.make(record.uid, cancelled))

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
        return await self._change(
            record,
            lambda r: submission.uncertain(
                r,
                _UNCERTAIN.format(detail=reason),
                at,
                is_promised=is_promised,
                refusal=refusal,
            ),
        )

    async def _fail(self, record: JobRecord, reason: str) -> JobRecord:
        at = self._now()
        return await self._change(
            record, lambda r: submission.failed(r, reason, at), frees_key=True
        )

    async def _change(
        self,
        record: JobRecord,
        change: Callable[[JobRecord], JobRecord],
        *,
        frees_key: bool = False,
    ) -> JobRecord:
        changed = await self._store.change(record.uid, change, frees_key=frees_key)
        return self._adopted(record, changed)

    def _adopted(self, record: JobRecord, changed: JobRecord | None) -> JobRecord:
        if changed is None:
            raise StoreUnavailable(f"The record of the job {record.uid} has disappeared.")
        self._adopt(changed)
        return changed

    def _notice(self, uid: JobUid, hand_over: HandOver, at: datetime) -> _Noticed:
        """Note since when this state of a hand-over is known."""
        noticed = self._noticed.get(uid)
        if noticed is None or noticed.hand_over != hand_over:
            noticed = self._noticed[uid] = _Noticed(hand_over, at)
        return noticed

    async def _renewed(self, record: JobRecord) -> JobRecord:
        """Return a job that this process may still hand over.

        A process that was frozen, or waited for its database, may be taken for dead meanwhile.

        Raises:
            SubmissionInProgress: it was; what becomes of the job is another one's business.
        """
        hand_over, at = record.hand_over, self._now()
        limit = timedelta(seconds=self._options.command_seconds)
        if hand_over is None or not self._store.is_shared or at - hand_over.began_at < limit:
            return record

        def renewed(current: JobRecord) -> JobRecord:
            if current.hand_over != hand_over:
                return current
            return current.changed(hand_over=hand_over.changed(began_at=at))

        current = await self._store.change(record.uid, renewed)
        if current is None or not self._is_mine(current, at):
            raise SubmissionInProgress(_IN_PROGRESS)
        return current

    def _may_go_on(self, record: JobRecord, hand_over: HandOver) -> bool:
        """Whether a process may still be about to hand the job over."""
        if record.uid in self._under_way:
            return True
        if hand_over.uncertain_since is not None or hand_over.by == self._me:
            return False
        noticed = self._noticed.get(record.uid)
        since = hand_over.began_at if noticed is None else max(hand_over.began_at, noticed.at)
        return self._store.is_shared and self._now() < self._ended_by(since)

    def _ended_by(self, began_at: datetime) -> datetime:
        """Return when another process's attempt that began then has surely ended."""
        options = self._options
        # The wait before it (see `_renewed`), its submission, then its search, each within the
        # limit of a command.
        seconds = 3 * options.command_seconds + options.wait_seconds
        return began_at + timedelta(seconds=seconds)

    def _quiet_since(self, hand_over: HandOver, noticed: _Noticed) -> datetime:
        """Return from when on nobody was about to hand the job over."""
        is_elsewhere = self._store.is_shared and hand_over.by != self._me
        if hand_over.uncertain_since is not None:
            since = hand_over.uncertain_since
            return max(since, noticed.at) if is_elsewhere else since
        if is_elsewhere:
            return self._ended_by(max(hand_over.began_at, noticed.at))
        if hand_over.by == self._me:
            return self._ended_by(hand_over.began_at)
        # Whoever handed it over has died, and all its commands were ended.
        return self._began_at

    @contextlib.contextmanager
    def _counted(self, uid: JobUid) -> Iterator[None]:
        """Note that a job is being handed over here; may be nested."""
        self._under_way[uid] += 1
        try:
            yield
        finally:
            self._under_way[uid] -= 1
            if not self._under_way[uid]:
                del self._under_way[uid]


def _report(task: asyncio.Task[JobRecord]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("submission.problem", problem=str(error))
