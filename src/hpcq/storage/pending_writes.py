"""A write-behind queue for changes that hold although the database cannot take them now."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from hpcq.domain.errors import RecordDamaged, StoreUnavailable
from hpcq.domain.jobs import JobRecord, JobUid
from hpcq.storage.jobs import JobStore

__all__ = ["PendingWrites"]


@dataclass(frozen=True, slots=True, eq=False)
class _Write:
    """A change of one record; see `JobStore.change`."""

    uid: JobUid
    change: Callable[[JobRecord], JobRecord]
    frees_key: bool


class PendingWrites:
    """Writes changes that have happened already; one that fails is written later.

    The changes of one record are written in the order in which they were made.
    """

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._pending: deque[_Write] = deque()
        self._flushing = asyncio.Lock()

    @property
    def count(self) -> int:
        """The number of changes that are not in the database yet."""
        return len(self._pending)

    def has_pending(self, uid: JobUid) -> bool:
        """Return whether a change of the job is not in the database yet."""
        return any(write.uid == uid for write in self._pending)

    async def change(
        self, uid: JobUid, change: Callable[[JobRecord], JobRecord], *, frees_key: bool = False
    ) -> JobRecord | None:
        """Change a record as `JobStore.change` does, now or later.

        Returns:
            The record as it is now; None when there is none.

        Raises:
            StoreUnavailable: the change is pending.
            RecordDamaged: the change can never be written, and is dropped.
        """
        write = _Write(uid, change, frees_key)
        if self.has_pending(uid):
            self._pending.append(write)
            return next((r for r in reversed(await self.flush()) if r.uid == uid), None)
        try:
            return await self._write(write)
        except RecordDamaged:
            raise
        except StoreUnavailable:
            self._pending.append(write)
            raise

    async def flush(self) -> list[JobRecord]:
        """Write what is pending, in order; return the records as they are now.

        Raises:
            StoreUnavailable: the database still cannot take it.
        """
        written = []
        async with self._flushing:
            while self._pending:
                record = None
                # A record that has been damaged since holds up no other.
                with contextlib.suppress(RecordDamaged):
                    record = await self._write(self._pending[0])
                self._pending.popleft()
                if record is not None:
                    written.append(record)
        return written

    async def _write(self, write: _Write) -> JobRecord | None:
        return await self._store.change(write.uid, write.change, frees_key=write.frees_key)
