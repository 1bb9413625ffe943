"""How the board and the database are kept in step: written first, shown then.

Two kinds of news meet here. What this service did itself (a submission, a cancellation) is true at
once. What a scheduler answered was true when it was asked, which may be before that.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime

from hpcq.domain import sampling
from hpcq.domain.errors import StoreUnavailable
from hpcq.domain.events import Happening
from hpcq.domain.jobs import JobRecord, JobUid
from hpcq.services.changes import Changes
from hpcq.services.snapshot import Board
from hpcq.storage.jobs import JobStore

__all__ = ["Bulletin"]

# Whoever else writes waits for a transaction to end; this many records take about half a second.
_WRITTEN_AT_ONCE = 2_000

_Versions = tuple[JobRecord | None, JobRecord]


class Bulletin:
    """Publishes what changes.

    Args:
        store: where it is written.
        changes: writes down what has happened already.
        board: where it is shown.
        holder: the name under which this process holds the lease; None where it needs none.
        clock: the present, aware.
    """

    def __init__(
        self,
        store: JobStore,
        changes: Changes,
        board: Board,
        holder: str | None,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._changes = changes
        self._board = board
        self._holder = holder
        self._now = clock
        # When somebody else than the scheduler changed a job, and since when questions to it are
        # open; by the monotonic clock.
        self._touched: dict[JobUid, float] = {}
        self._asking: list[float] = []

    async def apply(
        self, uid: JobUid, change: Callable[[JobRecord], JobRecord]
    ) -> JobRecord | None:
        """Change one job on this service's own account: in the store, and then on the board.

        Answers of the scheduler that were asked for before are not believed about it.

        Returns:
            The job as it is now, or None when the board does not show it.

        Raises:
            StoreUnavailable: it could not be written; that is tried again with every look.
        """
        entry = self._board.snapshot.entries.get(uid)
        if entry is None:
            return None
        self._touch(uid)
        record = await self._changes.make(uid, change)
        if record is None:
            # Somebody else's, of which nothing is kept.
            record = change(entry.record)
        self.adopt(record)
        return record

    def adopt(self, *records: JobRecord) -> None:
        """Put up jobs as somebody else than the scheduler knows them, if that is newer."""
        entries = self._board.snapshot.entries
        newer = []
        for record in records:
            entry = entries.get(record.uid)
            if entry is None or entry.record.revision <= record.revision:
                self._touch(record.uid)
                newer.append(record)
        if newer:
            self._board.put(newer)

    async def pay(self) -> None:
        """Write down what has happened and could not be written before.

        Raises:
            StoreUnavailable: it still cannot be.
        """
        self.adopt(*await self._changes.pay())

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
            self._touched = {u: at for u, at in self._touched.items() if at >= oldest}

    def touched_since(self, began: float) -> set[JobUid]:
        """Return the jobs of which an answer that was asked for then is not believed."""
        return {uid for uid, at in self._touched.items() if at >= began}

    async def publish(
        self,
        changed: Sequence[JobRecord],
        began: float,
        *,
        gone: Sequence[JobUid] = (),
        complete_since: datetime | None = None,
        as_of: datetime | None = None,
        happenings: Sequence[Happening] = (),
    ) -> set[JobUid]:
        """Write, then put up, what nobody else has changed since we ``began`` to ask.

        Args:
            changed: jobs as the scheduler's answer makes them.
            began: as `asking` gave it.
            gone: jobs that leave the board.
            complete_since: see `Board.put`.
            as_of: when the scheduler was asked, if it was for its whole queue.
            happenings: what else there is to tell.

        Returns:
            Those that were put up.

        Raises:
            StoreUnavailable: what is kept could not be written, and was not put up.
            LeaseLost: another replica asks the scheduler now; nothing was written.
        """
        if not changed and not gone and as_of is None:
            return set()
        is_shared, touched = self._store.is_shared, self.touched_since(began)
        fresh = [r for r in changed if r.uid not in touched]
        kept = [r for r in fresh if r.is_ours or is_shared]
        seen = [r for r in fresh if not (r.is_ours or is_shared)]
        left = gone if is_shared else ()
        *earlier, (versions, last_gone) = _portions(list(self._with_before(kept)), left)
        put_up: set[JobUid] = set()
        try:
            for some, some_gone in earlier:
                written = await self._store.publish(
                    some, holder=self._holder, gone=some_gone, samples=self._samples(some)
                )
                put_up |= self._put_up(written, some_gone, began)
            written = await self._store.publish(
                versions,
                holder=self._holder,
                gone=last_gone,
                happenings=happenings,
                samples=self._samples(versions),
                as_of=as_of,
            )
        except StoreUnavailable:
            self._board.put(seen, () if is_shared else gone, complete_since=complete_since)
            raise
        put_up |= self._put_up([*seen, *written], gone, began, as_of, complete_since)
        await self._reconsider(versions, written)
        return put_up

    async def unanswered(self, problem: str) -> None:
        """Let the other replicas know that the scheduler does not answer, and why.

        Raises:
            StoreUnavailable, LeaseLost: as `publish` does.
        """
        await self._store.publish([], holder=self._holder, problem=problem)

    def _touch(self, uid: JobUid) -> None:
        # No answer can be older than this while nothing is being asked.
        if self._asking:
            self._touched[uid] = time.monotonic()

    def _put_up(
        self,
        records: Iterable[JobRecord],
        gone: Sequence[JobUid],
        began: float,
        as_of: datetime | None = None,
        complete_since: datetime | None = None,
    ) -> set[JobUid]:
        touched = self.touched_since(began)
        still = [r for r in records if r.uid not in touched or self._is_newer(r)]
        self._board.put(still, gone, as_of, complete_since)
        return {r.uid for r in still}

    def _is_newer(self, record: JobRecord) -> bool:
        """Whether the store has this version, and the board an earlier one."""
        entry = self._board.snapshot.entries.get(record.uid)
        return entry is not None and entry.record.revision < record.revision

    async def _reconsider(
        self, versions: Sequence[_Versions], written: Sequence[JobRecord]
    ) -> None:
        """Put up what the store has of jobs that turned out to be other than the board shows."""
        known = {record.uid for record in written}
        refused = [new.uid for _, new in versions if new.uid not in known]
        if refused:
            self.adopt(*await self._store.by_uids(refused))

    def _with_before(self, changed: Iterable[JobRecord]) -> Iterator[_Versions]:
        """Yield records with their version before; those that have a newer one are left out."""
        entries = self._board.snapshot.entries
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
