"""Jobs that are not on the board: in this service's records, or in the scheduler's accounting.

However many clients ask for however many ids, the accounting is asked by one command at a time,
for all ids that wait together; what it does not know is not asked again for a while.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from hpcq.domain import life, submission
from hpcq.domain.jobs import JobRecord, JobUid, NativeId, Observation, SubmissionKey
from hpcq.schedulers.base import SchedulerBackend
from hpcq.storage.jobs import JobStore

__all__ = ["Archive"]

_REMEMBERED_IDS = 10_000
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class _Answer:
    record: JobRecord | None
    good_until: float


class Archive:
    """Finds jobs by id beyond the board."""

    def __init__(
        self,
        backend: SchedulerBackend,
        store: JobStore,
        cluster_id: str,
        interval_seconds: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._backend = backend
        self._store = store
        self._cluster_id = cluster_id
        self._interval_seconds = interval_seconds
        self._now = clock
        self._answers: OrderedDict[NativeId, _Answer] = OrderedDict()
        self._waiting: dict[NativeId, asyncio.Future[JobRecord | None]] = {}
        self._asked: dict[NativeId, asyncio.Future[JobRecord | None]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def find(self, job_id: JobUid | NativeId) -> JobRecord | None:
        """Return the newest job with this id, or None when nobody knows one.

        Raises:
            StoreUnavailable, SchedulerError: it cannot be said at present.
        """
        if isinstance(job_id, JobUid):
            return await self._store.by_uid(job_id)
        return await self._store.by_native_id(job_id) or await self.accounted(job_id)

    async def accounted(self, native_id: NativeId) -> JobRecord | None:
        """Return the newest job with this id that accounting shows, whoever submitted it.

        Raises:
            SchedulerError: it cannot be said at present.
        """
        answer = self._answers.get(native_id)
        if answer is not None and answer.good_until > asyncio.get_running_loop().time():
            return answer.record
        future = self._waiting.get(native_id) or self._asked.get(native_id)
        if future is None:
            future = asyncio.get_running_loop().create_future()
            self._waiting[native_id] = future
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all())
        return await asyncio.shield(future)

    async def _ask_all(self) -> None:
        try:
            while self._waiting:
                self._asked, self._waiting = self._waiting, {}
                await self._ask(self._asked)
        finally:
            self._asked, self._asking = {}, None

    async def _ask(self, batch: dict[NativeId, asyncio.Future[JobRecord | None]]) -> None:
        try:
            listing = await self._backend.history(list(batch))
            ours = await self._ours(listing.observations)
        except Exception as error:
            for future in batch.values():
                future.set_exception(error)
                future.exception()  # those who waited may all have gone
            return
        at = self._now()
        found = {
            seen.native_id: self._record(seen, ours, at)
            for seen in sorted(listing.observations, key=_age)
        }
        good_until = asyncio.get_running_loop().time() + self._interval_seconds
        for native_id, future in batch.items():
            record = found.get(native_id)
            if record is None and listing.missing is not None:
                future.set_exception(listing.missing)
                future.exception()
                continue
            self._remember(native_id, _Answer(record, good_until))
            future.set_result(record)

    async def _ours(self, observations: Sequence[Observation]) -> dict[SubmissionKey, JobRecord]:
        """Return our own jobs by their keys: those whose ids were never written down are meant."""
        uids = {seen.submission_key.uid for seen in observations if seen.submission_key}
        records = await self._store.by_uids(sorted(uids)) if uids else ()
        return {record.key: record for record in records}

    def _record(
        self, seen: Observation, ours: Mapping[SubmissionKey, JobRecord], at: datetime
    ) -> JobRecord:
        own = None if seen.submission_key is None else ours.get(seen.submission_key)
        if own is not None and life.same_job(own, seen):
            return life.observe(submission.submitted(own, seen.native_id, at), seen, at)
        return life.first_sight(self._cluster_id, seen, at).changed(confirmed_at=at)

    def _remember(self, native_id: NativeId, answer: _Answer) -> None:
        self._answers[native_id] = answer
        self._answers.move_to_end(native_id)
        while len(self._answers) > _REMEMBERED_IDS:
            self._answers.popitem(last=False)


def _age(seen: Observation) -> datetime:
    return seen.submit_time or seen.end_time or _LONG_AGO
