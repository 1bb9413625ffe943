"""Retention: what is older than its time is deleted from the records, little by little."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import structlog

from hpcq.domain.errors import LeaseLost, SchedulerError, StoreUnavailable
from hpcq.schedulers.abilities import KeepsRecords
from hpcq.schedulers.base import SchedulerBackend
from hpcq.services.settings import ServiceSettings
from hpcq.storage.pruning import Pruner

__all__ = ["Retention"]

_log = structlog.get_logger("hpcq.retention")

_FIRST = timedelta(seconds=10)
_EVERY = timedelta(hours=1)
_OTHERS_KEPT = timedelta(days=1)


class Retention:
    """Deletes, soon after the start and then every hour, what has been kept for long enough.

    Args:
        pruner: deletes one batch at a time, so that others can write in between.
        backend: the scheduler; its own records, if it has any, are kept as long.
        open_since: returns the beginning of the oldest unclear submission; the scheduler must
            keep its records until that is decided.
        settings: for how long things are kept.
        clock: the present, aware.
    """

    def __init__(
        self,
        pruner: Pruner,
        backend: SchedulerBackend,
        open_since: Callable[[], datetime | None],
        settings: ServiceSettings,
        clock: Callable[[], datetime],
    ) -> None:
        self._pruner = pruner
        self._backend = backend
        self._open_since = open_since
        self._settings = settings
        self._now = clock

    async def run(self) -> None:
        """Sweep again and again, until cancelled."""
        pause = _FIRST
        while True:
            await asyncio.sleep(pause.total_seconds())
            await self.sweep_and_report()
            pause = _EVERY

    async def sweep_and_report(self) -> None:
        """Sweep once; what goes wrong is logged, and is tried again with the next sweep."""
        try:
            await self.sweep()
        except LeaseLost:
            # The replica that polls the scheduler does this too.
            return
        except (SchedulerError, StoreUnavailable) as error:
            _log.warning("retention.behind", problem=error.detail)
        except Exception:
            _log.exception("retention.failed")

    async def sweep(self) -> None:
        """Delete all that has been kept for long enough.

        Raises:
            StoreUnavailable: the database cannot be used.
            SchedulerError: the scheduler's records cannot.
            LeaseLost: that is another replica's task now.
        """
        settings, pruner, at = self._settings, self._pruner, self._now()
        listed = timedelta(seconds=settings.finished_jobs_listed_seconds)
        keys = timedelta(seconds=settings.idempotency_keys_kept_seconds)
        if settings.records_kept_days is not None:
            kept = max(timedelta(days=settings.records_kept_days), keys, listed)
            await self._empty("records", pruner.prune_jobs, at - kept)
            if isinstance(self._backend, KeepsRecords):
                before = min(at - kept, self._open_since() or at)
                await self._empty("scheduler", self._backend.forget, before)
        await self._empty("others", pruner.prune_others, at - max(_OTHERS_KEPT, listed))
        await self._empty("keys", pruner.prune_keys, at - keys)
        events = timedelta(days=settings.events_kept_days)
        await self._empty("events", pruner.prune_events, at - events)
        queues = timedelta(days=settings.queue_usage_kept_days)
        await self._empty("queues", pruner.prune_queue_samples, at - queues)

    async def _empty(
        self, what: str, prune: Callable[[datetime], Awaitable[int]], before: datetime
    ) -> None:
        deleted = 0
        while batch := await prune(before):
            deleted += batch
        if deleted:
            _log.info("retention.deleted", what=what, count=deleted, older_than=before)
