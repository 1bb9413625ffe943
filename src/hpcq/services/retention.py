"""How long things are kept: what is older is taken out of the records, little by little."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from hpcq.domain.errors import LeaseLost, SchedulerError, StoreUnavailable
from hpcq.schedulers.base import KeepsRecords, SchedulerBackend
from hpcq.storage.pruning import Pruner

__all__ = ["Retention", "RetentionOptions"]

_log = structlog.get_logger("hpcq.retention")

_FIRST = timedelta(seconds=10)
_EVERY = timedelta(hours=1)
_OTHERS_KEPT = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionOptions:
    """For how long things are kept.

    Attributes:
        records: records of our own jobs after their end; None for ever.
        events: events.
        keys: idempotency keys. A record stays as long as its key is remembered.
        listed: how long a finished job stays in the listing; its record does so too.
    """

    records: timedelta | None
    events: timedelta
    keys: timedelta
    listed: timedelta


class Retention:
    """Looks soon after the start, and then every hour, what has been kept for long enough.

    Args:
        pruner: deletes one batch at a time, so that whoever wants to write in between can.
        backend: the scheduler, whose own records are kept as long if it has any.
        open_since: says when the oldest submission began whose job the scheduler may have or not;
            the scheduler must be able to say that it ran.
        options: see there.
        clock: the present, aware.
    """

    def __init__(
        self,
        pruner: Pruner,
        backend: SchedulerBackend,
        open_since: Callable[[], datetime | None],
        options: RetentionOptions,
        clock: Callable[[], datetime],
    ) -> None:
        self._pruner = pruner
        self._backend = backend
        self._open_since = open_since
        self._options = options
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
            # Whoever asks the scheduler sees to this too.
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
        options, pruner, at = self._options, self._pruner, self._now()
        if options.records is not None:
            kept = max(options.records, options.keys, options.listed)
            await self._empty("records", pruner.prune_jobs, at - kept)
            if isinstance(self._backend, KeepsRecords):
                before = min(at - kept, self._open_since() or at)
                await self._empty("scheduler", self._backend.forget, before)
        await self._empty("others", pruner.prune_others, at - max(_OTHERS_KEPT, options.listed))
        await self._empty("keys", pruner.prune_keys, at - options.keys)
        await self._empty("events", pruner.prune_events, at - options.events)

    async def _empty(
        self, what: str, prune: Callable[[datetime], Awaitable[int]], before: datetime
    ) -> None:
        deleted = 0
        while batch := await prune(before):
            deleted += batch
        if deleted:
            _log.info("retention.deleted", what=what, count=deleted, older_than=before)
