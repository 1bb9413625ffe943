"""The routes of FirecREST 2: systems and jobs."""

import asyncio
import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRouter
from pydantic import Field, ValidationError
from starlette.exceptions import HTTPException

from hpcq.api.context import Context, ContextDependency, PrincipalDependency
from hpcq.api.firecrest.route import FirecrestRoute, SystemName, check_system
from hpcq.api.firecrest.shapes import (
    FirecrestSubmission,
    job_of,
    metadata_of,
    node_of,
    partition_of,
)
from hpcq.api.problems import responses
from hpcq.api.requests import RequestModel, below_root
from hpcq.api.routers.jobs import REPLAYED, IdempotencyKeyHeader, JobId
from hpcq.domain.errors import (
    SubmissionUnclear,
    UnsupportedCapability,
)
from hpcq.domain.principals import Method
from hpcq.domain.units import now
from hpcq.services.listing.job_entry import JobEntry
from hpcq.services.listing.job_listing import as_list
from hpcq.services.listing.wire import WireFormat

__all__ = ["router"]

router = APIRouter(prefix="/firecrest", tags=["FirecREST"], route_class=FirecrestRoute)


class JobsQuery(RequestModel):
    """The jobs that are wanted."""

    allusers: bool = False
    account: str | None = None
    name: str | None = None
    time_window: str | None = Field(
        default=None,
        alias="time_window",
        description="Not here: jobs that ended within a day are listed.",
    )


@router.get(
    "/status/systems",
    operation_id="firecrestSystems",
    summary="List systems",
    responses=responses(503),
)
async def list_systems(context: ContextDependency) -> Mapping[str, object]:
    """List the one system that this service is in front of."""
    freshness = context.table.freshness(now(), context.stale_after)
    health = {
        "serviceType": "scheduler",
        "lastChecked": None if freshness.as_of is None else freshness.as_of.isoformat(),
        "healthy": not freshness.stale,
    }
    system = {
        "name": context.wire.cluster_id,
        "ssh": None,
        "scheduler": {
            "type": context.scheduler.lower(),
            "version": await context.cluster.version(),
        },
        "servicesHealth": [health],
        "fileSystems": [],
    }
    return {"systems": [system]}


@router.get(
    "/status/{systemName}/nodes",
    operation_id="firecrestNodes",
    summary="List nodes",
    responses=responses(404, 502, 503, 504),
)
async def list_nodes(context: ContextDependency, system: SystemName) -> Mapping[str, object]:
    """List the hosts."""
    check_system(context, system)
    return {"nodes": [node_of(node) for node in (await context.cluster.nodes()).answer]}


@router.get(
    "/status/{systemName}/partitions",
    operation_id="firecrestPartitions",
    summary="List partitions",
    responses=responses(404, 502, 503, 504),
)
async def list_partitions(context: ContextDependency, system: SystemName) -> Mapping[str, object]:
    """List the queues."""
    check_system(context, system)
    nodes = (await context.cluster.nodes()).answer
    queues = (await context.cluster.queues()).answer
    return {"partitions": [partition_of(queue, nodes) for queue in queues]}


@router.post(
    "/compute/{systemName}/jobs",
    status_code=201,
    operation_id="firecrestSubmitJob",
    summary="Submit a job",
    responses={
        201: {"headers": REPLAYED},
        **responses(400, 403, 404, 409, 413, 429, 501, 502, 503, 504),
    },
)
async def submit_job(
    body: FirecrestSubmission,
    request: Request,
    response: Response,
    context: ContextDependency,
    principal: PrincipalDependency,
    system: SystemName,
    idempotency_key: IdempotencyKeyHeader = None,
) -> Mapping[str, object]:
    """Hand a script to the scheduler; an `Idempotency-Key` is that of `POST /jobs`."""
    check_system(context, system)
    try:
        submission = body.job.to_submission(is_slurm=context.scheduler == "SLURM")
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None
    spec = submission.to_spec(context.wire.cluster_id)
    outcome = await context.submitter.submit(principal, spec, idempotency_key)
    record = outcome.record
    if outcome.is_replay:
        response.headers["Idempotent-Replayed"] = "true"
    root = request.scope.get("root_path", "")
    response.headers["Location"] = f"{root}/jobs/{record.native_id or record.uid}"
    if record.native_id is None:
        raise SubmissionUnclear(
            f"It is not known yet whether the scheduler took the job. If it did, the job "
            f"{record.uid} shows it; look before you submit it again."
        )
    number = str(record.native_id)
    return {"jobId": int(number) if number.isdecimal() else number}


@router.get(
    "/compute/{systemName}/jobs",
    operation_id="firecrestJobs",
    summary="List jobs",
    responses=responses(404, 501, 503),
)
async def list_jobs(
    context: ContextDependency,
    principal: PrincipalDependency,
    system: SystemName,
    query: Annotated[JobsQuery, Query()],
) -> Mapping[str, object]:
    """List the caller's jobs, or all that the caller may see."""
    check_system(context, system)
    if query.time_window is not None:
        raise UnsupportedCapability(
            "time_window",
            context.scheduler,
            "This service lists jobs that ended within the last day, and takes no time_window. "
            "GET /jobs?endedAfter=… looks further back.",
        )
    listing = context.table.view(principal.view)
    shown = [
        entry
        for entry in await listing.in_order()
        if query.allusers or principal.method is Method.NONE or principal.owns(entry.record)
    ]
    jobs = await asyncio.to_thread(_jobs, context, shown)
    return {
        "jobs": [
            job_of(job)
            for job in jobs
            if query.account in (None, job["account"]) and query.name in (None, job["name"])
        ]
    }


@router.get(
    "/compute/{systemName}/jobs/{jobId}",
    operation_id="firecrestJob",
    summary="Read a job",
    responses=responses(404, 502, 503, 504),
)
async def get_job(
    context: ContextDependency,
    principal: PrincipalDependency,
    system: SystemName,
    job_id: Annotated[JobId, Path(alias="jobId")],
    _query: Annotated[JobsQuery, Query()],
) -> Mapping[str, object]:
    """Read one job; of an array the array alone. The query counts for lists only."""
    check_system(context, system)
    entry = await context.jobs.read(principal, job_id)
    return {"jobs": [job_of(job) for job in _jobs(context, [entry])]}


@router.get(
    "/compute/{systemName}/jobs/{jobId}/metadata",
    operation_id="firecrestJobMetadata",
    summary="Read the files of a job",
    responses=responses(404, 502, 503, 504),
)
async def get_metadata(
    context: ContextDependency,
    principal: PrincipalDependency,
    system: SystemName,
    job_id: Annotated[JobId, Path(alias="jobId")],
) -> Mapping[str, object]:
    """Read where a job writes."""
    check_system(context, system)
    entry = await context.jobs.read(principal, job_id)
    return {"jobs": [metadata_of(job) for job in _jobs(context, [entry])]}


@router.delete(
    "/compute/{systemName}/jobs/{jobId}",
    status_code=204,
    response_class=Response,
    operation_id="firecrestCancelJob",
    summary="Cancel a job",
    responses=responses(403, 404, 409, 502, 503, 504),
)
async def cancel_job(
    context: ContextDependency,
    principal: PrincipalDependency,
    system: SystemName,
    job_id: Annotated[JobId, Path(alias="jobId")],
) -> None:
    """End a job that is queued or running; one that is over stays as it is."""
    check_system(context, system)
    record = (await context.jobs.find(principal, job_id)).record
    if not (record.state.is_final and principal.may_change(record)):
        await context.changer.cancel(principal, job_id)


async def other(request: Request) -> Response:
    """Refuse by name what FirecREST has and this service has not."""
    path = request.url.path[:200]
    here = below_root(request.scope)
    if any(route.path_regex.match(here) for route in request.app.state.documented_routes):
        raise HTTPException(405)
    raise UnsupportedCapability(
        path, "FirecREST", f"This service has no {path}. /help/firecrest.html lists what it has."
    )


router.add_route("/firecrest/{rest:path}", other, ["GET", "POST", "PUT", "DELETE"])


def _jobs(context: Context, entries: list[JobEntry]) -> list[Mapping[str, Any]]:
    """Return jobs as this service's own API answers them, whatever its compatibility."""
    freshness = context.table.freshness(now(), context.stale_after)
    wire = WireFormat(context.wire.cluster_id)
    plain = [JobEntry(entry.record, wire, None, entry.tasks) for entry in entries]
    found: list[Mapping[str, Any]] = json.loads(b"".join(as_list(plain, freshness, usage=False)))
    return found
