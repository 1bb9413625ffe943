"""The watch over the scheduler: one queue query per interval serves all clients."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from hpcq.domain import job_changes
from hpcq.domain.contradictions import Contradiction, find_contradiction
from hpcq.domain.errors import AccountUnavailable, HpcqError, LeaseLost, StoreUnavailable
from hpcq.domain.events import contradiction_event
from hpcq.domain.jobs import JobRecord, JobUid, NativeId, Observation
from hpcq.schedulers.base import Listing, SchedulerBackend
from hpcq.services.listing.job_table import JobTable
from hpcq.services.listing.publisher import JobPublisher
from hpcq.services.monitoring.job_details import UsageReader
from hpcq.services.monitoring.reconcile import LISTED_AT_MOST, Comparison, compare
from hpcq.services.monitoring.vanished_jobs import VanishedJobs
from hpcq.services.settings import ServiceSettings
from hpcq.services.submission.recovery import SubmissionRecovery
from hpcq.storage.jobs import JobStore

__all__ = ["Health", "Monitor", "Polls"]

_log = structlog.get_logger("hpcq.monitor")

# How often a change that the scheduler tells of itself may lead to another query.
_WOKEN_INTERVAL_SECONDS = 0.05
_PATIENCE_INTERVALS = 100


@dataclass(slots=True)
class Health:
    """The scheduler's health, as of the newest query.

    Attributes:
        answered: whether the newest query was answered.
        problem: what went wrong with it, in words.
    """

    answered: bool = False
    problem: str | None = "The scheduler has not been asked yet."


@dataclass(slots=True)
class Polls:
    """The queries for the queue that this process made, and what came of them.

    Attributes:
        answered: how many led to a listing that was published.
        failed: how many did not.
        seconds: the time that all of them took, with their publication.
        newest_seconds: the time that the newest took.
    """

    answered: int = 0
    failed: int = 0
    seconds: float = 0.0
    newest_seconds: float = 0.0

    def count(self, seconds: float, *, is_answered: bool) -> None:
        """Count one more."""
        self.answered += is_answered
        self.failed += not is_answered
        self.seconds += seconds
        self.newest_seconds = seconds


@dataclass(slots=True)
class _Memory:
    """The monitor's knowledge beside the table.

    Attributes:
        last: what the newest listing said.
        reported: what was last complained about, so that each complaint is logged once.
        missing: the jobs that are to be somewhere and were not in the newest listing.
        unclear: jobs that the scheduler may or may not have taken.
        reappeared: such jobs that the newest listing shows, as they were before.
        last_seen: the time of the listing before the newest.
    """

    last: dict[NativeId, Observation] = field(default_factory=dict)
    reported: set[object] = field(default_factory=set)
    missing: Sequence[JobUid] = ()
    unclear: Sequence[JobUid] = ()
    reappeared: Sequence[JobRecord] = ()
    last_seen: datetime | None = None

    def forget(self) -> None:
        """Forget the earlier watch: another replica may have watched since."""
        self.last = {}
        self.reported = set()
        self.missing = self.unclear = ()
        self.reappeared = ()
        self.last_seen = None


class Monitor:
    """Keeps the table up to date with the scheduler until it is stopped.

    Each round has two parts: `look` asks for the queue; `follow_up` asks, of others who may be
    slow, what became of the jobs that are not in it, and what the running ones use. A follow-up
    that takes long does not hold up the next look.

    Attributes:
        health: what was last heard of the scheduler.
        polls: how often the queue was asked for.
        has_seen_queue: whether the table shows all that is in the queue, as of some moment.
    """

    def __init__(
        self,
        backend: SchedulerBackend,
        store: JobStore,
        publisher: JobPublisher,
        table: JobTable,
        recovery: SubmissionRecovery,
        vanished_jobs: VanishedJobs,
        usage: UsageReader,
        cluster_id: str,
        settings: ServiceSettings,
        clock: Callable[[], datetime],
    ) -> None:
        self._backend = backend
        self._store = store
        self._publisher = publisher
        self._table = table
        self._recovery = recovery
        self._vanished = vanished_jobs
        self._usage = usage
        self._cluster_id = cluster_id
        self._interval_seconds = settings.poll_interval_seconds
        self._listed_for = timedelta(seconds=settings.finished_jobs_listed_seconds)
        self._now = clock
        self._memory = _Memory()
        self._woken = asyncio.Event()
        self.health = Health()
        self.polls = Polls()
        self.has_seen_queue = False

    async def load(self) -> int:
        """Show what the store remembers, before the scheduler is asked for the first time.

        Returns:
            The number of the newest transaction that is in it.
        """
        news = await self._store.news(since=None)
        horizon = self._now() - self._listed_for
        # One more: when it leaves, it is known that there are others.
        remembered = await self._store.open_or_recent(horizon, LISTED_AT_MOST + 1)
        # A change of a job that was under way has lost its answer.
        known = [job_changes.left_to_scheduler(record) for record in remembered]
        await self._show_stored(known, news.as_of)
        return news.change

    async def _show_stored(
        self, records: Sequence[JobRecord], as_of: datetime | None = None
    ) -> None:
        """Show records of the store, arrays with those of their tasks that stay there.

        A submission may have returned since they were read: what the table shows then is newer.
        """
        arrays = [record.uid for record in records if record.is_array]
        self._table.remember_tasks(await self._store.task_states(arrays))
        shown = self._table.entries
        newer = [
            record
            for record in records
            if record.uid not in shown or shown[record.uid].record.revision < record.revision
        ]
        self._table.apply(newer, as_of=as_of)

    def wake(self) -> None:
        """Ask the scheduler again soon, instead of after the interval."""
        self._woken.set()

    async def look_again(self) -> None:
        """Have the queue asked for anew, and wait until the table shows it; for 5 s at most."""
        since = self._now()
        self.wake()
        for _ in range(_PATIENCE_INTERVALS):
            if self._table.as_of is not None and self._table.as_of >= since:
                return
            await asyncio.sleep(_WOKEN_INTERVAL_SECONDS)

    async def run(self) -> None:
        """Ask again and again, until cancelled or until another replica does.

        Raises:
            LeaseLost: another one does.
        """
        following_up: asyncio.Task[None] | None = None
        self._memory.forget()
        try:
            while True:
                self._woken.clear()
                await self._look_and_report()
                if following_up is None or following_up.done():
                    following_up = asyncio.create_task(self._follow_up_and_report())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._interval_seconds):
                        await self._woken.wait()
                await asyncio.sleep(_WOKEN_INTERVAL_SECONDS)
        finally:
            if following_up is not None:
                following_up.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await following_up

    async def _look_and_report(self) -> None:
        began = time.monotonic()
        try:
            await self.look()
        except LeaseLost:
            raise
        except HpcqError as error:
            if self.health.problem != error.detail:
                _log.warning("scheduler.unanswered", problem=error.detail)
            await self._unanswered(error.detail)
        except Exception:
            # One unforeseen answer must not end the watch for everybody.
            _log.exception("monitor.failed")
            await self._unanswered("The monitor failed; its log says why.")
        else:
            if not self.health.answered:
                _log.info("scheduler.answers")
            self.health = Health(answered=True, problem=None)
        self.polls.count(time.monotonic() - began, is_answered=self.health.answered)

    async def _unanswered(self, problem: str) -> None:
        self.health = Health(answered=False, problem=problem)
        with contextlib.suppress(StoreUnavailable):
            await self._publisher.unanswered(problem)

    async def _follow_up_and_report(self) -> None:
        try:
            await self.follow_up()
        except LeaseLost:
            # The next look says so too, and ends the watch.
            return
        except HpcqError as error:
            _log.warning("monitor.behind", problem=error.detail)
        except Exception:
            _log.exception("monitor.failed")

    async def tick(self) -> None:
        """Look, and follow it up. Raises as both do."""
        await self.look()
        await self.follow_up()

    async def look(self) -> None:
        """Ask for the queue once and publish what changed.

        Raises:
            SchedulerError: it did not answer; the table stays as it was.
            StoreUnavailable: what changed of our own jobs could not be written, and was not
                published. The next look finds it again.
            LeaseLost: another replica does this now; nothing was written.
        """
        await self._publisher.flush()
        memory = self._memory
        with self._publisher.asking() as began:
            asked_at = self._now()
            listing = await self._backend.jobs()
            await self._recall(listing)
            comparison = await asyncio.to_thread(
                compare,
                self._table.copy(),
                listing,
                memory.last,
                self._publisher.locally_changed_since(began),
                self._cluster_id,
                asked_at,
                self._listed_for,
            )
            contradictions = self._report(listing, comparison)
            before = self._table.as_of
            missed = [job_changes.missed(r, before) for r in comparison.vanished]
            news = [r for r, old in zip(missed, comparison.vanished, strict=True) if r is not old]
            known = self._known(r.uid for r in comparison.changed)
            shown = await self._publisher.publish(
                [*comparison.changed, *news],
                began,
                gone=[*comparison.gone, *self._table.shadowed],
                complete_since=comparison.complete_since,
                as_of=asked_at,
                event_drafts=[contradiction_event(c, asked_at) for c in contradictions],
            )
            self.has_seen_queue = True
            memory.last = self._believed(comparison.last, began)
            for record in comparison.changed:
                if record.uid not in shown and record.native_id is not None:
                    memory.last.pop(record.native_id, None)
            memory.missing = [r.uid for r in comparison.vanished]
            memory.unclear = [r.uid for r in comparison.unclear]
            memory.reappeared = [*memory.reappeared, *(r for r in known if r.native_id is None)]
            memory.last_seen = before

    async def follow_up(self) -> None:
        """Resolve vanished jobs and unclear submissions, and fetch the usage of running jobs.

        Raises:
            StoreUnavailable, LeaseLost: as `look` does.
        """
        memory = self._memory
        reappeared, memory.reappeared = memory.reappeared, ()
        failed = await self._settle(reappeared, self._recovery.end_orphans)
        memory.reappeared = [*memory.reappeared, *failed]
        await self._settle(self._known(memory.unclear), self._recovery.recover)
        with self._publisher.asking() as began:
            asked_about = [*memory.missing, *self._vanished.incomplete]
            missing, at = self._known(asked_about), self._now()
            ended = await self._vanished.resolve(missing, memory.last_seen, at)
            await self._publisher.publish(ended, began)
        with self._publisher.asking() as began:
            await self._publisher.publish(await self._usage.ask(), began)

    def _known(self, uids: Iterable[JobUid]) -> list[JobRecord]:
        """Return these jobs as they are in the table now."""
        entries = self._table.entries
        return [entries[uid].record for uid in uids if uid in entries]

    async def _settle(
        self, records: Iterable[JobRecord], settle: Callable[[JobRecord], Awaitable[None]]
    ) -> list[JobRecord]:
        """Settle what was left of some submissions; return those for which this failed."""
        failed = []
        silent: set[str | None] = set()
        for record in records:
            if record.run_as in silent:
                # It can stop whoever acts in its name; others do not wait for each of its jobs.
                failed.append(record)
                continue
            try:
                await settle(record)
            except HpcqError as error:
                _log.warning("submission.unclear", uid=record.uid, problem=error.detail)
                failed.append(record)
                if isinstance(error, AccountUnavailable):
                    silent.add(record.run_as)
        return failed

    async def _recall(self, listing: Listing) -> None:
        """Show our own jobs that are in the queue and were thought to be over long ago."""
        entries = self._table.entries
        uids = {seen.submission_key.uid for seen in listing.observations if seen.submission_key}
        forgotten = [uid for uid in uids if uid not in entries]
        if forgotten:
            await self._show_stored(await self._store.by_uids(forgotten))

    def _believed(
        self, last: dict[NativeId, Observation], began: float
    ) -> dict[NativeId, Observation]:
        """Return the listing without the jobs about which it was too old."""
        for uid in self._publisher.locally_changed_since(began):
            entry = self._table.entries.get(uid)
            if entry is not None and entry.record.native_id is not None:
                last.pop(entry.record.native_id, None)
        return last

    def _report(self, listing: Listing, comparison: Comparison) -> list[Contradiction]:
        """Log what is odd about a listing, once as long as it stays.

        Returns:
            What contradicts the records of our own jobs and did not do so before.
        """
        unreadable = {(b.native_id, b.reason, b.excerpt): b for b in listing.unreadable}
        found = [(r, find_contradiction(r, seen)) for r, seen in comparison.contradictions]
        odd = {c: r for r, c in found if c is not None}
        reported, self._memory.reported = self._memory.reported, {*unreadable, *odd}
        for key, bad in unreadable.items():
            if key not in reported:
                _log.warning(
                    "job.unreadable", job=bad.native_id, reason=bad.reason, excerpt=bad.excerpt
                )
        new = {c: r for c, r in odd.items() if c not in reported}
        for contradiction in new:
            _log.warning(
                "job.contradiction",
                job=contradiction.native_id,
                uid=contradiction.uid,
                reason=contradiction.reason,
                native_state=contradiction.native_state,
            )
        return [contradiction for contradiction, record in new.items() if record.submitted_here]
