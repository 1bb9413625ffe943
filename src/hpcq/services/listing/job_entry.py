"""A job as readers get it: one version of its record, with its JSON made once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from hpcq.domain.arrays import count_tasks
from hpcq.domain.job_filter import JobFacts, facts_of
from hpcq.domain.jobs import JobRecord
from hpcq.domain.states import JobState
from hpcq.services.listing.wire import WireFormat
from hpcq.storage.jobs import JobStore

__all__ = ["Freshness", "JobEntry", "entries_of"]


@dataclass(frozen=True, slots=True)
class Freshness:
    """The time of the scheduler's newest answer, and whether that is too long ago."""

    as_of: datetime | None
    stale: bool


class JobEntry:
    """One version of a job in the table, with its JSON as far as readers asked for it.

    Attributes:
        is_over: whether it was submitted here and nothing more is asked about it.
        tasks: of an array, how many of its tasks are in each state.
    """

    def __init__(
        self,
        record: JobRecord,
        wire: WireFormat,
        change: str | None = None,
        tasks: Mapping[JobState, int] | None = None,
    ) -> None:
        self.record = record
        self.tasks = tasks
        self._change = change
        # Every poll passes all entries by.
        self.is_over = record.submitted_here and record.is_settled
        self._wire = wire

    @property
    def is_listed(self) -> bool:
        """True when the listing shows it."""
        return self._wire.is_listed(self.record)

    @property
    def version(self) -> str:
        """A word that no other version of any job has."""
        if self._change is not None:
            return self._change
        tasks = "" if self.tasks is None else sorted(self.tasks.items())
        return f"{self.record.uid}:{self.record.revision}:{tasks}"

    @cached_property
    def facts(self) -> JobFacts:
        """The facts by which listings are filtered and sorted."""
        return facts_of(self.record)

    @cached_property
    def arrival(self) -> tuple[datetime, int, str, str]:
        """The job's place in the listing: when it came. Jobs that came together go by their ids."""
        record = self.record
        native_id = record.native_id or ""
        return record.created_at, len(native_id), native_id, record.uid

    @cached_property
    def _stable_json(self) -> bytes:
        return self._wire.encode_stable(self.record, usage=True, tasks=self.tasks)

    @cached_property
    def _stable_json_without_usage(self) -> bytes:
        return self._wire.encode_stable(self.record, usage=False, tasks=self.tasks)

    def json(self, freshness: Freshness, *, usage: bool = True) -> bytes:
        """Return the job's JSON; with ``usage``, ``resourceUsage`` is filled in."""
        return b"".join(self.json_parts(freshness, usage=usage))

    def json_parts(self, freshness: Freshness, *, usage: bool) -> tuple[bytes, bytes]:
        """Return the job's JSON as what stays the same until the job changes, and the rest."""
        wire, record, seen = self._wire, self.record, self.record.seen
        as_of = record.confirmed_at or freshness.as_of
        stable = self._stable_json if usage else self._stable_json_without_usage
        if wire.is_original:
            # A change through this service may be newer than the last look at the queue.
            changed_at = record.state_changed_at
            stable = wire.fill_confirmed_at(stable, max(as_of or changed_at, changed_at))
        start = None if seen is None else seen.start_time
        if start is None and record.confirmed_at is None:
            return stable, wire.volatile_of_waiting(as_of, stale=freshness.stale)
        until = as_of if seen is None else seen.end_time or as_of
        elapsed = None
        if start is not None and until is not None:
            elapsed = max(0, int((until - start).total_seconds()))
        stale = freshness.stale and not record.state.is_final
        return stable, wire.encode_volatile(elapsed, as_of, stale=stale)


async def entries_of(
    records: Sequence[JobRecord], store: JobStore, wire: WireFormat
) -> list[JobEntry]:
    """Return entries of records, arrays with the number of their tasks in each state.

    Raises:
        StoreUnavailable: the tasks cannot be read.
    """
    arrays = [record.uid for record in records if record.submitted_here and record.is_array]
    known = await store.task_counts(arrays)
    return [
        JobEntry(
            record,
            wire,
            tasks=count_tasks(record, known.get(record.uid, {})) if record.is_array else None,
        )
        for record in records
    ]
