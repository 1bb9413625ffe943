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
from typing import Any, NoReturn, TypeVar

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
    SubmissionUnclear,
)
from hpcq.domain.jobs import HandOver, JobRecord, JobSpec, JobUid, NativeId, SubmissionKey
from hpcq.domain.submission import IdempotencyKey
from hpcq.schedulers.base import SchedulerBackend
from hpcq.services.changes import Changes
from hpcq.storage.jobs import Claim, JobStore

__all__ = ["Submission", "SubmissionOptions", "Submitter"]

_log = structlog.get_logger("hpcq.submission")

_T = TypeVar("_T")

_INTERRUPTED = "The submission was interrupted; the scheduler is being asked whether it took it."
_UNCERTAIN = "{detail} Whether it took the job is being found out."
_NEVER_TAKEN = "The submission was interrupted, and the scheduler has no job that carries its key."
_CANCELLED = "It was cancelled before the scheduler had it."
_GIVEN_UP = (
    "It was handed to the scheduler {attempts} times, and the scheduler never took it. "
    "The last time: {reason}"
)
_TOO_LONG_AGO = (
    "The submission was interrupted on {began:%Y-%m-%d}, and the scheduler has no job that carries "
    "its key. It may have run and been forgotten since, so it is not handed over again."
)
_TOO_SLOW = "The records were written so slowly that it is not safe to hand the job over any more."
_UNWRITTEN = (
    "{detail} The service looks for the job by its key, and cannot write down that it does: "
    "nobody can say now whether the job exists. Look for it in the listing before you submit it "
    "again."
)
_IN_PROGRESS = "This submission is under way; ask again in a moment."
_KEY_REUSED = (
    "This Idempotency-Key was used for another submission before. Send that one's body, or take a "
    "new key."
)
_REFUSALS = (CommandFailed, NotAuthorized, QuotaExceeded)
# A scheduler's queue may show a job a moment after the command that submitted it has ended.
_SECOND_LOOK_SECONDS = 0.5
_MOST_ATTEMPTS = 10
# A job may be in neither place for a moment: it left the queue, and its accounting is late.
_ABSENT_FOR = timedelta(seconds=20)
# Accounting is searched a week back, and queues forget.
_FINDABLE_FOR = timedelta(days=6)


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


@dataclass(slots=True)
class _Search:
    """What this process knows of a submission that was left open.

    Attributes:
        hand_over: how it stood then.
        noticed_at: since when it stands so, by the clock here: those of replicas differ.
        ended_leftovers_at: when all commands were ended that might still have submitted it.
        absent_since: when the scheduler first said that it has no such job.
    """

    hand_over: HandOver
    noticed_at: datetime
    ended_leftovers_at: datetime | None = None
    absent_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """What became of a request to submit.

    Attributes:
        record: the job; without a native id while nobody knows whether the scheduler took it.
        is_replay: whether the same request had been made before.
    """

    record: JobRecord
    is_replay: bool = False


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
        self._under_way: Counter[JobUid] = Counter()
        self._searches: dict[JobUid, _Search] = {}
        self._unwritten: dict[JobUid, JobRecord] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

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
            SubmissionUnclear: nobody knows whether the scheduler took it, nor could it be promised
                that it will be carried out.
            HpcqError: the scheduler surely did not take it; the key is free again.
        """
        record = submission.intent(
            JobUid.new(), spec, self._now(), by=self._me, is_promised=key is not None
        )
        # What is on disk is handed over, even if nobody waits for it any more.
        return await asyncio.shield(self._kept(self._submit(record, key)))

    async def _submit(self, record: JobRecord, key: IdempotencyKey | None) -> Submission:
        with self._counted(record.uid):
            claim = await self._store.create(record, key)
            if claim is None or key is None:
                return Submission(await self._hand_over(record))
        return await self._again(claim, key)

    async def _again(self, claim: Claim, key: IdempotencyKey) -> Submission:
        if claim.fingerprint != key.fingerprint:
            raise IdempotencyKeyReused(_KEY_REUSED)
        record = await self._store.by_uid(claim.uid)
        if record is None:
            raise JobNotFound(claim.uid)
        if record.native_id is None:
            record = self._unwritten.get(record.uid, record)
        if record.native_id is None and self._is_in_progress(record):
            raise SubmissionInProgress(_IN_PROGRESS)
        return Submission(record, is_replay=True)

    def _is_in_progress(self, record: JobRecord) -> bool:
        if record.hand_over is None:
            # It was given up, and its key is being freed, unless that was at its owner's wish.
            return record.cancel_requested_at is None
        return self._changes.owes(record.uid) or self._may_go_on(record, record.hand_over)

    async def settle(self, record: JobRecord) -> None:
        """Find out what became of a submission that was left open, as far as that can be said now.

        Raises:
            SchedulerError, StoreUnavailable: it cannot be said at present.
        """
        hand_over = record.hand_over
        if hand_over is None or record.uid in self._under_way:
            return
        at = self._now()
        search = self._search(record.uid, hand_over, at)
        may_go_on = self._may_go_on(record, hand_over)
        if may_go_on and at - hand_over.began_at < timedelta(seconds=self._options.wait_seconds):
            return
        if not may_go_on and hand_over.by != self._me and search.ended_leftovers_at is None:
            await self._end_leftovers(record.key)
            search.ended_leftovers_at = at = self._now()
        native_id = record.native_id or await self._backend.find(record.key)
        if native_id is not None:
            await self._settle_found(record, native_id)
        elif not may_go_on and self._is_surely_absent(search, hand_over, at):
            await self._conclude(record, hand_over, at)
        else:
            return
        self._searches.pop(record.uid, None)

    def _search(self, uid: JobUid, hand_over: HandOver, at: datetime) -> _Search:
        """Return what is known of a hand-over, from now on if nothing is."""
        search = self._searches.get(uid)
        if search is None or search.hand_over != hand_over:
            search = self._searches[uid] = _Search(hand_over, at)
        return search

    def _is_surely_absent(self, search: _Search, hand_over: HandOver, at: datetime) -> bool:
        """Whether a job can be nowhere that the scheduler did not have when asked at ``at``."""
        settle = self._options.settle
        if search.absent_since is None:
            search.absent_since = at
        quiet_since = self._quiet_since(hand_over, search)
        if search.ended_leftovers_at is not None:
            quiet_since = max(quiet_since, search.ended_leftovers_at)
        return at - quiet_since >= settle and at - search.absent_since >= min(settle, _ABSENT_FOR)

    async def _settle_found(self, record: JobRecord, native_id: NativeId) -> None:
        if record.cancel_requested_at is not None:
            await self._cancel_found(record, native_id)
        else:
            await self._found(record, native_id)

    async def _conclude(self, record: JobRecord, hand_over: HandOver, at: datetime) -> None:
        """Give a job up that the scheduler surely does not have, or hand it over again."""
        if record.cancel_requested_at is not None:
            await self._give_up(record, hand_over, _CANCELLED, frees_key=False)
        elif hand_over.refusal is not None:
            await self._give_up(record, hand_over, hand_over.refusal)
        elif not hand_over.is_promised:
            await self._give_up(record, hand_over, _NEVER_TAKEN)
        elif at - hand_over.began_at > _FINDABLE_FOR:
            await self._give_up(record, hand_over, _TOO_LONG_AGO.format(began=hand_over.began_at))
        elif hand_over.attempts >= _MOST_ATTEMPTS:
            reason = _GIVEN_UP.format(attempts=hand_over.attempts, reason=record.state_reason)
            await self._give_up(record, hand_over, reason)
        else:
            await self._hand_over_again(record, hand_over)

    async def _give_up(
        self, record: JobRecord, hand_over: HandOver, reason: str, *, frees_key: bool = True
    ) -> None:
        """Declare a job failed, unless its submission has got on meanwhile."""
        at = self._now()

        def given_up(current: JobRecord) -> JobRecord:
            if current.hand_over != hand_over:
                return current
            return submission.failed(current, reason, at)

        await self._change(record, given_up, frees_key=frees_key)

    async def _hand_over_again(self, record: JobRecord, hand_over: HandOver) -> None:
        self.check_available()
        at = self._now()

        def mine(current: JobRecord) -> JobRecord:
            if current.hand_over != hand_over or current.cancel_requested_at is not None:
                return current
            return submission.handed_over_again(current, at, by=self._me)

        with self._counted(record.uid):
            changed = await self._store.change(record.uid, mine)
            if changed is None:
                return
            self._adopt(changed)
            if not self._is_mine(changed, at):
                return
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

    def _kept(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _is_mine(self, record: JobRecord, began_at: datetime) -> bool:
        hand_over = record.hand_over
        return hand_over is not None and (hand_over.by, hand_over.began_at) == (self._me, began_at)

    async def _hand_over(self, record: JobRecord) -> JobRecord:
        record = await self._renewed(record)
        spec, hand_over = record.spec, record.hand_over
        if spec is None or hand_over is None:
            raise ValueError("only a job that was to be submitted here can be handed over")
        try:
            native_id = await self._backend.submit(spec, record.key)
        except HpcqError as error:
            return await self._after(record, hand_over, error)
        except BaseException:
            # The service is being stopped, or the adapter has a defect: nobody is told to wait.
            with contextlib.suppress(HpcqError, RuntimeError):
                await self._leave_open(record, _INTERRUPTED, is_promised=False)
            raise
        return self._taken(record, native_id)

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

    async def _after(self, record: JobRecord, hand_over: HandOver, error: HpcqError) -> JobRecord:
        """Find out whether a job exists whose submission was not answered as it should be."""
        if isinstance(error, NotAsked) and hand_over.attempts > 1:
            # Whoever counts on it was told so before.
            return await self._leave_open(record, error.detail)
        if not error.reached_scheduler:
            return await self._refused(record, error)
        is_refusal = isinstance(error, _REFUSALS)
        try:
            native_id = await self._look_for(record, is_refusal=is_refusal)
        except HpcqError:
            return await self._left_open(record, hand_over, error, is_refusal=is_refusal)
        if native_id is not None:
            _log.warning("submission.found", uid=record.uid, job=native_id, although=error.detail)
            return self._taken(record, native_id)
        if is_refusal:
            return await self._refused(record, error)
        return await self._left_open(record, hand_over, error, is_refusal=False)

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
        found = await self._change(record, lambda r: submission.submitted(r, native_id, at))
        self._unwritten.pop(record.uid, None)
        return found

    async def _cancel_found(self, record: JobRecord, native_id: NativeId) -> None:
        """Carry out what was asked of a job before it was known whether there is one."""
        never_ran = False
        with contextlib.suppress(JobNotFound):
            never_ran = await self._backend.cancel(native_id)
        at = self._now()

        def cancelled(job: JobRecord) -> JobRecord:
            job = submission.submitted(job, native_id, at).changed(hand_over=None)
            return life.removed_while_queued(job, at) if never_ran else job

        await self._change(record, cancelled)

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

    async def _refused(self, record: JobRecord, error: HpcqError) -> NoReturn:
        at = self._now()
        with contextlib.suppress(StoreUnavailable):
            await self._change(
                record, lambda r: submission.failed(r, error.detail, at), frees_key=True
            )
        raise error

    async def _change(
        self,
        record: JobRecord,
        change: Callable[[JobRecord], JobRecord],
        *,
        frees_key: bool = False,
    ) -> JobRecord:
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

    def _may_go_on(self, record: JobRecord, hand_over: HandOver) -> bool:
        """Whether a process may still be about to hand the job over."""
        if record.uid in self._under_way:
            return True
        if hand_over.uncertain_since is not None or hand_over.by == self._me:
            return False
        search = self._searches.get(record.uid)
        since = hand_over.began_at
        if search is not None and search.hand_over == hand_over:
            since = max(since, search.noticed_at)
        return self._store.is_shared and self._now() < self._ended_by(since)

    def _ended_by(self, began_at: datetime) -> datetime:
        """Return when another process's attempt that began then has surely ended."""
        options = self._options
        # The wait before it (see `_renewed`), its submission, then its search, each within the
        # limit of a command.
        seconds = 3 * options.command_seconds + options.wait_seconds
        return began_at + timedelta(seconds=seconds)

    def _quiet_since(self, hand_over: HandOver, search: _Search) -> datetime:
        """Return from when on nobody was about to hand the job over."""
        is_elsewhere = self._store.is_shared and hand_over.by != self._me
        noticed_at = search.noticed_at if is_elsewhere else hand_over.began_at
        if hand_over.uncertain_since is not None:
            return max(hand_over.uncertain_since, noticed_at)
        if is_elsewhere or hand_over.by == self._me:
            return self._ended_by(max(hand_over.began_at, noticed_at))
        # Whoever handed it over has died; its commands are ended before it is looked for.
        return hand_over.began_at

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
