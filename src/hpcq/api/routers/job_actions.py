"""Changes of a job: ``PATCH``, and the actions ``/hold``, ``/release``, ``/requeue`` and others."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response

from hpcq.api.context import ContextDependency, PrincipalDependency
from hpcq.api.http_cache import age_headers
from hpcq.api.job_update import JobUpdate
from hpcq.api.problems import responses
from hpcq.api.requests import BodyRoute, NoQuery
from hpcq.api.routers.jobs import JobId
from hpcq.api.schemas import Accepted, Job, SignalRequest
from hpcq.domain.actions import Action
from hpcq.domain.jobs import JobRecord
from hpcq.domain.units import now

__all__ = ["router"]

router = APIRouter(tags=["jobs"], route_class=BodyRoute)

_PROBLEMS = responses(403, 404, 409, 501, 502, 503, 504)
_JobInPath = Annotated[JobId, Path(alias="jobId")]
_NoQuery = Annotated[NoQuery, Query()]
_MERGE_PATCH = {"schema": {"$ref": "#/components/schemas/JobUpdate"}}


@router.patch(
    "/jobs/{jobId}",
    operation_id="updateJob",
    summary="Change a queued job",
    response_model=Job,
    responses=responses(400, 403, 404, 409, 413, 501, 502, 503, 504),
    openapi_extra={"requestBody": {"content": {"application/merge-patch+json": _MERGE_PATCH}}},
)
async def update_job(
    body: JobUpdate,
    context: ContextDependency,
    principal: PrincipalDependency,
    job_id: _JobInPath,
    _query: _NoQuery,
) -> Response:
    """Change name, queue, account, priority or limits of a job that waits, held or not.

    A field that is not among `capabilities.changes` of `GET /cluster`, or `null` for one that is
    not among its `removals`, is refused with 501, and nothing is changed. The answer is the job.
    """
    entry = await context.changer.update(principal, job_id, body.values())
    freshness = context.table.freshness(now(), context.stale_after)
    headers = age_headers(freshness)
    return Response(entry.json(freshness), media_type="application/json", headers=headers)


@router.post(
    "/jobs/{jobId}/hold",
    status_code=202,
    operation_id="holdJob",
    summary="Hold a queued job",
    response_model=Accepted,
    responses=_PROBLEMS,
)
async def hold_job(
    context: ContextDependency, principal: PrincipalDependency, job_id: _JobInPath, _query: _NoQuery
) -> Accepted:
    """Keep a queued job from starting until it is released."""
    return _accepted(await context.changer.act(Action.HOLD, principal, job_id))


@router.post(
    "/jobs/{jobId}/release",
    status_code=202,
    operation_id="releaseJob",
    summary="Release a held job",
    response_model=Accepted,
    responses=_PROBLEMS,
)
async def release_job(
    context: ContextDependency, principal: PrincipalDependency, job_id: _JobInPath, _query: _NoQuery
) -> Accepted:
    """Let a held job start when its turn comes."""
    return _accepted(await context.changer.act(Action.RELEASE, principal, job_id))


@router.post(
    "/jobs/{jobId}/requeue",
    status_code=202,
    operation_id="requeueJob",
    summary="Put a running job back into the queue",
    response_model=Accepted,
    responses=_PROBLEMS,
)
async def requeue_job(
    context: ContextDependency, principal: PrincipalDependency, job_id: _JobInPath, _query: _NoQuery
) -> Accepted:
    """End a running job, which then waits to start anew under the same id."""
    return _accepted(await context.changer.act(Action.REQUEUE, principal, job_id))


@router.post(
    "/jobs/{jobId}/suspend",
    status_code=202,
    operation_id="suspendJob",
    summary="Suspend a running job",
    response_model=Accepted,
    responses=_PROBLEMS,
)
async def suspend_job(
    context: ContextDependency, principal: PrincipalDependency, job_id: _JobInPath, _query: _NoQuery
) -> Accepted:
    """Stop the processes of a running job until it is resumed."""
    return _accepted(await context.changer.act(Action.SUSPEND, principal, job_id))


@router.post(
    "/jobs/{jobId}/resume",
    status_code=202,
    operation_id="resumeJob",
    summary="Resume a suspended job",
    response_model=Accepted,
    responses=_PROBLEMS,
)
async def resume_job(
    context: ContextDependency, principal: PrincipalDependency, job_id: _JobInPath, _query: _NoQuery
) -> Accepted:
    """Let a suspended job go on."""
    return _accepted(await context.changer.act(Action.RESUME, principal, job_id))


@router.post(
    "/jobs/{jobId}/signal",
    status_code=202,
    operation_id="signalJob",
    summary="Send a signal to a running job",
    response_model=Accepted,
    responses=responses(400, 403, 404, 409, 413, 501, 502, 503, 504),
)
async def signal_job(
    body: SignalRequest,
    context: ContextDependency,
    principal: PrincipalDependency,
    job_id: _JobInPath,
    _query: _NoQuery,
) -> Accepted:
    """Send a signal to the processes of a running job, as far as the scheduler reaches them."""
    return _accepted(await context.changer.act(Action.SIGNAL, principal, job_id, body.signal))


def _accepted(record: JobRecord) -> Accepted:
    return Accepted(detail=f"jobId: {record.native_id}")
