"""The rows of finished jobs: they follow the records, and searches walk along indices."""

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from tests.databases import BACK_TO_0004
from tests.databases import Database as Place
from tests.unit.storage.kit import T0, Store, add, ended, execute, job, opened

from hpcq.domain.job_filter import JobFilter, SortKey, SortOrder, milliseconds
from hpcq.domain.jobs import JobRecord, Observation
from hpcq.domain.states import JobState
from hpcq.storage import finished_jobs
from hpcq.storage.pruning import Pruner

pytestmark = pytest.mark.anyio

NEWEST = SortOrder("endTime", descending=True)


def over(number: int, owner: str = "ana", seconds: float | None = None, **spec: Any) -> JobRecord:
    record = ended(job(number, **spec), number if seconds is None else seconds)
    assert record.seen is not None
    return record.changed(seen=replace(record.seen, owner=owner))


async def search(
    store: Store,
    criteria: JobFilter,
    order: SortOrder = NEWEST,
    *,
    after: SortKey | None = None,
    limit: int = 100,
    user: str | None = None,
) -> tuple[list[int], SortKey | None]:
    records, reached = await store.jobs.finished(
        criteria, order, after=after, limit=limit, user=user
    )
    return [int(record.native_id or 0) for record in records], reached


async def found(store: Store, **criteria: Any) -> list[int]:
    return (await search(store, JobFilter(**criteria)))[0]


async def test_finished_jobs_after_end(store: Store) -> None:
    (record,) = await add(store, [job(1)])
    assert await found(store) == []
    assert await store.jobs.change(record.uid, lambda r: ended(r, 5)) is not None
    assert await found(store) == [1]
    await store.jobs.change(record.uid, lambda r: r.changed(removed_at=T0))
    assert await found(store) == []


async def test_finished_jobs_requeued(store: Store) -> None:
    (record,) = await add(store, [over(1)])
    await store.jobs.change(record.uid, lambda r: r.changed(state=JobState.REQUEUED))
    assert await found(store) == []


async def test_finished_jobs_pruned(store: Store) -> None:
    await add(store, [over(1), over(2, seconds=5000)])
    pruner = Pruner(store.database, None)
    await pruner.prune_jobs(ended(job(9), 100).state_changed_at)
    assert await found(store) == [2]


async def test_finished_jobs_without_end_time(store: Store) -> None:
    seen = Observation(native_id=over(1).native_id or "", state=JobState.DONE)  # type: ignore[arg-type]
    await add(store, [over(1).changed(seen=seen), over(2)])
    assert await found(store) == [1, 2]
    assert await found(store, ended_after=0) == [2]
    assert await found(store, ended_before=2**60) == [2]


async def test_finished_jobs_several_values(store: Store) -> None:
    await add(store, [over(1, "ana"), over(2, "bob"), over(3, "eva"), over(4, "ana", name="x")])
    assert await found(store, owners=frozenset({"ana", "bob"})) == [4, 2, 1]
    assert await found(store, owners=frozenset({"ana"}), name="x") == [4]
    assert await found(store, owners=frozenset({"bob"}), name="x") == []


async def test_finished_jobs_text_not_storable(store: Store) -> None:
    await add(store, [over(1, name="a\0b\udc80")])
    assert await found(store, name="a\0b") == []
    assert await found(store) == [1]
    assert (await search(store, JobFilter(), after=(5, "\0\udc80")))[0] == []


async def test_finished_jobs_row_limit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finished_jobs, "_LOOKED_AT_MOST", 8)
    monkeypatch.setattr(finished_jobs, "_FIRST_READ", 2)
    await add(store, [over(n, name="rare" if n == 2 else "common") for n in range(1, 31)])
    criteria = JobFilter(text="RARE")
    numbers, reached = await search(store, criteria)
    assert numbers == []
    pages = 1
    while reached is not None:
        some, reached = await search(store, criteria, after=reached)
        numbers += some
        pages += 1
    assert numbers == [2]
    assert pages >= 4


@pytest.mark.parametrize("most", [3, 10_000])
async def test_finished_jobs_of_owner_by_submit_time(
    store: Store, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    records = [over(n, "ana" if n % 2 else "bob", seconds=100 - n) for n in range(1, 9)]
    await add(store, records)
    monkeypatch.setattr(finished_jobs, "_LOOKED_AT_MOST", most)
    criteria, order = JobFilter(owners=frozenset({"ana"})), SortOrder("submitTime")
    expected = sorted(
        (r for r in records if int(r.native_id or 0) % 2), key=lambda r: (r.submit_time, r.uid)
    )
    numbers, reached = await search(store, criteria, order, limit=2)
    while reached is not None:
        some, reached = await search(store, criteria, order, after=reached, limit=2)
        numbers += some
    assert numbers == [int(record.native_id or 0) for record in expected]


async def test_finished_jobs_of_user(store: Store) -> None:
    mine = over(1).changed(submitted_by="ana")
    await add(store, [mine, over(2).changed(submitted_by="bob"), over(3)])
    assert (await search(store, JobFilter(), user="ana"))[0] == [1]
    assert (await search(store, JobFilter(name="study"), user="ana"))[0] == [1]


@pytest.mark.parametrize(
    ("criteria", "order"),
    [
        (JobFilter(), NEWEST),
        (JobFilter(), SortOrder("submitTime")),
        (JobFilter(text="x"), NEWEST),
        (JobFilter(ended_after=5, ended_before=milliseconds(T0)), SortOrder("endTime")),
        (JobFilter(submitted_before=milliseconds(T0)), SortOrder("submitTime", descending=True)),
        (JobFilter(owners=frozenset({"ana"})), NEWEST),
        (JobFilter(owners=frozenset({"ana"})), SortOrder("submitTime")),
        (JobFilter(owners=frozenset({"ana"}), queues=frozenset({"batch"})), NEWEST),
        (JobFilter(queues=frozenset({"batch"})), NEWEST),
        (JobFilter(name="study"), NEWEST),
        (JobFilter(working_directory="/srv"), NEWEST),
        (JobFilter(array_job_id="5"), NEWEST),
        (JobFilter(states=frozenset({JobState.FAILED})), NEWEST),
    ],
)
@pytest.mark.parametrize("after", [None, (10, "u")])
async def test_finished_jobs_index_used(
    path: Any, criteria: JobFilter, order: SortOrder, after: SortKey | None
) -> None:
    plans = []
    async with opened(f"sqlite:///{path}") as store:
        await add(store, [over(1)])

        def note(conn: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            if "finished_jobs" in statement and not statement.startswith("EXPLAIN"):
                explained = conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                plans.append([row[3] for row in explained])

        sa.event.listen(sa.Engine, "before_cursor_execute", note)
        try:
            await search(store, criteria, order, after=after)
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", note)
    assert plans
    walks = [step for plan in plans for step in plan if "finished_jobs" in step]
    assert walks
    assert all(step.startswith("SEARCH finished_jobs USING") for step in walks)
    assert all("INDEX finished_by_" in step for step in walks)
    if order.field == "endTime":
        assert not any("TEMP B-TREE" in step for plan in plans for step in plan)


async def test_finished_jobs_filled_after_upgrade(database: Place) -> None:
    async with opened(database.url) as store:
        records = [over(1), over(2, name="other"), job(3), over(4).changed(removed_at=T0), over(5)]
        await add(store, records)
        await execute(
            store,
            "UPDATE jobs SET document = :document WHERE uid = :uid",
            document=b"{]",
            uid=str(records[4].uid),
        )
        for statement in BACK_TO_0004:
            await execute(store, statement)
    async with opened(database.url) as store:
        assert await found(store) == [2, 1]
        assert await found(store, name="other") == [2]
