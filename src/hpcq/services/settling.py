"""What became of submissions that were left open.

Only when the scheduler was asked, and surely does not have a job, is the job given up or handed
over again.
"""

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from hpcq.domain import life, submission
from hpcq.domain.errors import InvalidSpec, JobNotFound
from hpcq.domain.jobs import HandOver, JobRecord, JobUid, NativeId, SubmissionKey
from hpcq.schedulers.base import ForgetsKeys, SchedulerBackend
from hpcq.services.dependencies import still_to_come
from hpcq.services.handing import Handing, report
from hpcq.storage.jobs import JobStore

__all__ = ["Settler"]

_log = structlog.get_logger("hpcq.submission")

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
_LOOKALIKE = (
    "The submission was interrupted, and the scheduler has no job that carries its key; but {jobs},"
    " of the same name and owner, was submitted since and has ended, and the scheduler no longer"
    " says for which submission. It may be this one, so it is not handed over again. Delete this"
    " job to give it up."
)
_MOST_ATTEMPTS = 10
# A job may be in neither place for a moment: it left the queue, and its accounting is late.
_ABSENT_FOR = timedelta(seconds=20)
# Accounting is searched a week back, and queues forget.
_FINDABLE_FOR = timedelta(days=6)


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


class Settler:
    """Settles what was left open, by this process or by another.

    Args:
        backend: the scheduler.
        store: where intents are kept.
        handing: hands jobs over.
        adopt: shows a record to all readers.
        end_leftovers: ends what still submits a job in the name of a process that died.
        clock: the present, aware.
    """

    def __init__(
        self,
        backend: SchedulerBackend,
        store: JobStore,
        handing: Handing,
        adopt: Callable[[JobRecord], None],
        end_leftovers: Callable[[SubmissionKey], Awaitable[None]],
        clock: Callable[[], datetime],
    ) -> None:
        self._backend = backend
        self._store = store
        self._handing = handing
        self._adopt = adopt
        self._end_leftovers = end_leftovers
        self._options = handing.options
        self._me = handing.me
        self._now = clock
        self._searches: dict[JobUid, _Search] = {}

    async def settle(self, record: JobRecord) -> None:
        """Find out what became of a submission that was left open, as far as that can be said now.

        Raises:
            SchedulerError, StoreUnavailable: it cannot be said at present.
        """
        hand_over = record.hand_over
        if hand_over is None or self._handing.is_under_way(record.uid):
            return
        at = self._now()
        search = self._search(record.uid, hand_over, at)
        may_go_on = self.may_go_on(record, hand_over)
        if may_go_on and at - hand_over.began_at < timedelta(seconds=self._options.wait_seconds):
            return
        if not may_go_on and hand_over.by != self._me and search.ended_leftovers_at is None:
            await self._end_leftovers(record.key)
            search.ended_leftovers_at = at = self._now()
        native_id = record.native_id or await self._backend.find(record.key)
        if native_id is not None:
            await self._settle_found(record, native_id)
        elif not may_go_on and self._is_surely_absent(search, hand_over, at):
            if await self._may_have_run(record, hand_over, at):
                return
            await self._conclude(record, hand_over, at)
        else:
            return
        self._searches.pop(record.uid, None)

    async def end_leftovers(self, before: JobRecord) -> None:
        """End what a process that died left behind, of a job that the queue turned out to have.

        Args:
            before: the job as it was known until then.

        Raises:
            SchedulerError: it does not end.
        """
        hand_over = before.hand_over
        if hand_over is None or hand_over.by == self._me or self.may_go_on(before, hand_over):
            return
        await self._end_leftovers(before.key)

    def _search(self, uid: JobUid, hand_over: HandOver, at: datetime) -> _Search:
        """Return what is known of a hand-over, from now on if nothing is."""
        search = self._searches.get(uid)
        if search is None or search.hand_over != hand_over:
            search = self._searches[uid] = _Search(hand_over, at)
        return search

    def _is_surely_absent(self, search: _Search, hand_over: HandOver, at: datetime) -> bool:
        """Whether a job can be nowhere that the scheduler did not have when asked at ``at``."""
        settle = self._options.settle
        if self._backend.capabilities.absence_is_certain and hand_over.uncertain_since is None:
            # An attempt that was answered is not repeated at every look.
            return True
        if search.absent_since is None:
            search.absent_since = at
        quiet_since = self._quiet_since(hand_over, search)
        if search.ended_leftovers_at is not None:
            quiet_since = max(quiet_since, search.ended_leftovers_at)
        return at - quiet_since >= settle and at - search.absent_since >= min(settle, _ABSENT_FOR)

    async def _may_have_run(self, record: JobRecord, hand_over: HandOver, at: datetime) -> bool:
        """Whether an ended job that nobody knows may be this one: then it stays open.

        Only for a scheduler that forgets keys; whoever asked for it may delete it.
        """
        is_over = record.cancel_requested_at is not None or hand_over.refusal is not None
        if is_over or record.spec is None or not isinstance(self._backend, ForgetsKeys):
            return False
        found = await self._backend.lookalikes(record.spec, record.created_at)
        unknown = [i for i in found if await self._store.by_native_id(i) is None]
        if not unknown:
            return False
        reason = _LOOKALIKE.format(jobs=", ".join(unknown))
        if record.state_reason != reason:
            _log.warning("submission.doubtful", uid=record.uid, lookalikes=unknown)
            await self._handing.change(
                record,
                lambda r: submission.doubted(r, reason, at) if r.hand_over == hand_over else r,
            )
        return True

    async def _settle_found(self, record: JobRecord, native_id: NativeId) -> None:
        if record.cancel_requested_at is not None:
            await self._cancel_found(record, native_id)
        else:
            await self._handing.found(record, native_id)

    async def _conclude(self, record: JobRecord, hand_over: HandOver, at: datetime) -> None:
        """Give a job up that the scheduler surely does not have, or hand it over again."""
        if record.cancel_requested_at is not None:
            await self._handing.fail(record, _CANCELLED, frees_key=False)
        elif hand_over.refusal is not None:
            await self._handing.fail(record, hand_over.refusal)
        elif not hand_over.is_promised:
            await self._handing.fail(record, _NEVER_TAKEN)
        elif at - hand_over.began_at > _FINDABLE_FOR:
            await self._handing.fail(record, _TOO_LONG_AGO.format(began=hand_over.began_at))
        elif hand_over.attempts >= _MOST_ATTEMPTS:
            reason = _GIVEN_UP.format(attempts=hand_over.attempts, reason=record.state_reason)
            await self._handing.fail(record, reason)
        else:
            await self._hand_over_again(record, hand_over)

    async def _hand_over_again(self, record: JobRecord, hand_over: HandOver) -> None:
        if record.spec is None:
            return
        self._handing.check_available()
        try:
            spec = await still_to_come(record.spec, self._store.by_uid)
        except InvalidSpec as error:
            await self._handing.fail(record, error.detail)
            return
        at = self._now()

        def mine(current: JobRecord) -> JobRecord:
            if current.hand_over != hand_over or current.cancel_requested_at is not None:
                return current
            return submission.handed_over_again(current, spec, at, by=self._me)

        with self._handing.counted(record.uid):
            changed = await self._store.change(record.uid, mine)
            if changed is None:
                return
            self._adopt(changed)
            if not self._handing.is_mine(changed, at):
                return
            _log.warning("submission.repeated", uid=record.uid, attempt=hand_over.attempts + 1)
            self._handing.start(changed).add_done_callback(report)

    async def _cancel_found(self, record: JobRecord, native_id: NativeId) -> None:
        """Carry out what was asked of a job before it was known whether there is one."""
        never_ran = False
        with contextlib.suppress(JobNotFound):
            never_ran = await self._backend.cancel(native_id)
        at = self._now()

        def cancelled(job: JobRecord) -> JobRecord:
            job = submission.submitted(job, native_id, at).changed(hand_over=None)
            return life.removed_while_queued(job, at) if never_ran else job

        await self._handing.change(record, cancelled)

    def may_go_on(self, record: JobRecord, hand_over: HandOver) -> bool:
        """Whether a process may still be about to hand the job over."""
        if self._handing.is_under_way(record.uid):
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
