from hpcq.domain.jobs import (
    ArrayRange,
    JobSpec,
    JobUid,
    NativeId,
    Observation,
    Outputs,
    SubmissionKey,
)
from hpcq.domain.states import JobState, ReasonCode
from hpcq.schedulers.local.arrays import LocalArray, Turns
from hpcq.schedulers.local.ids import is_local
from hpcq.schedulers.local.job import LocalJob, Site
from hpcq.schedulers.local.queue import JobQueue
from hpcq.schedulers.local.spool_row import Phase, spec_from_json, spec_to_json
from hpcq.schedulers.local.unreported_ends import never_started

KEY = SubmissionKey.for_uid(JobUid("00000000-0000-4000-8000-000000000000"))
SITE = Site("host", "ana")


def array_of(tasks: int, max_running: int | None = None) -> tuple[LocalArray, list[LocalJob]]:
    """An array with the number 10, and its tasks."""
    spec = JobSpec(
        name="n",
        working_directory="/w",
        script_file="/s",
        array=ArrayRange(first=0, last=tasks - 1, max_running=max_running),
        outputs=Outputs(stdout="/w/n.o%j.%a", stderr="/w/100%%.%a"),
    )
    whole = LocalJob(number=10, key=KEY, spec=spec, submitted=1.0, phase=Phase.QUEUED)
    array = LocalArray(whole)
    jobs = [
        LocalJob(
            number=11 + task,
            key=KEY,
            spec=spec,
            submitted=1.0,
            phase=Phase.QUEUED,
            array=10,
            task=task,
        )
        for task in range(tasks)
    ]
    for job in jobs:
        array.add(job)
    return array, jobs


def end(array: LocalArray, job: LocalJob, kind: str | None) -> JobState | None:
    job.result = never_started()
    job.result["failure_kind"] = kind
    job.changed()
    return array.on_end()


def test_task_ids_and_outputs() -> None:
    array, (first, _) = array_of(2)
    seen = first.observe(SITE)
    assert (seen.native_id, seen.array_job_id, seen.array_task_id) == ("10[0]", "10", 0)
    assert seen.submission_key == KEY
    assert (seen.stdout_path, seen.stderr_path) == ("/w/n.o10.0", "/w/100%.0")
    assert first.mark == f"{KEY}.0"
    assert (array.whole.native_id, array.whole.mark) == ("10", KEY)
    assert array.whole.is_whole_array and not first.is_whole_array


def test_id_forms() -> None:
    assert all(map(is_local, map(_id, ("1", "12[3]", "12[0]"))))
    assert not any(map(is_local, map(_id, ("0", "012", "12[03]", "12_3", "12.host"))))


def _id(text: str) -> NativeId:
    return NativeId(text)


def test_array_end_after_last_task() -> None:
    array, jobs = array_of(3)
    assert end(array, jobs[2], None) is None
    assert end(array, jobs[0], "SIGNAL") is None
    assert end(array, jobs[1], None) is JobState.FAILED
    array, jobs = array_of(1)
    assert end(array, jobs[0], None) is JobState.DONE


def test_array_unchanged_same_object() -> None:
    array, jobs = array_of(3)

    def observe() -> Observation:
        return array.observe([job.observe(SITE) for job in jobs])

    first = observe()
    assert (first.native_id, first.is_array, first.state) == ("10", True, JobState.QUEUED)
    assert observe() is first
    jobs[1].phase = Phase.DISPATCHED
    jobs[1].changed()
    assert observe().state is JobState.RUNNING


def test_turns_max_running() -> None:
    _, jobs = array_of(5, max_running=2)
    turns = Turns()
    assert [turns.take(job) for job in jobs] == [True, True, False, False, False]
    seen = jobs[2].observe(SITE)
    assert seen.reason_code is ReasonCode.LIMIT_REACHED
    assert seen.state_reason == "It waits until fewer than 2 tasks of its array run."
    assert turns.give_back(jobs[1]) is jobs[2]
    assert jobs[2].observe(SITE).reason_code is ReasonCode.WAITING_FOR_RESOURCES
    # It comes back, behind those that have a turn and before the others.
    assert not turns.take(jobs[1])
    assert turns.give_back(jobs[0]) is jobs[1]
    assert turns.give_back(jobs[3]) is None, "it had no turn"
    assert turns.give_back(jobs[3]) is None, "it waits no longer"
    assert turns.give_back(jobs[1]) is jobs[4]
    assert [turns.give_back(job) for job in jobs] == [None] * 5
    assert turns.take(jobs[0]), "all is forgotten"


def test_turns_after_restart() -> None:
    _, jobs = array_of(4, max_running=1)
    turns = Turns()
    turns.keep(jobs[0])
    # A crash may leave one more than may run.
    turns.keep(jobs[1])
    assert [turns.take(job) for job in jobs[2:]] == [False, False]
    assert turns.give_back(jobs[0]) is None
    assert turns.give_back(jobs[1]) is jobs[2]


def test_turns_without_limit() -> None:
    _, jobs = array_of(3)
    turns = Turns()
    assert all(map(turns.take, jobs))
    turns.keep(jobs[0])
    assert [turns.give_back(job) for job in jobs] == [None] * 3


def test_spec_with_array_roundtrip() -> None:
    spec = array_of(3, max_running=2)[0].whole.spec
    assert spec_from_json(spec_to_json(spec)) == spec


def test_discard_all_and_turns() -> None:
    queue, (_, jobs) = JobQueue(4), array_of(5, max_running=1)
    for job in jobs:
        queue.add(job)
    queue.discard_all(jobs[:4])
    # Whoever gets a turn waits for it no longer.
    assert [job.note is None for job in jobs] == [True, False, False, False, True]
    assert queue.take([]) == [jobs[4]]
