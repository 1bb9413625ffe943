"""Jobs that have to come first: which they are, and whether they still do."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from hpcq.domain.errors import InvalidSpec, JobNotFound, WrongState
from hpcq.domain.jobs import Dependency, DependencyCondition, JobRecord, JobSpec, JobUid
from hpcq.services.listing.job_entry import JobEntry

__all__ = ["DependencyRequest", "resolve", "still_to_come"]

_FIELD = "dependsOn"


@dataclass(frozen=True, slots=True, kw_only=True)
class DependencyRequest:
    """A job that has to come first, as a submission names it.

    Attributes:
        job_id: the scheduler's id or the permanent one.
    """

    job_id: str
    condition: DependencyCondition


async def resolve(
    dependency_requests: Sequence[DependencyRequest], find: Callable[[str], Awaitable[JobEntry]]
) -> tuple[Dependency, ...]:
    """Return the jobs that have to be waited for, without those that meet their condition already.

    Args:
        dependency_requests: the jobs that the client named.
        find: finds a job by either id.

    Raises:
        InvalidSpec: one of them is unknown, or has ended so that the condition cannot be met.
        WrongState: the scheduler has given one of them no id yet.
    """
    found: list[Dependency] = []
    for request in dependency_requests:
        try:
            record = (await find(request.job_id)).record
        except JobNotFound as error:
            raise InvalidSpec(error.detail, field=_FIELD) from error
        if not _is_open(record, request.condition):
            continue
        if record.native_id is None:
            raise WrongState(
                f"The scheduler has not given the job {record.uid} an id yet, so no other job can "
                "be made to wait for it. Try again in a moment."
            )
        dependency = Dependency(
            native_id=record.native_id, uid=record.uid, condition=request.condition
        )
        if dependency not in found:
            found.append(dependency)
    return tuple(found)


async def still_to_come(
    spec: JobSpec, by_uid: Callable[[JobUid], Awaitable[JobRecord | None]]
) -> JobSpec:
    """Return a job without the dependencies that were fulfilled since it was asked for.

    Args:
        spec: the job.
        by_uid: finds a job; None for one that this service keeps no record of.

    Raises:
        InvalidSpec: one of them has become impossible.
    """
    left: list[Dependency] = []
    for dependency in spec.depends_on:
        record = await by_uid(dependency.uid)
        if record is None or _is_open(record, dependency.condition):
            left.append(dependency)
    return replace(spec, depends_on=tuple(left))


def _is_open(record: JobRecord, condition: DependencyCondition) -> bool:
    """Return whether the condition is still to be met; only an end of the job decides it.

    Raises:
        InvalidSpec: it never will be met.
    """
    if not record.state.is_final:
        return True
    if not condition.is_met_by(record.state):
        raise InvalidSpec(
            f"The job {record.native_id or record.uid} is {record.state}: a job that waits for its "
            f"{condition} would never start.",
            field=_FIELD,
        )
    return False
