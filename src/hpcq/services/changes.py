"""Changes of records that must not be lost when the database cannot take them at the moment."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from hpcq.domain.errors import RecordDamaged, StoreUnavailable
from hpcq.domain.jobs import JobRecord, JobUid
from hpcq.storage.jobs import JobStore

__all__ = ["Changes"]

Change = Callable[[JobRecord], JobRecord]


@dataclass(frozen=True, slots=True, eq=False)
class _Debt:
    uid: JobUid
    change: Change
    frees_key: bool


class Changes:
    """Writes changes down that say what has happened already; those that fail are kept.

    The changes of one record are written in the order in which they were made.
    """

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._owed: deque[_Debt] = deque()
        self._paying = asyncio.Lock()

    def owes(self, uid: JobUid) -> bool:
        """Whether something has happened to a job that is not in the database yet."""
        return any(debt.uid == uid for debt in self._owed)

    async def make(
        self, uid: JobUid, change: Change, *, frees_key: bool = False
    ) -> JobRecord | None:
        """Change a record, or remember to.

        Args:
            uid: whose.
            change: as `JobStore.change` takes it.
            frees_key: see there.

        Returns:
            The record as it is now; None when there is none.

        Raises:
            StoreUnavailable: it was remembered.
            RecordDamaged: it was not, for it never can be made.
        """
        debt = _Debt(uid, change, frees_key)
        if self.owes(uid):
            self._owed.append(debt)
            return next((r for r in reversed(await self.pay()) if r.uid == uid), None)
        try:
            return await self._write(debt)
        except RecordDamaged:
            raise
        except StoreUnavailable:
            self._owed.append(debt)
            raise

    async def pay(self) -> list[JobRecord]:
        """Make the changes that are owed, in their order; return the records as they are now.

        Raises:
            StoreUnavailable: it still cannot be done.
        """
        paid = []
        async with self._paying:
            while self._owed:
                record = None
                # One that has been damaged since holds nobody up.
                with contextlib.suppress(RecordDamaged):
                    record = await self._write(self._owed[0])
                self._owed.popleft()
                if record is not None:
                    paid.append(record)
        return paid

    async def _write(self, debt: _Debt) -> JobRecord | None:
        return await self._store.change(debt.uid, debt.change, frees_key=debt.frees_key)
