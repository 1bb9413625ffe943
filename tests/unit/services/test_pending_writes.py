"""PendingWrites that the database could not take when they were made."""

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from tests.unit.services.kit import World

from hpcq.domain.errors import RecordDamaged, StoreUnavailable
from hpcq.domain.jobs import JobRecord
from hpcq.storage.pending_writes import PendingWrites

pytestmark = pytest.mark.anyio


def named(reason: str) -> Callable[[JobRecord], JobRecord]:
    return lambda record: record.changed(state_reason=reason)


async def damage(world: World, record: JobRecord) -> None:
    def do(connection: sa.Connection, _deployment: int) -> None:
        statement = sa.text("UPDATE jobs SET document = '{]' WHERE uid = :uid")
        connection.execute(statement, {"uid": record.uid})

    await world.database.apart(do)


async def test_pending_writes_in_order(world: World) -> None:
    record = await world.submit()
    await world.runner.drain()
    pending = PendingWrites(world.store)
    world.database.full = True
    for reason in ("first", "second"):
        with pytest.raises(StoreUnavailable):
            await pending.change(record.uid, named(reason))
    with pytest.raises(StoreUnavailable):
        await pending.flush()
    world.database.full = False
    paid = await pending.flush()
    assert [r.state_reason for r in paid] == ["first", "second"]
    assert await pending.flush() == []


async def test_pending_writes_damaged_record(world: World) -> None:
    damaged, whole = await world.submit(), await world.submit()
    await world.runner.drain()
    pending = PendingWrites(world.store)
    world.database.full = True
    for record in (damaged, whole):
        with pytest.raises(StoreUnavailable):
            await pending.change(record.uid, named("late"))
    world.database.full = False
    await damage(world, damaged)
    assert [r.uid for r in await pending.flush()] == [whole.uid]
    with pytest.raises(RecordDamaged):
        await pending.change(damaged.uid, named("later"))
    assert await pending.flush() == []
