"""The numbers in the ids of programs: each belongs to one version for good."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from hpcq.domain.programs import ProgramKey
from hpcq.storage.database import Database, Transaction
from hpcq.storage.schema import program_numbers as table

__all__ = ["ProgramNumbers"]


class ProgramNumbers:
    """Gives numbers and remembers them, those of versions that are gone too."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, programs: Sequence[ProgramKey]) -> Mapping[ProgramKey, int]:
        """Return the number of each program; new ones get the next of their prefix, in order.

        Raises:
            StoreUnavailable: they cannot be written or read.
        """

        def do(transaction: Transaction) -> Mapping[ProgramKey, int]:
            return _numbers(transaction.connection, transaction.deployment_id, programs)

        return await self._database.write(do)


def _numbers(
    connection: sa.Connection, deployment_id: int, programs: Sequence[ProgramKey]
) -> Mapping[ProgramKey, int]:
    prefixes = {program.id_prefix for program in programs}
    rows = connection.execute(
        sa.select(table.c.id_prefix, table.c.name, table.c.version, table.c.number).where(
            table.c.deployment_id == deployment_id, table.c.id_prefix.in_(prefixes)
        )
    )
    known = {ProgramKey(prefix, name, version): number for prefix, name, version, number in rows}
    following = dict.fromkeys(prefixes, 0)
    for key, number in known.items():
        following[key.id_prefix] = max(following[key.id_prefix], number + 1)
    added = []
    for program in dict.fromkeys(programs):
        if program not in known:
            known[program] = following[program.id_prefix]
            following[program.id_prefix] += 1
            added.append(
                {**program._asdict(), "deployment_id": deployment_id, "number": known[program]}
            )
    if added:
        connection.execute(table.insert(), added)
    return {program: known[program] for program in programs}
