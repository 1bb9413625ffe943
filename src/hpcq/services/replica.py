"""One of several services before one scheduler: all serve, and one of them asks."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from hpcq.domain.errors import LeaseLost, StoreUnavailable
from hpcq.domain.jobs import JobRecord
from hpcq.services.bulletin import Bulletin
from hpcq.services.monitor import Health, Monitor
from hpcq.services.reconcile import Retired, retired
from hpcq.services.snapshot import Board, Snapshot
from hpcq.storage.jobs import JobStore, News
from hpcq.storage.leases import Lease

__all__ = ["Replica", "ReplicaOptions"]

_log = structlog.get_logger("hpcq.replica")

_RENEWALS_IN_A_LEASE = 3
_DEFECT = "What the other replicas wrote cannot be read; the log says why."
_NOT_ASKED = "No replica has asked the scheduler yet."
_RETIRING_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaOptions:
    """How quickly replicas notice each other.

    Attributes:
        news_seconds: from one look at what the others wrote to the next.
        lease_seconds: how long whoever asks the scheduler may be silent before another does.
        listed_for: how long a finished job stays in the listing.
        listed_at_most: how many finished jobs are kept in memory for it, the newest.
    """

    news_seconds: float
    lease_seconds: float
    listed_for: timedelta
    listed_at_most: int


class Replica:
    """Keeps the board in step with the database, and has the monitor run while it is its turn."""

    def __init__(
        self,
        store: JobStore,
        lease: Lease,
        bulletin: Bulletin,
        board: Board,
        monitor: Monitor,
        options: ReplicaOptions,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._lease = lease
        self._bulletin = bulletin
        self._board = board
        self._monitor = monitor
        self._options = options
        self._now = clock
        self._known = 0
        self._asking: asyncio.Task[bool] | None = None
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
            await asyncio.sleep(self._options.news_seconds)

    async def retire(self) -> None:
        """Take down what is over and need not stay; whoever asks the scheduler does so anyway."""
        snapshot = self._board.snapshot
        horizon = self._now() - self._options.listed_for
        retiring = await asyncio.to_thread(_retired, snapshot, horizon, self._options)
        entries = self._board.snapshot.entries
        # One may have been put back meanwhile.
        gone = [u for u in retiring.uids if u in entries and entries[u].is_over]
        self._board.put(gone=gone, complete_since=retiring.newest)

    async def catch_up(self) -> None:
        """Put up what the others have written since the last time.

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
        if not self._is_watching:
            # Who watches knows better.
            self._board.put((), (), news.as_of)
            self._monitor.health = _health(news)
        # What cannot be written keeps nothing from being read.
        await self._bulletin.pay()

    def _take_in(self, news: News) -> None:
        entries = self._board.snapshot.entries
        horizon = self._now() - self._options.listed_for

        def is_worth_it(record: JobRecord) -> bool:
            entry = entries.get(record.uid)
            if entry is None:
                return not _is_over(record, horizon)
            return entry.record.revision < record.revision

        self._board.put((), news.gone)
        self._bulletin.adopt(*(record for record in news.changed if is_worth_it(record)))
        self._known = news.change

    async def _take_turns(self) -> None:
        is_clear = True
        while True:
            try:
                await self._turn(is_ours=await self._take())
                is_clear = True
            except (StoreUnavailable, TimeoutError) as error:
                if is_clear:
                    _log.warning("lease.unclear", problem=str(error) or "no answer in time")
                is_clear = False
                await self._turn(is_ours=False)
            except Exception:
                _log.exception("replica.failed")
                await self._turn(is_ours=False)
            await asyncio.sleep(self._options.lease_seconds / _RENEWALS_IN_A_LEASE)

    async def _take(self) -> bool:
        """Take or renew the lease; another replica may have it when that takes too long."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._lease.take())
        async with asyncio.timeout(self._options.lease_seconds):
            await asyncio.wait([self._asking])
        asked, self._asking = self._asking, None
        return asked.result()

    async def _turn(self, *, is_ours: bool) -> None:
        if is_ours and not self._is_watching:
            _log.info("lease.taken", holder=self._lease.holder)
            await self._start_watching()
        elif not is_ours and self._is_watching:
            _log.warning("lease.lost", holder=self._lease.holder)
            await self._stop_watching()

    @property
    def _is_watching(self) -> bool:
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


def _retired(snapshot: Snapshot, horizon: datetime, options: ReplicaOptions) -> Retired:
    over = (entry.record for entry in snapshot.entries.values() if entry.is_over)
    return retired(over, horizon, options.listed_at_most)


def _health(news: News) -> Health:
    if news.as_of is None:
        return Health(answered=False, problem=news.problem or _NOT_ASKED)
    return Health(answered=news.problem is None, problem=news.problem)


def _is_over(record: JobRecord, horizon: datetime) -> bool:
    return record.is_ours and record.is_settled and record.state_changed_at < horizon
