"""Jobs that have to come first."""

from dataclasses import replace

import pytest
from tests.unit.services.kit import World

from hpcq.domain.errors import (
    CommandTimedOut,
    IdempotencyKeyReused,
    InvalidSpec,
    UnsupportedCapability,
    WrongState,
)
from hpcq.domain.jobs import Dependency, DependencyCondition, JobRecord
from hpcq.domain.principals import UNASKED
from hpcq.domain.states import FailureKind, JobState
from hpcq.services.submission.dependencies import DependencyRequest

pytestmark = pytest.mark.anyio

C = DependencyCondition


def request(job_id: str, condition: DependencyCondition = C.SUCCESS) -> DependencyRequest:
    return DependencyRequest(job_id=job_id, condition=condition)


async def first_job(world: World, state: JobState | None = None) -> JobRecord:
    """A job in the queue, or one that ended so."""
    record = await world.submit(name="first")
    assert record.native_id is not None
    if state is not None:
        kind = FailureKind.NON_ZERO_EXIT if state is JobState.FAILED else None
        world.scheduler.end(record.native_id, state=state, failure_kind=kind)
        await world.tick(5)
        record = world.job(record.uid)
        assert record.state is state
    return record


async def waits_for(
    world: World, *dependency_requests: DependencyRequest
) -> tuple[Dependency, ...]:
    submission = await world.submitter.submit(UNASKED, world.spec, depends_on=dependency_requests)
    return world.scheduler.submitted[submission.record.key].depends_on


async def test_dependency_uid_or_native_id(world: World) -> None:
    first = await first_job(world)
    assert first.native_id is not None
    asked = [request(first.uid), request(first.native_id, C.ANY), request(first.native_id)]
    success, over = await waits_for(world, *asked)
    assert success == Dependency(native_id=first.native_id, uid=first.uid, condition=C.SUCCESS)
    assert over == replace(success, condition=C.ANY)


@pytest.mark.parametrize(
    ("state", "condition"),
    [
        (JobState.DONE, C.SUCCESS),
        (JobState.DONE, C.ANY),
        (JobState.DONE, C.STARTED),
        (JobState.FAILED, C.FAILURE),
        (JobState.FAILED, C.ANY),
    ],
)
async def test_dependency_already_satisfied(
    world: World, state: JobState, condition: DependencyCondition
) -> None:
    first = await first_job(world, state)
    assert await waits_for(world, request(first.uid, condition)) == ()


@pytest.mark.parametrize(
    ("state", "condition"), [(JobState.FAILED, C.SUCCESS), (JobState.DONE, C.FAILURE)]
)
async def test_dependency_never_satisfiable(
    world: World, state: JobState, condition: DependencyCondition
) -> None:
    first = await first_job(world, state)
    with pytest.raises(InvalidSpec, match="would never start") as caught:
        await waits_for(world, request(first.uid, condition))
    assert caught.value.field == "dependsOn"
    assert len(world.scheduler.submitted) == 1


async def test_dependency_unknown_job(world: World) -> None:
    await world.tick()
    with pytest.raises(InvalidSpec, match="no job '99'") as caught:
        await waits_for(world, request("99"))
    assert caught.value.field == "dependsOn"


async def test_dependency_job_without_native_id(world: World) -> None:
    world.scheduler.fail_next("submit", CommandTimedOut(("qsub",), 30))
    first = (await world.submitter.submit(UNASKED, world.spec)).record
    with pytest.raises(WrongState, match="Try again"):
        await waits_for(world, request(first.uid))


async def test_dependency_unsupported_by_scheduler(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = world.scheduler.capabilities.fields - {"depends_on"}
    poorer = replace(world.scheduler.capabilities, fields=fields)
    monkeypatch.setattr(world.scheduler, "capabilities", poorer)
    with pytest.raises(UnsupportedCapability) as caught:
        await waits_for(world, request("99"))
    assert caught.value.field == "dependsOn"


async def test_dependency_idempotency_key_repeated(world: World) -> None:
    first = await first_job(world)
    waiting = (
        await world.submitter.submit(UNASKED, world.spec, "a", depends_on=[request(first.uid)])
    ).record
    await world.runner.drain()
    again = await world.submitter.submit(UNASKED, world.spec, "a", depends_on=[request(first.uid)])
    assert (again.is_replay, again.record.uid) == (True, waiting.uid)
    with pytest.raises(IdempotencyKeyReused):
        await world.submitter.submit(
            UNASKED, world.spec, "a", depends_on=[request(first.uid, C.ANY)]
        )


@pytest.mark.parametrize("ended", [JobState.DONE, JobState.FAILED])
async def test_dependency_submission_repeated(world: World, ended: JobState) -> None:
    first = await first_job(world)
    assert first.native_id is not None
    world.scheduler.fail_next("submit", CommandTimedOut(("qsub",), 30))
    record = (
        await world.submitter.submit(UNASKED, world.spec, "a", depends_on=[request(first.uid)])
    ).record
    kind = FailureKind.NON_ZERO_EXIT if ended is JobState.FAILED else None
    world.scheduler.end(first.native_id, state=ended, failure_kind=kind)
    for _ in range(3):
        await world.tick(61)
        await world.runner.drain()
    now = world.job(record.uid)
    if ended is JobState.DONE:
        assert world.scheduler.submitted[record.key].depends_on == ()
        assert now.native_id is not None
    else:
        assert record.key not in world.scheduler.submitted
        assert (now.state, "would never start" in (now.state_reason or "")) == (ended, True)
