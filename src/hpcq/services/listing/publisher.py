"""Publication of changes: the database first, then the table.

Two kinds of changes meet here. A change by this service itself (a submission, a cancellation) is
true at once. An answer of the scheduler was true when it was asked, which may be earlier.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime

from hpcq.domain import sampling
from hpcq.domain.errors import StoreUnavailable
from hpcq.domain.events import EventDraft
from hpcq.domain.jobs import JobRecord, JobUid
from hpcq.services.listing.job_table import JobTable
from hpcq.storage.jobs import JobStore
from hpcq.storage.pending_writes import PendingWrites

__all__ = ["JobPublisher"]

# Other writers wait for a transaction to end; this many records take about half a second.
_WRITTEN_AT_ONCE = 2_000

_Versions = tuple[JobRecord | None, JobRecord]


class JobPublisher:
    """Publishes changes of jobs: writes them to the store, then shows them in the table.

    Args:
        store: holds the records.
        pending: writes changes that have happened already, now or later.
        table: shows the records.
        holder: this process's name in the lease; None where it needs none.
        clock: the present, aware.
    """

    def __init__(
        self,
        store: JobStore,
        pending: PendingWrites,
        table: JobTable,
        holder: str | None,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._pending = pending
        self._table = table
        self._holder = holder
        self._now = clock
        # The times of changes that no answer of the scheduler made, and of open questions to it;
        # by the monotonic clock.
        self._locally_changed: dict[JobUid, float] = {}
        self._asking: list[float] = []

    async def apply(
        self, uid: JobUid, change: Callable[[JobRecord], JobRecord]
    ) -> JobRecord | None:
        """Change one job on this service's own account: in the store, and then in the table.

        Answers of the scheduler that were asked for before are not believed about it.

        Returns:
            The job as it is now, or None when the table does not show it.

        Raises:
            StoreUnavailable: it could not be written; that is tried again with every look.
        """
        entry = self._table.entries.get(uid)
        if entry is None:
            return None
        self._note_local_change(uid)
        record = await self._pending.change(uid, change)
        if record is None:
            # Another user's job, which is not kept.
            record = change(entry.record)
        self.show(record)
        return record

    def show(self, *records: JobRecord) -> None:
        """Show versions of records that did not come from the scheduler, if they are newer."""
        entries = self._table.entries
        newer = []
        for record in records:
            entry = entries.get(record.uid)
            if entry is None or entry.record.revision <= record.revision:
                self._note_local_change(record.uid)
                newer.append(record)
        if newer:
            self._table.apply(newer)

    async def flush(self) -> None:
        """Write the changes that could not be written before.

        Raises:
            StoreUnavailable: it still cannot be.
        """
        self.show(*await self._pending.flush())

    @contextlib.contextmanager
    def asking(self) -> Iterator[float]:
        """Yield the present; answers to what is asked from now on may be older than what we do."""
        began = time.monotonic()
        self._asking.append(began)
        try:
            yield began
        finally:
            self._asking.remove(began)
            oldest = min(self._asking, default=time.monotonic())
            self._locally_changed = {
                uid: at for uid, at in self._locally_changed.items() if at >= oldest
            }

    def locally_changed_since(self, began: float) -> set[JobUid]:
        """Return the jobs that changed since, about which an answer asked for then is too old."""
        return {uid for uid, at in self._locally_changed.items() if at >= began}

    async def publish(
        self,
        changed: Sequence[JobRecord],
        began: float,
        *,
        gone: Sequence[JobUid] = (),
        complete_since: datetime | None = None,
        as_of: datetime | None = None,
        event_drafts: Sequence[EventDraft] = (),
    ) -> set[JobUid]:
        """Write, then show, the jobs that did not change otherwise since we ``began`` to ask.

        Args:
            changed: jobs as the scheduler's answer makes them.
            began: as `asking` gave it.
            gone: jobs that leave the table.
            complete_since: see `JobTable.apply`.
            as_of: when the scheduler was asked, if it was for its whole queue.
            event_drafts: what else there is to tell.

        Returns:
            Those that were shown.

        Raises:
            StoreUnavailable: what is kept could not be written, and was not shown.
            LeaseLost: another replica asks the scheduler now; nothing was written.
        """
        if not changed and not gone and as_of is None:
            return set()
        is_shared, locally_changed = self._store.is_shared, self.locally_changed_since(began)
        fresh = [r for r in changed if r.uid not in locally_changed]
        kept = [r for r in fresh if r.submitted_here or is_shared]
        seen = [r for r in fresh if not (r.submitted_here or is_shared)]
        left = gone if is_shared else ()
        *earlier, (versions, last_gone) = _portions(list(self._with_before(kept)), left)
        shown: set[JobUid] = set()
        try:
            for some, some_gone in earlier:
                written = await self._store.publish(
                    some, holder=self._holder, gone=some_gone, samples=self._samples(some)
                )
                shown |= self._show_written(written, some_gone, began)
            written = await self._store.publish(
                versions,
                holder=self._holder,
                gone=last_gone,
                event_drafts=event_drafts,
                samples=self._samples(versions),
                as_of=as_of,
            )
        except StoreUnavailable:
            self._table.apply(seen, () if is_shared else gone, complete_since=complete_since)
            raise
        shown |= self._show_written([*seen, *written], gone, began, as_of, complete_since)
        await self._reconsider(versions, written)
        return shown

    async def unanswered(self, problem: str) -> None:
        """Let the other replicas know that the scheduler does not answer, and why.

        Raises:
            StoreUnavailable, LeaseLost: as `publish` does.
        """
        await self._store.publish([], holder=self._holder, problem=problem)

    def _note_local_change(self, uid: JobUid) -> None:
        # No answer can be older than this while nothing is being asked.
        if self._asking:
            self._locally_changed[uid] = time.monotonic()

    def _show_written(
        self,
        records: Iterable[JobRecord],
        gone: Sequence[JobUid],
        began: float,
        as_of: datetime | None = None,
        complete_since: datetime | None = None,
    ) -> set[JobUid]:
        locally_changed = self.locally_changed_since(began)
        still = [r for r in records if r.uid not in locally_changed or self._is_newer(r)]
        self._table.apply(still, gone, as_of, complete_since)
        return {r.uid for r in still}

    def _is_newer(self, record: JobRecord) -> bool:
        """Return whether the table shows an earlier version of the record."""
        entry = self._table.entries.get(record.uid)
        return entry is not None and entry.record.revision < record.revision

    async def _reconsider(
        self, versions: Sequence[_Versions], written: Sequence[JobRecord]
    ) -> None:
        """Show what the store has of jobs that turned out to be other than the table shows."""
        known = {record.uid for record in written}
        refused = [new.uid for _, new in versions if new.uid not in known]
        if refused:
            stored = await self._store.by_uids(refused)
            entries = self._table.entries
            # What the table shows of a version may be more than is written of it yet.
            self.show(*(r for r in stored if r.uid not in entries or self._is_newer(r)))

    def _with_before(self, changed: Iterable[JobRecord]) -> Iterator[_Versions]:
        """Yield records with their version before; those that have a newer one are left out."""
        entries = self._table.entries
        for new in changed:
            entry = entries.get(new.uid)
            if entry is None:
                yield None, new
            elif entry.record.revision == new.revision:
                yield entry.record, new

    def _samples(self, versions: Sequence[_Versions]) -> list[sampling.Sample]:
        """Return the samples of usage that changes of records bring."""
        at = self._now()
        found = (sampling.sample(old, new, at) for old, new in versions)
        return [sample for sample in found if sample is not None]


def _portions(
    versions: Sequence[_Versions], gone: Sequence[JobUid]
) -> Sequence[tuple[Sequence[_Versions], Sequence[JobUid]]]:
    """Split what is to be written, one for each transaction; there is at least one."""
    if len(versions) + len(gone) <= _WRITTEN_AT_ONCE:
        return [(versions, gone)]
    step = _WRITTEN_AT_ONCE
    return [
        *((versions[i : i + step], ()) for i in range(0, len(versions), step)),
        *(((), gone[i : i + step]) for i in range(0, len(gone), step)),
    ]
