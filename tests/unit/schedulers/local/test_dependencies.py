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
def test_on_end_conditions(
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


def test_on_start_conditions() -> None:
    dependents = Dependents()
    free = waiting(dependents, 3, on(1, STARTED))
    other = waiting(dependents, 4, on(1, STARTED), on(1, SUCCESS), on(2, ANY))
    assert dependents.on_start(NativeId("1")) == [free]
    assert other.waits_for == (on(1, SUCCESS), on(2, ANY))
    assert dependents.on_start(NativeId("2")) == []
    assert dependents.on_end(NativeId("1"), DONE) == ([], [])
    assert dependents.on_end(NativeId("2"), FAILED) == ([other], [])


def test_discard_cancelled_job() -> None:
    dependents = Dependents()
    job = waiting(dependents, 3, on(1), on(2, ANY))
    dependents.discard(job)
    dependents.discard(job)
    assert dependents.on_end(NativeId("1"), DONE) == ([], [])
    assert dependents.on_end(NativeId("2"), DONE) == ([], [])


def test_on_end_long_chain() -> None:
    dependents = Dependents()
    chain = [waiting(dependents, number, on(number - 1)) for number in range(2, 5002)]
    after = waiting(dependents, 6000, on(5001, ANY))
    free, in_vain = dependents.on_end(NativeId("1"), FAILED)
    assert [job for job, _ in in_vain] == chain
    assert free == [after]


def test_on_end_two_failed_dependencies() -> None:
    dependents = Dependents()
    job = waiting(dependents, 3, on(1), on(2))
    assert dependents.on_end(NativeId("1"), FAILED).in_vain == [(job, on(1))]
    assert dependents.on_end(NativeId("2"), FAILED) == ([], [])


def test_observe_remaining_dependencies() -> None:
    dependents = Dependents()
    job = waiting(dependents, 9, on(1, ANY), on(2), on(2, STARTED), on(3))
    assert job.observe(Site("host", "ana")).depends_on == ("1", "2", "3")
    dependents.on_end(NativeId("1"), DONE)
    seen = job.observe(Site("host", "ana"))
    assert (seen.state, seen.native_state) == (JobState.QUEUED, "waiting")
    assert seen.reason_code is ReasonCode.WAITING_FOR_DEPENDENCY
    assert seen.state_reason == "It waits for other jobs: 2, 3."
    assert seen.depends_on == ("2", "3")


def test_observe_held_job_with_dependency() -> None:
    job = waiting(Dependents(), 2, on(1))
    job.phase = Phase.HELD
    seen = job.observe(Site("host", "ana"))
    assert (seen.state, seen.reason_code) == (JobState.QUEUED_HELD, ReasonCode.HELD_BY_USER)


def test_still_to_come_open_dependencies() -> None:
    ends = {NativeId("1"): None, NativeId("2"): DONE, NativeId("3"): FAILED}
    depends_on = [on(1), on(2), on(2, STARTED), on(3, FAILURE), on(3, ANY)]
    assert still_to_come(depends_on, ends) == (on(1),)


@pytest.mark.parametrize(
    ("dependency", "words"),
    [(on(2, FAILURE), "is DONE"), (on(3), "is FAILED"), (on(4, ANY), "no job 4 any more")],
)
def test_still_to_come_never_satisfiable(dependency: Dependency, words: str) -> None:
    with pytest.raises(InvalidSpec, match=words) as refused:
        still_to_come([dependency], {NativeId("2"): DONE, NativeId("3"): FAILED})
    assert refused.value.field == "dependsOn"


def test_spec_with_dependencies_roundtrip() -> None:
    spec = waiting(Dependents(), 2, on(1), on(7, STARTED)).spec
    assert spec_from_json(spec_to_json(spec)) == spec
