"""The load of queues over time: sampled once a minute, and read by clients."""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from hpcq.domain.errors import HpcqError, LeaseLost, QueueNotFound
from hpcq.domain.queue_load import LoadPoint, QueueFigures, queue_loads
from hpcq.services.cluster import ClusterReader
from hpcq.services.listing.job_table import JobTable
from hpcq.services.settings import ServiceSettings
from hpcq.storage.queue_samples import QueueSamples

__all__ = ["QueueHistory", "QueueUsage"]

_log = structlog.get_logger("hpcq.queues")

_EVERY_SECONDS = 60.0
_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class QueueHistory:
    """The load of a queue over a time, in steps of equal length."""

    since: datetime
    until: datetime
    step: timedelta
    points: Sequence[LoadPoint]


class QueueUsage:
    """Samples the load of all queues, and tells it.

    A minute in which the scheduler did not answer has no sample.

    Args:
        cluster: asked for the queues, once a minute.
        table: the jobs.
        samples: where samples are kept.
        is_leader: whether this process is the one that asks the scheduler.
        settings: the age at which the table's jobs tell nothing of the present, and how long
            samples are kept.
        clock: the present, aware.
    """

    def __init__(
        self,
        cluster: ClusterReader,
        table: JobTable,
        samples: QueueSamples,
        is_leader: Callable[[], bool],
        settings: ServiceSettings,
        clock: Callable[[], datetime],
    ) -> None:
        self._cluster = cluster
        self._table = table
        self._samples = samples
        self._is_leader = is_leader
        self._stale_after = timedelta(seconds=settings.stale_after_seconds)
        self._kept_for = timedelta(days=settings.queue_usage_kept_days)
        self._now = clock

    async def run(self) -> None:
        """Sample again and again, until cancelled."""
        while True:
            # In the middle of each minute of the clock, so that none is left out.
            into = self._now().timestamp() % _EVERY_SECONDS
            await asyncio.sleep((_EVERY_SECONDS / 2 - into) % _EVERY_SECONDS or _EVERY_SECONDS)
            await self.sample_and_report()

    async def sample_and_report(self) -> None:
        """Sample once, if that is this process's task; what goes wrong is logged."""
        try:
            await self.sample()
        except LeaseLost:
            return
        except HpcqError as error:
            _log.warning("queues.not_sampled", problem=error.detail)
        except Exception:
            _log.exception("queues.failed")

    async def sample(self) -> None:
        """Write a sample of each queue.

        Raises:
            SchedulerError: the scheduler does not tell its queues.
            StoreUnavailable: they cannot be written.
            LeaseLost: that is another replica's task now.
        """
        if not self._is_leader() or self._table.freshness(self._now(), self._stale_after).stale:
            return
        seen = await self._cluster.queues()
        at = self._now()
        if at - seen.at > self._stale_after:
            return
        figures = [
            QueueFigures(name=q.name, slots_total=q.slots_total, slots_used=q.slots_used)
            for q in seen.answer
        ]
        records = [entry.record for entry in self._table.entries.values()]
        await self._samples.write(await asyncio.to_thread(queue_loads, figures, records), at)

    async def history(
        self, queue: str, since: datetime | None, until: datetime | None, most_points: int
    ) -> QueueHistory:
        """Return the load of a queue over a time, as far as samples are kept of it.

        Args:
            queue: its name.
            since: the beginning; None for a day before the end.
            until: the end, not included; None for now.
            most_points: how many points there are at most; each is the mean of a step.

        Raises:
            QueueNotFound: there is no such queue, and no sample of it.
            SchedulerError: it is not known whether there is one.
            StoreUnavailable: the samples cannot be read.
        """
        if "\0" in queue:
            # No database can look for it.
            raise QueueNotFound(queue)
        now = self._now()
        oldest = now - self._kept_for
        until = now if until is None else max(min(until, now), oldest)
        since = min(max(since or until - _DAY, oldest), until)
        step = max(1, math.ceil((until - since) / _MINUTE / most_points))
        points = await self._samples.read(queue, since, until, step)
        if not points and not await self._samples.has(queue):
            names = {known.name for known in (await self._cluster.queues()).answer}
            if queue not in names:
                raise QueueNotFound(queue)
        return QueueHistory(since, until, step * _MINUTE, points)
