"""Entries of jobs that the table does not show."""

from collections.abc import Sequence

from hpcq.domain.arrays import count_tasks
from hpcq.domain.jobs import JobRecord
from hpcq.services.listing.job_table import JobEntry
from hpcq.services.listing.wire import WireFormat
from hpcq.storage.jobs import JobStore

__all__ = ["entries_of"]


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
