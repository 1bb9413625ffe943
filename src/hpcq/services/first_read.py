"""What a job's first reader is told: all that the scheduler knows, not only what listings show."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from hpcq.domain import life
from hpcq.domain.errors import HpcqError
from hpcq.domain.jobs import JobRecord, JobUid, NativeId, Observation
from hpcq.domain.states import JobState
from hpcq.schedulers.base import SchedulerBackend
from hpcq.services.asking import Asker
from hpcq.services.bulletin import Bulletin
from hpcq.services.snapshot import Board

__all__ = ["FirstReader"]

_PATIENCE_SECONDS = 2.0


class FirstReader:
    """Asks for the details of jobs that nobody has asked for before.

    Args:
        backend: the scheduler.
        board: where the jobs are.
        bulletin: publishes what is told.
        again_seconds: how long a job is not asked about of which nothing was told.
        clock: the present, aware.
    """

    def __init__(
        self,
        backend: SchedulerBackend,
        board: Board,
        bulletin: Bulletin,
        again_seconds: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._backend = backend
        self._board = board
        self._bulletin = bulletin
        self._again_seconds = again_seconds
        self._now = clock
        self._told: set[JobUid] = set()
        self._asked: dict[JobUid, float] = {}
        self._asker: Asker[None] = Asker(self._ask)

    async def complete(self, record: JobRecord) -> None:
        """Have the board show all that the scheduler knows of a job, if that is told in time."""
        if record.native_id is None or not self._is_to_be_asked(record):
            return
        with contextlib.suppress(HpcqError, TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._asker.get(record.native_id)
        self._asked[record.uid] = asyncio.get_running_loop().time()

    def _is_to_be_asked(self, record: JobRecord) -> bool:
        is_somewhere = not record.is_settled and record.state is not JobState.UNDETERMINED
        if not is_somewhere or record.hand_over is not None or record.uid in self._told:
            return False
        asked = self._asked.get(record.uid)
        time = asyncio.get_running_loop().time()
        return asked is None or time - asked >= self._again_seconds

    async def _ask(self, ids: Sequence[str]) -> Mapping[str, None]:
        at, snapshot = self._now(), self._board.snapshot
        # Of those that have left the board nothing is to be remembered.
        self._told = {uid for uid in self._told if uid in snapshot.entries}
        self._asked = {u: t for u, t in self._asked.items() if u in snapshot.entries}
        listing = await self._backend.details([NativeId(i) for i in ids])
        await asyncio.gather(*(self._take_in(seen, at) for seen in listing.observations))
        return dict.fromkeys(ids)

    async def _take_in(self, seen: Observation, at: datetime) -> None:
        entry = self._board.snapshot.entry(seen.native_id)
        if entry is None or seen.state.is_final or not life.same_job(entry.record, seen):
            return
        self._told.add(entry.record.uid)

        def told(record: JobRecord) -> JobRecord:
            if record.seen is None and record.hand_over is None:
                return life.observe(record, seen, at)
            return life.with_details(record, seen, at)

        await self._bulletin.apply(entry.record.uid, told)
