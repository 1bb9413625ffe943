"""Lookup of jobs that are not in the table: in the records, the accounting and the queue.

The queue is asked too, because no listing shows a job yet that was submitted a moment ago.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from hpcq.domain import identity, job_merge, submission
from hpcq.domain.jobs import JobRecord, JobUid, NativeId, Observation
from hpcq.schedulers.base import Listing, SchedulerBackend
from hpcq.services.batching import QueryBatcher
from hpcq.services.circuit_breaker import is_away
from hpcq.services.settings import ServiceSettings
from hpcq.storage.jobs import JobStore

__all__ = ["JobLookup"]

_REMEMBERED_IDS = 10_000
# The time from one question about a job to the next. The answer is fresh, and those who ask again
# and again for an id that nobody knows are no load.
_SAME_JOB_SECONDS = 0.3
_LONG_AGO = datetime.min.replace(tzinfo=UTC)

_T = TypeVar("_T")
_Answer = JobRecord | Exception | None


@dataclass(slots=True)
class _Answers:
    """The accounting's answer about one job, and the time until which it is not asked again."""

    seen: Sequence[Observation]
    good_until: float


class JobLookup:
    """Finds jobs by id beyond the table.

    One command at a time asks the scheduler for all ids that wait. The accounting's answers are
    remembered for a while; the queue is asked anew, about one job at most once in 0.3 s.
    """

    def __init__(
        self,
        backend: SchedulerBackend,
        store: JobStore,
        cluster_id: str,
        settings: ServiceSettings,
        clock: Callable[[], datetime],
    ) -> None:
        self._backend = backend
        self._store = store
        self._cluster_id = cluster_id
        self._interval_seconds = settings.poll_interval_seconds
        self._now = clock
        self._answers: OrderedDict[NativeId, _Answers] = OrderedDict()
        self._asked_at: OrderedDict[NativeId, float] = OrderedDict()
        self._batcher: QueryBatcher[JobRecord | None] = QueryBatcher(self._ask)
        self._queue_batcher: QueryBatcher[JobRecord | None] = QueryBatcher(self._ask_queue)

    async def find(self, job_id: JobUid | NativeId) -> JobRecord | None:
        """Return the newest job with this id, or None when there is none.

        Raises:
            StoreUnavailable, SchedulerError: it cannot be said at present.
        """
        if isinstance(job_id, JobUid):
            return await self._store.by_uid(job_id)
        return await self._store.by_native_id(job_id) or await self.look_up(job_id)

    async def find_array(self, native_id: NativeId) -> JobRecord | None:
        """Return the array with this id that is ours or in the queue.

        Written as only a whole array's, an id reaches no other command than a listing's.

        Raises:
            StoreUnavailable, SchedulerError: it cannot be said at present.
        """
        stored = await self._store.by_native_id(native_id)
        if stored is not None:
            return stored
        await self._wait_to_ask(native_id)
        return await self._queue_batcher.get(native_id)

    async def look_up(self, native_id: NativeId) -> JobRecord | None:
        """Return the newest job with this id that the scheduler shows.

        Raises:
            SchedulerError: it cannot be said at present.
        """
        await self._wait_to_ask(native_id)
        return await self._batcher.get(native_id)

    async def _wait_to_ask(self, native_id: NativeId) -> None:
        asked_at = self._asked_at.get(native_id)
        if asked_at is not None:
            now = asyncio.get_running_loop().time()
            await asyncio.sleep(max(0.0, asked_at + _SAME_JOB_SECONDS - now))

    async def _ask(self, ids: Sequence[str]) -> Mapping[str, _Answer]:
        wanted = [NativeId(i) for i in ids]
        ended, queued = await asyncio.gather(
            self._history(wanted), self._details(wanted), return_exceptions=True
        )
        for failure in (ended, queued):
            if isinstance(failure, Exception) and len(ids) > 1 and not is_away(failure):
                # One of them may have spoilt the question for the others.
                half = len(ids) // 2
                return {**await self._ask(ids[:half]), **await self._ask(ids[half:])}
            if isinstance(failure, BaseException) and not isinstance(failure, Exception):
                raise failure
        found: dict[str, Observation] = {}
        problem: Exception | None = None
        for told in (ended, queued):
            if isinstance(told, Listing):
                found |= {seen.native_id: seen for seen in sorted(told.observations, key=_age)}
                problem = told.partial_reason or problem
            elif isinstance(told, Exception):
                problem = problem or told
        records = await self._records([found[i] for i in ids if i in found])
        return {i: records.get(i, problem) for i in ids}

    async def _ask_queue(self, ids: Sequence[str]) -> Mapping[str, _Answer]:
        listing = await self._details([NativeId(i) for i in ids])
        records = await self._records(
            [seen for seen in listing.observations if seen.native_id in ids]
        )
        return {i: records.get(i) for i in ids}

    async def _details(self, ids: Sequence[NativeId]) -> Listing:
        now = asyncio.get_running_loop().time()
        for native_id in ids:
            _remember(self._asked_at, native_id, now)
        return await self._backend.details(ids)

    async def _history(self, ids: Sequence[NativeId]) -> Listing:
        """Ask the accounting for those that it was not asked about lately."""
        time = asyncio.get_running_loop().time
        told = {i: self._answers[i].seen for i in ids if i in self._answers}
        told = {i: seen for i, seen in told.items() if self._answers[i].good_until > time()}
        new = [i for i in ids if i not in told]
        listing = await self._backend.history(new) if new else Listing()
        known: dict[NativeId, list[Observation]] = {}
        for seen in listing.observations:
            known.setdefault(seen.native_id, []).append(seen)
        for native_id in new:
            seen_now = known.get(native_id, [])
            if seen_now or listing.partial_reason is None:
                answers = _Answers(seen_now, time() + self._interval_seconds)
                _remember(self._answers, native_id, answers)
            told[native_id] = seen_now
        observations = [seen for answers in told.values() for seen in answers]
        return Listing(observations=observations, partial_reason=listing.partial_reason)

    async def _records(self, told: Sequence[Observation]) -> Mapping[str, JobRecord]:
        """Return the records of observed jobs; their keys tell which were submitted here."""
        at = self._now()
        uids = {seen.submission_key.uid for seen in told if seen.submission_key}
        ours = {r.uid: r for r in await self._store.by_uids(sorted(uids))} if uids else {}
        records = {}
        for seen in told:
            own = None if seen.submission_key is None else ours.get(seen.submission_key.uid)
            if seen.array_task_id is not None:
                own = await self._task(own, seen, at)
            if own is not None and identity.same_job(own, seen):
                record = job_merge.observe(submission.submitted(own, seen.native_id, at), seen, at)
            else:
                record = job_merge.foreign_record(self._cluster_id, seen, at)
            records[str(seen.native_id)] = record.changed(confirmed_at=at)
        return records

    async def _task(
        self, array: JobRecord | None, seen: Observation, at: datetime
    ) -> JobRecord | None:
        """Return the record of a task of an array of ours; None for any other."""
        if array is None and seen.array_job_id is not None:
            array = await self._store.by_native_id(NativeId(seen.array_job_id))
        number = seen.array_task_id
        if number is None or array is None or not array.submitted_here:
            return None
        if not identity.is_task_of(array, seen):
            return None
        known = await self._store.by_uid(array.uid.of_task(number))
        return known or submission.task_of(array, seen.native_id, number, at)


def _remember(known: OrderedDict[NativeId, _T], native_id: NativeId, value: _T) -> None:
    known[native_id] = value
    known.move_to_end(native_id)
    while len(known) > _REMEMBERED_IDS:
        known.popitem(last=False)


def _age(seen: Observation) -> datetime:
    return seen.submit_time or seen.end_time or _LONG_AGO
