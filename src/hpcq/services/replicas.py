"""Replicas: several services before one scheduler; all serve, and one polls it."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog

from hpcq.domain.errors import LeaseLost, StoreUnavailable
from hpcq.domain.jobs import JobRecord
from hpcq.services.listing.job_entry import JobEntry
from hpcq.services.listing.job_table import JobTable
from hpcq.services.listing.publisher import JobPublisher
from hpcq.services.monitoring.monitor import Health, Monitor
from hpcq.services.monitoring.reconcile import LISTED_AT_MOST, Retired, retired
from hpcq.services.settings import ServiceSettings
from hpcq.storage.jobs import JobStore, News
from hpcq.storage.leases import Lease

__all__ = ["Replica"]

_log = structlog.get_logger("hpcq.replica")

_RENEWALS_IN_A_LEASE = 3
_DEFECT = "What the other replicas wrote cannot be read; the log says why."
_NOT_ASKED = "No replica has asked the scheduler yet."
_RETIRING_SECONDS = 60.0
_NEWS_SECONDS = 0.5


class Replica:
    """Keeps the table in step with the database; runs the monitor while it holds the lease."""

    def __init__(
        self,
        store: JobStore,
        lease: Lease,
        publisher: JobPublisher,
        table: JobTable,
        monitor: Monitor,
        settings: ServiceSettings,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._lease = lease
        self._publisher = publisher
        self._table = table
        self._monitor = monitor
        self._lease_seconds = settings.replica_lease_seconds
        self._listed_for = timedelta(seconds=settings.finished_jobs_listed_seconds)
        self._now = clock
        self._known = 0
        self._asking: asyncio.Task[bool] | None = None
        self._watching: asyncio.Task[None] | None = None

    async def run(self, known: int) -> None:
        """Follow and take turns until cancelled; the lease is then given back.

        Args:
            known: the number of the newest transaction that the table shows.
        """
        self._known = known
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow())
                tasks.create_task(self._take_turns())
        finally:
            await self._stop_watching()
            if self._asking is not None:
                # It may take the lease even now.
                await asyncio.wait([self._asking])
            with contextlib.suppress(StoreUnavailable):
                await self._lease.give_back()

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        retire_at = loop.time()
        while True:
            try:
                await self.catch_up()
            except StoreUnavailable as error:
                self._monitor.health = Health(answered=False, problem=error.detail)
            except Exception:
                # One record that cannot be understood must not end this for good.
                _log.exception("replica.failed")
                self._monitor.health = Health(answered=False, problem=_DEFECT)
            if loop.time() >= retire_at:
                await self.retire()
                retire_at = loop.time() + _RETIRING_SECONDS
            await asyncio.sleep(_NEWS_SECONDS)

    async def retire(self) -> None:
        """Remove ended jobs that need not stay; the monitor does so in the replica that polls."""
        entries = list(self._table.entries.values())
        horizon = self._now() - self._listed_for
        retiring = await asyncio.to_thread(_retired, entries, horizon)
        # One may have been put back meanwhile.
        known = self._table.entries
        gone = [uid for uid in retiring.uids if uid in known and known[uid].is_over]
        self._table.apply(gone=gone, complete_since=retiring.newest)

    async def catch_up(self) -> None:
        """Show what the others have written since the last time.

        Raises:
            StoreUnavailable: it cannot be read, or what is owed cannot be written.
        """
        while True:
            news = await self._store.news(self._known)
            self._take_in(news)
            if not news.changed and not news.gone:
                break
        if news.as_of is not None:
            self._monitor.has_seen_queue = True
        if not self.is_leader:
            # Who watches knows better.
            self._table.apply((), (), news.as_of)
            self._monitor.health = _health(news)
        # What cannot be written keeps nothing from being read.
        await self._publisher.flush()

    def _take_in(self, news: News) -> None:
        entries = self._table.entries
        horizon = self._now() - self._listed_for

        def is_worth_it(record: JobRecord) -> bool:
            entry = entries.get(record.uid)
            if entry is None:
                return not _is_over(record, horizon)
            return entry.record.revision < record.revision

        self._table.apply((), news.gone)
        self._publisher.show(*(record for record in news.changed if is_worth_it(record)))
        self._known = news.change

    async def _take_turns(self) -> None:
        is_clear = True
        while True:
            try:
                await self._turn(is_holder=await self._take())
                is_clear = True
            except (StoreUnavailable, TimeoutError) as error:
                if is_clear:
                    _log.warning("lease.unclear", problem=str(error) or "no answer in time")
                is_clear = False
                await self._turn(is_holder=False)
            except Exception:
                _log.exception("replica.failed")
                await self._turn(is_holder=False)
            await asyncio.sleep(self._lease_seconds / _RENEWALS_IN_A_LEASE)

    async def _take(self) -> bool:
        """Take or renew the lease; another replica may have it when that takes too long."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._lease.take())
        async with asyncio.timeout(self._lease_seconds):
            await asyncio.wait([self._asking])
        asked, self._asking = self._asking, None
        return asked.result()

    async def _turn(self, *, is_holder: bool) -> None:
        if is_holder and not self.is_leader:
            _log.info("lease.taken", holder=self._lease.holder)
            await self._start_watching()
        elif not is_holder and self.is_leader:
            _log.warning("lease.lost", holder=self._lease.holder)
            await self._stop_watching()

    @property
    def is_leader(self) -> bool:
        """True while this replica polls the scheduler."""
        return self._watching is not None and not self._watching.done()

    async def _start_watching(self) -> None:
        # What the one before wrote last is to be known before anything is compared with it.
        await self.catch_up()
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        try:
            await self._monitor.run()
        except LeaseLost:
            _log.warning("lease.lost", holder=self._lease.holder)
        except Exception:
            _log.exception("monitor.failed")

    async def _stop_watching(self) -> None:
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            # Unlike waiting for the task itself, this is left when we are cancelled meanwhile.
            await asyncio.wait([watching])


def _retired(entries: Sequence[JobEntry], horizon: datetime) -> Retired:
    over = (entry.record for entry in entries if entry.is_over)
    return retired(over, horizon, LISTED_AT_MOST)


def _health(news: News) -> Health:
    if news.as_of is None:
        return Health(answered=False, problem=news.problem or _NOT_ASKED)
    return Health(answered=news.problem is None, problem=news.problem)


def _is_over(record: JobRecord, horizon: datetime) -> bool:
    return record.submitted_here and record.is_settled and record.state_changed_at < horizon
