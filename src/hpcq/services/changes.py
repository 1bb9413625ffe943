"""Changes of records that must not be lost when the database cannot take them at the moment."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

from hpcq.domain.errors import RecordDamaged, StoreUnavailable
from hpcq.domain.jobs import JobRecord, JobUid
from hpcq.storage.jobs import JobStore

__all__ = ["Changes"]

Change = Callable[[JobRecord], JobRecord]


class Changes:
    """Writes changes down that say what has happened already; those that fail are kept."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._owed: deque[tuple[JobUid, Change]] = deque()
        self._paying = asyncio.Lock()

    async def make(self, uid: JobUid, change: Change) -> JobRecord | None:
        """Change a record, or remember to.

        Returns:
            The record as it is now; None when there is none.

        Raises:
            StoreUnavailable: it was remembered.
            RecordDamaged: it was not, for it never can be made.
        """
        try:
            return await self._store.change(uid, change)
        except RecordDamaged:
            raise
        except StoreUnavailable:
            self._owed.append((uid, change))
            raise

    async def pay(self) -> list[JobRecord]:
        """Make the changes that are owed, in their order; return the records as they are now.

        Raises:
            StoreUnavailable: it still cannot be done.
        """
        paid = []
        async with self._paying:
            while self._owed:
                uid, change = self._owed[0]
                record = None
                # One that has been damaged since holds nobody up.
                with contextlib.suppress(RecordDamaged):
                    record = await self._store.change(uid, change)
                self._owed.popleft()
                if record is not None:
                    paid.append(record)
        return paid
