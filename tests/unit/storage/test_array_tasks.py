"""The tasks of arrays in the store: where each is, and how many are where."""

import pytest
from tests.databases import TOKENS_BACK_TO_0010
from tests.databases import Database as Place
from tests.unit.storage.kit import T0, add, ended, execute, job, opened

from hpcq.domain.jobs import ArrayRange, JobRecord, NativeId
from hpcq.domain.states import JobState
from hpcq.domain.submission import task_of

pytestmark = pytest.mark.anyio


def _array(number: int) -> tuple[JobRecord, list[JobRecord]]:
    """Return an array, and its three tasks of which the first is over and removed."""
    array = job(number, array=ArrayRange(first=1, last=3))
    tasks = [task_of(array, NativeId(f"{number}[{n}]"), n, T0) for n in (1, 2, 3)]
    return array, [ended(tasks[0], 5).changed(removed_at=T0), *tasks[1:]]


async def test_task_states_by_array(database: Place) -> None:
    async with opened(database.url) as store:
        (one, tasks), (other, others) = _array(1), _array(2)
        await add(store, [one, *tasks, other, *others, job(3)])
        assert await store.jobs.task_states([one.uid]) == {
            one.uid: {
                tasks[0].uid: JobState.DONE,
                tasks[1].uid: JobState.UNDETERMINED,
                tasks[2].uid: JobState.UNDETERMINED,
            }
        }
        await store.jobs.change(others[1].uid, lambda task: ended(task, 6))
        assert await store.jobs.task_counts([one.uid, other.uid]) == {
            one.uid: {JobState.DONE: 1, JobState.UNDETERMINED: 2},
            other.uid: {JobState.DONE: 2, JobState.UNDETERMINED: 1},
        }
        assert await store.jobs.task_counts([]) == {}


async def test_task_states_earlier_release(database: Place) -> None:
    async with opened(database.url) as store:
        array, tasks = _array(1)
        damaged = tasks.pop()
        await add(store, [array, *tasks, damaged])
        await execute(
            store,
            "UPDATE jobs SET document = :document WHERE uid = :uid",
            document=b"{]",
            uid=str(damaged.uid),
        )
        for statement in TOKENS_BACK_TO_0010:
            await execute(store, statement)
        await execute(store, "DROP INDEX jobs_by_array")
        for column in ("array_uid", "task_state"):
            await execute(store, f"ALTER TABLE jobs DROP COLUMN {column}")
        await execute(store, "UPDATE alembic_version SET version_num = '0008'")
    async with opened(database.url) as store:
        counts = await store.jobs.task_counts([array.uid])
        assert counts == {array.uid: {JobState.DONE: 1, JobState.UNDETERMINED: 1}}
