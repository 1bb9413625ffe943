"""The board: which job a number means, and when a listing is another one."""

import asyncio
from datetime import timedelta

import pytest
from tests.unit.services.kit import CLUSTER, T0, WIRE

from hpcq.domain import life, submission
from hpcq.domain.jobs import JobRecord, JobSpec, JobUid, NativeId, Observation
from hpcq.domain.states import JobState
from hpcq.services.snapshot import Board, Freshness

SPEC = JobSpec(name="study", working_directory="/srv", script_file="/srv/run.sh")
FRESH = Freshness(T0, stale=False)


def ours(number: str | None = "5") -> JobRecord:
    record = submission.intent(JobUid.new(), SPEC, T0, by="test", is_promised=False)
    return record if number is None else submission.submitted(record, NativeId(number), T0)


def seen(number: str = "5", **fields: object) -> Observation:
    state = fields.pop("state", JobState.QUEUED)
    return Observation(native_id=NativeId(number), state=state, **fields)  # type: ignore[arg-type]


def foreign(number: str = "5", hours: float = 5, **fields: object) -> JobRecord:
    submitted = T0 + timedelta(hours=hours)
    return life.first_sight(CLUSTER, seen(number, submit_time=submitted, **fields), submitted)


def holder(board: Board, number: str = "5") -> JobUid | None:
    entry = board.snapshot.entry(NativeId(number))
    return None if entry is None else entry.record.uid


def test_a_number_means_its_newest_job_and_the_older_keeps_its_uid() -> None:
    board, old, new = Board(WIRE), ours(), foreign()
    board.put([old])
    board.put([new])
    assert holder(board) == new.uid
    entry = board.snapshot.entry(old.uid)
    assert entry is not None
    assert entry.record is old


def test_news_of_the_older_job_do_not_take_the_number_back() -> None:
    board, old, new = Board(WIRE), ours(), foreign()
    board.put([old])
    board.put([new])
    board.put([old.changed(removed_at=T0)])
    assert holder(board) == new.uid
    board.put(gone=[old.uid])
    assert holder(board) == new.uid


def test_a_job_found_after_all_takes_its_number_over_from_an_older_one() -> None:
    board, old, unclear = Board(WIRE), foreign(hours=-300), ours(None)
    board.put([old, unclear])
    board.put([submission.submitted(unclear, NativeId("5"), T0)])
    assert holder(board) == unclear.uid


@pytest.mark.parametrize("sight_first", [True, False])
@pytest.mark.parametrize("with_key", [True, False])
def test_our_job_seen_in_the_queue_is_ours_whichever_came_first(
    sight_first: bool, with_key: bool
) -> None:
    board, record = Board(WIRE), ours()
    key = record.key if with_key else None
    sight = foreign(hours=0, submission_key=key)
    for one in [sight, record] if sight_first else [record, sight]:
        board.put([one])
    assert [r.uid for r in board.snapshot.records()] == [record.uid]
    assert holder(board) == record.uid


def test_a_foreign_job_that_left_is_remembered_as_undetermined() -> None:
    board, job = Board(WIRE), foreign()
    board.put([job], as_of=T0)
    assert board.departed(NativeId("5")) is None
    board.put(gone=[job.uid])
    left = board.departed(NativeId("5"))
    assert left is not None
    assert (left.uid, left.state, left.confirmed_at) == (job.uid, JobState.UNDETERMINED, T0)
    board.put([job])
    assert board.departed(NativeId("5")) is None


def test_only_so_many_departed_jobs_are_remembered() -> None:
    board = Board(WIRE)
    jobs = [foreign(str(number)) for number in range(1, 10_101)]
    board.put(jobs)
    board.put(gone=[job.uid for job in jobs])
    assert board.departed(NativeId("100")) is None
    assert board.departed(NativeId("101")) is not None


def test_a_snapshot_never_changes() -> None:
    board, job = Board(WIRE), foreign()
    empty = board.snapshot
    full = board.put([job])
    board.put(gone=[job.uid])
    assert (len(empty.entries), len(full.entries), len(board.snapshot.entries)) == (0, 1, 0)


def test_the_version_changes_with_the_jobs_and_not_with_the_time() -> None:
    board, job = Board(WIRE), foreign()
    versions = [
        board.snapshot.version,
        board.put([job]).version,
        board.put([job.changed(state=JobState.RUNNING)]).version,
        board.put(gone=[job.uid]).version,
    ]
    assert len(set(versions)) == 4
    later = board.put(as_of=T0)
    assert (later.version, later.as_of) == (versions[-1], T0)
    assert board.put(gone=[job.uid]).version == versions[-1], "nothing left that was not there"
    assert board.put().as_of == T0


def test_another_process_has_other_versions() -> None:
    assert Board(WIRE).snapshot.version != Board(WIRE).snapshot.version


@pytest.mark.anyio
async def test_a_listing_is_made_once_however_many_ask() -> None:
    board = Board(WIRE)
    board.put([foreign(str(number)) for number in range(1, 50)])
    answers = await asyncio.gather(
        *(board.snapshot.listing(FRESH, usage=False, gzip=True) for _ in range(20))
    )
    assert len({id(answer) for answer in answers}) == 1


@pytest.mark.anyio
async def test_a_reader_that_leaves_does_not_end_the_making_for_the_others() -> None:
    board = Board(WIRE)
    board.put([foreign()])
    first = asyncio.create_task(board.snapshot.listing(FRESH, usage=False, gzip=False))
    second = asyncio.create_task(board.snapshot.listing(FRESH, usage=False, gzip=False))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).startswith(b'[{"jobId":"5"')


def test_jobs_come_oldest_first_and_keep_their_place() -> None:
    board = Board(WIRE)
    jobs = [foreign(str(number)) for number in (7, 5, 6)]
    board.put(jobs)
    board.put([jobs[0].changed(state=JobState.RUNNING)])
    assert [r.native_id for r in board.snapshot.records()] == ["7", "5", "6"]
