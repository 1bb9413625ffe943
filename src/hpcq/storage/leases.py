"""Leases: one of several replicas holds one, and asks the scheduler."""

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert

from hpcq.domain.errors import LeaseLost
from hpcq.storage.database import Database, Transaction
from hpcq.storage.schema import leases

__all__ = ["Lease", "check_lease"]

# The database's clock, for those of the replicas differ; now() stands still in a transaction.
_CLOCK = sa.extract("epoch", sa.func.clock_timestamp())


class Lease:
    """One replica's part in the lease of its deployment.

    Args:
        database: a shared one.
        holder: this replica's name; no other has it.
        lasting: how long the lease is good for without being renewed.
    """

    def __init__(self, database: Database, holder: str, lasting: timedelta) -> None:
        self._database = database
        self.holder = holder
        self._seconds = lasting.total_seconds()

    async def take(self) -> bool:
        """Take or renew the lease; return whether this replica has it now.

        Raises:
            StoreUnavailable: the database cannot be asked.
        """

        def do(connection: sa.Connection, deployment: int) -> bool:
            free = sa.or_(leases.c.holder == self.holder, leases.c.until < _CLOCK)
            taken = {"holder": self.holder, "until": _CLOCK + self._seconds}
            row = postgresql_insert(leases).values(deployment_id=deployment, **taken)
            taking = row.on_conflict_do_update(
                index_elements=[leases.c.deployment_id], set_=taken, where=free
            )
            return connection.execute(taking.returning(leases.c.holder)).scalar() is not None

        return await self._database.apart(do)

    async def give_back(self) -> None:
        """Let another replica have it at once."""

        def do(connection: sa.Connection, deployment: int) -> None:
            connection.execute(
                leases.delete().where(
                    leases.c.deployment_id == deployment, leases.c.holder == self.holder
                )
            )

        await self._database.apart(do)


def check_lease(transaction: Transaction, holder: str) -> None:
    """Make sure that a replica still holds the lease, before it writes the scheduler's answer.

    Raises:
        LeaseLost: it does not.
    """
    row = transaction.connection.execute(
        sa.select(leases.c.holder, leases.c.until > _CLOCK).where(
            leases.c.deployment_id == transaction.deployment_id
        )
    ).one_or_none()
    if row is None or row[0] != holder or not row[1]:
        raise LeaseLost(holder)
