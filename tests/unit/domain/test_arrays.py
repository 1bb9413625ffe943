from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcq.domain.arrays import (
    MOST_TASKS_NAMED,
    count_tasks,
    ranges_of,
    read_tasks,
    summarize_array,
)
from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import ArrayRange, JobRecord, JobSpec, JobUid, NativeId, Observation, Usage
from hpcq.domain.states import FailureKind, JobState

S = JobState
ARRAY = NativeId("45")
T0 = datetime(2026, 1, 5, 12, tzinfo=UTC)


def task(number: int, state: JobState, **fields: object) -> Observation:
    seen = Observation(
        native_id=NativeId(f"45[{number}]"),
        state=state,
        name="study",
        array_job_id="45",
        array_task_id=number,
    )
    return replace(seen, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("states", "state"),
    [
        ([S.QUEUED, S.QUEUED], S.QUEUED),
        ([S.QUEUED_HELD, S.QUEUED_HELD], S.QUEUED_HELD),
        ([S.QUEUED_HELD, S.QUEUED], S.QUEUED),
        ([S.REQUEUED, S.QUEUED], S.REQUEUED),
        ([S.RUNNING, S.QUEUED], S.RUNNING),
        ([S.DONE, S.QUEUED], S.RUNNING),
        ([S.FAILED, S.QUEUED_HELD], S.RUNNING),
        ([S.SUSPENDED, S.DONE], S.RUNNING),
        ([S.SUSPENDED, S.SUSPENDED], S.SUSPENDED),
        ([S.UNDETERMINED, S.DONE], S.UNDETERMINED),
        ([S.UNDETERMINED, S.RUNNING], S.RUNNING),
        ([S.DONE, S.DONE], S.DONE),
        ([S.DONE, S.FAILED], S.FAILED),
    ],
)
def test_array_state(states: list[JobState], state: JobState) -> None:
    assert summarize_array(ARRAY, [task(n, s) for n, s in enumerate(states)]).state is state


@given(st.lists(st.sampled_from(JobState), min_size=1, max_size=6))
def test_array_over_after_all_tasks(states: list[JobState]) -> None:
    state = summarize_array(ARRAY, [task(n, s) for n, s in enumerate(states)]).state
    assert state.is_final == all(s.is_final for s in states)


def test_array_end_from_first_failed_task() -> None:
    ended = summarize_array(
        ARRAY,
        [
            task(3, S.FAILED, exit_code=9, failure_kind=FailureKind.NON_ZERO_EXIT),
            task(1, S.DONE, exit_code=0),
            task(
                2,
                S.FAILED,
                exit_code=7,
                failure_kind=FailureKind.NON_ZERO_EXIT,
                state_reason="exit code 7",
            ),
        ],
    )
    assert (ended.native_id, ended.array_task_id, ended.name) == (ARRAY, None, "study")
    assert (ended.exit_code, ended.failure_kind) == (7, FailureKind.NON_ZERO_EXIT)
    assert ended.state_reason == "2 of 3 tasks failed: 2, 3. 2: exit code 7"


def test_array_run_times_and_hosts() -> None:
    def ran(number: int, start: int, end: int) -> Observation:
        return task(
            number,
            S.DONE,
            start_time=T0 + timedelta(seconds=start),
            end_time=T0 + timedelta(seconds=end),
            hosts=(f"node{number}",),
            usage=Usage(cpu_seconds=10.0, max_memory_bytes=number * 100.0),
        )

    ended = summarize_array(ARRAY, [ran(1, 5, 9), ran(2, 1, 20)])
    assert ended.start_time == T0 + timedelta(seconds=1)
    assert ended.end_time == T0 + timedelta(seconds=20)
    assert ended.hosts == ("node1", "node2")
    assert ended.usage == Usage(cpu_seconds=20.0, max_memory_bytes=200.0)
    assert summarize_array(ARRAY, [ran(1, 5, 9), task(2, S.QUEUED)]).end_time is None


def test_array_usage_incomplete() -> None:
    told = task(1, S.DONE, start_time=T0, usage=Usage(cpu_seconds=1.0))
    assert summarize_array(ARRAY, [told, task(2, S.DONE, start_time=T0)]).usage is None
    assert summarize_array(ARRAY, [told, task(2, S.FAILED)]).usage == Usage(cpu_seconds=1.0)


def test_array_usage_timeless_while_a_task_s_is() -> None:
    told = Usage(cpu_seconds=1.0, sampled_at=T0)
    tasks = [task(number, S.DONE, start_time=T0, usage=told) for number in (1, 2)]
    assert summarize_array(ARRAY, tasks).usage == Usage(cpu_seconds=2.0, sampled_at=T0)
    late = task(3, S.FAILED, start_time=T0, usage=Usage())
    assert summarize_array(ARRAY, [*tasks, late]).usage == Usage(cpu_seconds=2.0)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("7", [7]),
        ("3-7,9", [3, 4, 5, 6, 7, 9]),
        ("9,3-4,4-5,9", [3, 4, 5, 9]),
        ("0-0", [0]),
        ("007", [7]),
    ],
)
def test_read_tasks_each_number_once(text: str, numbers: list[int]) -> None:
    assert read_tasks(text) == numbers


@pytest.mark.parametrize(
    "text", ["", " 1", "1 ", "1\n", "-1", "1-", "1,", ",1", "1--3", "1:3", "٣", "1234567890", "[1]"]
)
def test_read_tasks_wrong_shape(text: str) -> None:
    with pytest.raises(ValueError, match="numbers of tasks"):
        read_tasks(text)


@pytest.mark.parametrize("text", ["7-3", f"0-{MOST_TASKS_NAMED}", "0-999999999,1", "1-6000,2-6001"])
def test_read_tasks_invalid_range(text: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        read_tasks(text)
    assert refused.value.field == "tasks"


@given(st.sets(st.integers(0, 40), min_size=1))
def test_ranges_of_round_trip(numbers: set[int]) -> None:
    ranges = ranges_of(numbers)
    assert read_tasks(",".join(ranges)) == sorted(numbers)
    assert len(ranges) == sum(number - 1 not in numbers for number in numbers)


def array(state: JobState, *, asked: int | None = 20, waiting: int | None = None) -> JobRecord:
    tasks = None if asked is None else ArrayRange(first=1, last=asked)
    spec = JobSpec(name="study", working_directory="/", script_file="/x", array=tasks)
    seen = Observation(native_id=ARRAY, state=state, is_array=True, waiting_tasks=waiting)
    return JobRecord(
        uid=JobUid.new(),
        native_id=ARRAY,
        spec=spec,
        seen=seen,
        state=state,
        created_at=T0,
        state_changed_at=T0,
    )


@pytest.mark.parametrize(
    ("state", "known", "counts"),
    [
        (S.QUEUED, {}, {S.QUEUED: 20}),
        (S.QUEUED_HELD, {}, {S.QUEUED_HELD: 20}),
        (S.QUEUED, {S.FAILED: 2}, {S.FAILED: 2, S.QUEUED: 18}),
        (S.RUNNING, {S.RUNNING: 3, S.QUEUED: 17}, {S.RUNNING: 3, S.QUEUED: 17}),
        (S.RUNNING, {S.RUNNING: 3, S.QUEUED: 12}, {S.RUNNING: 3, S.QUEUED: 12, S.UNDETERMINED: 5}),
        (S.RUNNING, {}, {S.UNDETERMINED: 20}),
        (S.DONE, {S.DONE: 19}, {S.DONE: 20}),
        (S.FAILED, {S.DONE: 18, S.FAILED: 1}, {S.DONE: 18, S.FAILED: 1, S.UNDETERMINED: 1}),
        (S.FAILED, {}, {S.FAILED: 20}),
    ],
)
def test_count_tasks_not_yet_seen(
    state: JobState, known: dict[JobState, int], counts: dict[JobState, int]
) -> None:
    assert count_tasks(array(state), known) == counts


@pytest.mark.parametrize(
    ("state", "asked", "known", "counts"),
    [
        (S.RUNNING, 5000, {S.RUNNING: 2, S.DONE: 98}, {S.RUNNING: 2, S.DONE: 98, S.QUEUED: 4900}),
        (S.QUEUED_HELD, 5000, {}, {S.QUEUED_HELD: 5000}),
        (S.RUNNING, 4950, {S.RUNNING: 100}, {S.RUNNING: 100, S.QUEUED: 4850}),
        (S.RUNNING, None, {S.RUNNING: 2}, {S.RUNNING: 2, S.QUEUED: 4900}),
    ],
)
def test_count_tasks_not_told_apart(
    state: JobState,
    asked: int | None,
    known: dict[JobState, int],
    counts: dict[JobState, int],
) -> None:
    assert count_tasks(array(state, asked=asked, waiting=4900), known) == counts


def test_count_tasks_cancelled_with_array() -> None:
    cancelled = array(S.FAILED).changed(cancel_requested_at=T0)
    assert count_tasks(cancelled, {S.DONE: 3, S.FAILED: 2}) == {S.DONE: 3, S.FAILED: 17}


def test_count_tasks_nothing_known() -> None:
    assert count_tasks(array(S.RUNNING, asked=None), {}) is None
