"""Watches the scheduler for everybody: one queue query per interval, whoever asks."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from hpcq.domain import life
from hpcq.domain.errors import HpcqError, StoreUnavailable
from hpcq.domain.jobs import JobRecord, JobUid, NativeId, Observation
from hpcq.domain.states import JobState
from hpcq.schedulers.base import Listing, SchedulerBackend
from hpcq.services.clock import now
from hpcq.services.reconcile import Comparison, compare
from hpcq.services.snapshot import Board, Snapshot
from hpcq.storage.jobs import JobStore

__all__ = ["Monitor", "MonitorOptions"]

_log = structlog.get_logger("hpcq.monitor")

_NOT_IN_ACCOUNTING = (
    "It left the scheduler's queue, and the scheduler's accounting does not show it yet."
)
_WITHOUT_ACCOUNTING = (
    "It left the scheduler's queue, and the accounting could not be asked: {detail}"
)
_DEFECT = "this service failed to read its answer; the log says why."
# A scheduler may show a job only some time after it took it (pyfirecrest 199).
_VISIBILITY = timedelta(seconds=10)
# A job that nobody can find by its key so long after its submission was not taken.
_SURELY_ABSENT = timedelta(seconds=120)
_NEVER_TAKEN = "The submission was interrupted, and the scheduler has no job that carries its key."
# How often a change that the scheduler tells of itself may lead to another query.
_WOKEN_INTERVAL_SECONDS = 0.05
_SLOWEST_RECHECK = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorOptions:
    """How often the monitor asks, and for what.

    Attributes:
        interval_seconds: from one queue query to the next.
        usage_interval_seconds: from one query for the usage of running jobs to the next.
        listed_for: how long a finished job stays in the listing.
        interest_for: how long a job that somebody read is asked about in detail.
    """

    interval_seconds: float
    usage_interval_seconds: float
    listed_for: timedelta
    interest_for: timedelta = timedelta(minutes=1)


@dataclass(slots=True)
class _Recheck:
    """When to look for a vanished job again."""

    due: datetime
    wait: timedelta


@dataclass(slots=True)
class Health:
    """What the monitor last heard of the scheduler.

    Attributes:
        answered: whether the newest query was answered.
        problem: what went wrong with it, in words.
    """

    answered: bool = False
    problem: str | None = "The scheduler has not been asked yet."


@dataclass(slots=True)
class _Memory:
    """What the monitor knows besides the board.

    Attributes:
        last: what the newest listing said.
        touched: when this service itself last changed a job, by the monotonic clock.
        unsaved: jobs that this service changed and could not write.
        reported: what was last complained about, so that each complaint is logged once.
    """

    last: dict[NativeId, Observation] = field(default_factory=dict)
    touched: dict[JobUid, float] = field(default_factory=dict)
    unsaved: set[JobUid] = field(default_factory=set)
    reported: set[tuple[object, ...]] = field(default_factory=set)
    rechecks: dict[JobUid, _Recheck] = field(default_factory=dict)
    interest: dict[JobUid, datetime] = field(default_factory=dict)
    all_read_at: datetime | None = None
    details_at: datetime | None = None


class Monitor:
    """Keeps the board up to date with the scheduler until it is stopped."""

    def __init__(
        self,
        backend: SchedulerBackend,
        store: JobStore,
        board: Board,
        cluster_id: str,
        options: MonitorOptions,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._backend = backend
        self._store = store
        self._board = board
        self._cluster_id = cluster_id
        self._options = options
        self._now = clock
        self._memory = _Memory()
        self._woken = asyncio.Event()
        self.health = Health()

    async def load(self) -> None:
        """Put up what the store remembers, before the scheduler is asked for the first time."""
        remembered = await self._store.open_or_recent(self._now() - self._options.listed_for)
        self._board.put(remembered)

    def wake(self) -> None:
        """Ask the scheduler again soon, instead of after the interval."""
        self._woken.set()

    def read(self, uid: JobUid) -> None:
        """Take note that somebody reads this job, and so wants to know its usage."""
        self._memory.interest[uid] = self._now()

    def read_all(self) -> None:
        """Take note that somebody reads the usage of every running job."""
        self._memory.all_read_at = self._now()

    async def apply(
        self, uid: JobUid, change: Callable[[JobRecord], JobRecord]
    ) -> JobRecord | None:
        """Change one job on this service's own account: on the board at once, and in the store.

        Answers of the scheduler that were asked for before are not believed about it.

        Returns:
            The job as it is now, or None when the board does not show it.

        Raises:
            StoreUnavailable: it could not be written; that is tried again with every query.
        """
        entry = self._board.snapshot.entries.get(uid)
        if entry is None:
            return None
        self._memory.touched[uid] = time.monotonic()
        record = change(entry.record)
        if record != entry.record:
            self._board.put([record])
            if record.is_ours:
                await self._save_own(record)
        return record

    async def _save_own(self, record: JobRecord) -> None:
        try:
            await self._store.save([record])
        except StoreUnavailable:
            self._memory.unsaved.add(record.uid)
            raise

    def adopt(self, record: JobRecord) -> None:
        """Put up a job of ours that the store already has."""
        self._memory.touched[record.uid] = time.monotonic()
        self._board.put([record])

    async def run(self) -> None:
        """Ask again and again, until cancelled."""
        while True:
            self._woken.clear()
            await self._tick_and_report()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._options.interval_seconds):
                    await self._woken.wait()
            await asyncio.sleep(_WOKEN_INTERVAL_SECONDS)

    async def _tick_and_report(self) -> None:
        try:
            await self.tick()
        except HpcqError as error:
            if self.health.problem != error.detail:
                _log.warning("scheduler.unanswered", problem=error.detail)
            self.health = Health(answered=False, problem=error.detail)
        except Exception:
            # One unforeseen answer must not end the watch for everybody.
            _log.exception("monitor.failed")
            self.health = Health(answered=False, problem="The monitor failed; its log says why.")
        else:
            if not self.health.answered:
                _log.info("scheduler.answers")
            self.health = Health(answered=True, problem=None)

    async def tick(self) -> None:
        """Ask the scheduler once and publish what changed.

        Raises:
            SchedulerError: it did not answer; the board stays as it was.
            StoreUnavailable: what changed could not be written, and was not published. The next
                query finds it again.
        """
        await self._save_unsaved()
        asked_at, began = self._now(), time.monotonic()
        listing = await self._backend.jobs()
        memory = self._memory
        touched = {uid for uid, at in memory.touched.items() if at >= began}
        comparison = await asyncio.to_thread(
            compare,
            self._board.snapshot,
            listing,
            memory.last,
            touched,
            self._cluster_id,
            asked_at,
            self._options.listed_for,
        )
        self._report(listing, comparison)
        before = self._board.snapshot.as_of
        missed = [life.missed(r, before) for r in comparison.vanished]
        news = [r for r, old in zip(missed, comparison.vanished, strict=True) if r is not old]
        await self._publish([*comparison.changed, *news], began, comparison.gone, asked_at)
        memory.last = self._believed(comparison.last, began)
        # From here on others are asked, who may be slow or fail: the queue's news are out.
        due = self._due([*missed, *comparison.unanswered], asked_at)
        found = await self._find([r for r in due if r.native_id is None], asked_at)
        ended = await self._resolve([r for r in due if r.native_id is not None], asked_at)
        if found or ended:
            await self._publish([*found, *ended], began)
        memory.touched = {u: at for u, at in memory.touched.items() if at >= began}
        await self._ask_details(asked_at)

    async def _publish(
        self,
        changed: Sequence[JobRecord],
        began: float,
        gone: Sequence[JobUid] = (),
        as_of: datetime | None = None,
    ) -> None:
        """Write, then put up, what did not change on our own account since we ``began``."""
        fresh = [r for r in changed if not self._touched_since(r.uid, began)]
        await self._store.save([r for r in fresh if r.is_ours])
        still = [r for r in fresh if not self._touched_since(r.uid, began)]
        self._board.put(still, gone, as_of)

    def _touched_since(self, uid: JobUid, moment: float) -> bool:
        at = self._memory.touched.get(uid)
        return at is not None and at >= moment

    def _believed(
        self, last: dict[NativeId, Observation], began: float
    ) -> dict[NativeId, Observation]:
        """Forget what a listing said of jobs of which it was not believed."""
        for uid, at in self._memory.touched.items():
            entry = self._board.snapshot.entries.get(uid)
            if at >= began and entry is not None and entry.record.native_id is not None:
                last.pop(entry.record.native_id, None)
        return last

    async def _save_unsaved(self) -> None:
        """Try again to write what this service changed and could not write."""
        owed, self._memory.unsaved = self._memory.unsaved, set()
        entries = self._board.snapshot.entries
        try:
            await self._store.save([entries[uid].record for uid in owed if uid in entries])
        except StoreUnavailable as error:
            self._memory.unsaved |= owed
            _log.error("jobs.not_stored", jobs=len(owed), problem=error.detail)

    def _report(self, listing: Listing, comparison: Comparison) -> None:
        """Log what is odd about a listing, once as long as it stays."""
        unreadable = {(b.native_id, b.reason, b.excerpt): b for b in listing.unreadable}
        odd = {(r.uid, seen.state, seen.native_state): r for r, seen in comparison.contradictions}
        reported, self._memory.reported = self._memory.reported, {*unreadable, *odd}
        for key, bad in unreadable.items():
            if key not in reported:
                _log.warning(
                    "job.unreadable", job=bad.native_id, reason=bad.reason, excerpt=bad.excerpt
                )
        for (uid, state, native_state), record in odd.items():
            if (uid, state, native_state) not in reported:
                _log.warning(
                    "job.contradiction",
                    job=record.native_id,
                    uid=uid,
                    held_to_be=record.state,
                    said_to_be=state,
                    native_state=native_state,
                )

    def _due(self, missing: Sequence[JobRecord], at: datetime) -> list[JobRecord]:
        """Return those of the missing jobs that it is time to look for (again)."""
        uids = {r.uid for r in missing}
        rechecks = {u: r for u, r in self._memory.rechecks.items() if u in uids}
        self._memory.rechecks = rechecks
        return [r for r in missing if r.uid not in rechecks or rechecks[r.uid].due <= at]

    async def _find(self, unanswered: Sequence[JobRecord], at: datetime) -> list[JobRecord]:
        """Look in the scheduler for the jobs whose submission never got its answer."""
        concluded = []
        for record in unanswered:
            try:
                native_id = await self._backend.find(record.key)
            except HpcqError as error:
                _log.warning("submission.unclear", uid=record.uid, problem=error.detail)
                self._look_again(record.uid, at)
                continue
            if native_id is not None:
                concluded.append(life.submitted(record, native_id, at))
            elif at - record.created_at > _SURELY_ABSENT:
                concluded.append(life.submission_failed(record, _NEVER_TAKEN, at))
            else:
                self._look_again(record.uid, at)
        return concluded

    async def _resolve(self, due: Sequence[JobRecord], at: datetime) -> list[JobRecord]:
        """Ask the accounting for the jobs that left the queue; return those it changes."""
        if not due:
            return []
        listing, reason = await self._history([r.native_id for r in due if r.native_id])
        known: dict[NativeId, list[Observation]] = {}
        for seen in listing.observations:
            known.setdefault(seen.native_id, []).append(seen)
        concluded = [self._concluded(r, known, reason, at) for r in due]
        return [new for new, old in zip(concluded, due, strict=True) if new is not old]

    async def _history(self, ids: Sequence[NativeId]) -> tuple[Listing, str]:
        """Return what accounting says, and why a job is not in it."""
        try:
            return await self._backend.history(ids), _NOT_IN_ACCOUNTING
        except HpcqError as error:
            _log.warning("accounting.unanswered", problem=error.detail, jobs=len(ids))
            return Listing(), _WITHOUT_ACCOUNTING.format(detail=error.detail)
        except Exception:
            _log.exception("accounting.failed", jobs=len(ids))
            return Listing(), _WITHOUT_ACCOUNTING.format(detail=_DEFECT)

    def _concluded(
        self,
        record: JobRecord,
        known: dict[NativeId, list[Observation]],
        reason: str,
        at: datetime,
    ) -> JobRecord:
        answers = known.get(record.native_id, []) if record.native_id else []
        ours = [seen for seen in answers if life.same_job(record, seen)]
        if ours and ours[-1].state.is_final:
            self._memory.rechecks.pop(record.uid, None)
            return life.observe(record, ours[-1], at)
        self._look_again(record.uid, at)
        if record.seen is None and at - record.created_at < _VISIBILITY:
            return record
        return life.vanished(record, reason, last_seen=self._board.snapshot.as_of, at=at)

    def _look_again(self, uid: JobUid, at: datetime) -> None:
        before = self._memory.rechecks.get(uid)
        first = timedelta(seconds=self._options.interval_seconds)
        wait = first if before is None else min(before.wait * 1.5, _SLOWEST_RECHECK)
        self._memory.rechecks[uid] = _Recheck(due=at + wait, wait=wait)

    async def _ask_details(self, at: datetime) -> None:
        """Ask, once per usage interval, for the usage of our running jobs and of those read."""
        memory = self._memory
        every = timedelta(seconds=self._options.usage_interval_seconds)
        if memory.details_at is not None and at - memory.details_at < every:
            return
        horizon = at - self._options.interest_for
        memory.interest = {u: t for u, t in memory.interest.items() if t >= horizon}
        read = memory.all_read_at is not None and memory.all_read_at >= horizon
        wanted = await asyncio.to_thread(self._wanted, self._board.snapshot, all_running=read)
        if not wanted:
            return
        memory.details_at = at
        try:
            listing = await self._backend.details(wanted)
        except HpcqError as error:
            _log.warning("details.unanswered", problem=error.detail, jobs=len(wanted))
            return
        snapshot, began = self._board.snapshot, time.monotonic()
        changed = []
        for seen in listing.observations:
            entry = snapshot.entry(seen.native_id)
            if entry is None or seen.state.is_final or not life.same_job(entry.record, seen):
                continue
            record = _with_details(entry.record, seen, at)
            if record != entry.record:
                changed.append(record)
        await self._publish(changed, began)

    def _wanted(self, snapshot: Snapshot, *, all_running: bool) -> list[NativeId]:
        """Return whom to ask about: our running jobs and whatever somebody has read."""
        return [
            r.native_id
            for r in snapshot.records()
            if r.native_id is not None
            and r.confirmed_at is None
            and (
                r.uid in self._memory.interest
                or (r.state is JobState.RUNNING and (r.is_ours or all_running))
            )
        ]


def _with_details(record: JobRecord, seen: Observation, at: datetime) -> JobRecord:
    """Return the record with what a detailed answer adds; where it is, the queue has told."""
    if record.state.is_final:
        return record
    if seen.native_state is None and record.seen is not None:
        seen = replace(seen, native_state=record.seen.native_state)
    known = life.observe(record, seen, at)
    return known.changed(
        state=record.state,
        stage=record.stage,
        state_changed_at=record.state_changed_at,
        state_reason=seen.state_reason or record.state_reason,
        confirmed_at=record.confirmed_at,
    )
