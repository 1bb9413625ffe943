"""Recovery of submissions that were left unclear, by this process or by another.

A job is given up or handed over again only when the scheduler was asked and surely does not have
it. The table in `hpcq.domain.submission` shows every step.
"""

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from hpcq.domain import job_merge, submission
from hpcq.domain.errors import InvalidSpec, JobNotFound
from hpcq.domain.jobs import HandOver, JobRecord, JobUid, NativeId, SubmissionKey
from hpcq.schedulers.abilities import ForgetsKeys
from hpcq.schedulers.base import SchedulerBackend
from hpcq.services.submission.attempt import SubmissionRunner, report
from hpcq.services.submission.dependencies import still_to_come
from hpcq.storage.jobs import JobStore

__all__ = ["SubmissionRecovery"]

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
    """The knowledge of this process about an unclear submission.

    Attributes:
        hand_over: its state when this process noticed it.
        noticed_at: that time, by the clock here: those of replicas differ.
        ended_orphans_at: when all commands were ended that might still have submitted it.
        absent_since: when the scheduler first said that it has no such job.
    """

    hand_over: HandOver
    noticed_at: datetime
    ended_orphans_at: datetime | None = None
    absent_since: datetime | None = None


class SubmissionRecovery:
    """Finds out what became of unclear submissions.

    Args:
        backend: the scheduler.
        store: holds the intents.
        runner: hands jobs over.
        show: shows a record to all readers.
        end_orphans: ends commands with which a process that died may still submit a job, in the
            name of an account.
        clock: the present, aware.
    """

    def __init__(
        self,
        backend: SchedulerBackend,
        store: JobStore,
        runner: SubmissionRunner,
        show: Callable[[JobRecord], None],
        end_orphans: Callable[[SubmissionKey, str | None], Awaitable[None]],
        clock: Callable[[], datetime],
    ) -> None:
        self._backend = backend
        self._store = store
        self._runner = runner
        self._show = show
        self._end_orphans = end_orphans
        self._settings = runner.settings
        self._me = runner.me
        self._now = clock
        self._searches: dict[JobUid, _Search] = {}

    async def recover(self, record: JobRecord) -> None:
        """Find out what became of a submission, as far as that can be said now.

        Raises:
            SchedulerError, StoreUnavailable: it cannot be said at present.
        """
        hand_over = record.hand_over
        if hand_over is None or self._runner.is_under_way(record.uid):
            return
        at = self._now()
        search = self._search(record.uid, hand_over, at)
        may_go_on = self.may_go_on(record, hand_over)
        wait = timedelta(seconds=self._settings.submission_wait_seconds)
        if may_go_on and at - hand_over.began_at < wait:
            return
        if not may_go_on and hand_over.by != self._me and search.ended_orphans_at is None:
            await self._end_orphans(record.key, record.run_as)
            search.ended_orphans_at = at = self._now()
        native_id = record.native_id or await self._backend.find(record.key, record.run_as)
        if native_id is not None:
            await self._found(record, native_id)
        elif not may_go_on and self._is_surely_absent(search, hand_over, at):
            if await self._may_have_run(record, hand_over, at):
                return
            await self._conclude(record, hand_over, at)
        else:
            if not may_go_on:
                await self._keep_absence(record, search, at)
            return
        self._searches.pop(record.uid, None)

    async def end_orphans(self, before: JobRecord) -> None:
        """End the commands of a process that died, for a job that the queue shows after all.

        Args:
            before: the job as it was known until then.

        Raises:
            SchedulerError: a command does not end.
            AccountUnavailable: its account cannot be asked.
        """
        hand_over = before.hand_over
        if hand_over is None or hand_over.by == self._me or self.may_go_on(before, hand_over):
            return
        await self._end_orphans(before.key, before.run_as)

    def _search(self, uid: JobUid, hand_over: HandOver, at: datetime) -> _Search:
        """Return the search for this hand-over, a new one if there is none."""
        search = self._searches.get(uid)
        if search is None or search.hand_over != hand_over:
            search = self._searches[uid] = _Search(hand_over, at)
        return search

    def _is_surely_absent(self, search: _Search, hand_over: HandOver, at: datetime) -> bool:
        """Return whether a job that the scheduler did not have at ``at`` can be nowhere else."""
        settle = timedelta(seconds=self._settings.submission_settle_seconds)
        if self._backend.capabilities.absence_is_certain and hand_over.uncertain_since is None:
            # An attempt that was answered is not repeated at every look.
            return True
        if search.absent_since is None:
            search.absent_since = at
        if hand_over.absent_since is not None and at - hand_over.absent_since >= settle:
            # Processes that were restarted meanwhile waited for this together.
            return True
        quiet_since = self._quiet_since(hand_over, search)
        if search.ended_orphans_at is not None:
            quiet_since = max(quiet_since, search.ended_orphans_at)
        return at - quiet_since >= settle and at - search.absent_since >= min(settle, _ABSENT_FOR)

    async def _keep_absence(self, record: JobRecord, search: _Search, at: datetime) -> None:
        """Keep when the scheduler first had no such job, for a process that comes after this one.

        Not in a database of replicas: the clocks of machines differ.
        """
        hand_over = search.hand_over
        if self._store.is_shared or hand_over.absent_since is not None:
            return
        seen = hand_over.changed(absent_since=at)
        changed = await self._runner.change(
            record, lambda r: r.changed(hand_over=seen) if r.hand_over == hand_over else r
        )
        if changed.hand_over == seen:
            search.hand_over = seen

    async def _may_have_run(self, record: JobRecord, hand_over: HandOver, at: datetime) -> bool:
        """Return whether an unknown job that has ended may be this one; then it stays unclear.

        Only for a scheduler that forgets keys. Its client may delete the job.
        """
        is_over = record.cancel_requested_at is not None or hand_over.refusal is not None
        if is_over or record.spec is None or not isinstance(self._backend, ForgetsKeys):
            return False
        found = await self._backend.find_similar_ended(record.spec, record.created_at)
        unknown = [i for i in found if await self._store.by_native_id(i) is None]
        if not unknown:
            return False
        reason = _LOOKALIKE.format(jobs=", ".join(unknown))
        if record.state_reason != reason:
            _log.warning("submission.doubtful", uid=record.uid, similar=unknown)
            await self._runner.change(
                record,
                lambda r: submission.doubted(r, reason, at) if r.hand_over == hand_over else r,
            )
        return True

    async def _found(self, record: JobRecord, native_id: NativeId) -> None:
        if record.cancel_requested_at is not None:
            await self._cancel_found(record, native_id)
        else:
            await self._runner.record_native_id(record, native_id)

    async def _conclude(self, record: JobRecord, hand_over: HandOver, at: datetime) -> None:
        """Give up, or hand over again, a job that the scheduler surely does not have."""
        if record.cancel_requested_at is not None:
            await self._runner.fail(record, _CANCELLED, frees_key=False)
        elif hand_over.refusal is not None:
            await self._runner.fail(record, hand_over.refusal)
        elif not hand_over.is_promised:
            await self._runner.fail(record, _NEVER_TAKEN)
        elif at - hand_over.began_at > _FINDABLE_FOR:
            await self._runner.fail(record, _TOO_LONG_AGO.format(began=hand_over.began_at))
        elif hand_over.attempts >= _MOST_ATTEMPTS:
            reason = _GIVEN_UP.format(attempts=hand_over.attempts, reason=record.state_reason)
            await self._runner.fail(record, reason)
        else:
            await self._hand_over_again(record, hand_over)

    async def _hand_over_again(self, record: JobRecord, hand_over: HandOver) -> None:
        if record.spec is None:
            return
        self._runner.check_available()
        try:
            spec = await still_to_come(record.spec, self._store.by_uid)
        except InvalidSpec as error:
            await self._runner.fail(record, error.detail)
            return
        at = self._now()

        def mine(current: JobRecord) -> JobRecord:
            if current.hand_over != hand_over or current.cancel_requested_at is not None:
                return current
            return submission.handed_over_again(current, spec, at, by=self._me)

        with self._runner.under_way(record.uid):
            changed = await self._store.change(record.uid, mine)
            if changed is None:
                return
            self._show(changed)
            if not self._runner.is_mine(changed, at):
                return
            _log.warning("submission.repeated", uid=record.uid, attempt=hand_over.attempts + 1)
            self._runner.start(changed).add_done_callback(report)

    async def _cancel_found(self, record: JobRecord, native_id: NativeId) -> None:
        """Cancel a job that was found after its client asked for that."""
        never_ran = False
        with contextlib.suppress(JobNotFound):
            never_ran = await self._backend.cancel(native_id, record.run_as)
        at = self._now()

        def cancelled(job: JobRecord) -> JobRecord:
            job = submission.submitted(job, native_id, at).changed(hand_over=None)
            return job_merge.removed_while_queued(job, at) if never_ran else job

        await self._runner.change(record, cancelled)

    def may_go_on(self, record: JobRecord, hand_over: HandOver) -> bool:
        """Return whether a process may still be about to hand the job over."""
        if self._runner.is_under_way(record.uid):
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
        settings = self._settings
        # The wait before it (`SubmissionRunner._renew`), its submission, then its search, each
        # within the limit of a command.
        seconds = 3 * settings.command_timeout_seconds + settings.submission_wait_seconds
        return began_at + timedelta(seconds=seconds)

    def _quiet_since(self, hand_over: HandOver, search: _Search) -> datetime:
        """Return the time since when no process was about to hand the job over."""
        is_elsewhere = self._store.is_shared and hand_over.by != self._me
        noticed_at = search.noticed_at if is_elsewhere else hand_over.began_at
        if hand_over.uncertain_since is not None:
            return max(hand_over.uncertain_since, noticed_at)
        if is_elsewhere or hand_over.by == self._me:
            return self._ended_by(max(hand_over.began_at, noticed_at))
        # The process that handed it over has died; its commands are ended before the search.
        return hand_over.began_at
