"""The cluster as the scheduler shows it: its queues, its hosts, its version."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from hpcq.domain.errors import SchedulerError
from hpcq.schedulers.base import Node, Queue, SchedulerBackend
from hpcq.services.settings import ServiceSettings

__all__ = ["ClusterReader", "Seen"]

_T = TypeVar("_T")

_VERSION_KEPT = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Seen(Generic[_T]):
    """An answer of the scheduler, and when it was given."""

    answer: _T
    at: datetime


class ClusterReader:
    """Reader of the cluster, for any number of clients: each question is asked once an interval.

    What was seen last stands in while the scheduler does not answer.

    Args:
        backend: the scheduler.
        settings: how long an answer counts as new.
        clock: the present, aware.
    """

    def __init__(
        self, backend: SchedulerBackend, settings: ServiceSettings, clock: Callable[[], datetime]
    ) -> None:
        interval = timedelta(seconds=settings.poll_interval_seconds)
        self._queues = _Question(backend.queues, interval, clock)
        self._nodes = _Question(backend.nodes, interval, clock)
        self._version = _Question(backend.version, _VERSION_KEPT, clock)

    async def queues(self) -> Seen[Sequence[Queue]]:
        """Return the queues.

        Raises:
            SchedulerError: the scheduler does not answer, and never has.
        """
        return await self._queues.ask()

    async def nodes(self) -> Seen[Sequence[Node]]:
        """Return the hosts. Raises as `queues`."""
        return await self._nodes.ask()

    async def version(self) -> str | None:
        """Return the scheduler's name and version in its own words; None while it is unknown."""
        try:
            return (await self._version.ask()).answer
        except SchedulerError:
            return None


class _Question(Generic[_T]):
    """A question to the scheduler, and what it last answered."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[_T]],
        kept: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        self._ask = ask
        self._kept = kept
        self._now = clock
        self._seen: Seen[_T] | None = None
        self._asking: asyncio.Task[Seen[_T]] | None = None

    async def ask(self) -> Seen[_T]:
        """Return an answer that is new, or the newest while there is no other."""
        seen = self._seen
        if seen is not None and self._now() - seen.at < self._kept:
            return seen
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_once())
        try:
            # The task answers all who wait, so it goes on when one of them goes.
            return await asyncio.shield(self._asking)
        except SchedulerError:
            if seen is None:
                raise
            return seen

    async def _ask_once(self) -> Seen[_T]:
        try:
            self._seen = Seen(await self._ask(), self._now())
            return self._seen
        finally:
            self._asking = None
