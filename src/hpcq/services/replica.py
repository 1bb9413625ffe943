"""One of several services before one scheduler: all serve, and one of them asks."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from hpcq.domain.errors import LeaseLost, StoreUnavailable
from hpcq.domain.jobs import JobRecord
from hpcq.services.monitor import Health, Monitor
from hpcq.services.snapshot import Board
from hpcq.storage.jobs import JobStore, News
from hpcq.storage.leases import Lease

__all__ = ["Replica", "ReplicaOptions"]

_log = structlog.get_logger("hpcq.replica")

_RENEWALS_IN_A_LEASE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaOptions:
    """How quickly replicas notice each other.

    Attributes:
        news_seconds: from one look at what the others wrote to the next.
        lease_seconds: how long whoever asks the scheduler may be silent before another does.
        listed_for: how long a finished job stays in the listing.
    """

    news_seconds: float
    lease_seconds: float
    listed_for: timedelta


class Replica:
    """Keeps the board in step with the database, and has the monitor run while it is its turn."""

    def __init__(
        self,
        store: JobStore,
        lease: Lease,
        board: Board,
        monitor: Monitor,
        options: ReplicaOptions,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._lease = lease
        self._board = board
        self._monitor = monitor
        self._options = options
        self._now = clock
        self._known = 0
        self._watching: asyncio.Task[None] | None = None

    async def run(self, known: int) -> None:
        """Follow and take turns until cancelled; the lease is then given back.

        Args:
            known: the number of the newest transaction that the board shows.
        """
        self._known = known
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow())
                tasks.create_task(self._take_turns())
        finally:
            await self._stop_watching()
            with contextlib.suppress(StoreUnavailable):
                await self._lease.give_back()

    async def _follow(self) -> None:
        while True:
            try:
                await self.catch_up()
            except StoreUnavailable as error:
                self._monitor.health = Health(answered=False, problem=error.detail)
            await asyncio.sleep(self._options.news_seconds)

    async def catch_up(self) -> None:
        """Put up what the others have written since the last time.

        Raises:
            StoreUnavailable: it cannot be read.
        """
        news = await self._store.news(self._known)
        horizon = self._now() - self._options.listed_for
        for record in news.changed:
            self._take_in(record, horizon)
        gone = [uid for uid in news.gone if uid in self._board.snapshot.entries]
        self._board.put((), gone, news.as_of)
        self._known = news.change
        if news.as_of is not None:
            self._monitor.has_seen_queue = True
        if not self._is_watching:
            self._monitor.health = _health(news)

    def _take_in(self, record: JobRecord, horizon: datetime) -> None:
        entry = self._board.snapshot.entries.get(record.uid)
        if entry is not None and entry.record.revision >= record.revision:
            return
        is_over = record.is_settled and record.state_changed_at < horizon
        if entry is not None or not is_over:
            self._monitor.adopt(record)

    async def _take_turns(self) -> None:
        problem = None
        while True:
            try:
                is_ours = await self._lease.take()
                problem = None
            except StoreUnavailable as error:
                if problem is None:
                    _log.warning("lease.unclear", problem=error.detail)
                is_ours, problem = False, error
            if is_ours and not self._is_watching:
                _log.info("lease.taken", holder=self._lease.holder)
                await self._start_watching()
            elif not is_ours and self._is_watching:
                _log.warning("lease.lost", holder=self._lease.holder)
                await self._stop_watching()
            await asyncio.sleep(self._options.lease_seconds / _RENEWALS_IN_A_LEASE)

    @property
    def _is_watching(self) -> bool:
        return self._watching is not None and not self._watching.done()

    async def _start_watching(self) -> None:
        # What the one before wrote last is to be known before anything is compared with it.
        with contextlib.suppress(StoreUnavailable):
            await self.catch_up()
            self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        with contextlib.suppress(LeaseLost):
            await self._monitor.run()

    async def _stop_watching(self) -> None:
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching


def _health(news: News) -> Health:
    if news.as_of is None:
        return Health()
    return Health(answered=news.problem is None, problem=news.problem)
