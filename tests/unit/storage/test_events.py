"""Events: numbered 1, 2, 3 … whoever writes them and whatever fails on the way."""

import asyncio
import os
import struct
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from tests.databases import Database as Place
from tests.unit.storage.kit import T0, Store, add, ended, foreign, job, key, several

from hpcq.domain.errors import StoreUnavailable
from hpcq.domain.events import EventDraft, EventKind
from hpcq.domain.jobs import JobRecord, JobUid
from hpcq.storage import connection as module
from hpcq.storage.database import Transaction

pytestmark = pytest.mark.anyio

_EACH = 25


def happening(number: int = 0) -> EventDraft:
    return EventDraft(
        uid=JobUid.new(), kind=EventKind.CONTRADICTION, at=T0, data={"number": number, "é": None}
    )


async def numbers(store: Store) -> list[int]:
    return [event.number for event in await store.jobs.events(0, 10**6)]


async def test_events_written_with_record(store: Store) -> None:
    (record,) = await add(store, [job(5)])
    await store.jobs.publish([(record, ended(record, 9))], holder=None)
    await store.jobs.change(record.uid, lambda r: r.changed(removed_at=T0))
    events = await store.jobs.events(0, 10)
    assert [(e.number, e.kind, e.uid) for e in events] == [
        (1, EventKind.SUBMITTED, record.uid),
        (2, EventKind.STATE, record.uid),
        (3, EventKind.DELETED, record.uid),
    ]
    assert events[1].data["jobId"] == "5"
    assert events[1].data["state"] == "DONE"
    assert events[0].at == T0


async def test_events_foreign_jobs(store: Store) -> None:
    await add(store, [foreign(3)])
    assert await numbers(store) == []


async def test_events_from_number(store: Store) -> None:
    records = await add(store, [job(n) for n in range(1, 8)])
    assert [e.number for e in await store.jobs.events(2, 3)] == [3, 4, 5]
    (one,) = await store.jobs.events(0, 9, records[3].uid)
    assert (one.number, one.uid) == (4, records[3].uid)
    assert await store.jobs.events(7, 9) == []


async def test_events_from_drafts(store: Store) -> None:
    told = happening(4)
    await store.jobs.publish([], holder=None, event_drafts=[told])
    (event,) = await store.jobs.events(0, 9)
    assert (event.uid, event.kind, event.at, event.data) == (told.uid, told.kind, T0, told.data)


async def test_events_failed_work_no_gap(store: Store) -> None:
    def fails(transaction: Transaction) -> None:
        transaction.event_drafts.append(happening())
        raise LookupError

    await add(store, [job(1)])
    outcomes = await asyncio.gather(
        add(store, [job(2)]),
        store.database.write(fails),
        add(store, [job(3)]),
        store.database.write(fails),
        return_exceptions=True,
    )
    assert [isinstance(o, LookupError) for o in outcomes] == [False, True, False, True]
    assert await numbers(store) == [1, 2, 3]


async def test_events_failed_transaction_no_gap(store: Store) -> None:
    def fails(transaction: Transaction) -> None:
        transaction.event_drafts.append(happening())
        transaction.connection.exec_driver_sql("INSERT INTO nowhere VALUES (1)")

    outcomes = await asyncio.gather(
        add(store, [job(2)]), store.database.write(fails), return_exceptions=True
    )
    assert isinstance(outcomes[1], StoreUnavailable)
    await add(store, [job(3)])
    found = await numbers(store)
    assert found == list(range(1, len(found) + 1))


async def test_events_several_services_no_gap(shared: Place) -> None:
    async with several(shared.url, 3) as stores:
        seen: list[list[int]] = []
        reading = asyncio.Event()

        async def read(store: Store) -> None:
            while not reading.is_set():
                seen.append(await numbers(store))

        async def write(store: Store) -> list[JobRecord]:
            return [(await add(store, [job(n)]))[0] for n in range(_EACH)]

        async def fail(store: Store) -> None:
            for _ in range(_EACH):
                with pytest.raises(LookupError):
                    await store.database.write(_told_and_undone)

        readers = [asyncio.create_task(read(store)) for store in stores]
        written = await asyncio.gather(*(write(s) for s in stores), *(fail(s) for s in stores))
        reading.set()
        await asyncio.gather(*readers)
        assert all(found == list(range(1, len(found) + 1)) for found in seen)
        events = await stores[0].jobs.events(0, 10**6)
        assert [e.number for e in events] == list(range(1, 3 * _EACH + 1))
        uids: set[Any] = {record.uid for part in written if part for record in part}
        assert {e.uid for e in events} == uids, "each once"


def _told_and_undone(transaction: Transaction) -> None:
    transaction.event_drafts.append(happening())
    raise LookupError


async def test_change_several_services(shared: Place) -> None:
    async with several(shared.url, 2) as stores:
        (record,) = await add(stores[0], [job(1)])

        async def change(store: Store) -> None:
            for _ in range(_EACH):
                await store.jobs.change(
                    record.uid, lambda r: r.changed(state_reason=f"{r.state_reason}x")
                )

        await asyncio.gather(*(change(store) for store in stores))
        now = await stores[0].jobs.by_uid(record.uid)
        assert now is not None
        assert now.revision == 2 * _EACH
        assert now.state_reason == "None" + "x" * 2 * _EACH


async def test_key_several_services(shared: Place) -> None:
    async with several(shared.url, 2) as stores:
        for number in range(20):
            records = [job(), job()]
            claims = await asyncio.gather(
                *(
                    store.jobs.create(record, key(str(number)))
                    for store, record in zip(stores, records, strict=True)
                )
            )
            winner = claims.index(None)
            loser = claims[1 - winner]
            assert loser is not None
            assert loser.uid == records[winner].uid
            assert await stores[0].jobs.by_uid(records[1 - winner].uid) is None


def _send_half_a_step(transaction: Transaction) -> None:
    """Send PostgreSQL a message (Close) without the one that ends a step (Sync)."""
    driver: Any = transaction.connection.connection.driver_connection
    os.write(driver.fileno(), b"C" + struct.pack("!i", 4 + 2) + b"S\0")


@pytest.mark.parametrize(
    ("before", "others_wait_seconds", "said"),
    [
        pytest.param(lambda _: None, 600.0, "idle", id="between-steps"),
        pytest.param(_send_half_a_step, 0.5, "terminating connection", id="within-a-step"),
    ],
)
async def test_writer_stalled_others_continue(
    shared: Place,
    monkeypatch: pytest.MonkeyPatch,
    before: Callable[[Transaction], None],
    others_wait_seconds: float,
    said: str,
) -> None:
    monkeypatch.setattr(module, "_STANDS_STILL_SECONDS", others_wait_seconds)
    options = "-c lock_timeout=100 -c idle_in_transaction_session_timeout=500"
    monkeypatch.setitem(module._POSTGRESQL_OPTIONS, "options", options)
    async with several(shared.url, 2) as (still, other):
        loop = asyncio.get_running_loop()
        began, go_on = asyncio.Event(), asyncio.Event()

        def stands_still(transaction: Transaction) -> None:
            before(transaction)
            loop.call_soon_threadsafe(began.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
            transaction.connection.execute(sa.text("SELECT 1"))

        standing = still.database.write(stands_still)
        await began.wait()
        with pytest.raises(StoreUnavailable, match="lock"):
            await add(other, [job(1)])
        while True:
            try:
                await add(other, [job(1)])
                break
            except StoreUnavailable:
                continue
        go_on.set()
        with pytest.raises(StoreUnavailable, match=said):
            await standing
        await add(still, [job(2)])
        assert await numbers(still) == [1, 2]
