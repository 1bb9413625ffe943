"""What running jobs use: asked for our own, and for those that somebody reads."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog

from hpcq.domain import life
from hpcq.domain.errors import HpcqError
from hpcq.domain.jobs import JobRecord, JobUid, NativeId, Observation
from hpcq.domain.states import JobState
from hpcq.schedulers.base import SchedulerBackend
from hpcq.services.snapshot import Board, Snapshot

__all__ = ["UsageReader"]

_log = structlog.get_logger("hpcq.monitor")


class UsageReader:
    """Asks once per interval, and only about jobs whose usage somebody may want to know.

    Args:
        backend: the scheduler.
        board: where the jobs are.
        every: from one question to the next.
        interest_for: how long a job that somebody read is asked about.
        clock: the present, aware.
    """

    def __init__(
        self,
        backend: SchedulerBackend,
        board: Board,
        every: timedelta,
        interest_for: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        self._backend = backend
        self._board = board
        self._every = every
        self._interest_for = interest_for
        self._now = clock
        self._interest: dict[JobUid, datetime] = {}
        self._all_read_at: datetime | None = None
        self._asked_at: datetime | None = None

    def read(self, uid: JobUid) -> None:
        """Take note that somebody reads this job, and so wants to know its usage."""
        self._interest[uid] = self._now()

    def read_all(self) -> None:
        """Take note that somebody reads the usage of every running job."""
        self._all_read_at = self._now()

    async def ask(self) -> list[JobRecord]:
        """Return the jobs of which something new was said, if it is time to ask."""
        at = self._now()
        if self._asked_at is not None and at - self._asked_at < self._every:
            return []
        horizon = at - self._interest_for
        self._interest = {u: t for u, t in self._interest.items() if t >= horizon}
        read = self._all_read_at is not None and self._all_read_at >= horizon
        wanted = await asyncio.to_thread(self._wanted, self._board.snapshot, all_running=read)
        if not wanted:
            return []
        self._asked_at = at
        try:
            listing = await self._backend.details(wanted)
        except HpcqError as error:
            _log.warning("details.unanswered", problem=error.detail, jobs=len(wanted))
            return []
        return self._changed(listing.observations, at)

    def _changed(self, observations: Sequence[Observation], at: datetime) -> list[JobRecord]:
        snapshot = self._board.snapshot
        changed = []
        for seen in observations:
            entry = snapshot.entry(seen.native_id)
            if entry is None or seen.state.is_final or not life.same_job(entry.record, seen):
                continue
            record = life.with_details(entry.record, seen, at)
            if record != entry.record:
                changed.append(record)
        return changed

    def _wanted(self, snapshot: Snapshot, *, all_running: bool) -> list[NativeId]:
        """Return whom to ask about: our running jobs and whatever somebody has read."""
        return [
            r.native_id
            for r in snapshot.records()
            if r.native_id is not None
            and r.confirmed_at is None
            and (
                r.uid in self._interest
                or (r.state is JobState.RUNNING and (r.is_ours or all_running))
            )
        ]
