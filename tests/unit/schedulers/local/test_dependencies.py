import pytest

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import (
    Dependency,
    DependencyCondition,
    JobSpec,
    JobUid,
    NativeId,
    SubmissionKey,
)
from hpcq.domain.states import JobState, ReasonCode
from hpcq.schedulers.local.dependencies import Dependents, still_to_come
from hpcq.schedulers.local.job import LocalJob, Site
from hpcq.schedulers.local.spool_row import Phase, spec_from_json, spec_to_json

UID = JobUid("00000000-0000-4000-8000-000000000000")
SUCCESS, FAILURE = DependencyCondition.SUCCESS, DependencyCondition.FAILURE
ANY, STARTED = DependencyCondition.ANY, DependencyCondition.STARTED
DONE, FAILED = JobState.DONE, JobState.FAILED


def on(number: int, condition: DependencyCondition = SUCCESS) -> Dependency:
    return Dependency(native_id=NativeId(str(number)), uid=UID, condition=condition)


def waiting(dependents: Dependents, number: int, *depends_on: Dependency) -> LocalJob:
    spec = JobSpec(name="n", working_directory="/w", script_file="/s", depends_on=tuple(depends_on))
    job = LocalJob(
        number=number,
        key=SubmissionKey.for_uid(UID),
        spec=spec,
        submitted=1.0,
        phase=Phase.QUEUED,
        waits_for=spec.depends_on,
    )
    dependents.add(job)
    return job


@pytest.mark.parametrize(
    ("condition", "met_by"),
    [(SUCCESS, {DONE}), (FAILURE, {FAILED}), (ANY, {DONE, FAILED}), (STARTED, {DONE, FAILED})],
)
@pytest.mark.parametrize("end", [DONE, FAILED])
def test_end_of_a_job_frees_those_it_is_for_and_ends_the_others(
    condition: DependencyCondition, met_by: set[JobState], end: JobState
) -> None:
    dependents = Dependents()
    job = waiting(dependents, 2, on(1, condition))
    free, in_vain = dependents.on_end(NativeId("1"), end)
    if end in met_by:
        assert (free, in_vain) == ([job], [])
    else:
        assert (free, in_vain) == ([], [(job, on(1, condition))])
    assert dependents.on_end(NativeId("1"), end) == ([], []), "once"


def test_start_of_a_job_frees_those_that_wait_for_that_alone() -> None:
    dependents = Dependents()
    free = waiting(dependents, 3, on(1, STARTED))
    other = waiting(dependents, 4, on(1, STARTED), on(1, SUCCESS), on(2, ANY))
    assert dependents.on_start(NativeId("1")) == [free]
    assert other.waits_for == (on(1, SUCCESS), on(2, ANY))
    assert dependents.on_start(NativeId("2")) == []
    assert dependents.on_end(NativeId("1"), DONE) == ([], [])
    assert dependents.on_end(NativeId("2"), FAILED) == ([other], [])


def test_job_that_was_cancelled_waits_no_longer() -> None:
    dependents = Dependents()
    job = waiting(dependents, 3, on(1), on(2, ANY))
    dependents.discard(job)
    dependents.discard(job)
    assert dependents.on_end(NativeId("1"), DONE) == ([], [])
    assert dependents.on_end(NativeId("2"), DONE) == ([], [])


def test_end_in_vain_is_an_end_for_a_long_chain_too() -> None:
    dependents = Dependents()
    chain = [waiting(dependents, number, on(number - 1)) for number in range(2, 5002)]
    after = waiting(dependents, 6000, on(5001, ANY))
    free, in_vain = dependents.on_end(NativeId("1"), FAILED)
    assert [job for job, _ in in_vain] == chain
    assert free == [after]


def test_job_in_vain_for_one_reason_is_ended_once() -> None:
    dependents = Dependents()
    job = waiting(dependents, 3, on(1), on(2))
    assert dependents.on_end(NativeId("1"), FAILED).in_vain == [(job, on(1))]
    assert dependents.on_end(NativeId("2"), FAILED) == ([], [])


def test_waiting_job_names_what_it_still_waits_for() -> None:
    dependents = Dependents()
    job = waiting(dependents, 9, on(1, ANY), on(2), on(2, STARTED), on(3))
    assert job.observe(Site("host", "ana")).depends_on == ("1", "2", "3")
    dependents.on_end(NativeId("1"), DONE)
    seen = job.observe(Site("host", "ana"))
    assert (seen.state, seen.native_state) == (JobState.QUEUED, "waiting")
    assert seen.reason_code is ReasonCode.WAITING_FOR_DEPENDENCY
    assert seen.state_reason == "It waits for other jobs: 2, 3."
    assert seen.depends_on == ("2", "3")


def test_held_job_that_waits_says_that_it_is_held() -> None:
    job = waiting(Dependents(), 2, on(1))
    job.phase = Phase.HELD
    seen = job.observe(Site("host", "ana"))
    assert (seen.state, seen.reason_code) == (JobState.QUEUED_HELD, ReasonCode.HELD_BY_USER)


def test_new_job_waits_for_what_is_not_over() -> None:
    ends = {NativeId("1"): None, NativeId("2"): DONE, NativeId("3"): FAILED}
    depends_on = [on(1), on(2), on(2, STARTED), on(3, FAILURE), on(3, ANY)]
    assert still_to_come(depends_on, ends) == (on(1),)


@pytest.mark.parametrize(
    ("dependency", "words"),
    [(on(2, FAILURE), "is DONE"), (on(3), "is FAILED"), (on(4, ANY), "no job 4 any more")],
)
def test_new_job_that_can_never_start_is_refused(dependency: Dependency, words: str) -> None:
    with pytest.raises(InvalidSpec, match=words) as refused:
        still_to_come([dependency], {NativeId("2"): DONE, NativeId("3"): FAILED})
    assert refused.value.field == "dependsOn"


def test_spec_keeps_its_dependencies_in_the_spool() -> None:
    spec = waiting(Dependents(), 2, on(1), on(7, STARTED)).spec
    assert spec_from_json(spec_to_json(spec)) == spec
