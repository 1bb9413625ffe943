"""Arrays and heterogeneous jobs as wholes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hpcq.domain.jobs import NativeId, Observation
from hpcq.domain.states import FailureKind, JobState
from hpcq.schedulers.base import Listing
from hpcq.schedulers.slurm.accounting import AccountedJobs
from hpcq.schedulers.slurm.arrays import ArraySummaries, ended_arrays

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def task(number: int, state: JobState, parent: str = "31") -> Observation:
    ran = not state.is_queued
    return Observation(
        native_id=NativeId(f"{parent}_{number}"),
        state=state,
        submit_time=BEGAN,
        start_time=BEGAN + timedelta(seconds=number) if ran else None,
        end_time=BEGAN + timedelta(minutes=number) if state.is_final else None,
        failure_kind=FailureKind.NON_ZERO_EXIT if state is JobState.FAILED else None,
        array_job_id=parent,
        array_task_id=number,
    )


def plain(job: str) -> Observation:
    return Observation(native_id=NativeId(job), state=JobState.RUNNING)


def history(*observations: Observation, unfinished: frozenset[str] = frozenset()) -> AccountedJobs:
    return AccountedJobs(Listing(observations=observations), unfinished, frozenset({"31"}))


def test_array_summary_beside_tasks() -> None:
    tasks = [task(1, JobState.RUNNING), task(2, JobState.QUEUED)]
    seen = ArraySummaries().add([*tasks, plain("7")])
    assert [one.native_id for one in seen] == ["31_1", "31_2", "7", "31"]
    assert seen[-1].state is JobState.RUNNING


def test_array_summary_unchanged_same_object() -> None:
    wholes, tasks = ArraySummaries(), [task(1, JobState.QUEUED), task(2, JobState.QUEUED)]
    first = wholes.add(tasks)[-1]
    assert wholes.add(list(tasks))[-1] is first
    assert wholes.add([replace(tasks[0]), tasks[1]])[-1] is not first


def test_array_summary_between_tasks() -> None:
    wholes = ArraySummaries()
    wholes.add([task(1, JobState.RUNNING), task(2, JobState.QUEUED)])
    seen = wholes.add([task(2, JobState.QUEUED)])[-1]
    assert seen.state is JobState.RUNNING
    assert seen.start_time == task(1, JobState.RUNNING).start_time
    (_, asked) = wholes.complete([NativeId("31")], [task(2, JobState.QUEUED)])
    assert asked.state is JobState.RUNNING


def test_array_details_of_one_task() -> None:
    assert len(ArraySummaries().complete([NativeId("31_1")], [task(1, JobState.RUNNING)])) == 1


def test_ended_arrays_all_tasks_ended() -> None:
    ended = [task(1, JobState.FAILED), task(2, JobState.DONE)]
    (seen,) = ended_arrays([NativeId("31")], ended, history(*ended), [])
    assert (seen.native_id, seen.state) == ("31", JobState.FAILED)
    assert seen.end_time == ended[1].end_time


def test_ended_arrays_task_waiting() -> None:
    ended = [task(1, JobState.DONE)]
    asked = [NativeId("31")]
    waits = history(*ended, unfinished=frozenset({"31", "31_2"}))
    assert ended_arrays(asked, ended, waits, []) == []
    assert ended_arrays(asked, ended, history(*ended), [task(2, JobState.RUNNING)]) == []
    assert ended_arrays([NativeId("31_1")], ended, history(*ended), []) == []


def test_cancelled_while_waiting() -> None:
    wholes = ArraySummaries()
    wholes.add([task(1, JobState.RUNNING), task(2, JobState.QUEUED), task(3, JobState.QUEUED)])
    wholes.add([task(1, JobState.RUNNING), task(3, JobState.QUEUED)])
    ids = [NativeId("31_2"), NativeId("31_99")]
    (seen,) = wholes.cancelled_while_waiting(ids, [], history())
    assert (seen.native_id, seen.failure_kind) == ("31_2", FailureKind.CANCELLED)
    assert (seen.start_time, seen.exit_code) == (None, None)
    assert [
        one.native_id for one in wholes.cancelled_while_waiting([NativeId("31")], [], history())
    ] == ["31_2"]


def test_cancelled_while_waiting_task_still_known() -> None:
    wholes = ArraySummaries()
    wholes.add([task(2, JobState.QUEUED), task(3, JobState.QUEUED)])
    wholes.add([task(3, JobState.QUEUED)])
    ids = [NativeId("31_2")]
    assert wholes.cancelled_while_waiting(ids, ids, history()) == []
    assert wholes.cancelled_while_waiting(ids, [], history(unfinished=frozenset({"31_2"}))) == []
    # Accounting does not know the array, so it cannot know the task either.
    assert wholes.cancelled_while_waiting(ids, [], AccountedJobs()) == []
    wholes.add([task(2, JobState.QUEUED), task(3, JobState.QUEUED)])
    assert wholes.cancelled_while_waiting(ids, [], history()) == []
