"""``/cluster``, ``/queues``, ``/nodes``: what the scheduler is, and what it has."""

from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response
from pydantic import Field, model_validator

from hpcq.api.context import Context, ContextDependency
from hpcq.api.http_cache import age_headers
from hpcq.api.job_query import OptionalTime
from hpcq.api.problems import responses
from hpcq.api.requests import NoQuery, RequestModel
from hpcq.api.schemas import (
    CapabilitiesOut,
    ClusterOut,
    NodeOut,
    QueueOut,
    QueuePointOut,
    QueueUsageOut,
)
from hpcq.domain.units import gibibytes, now
from hpcq.schedulers.base import Capabilities
from hpcq.services.listing.job_entry import Freshness
from hpcq.services.listing.wire import request_name

__all__ = ["router"]

router = APIRouter(tags=["cluster"])


@router.get("/cluster", operation_id="getCluster", summary="Read the cluster")
async def get_cluster(
    context: ContextDependency, _query: Annotated[NoQuery, Query()]
) -> ClusterOut:
    """Tell which scheduler runs the jobs, and what can be asked of it.

    A submission with a field that is not among `capabilities.fields` is refused with 501, and so
    is an action that is not among `capabilities.actions`.
    """
    return ClusterOut(
        cluster_id=context.wire.cluster_id,
        scheduler=context.scheduler,
        version=await context.cluster.version(),
        capabilities=_capabilities(context.capabilities, files=context.job_files.has_folders),
        limits=context.limits,
    )


def _capabilities(capabilities: Capabilities, *, files: bool) -> CapabilitiesOut:
    return CapabilitiesOut(
        fields=sorted(request_name(name) for name in capabilities.fields - {"run_as"}),
        actions=sorted(capabilities.actions),
        changes=sorted(map(request_name, capabilities.changes)),
        removals=sorted(map(request_name, capabilities.removals)),
        accounting=capabilities.accounting,
        memory_enforced=capabilities.memory_enforced,
        files=files,
    )


@router.get(
    "/queues",
    operation_id="listQueues",
    summary="List queues",
    responses=responses(502, 503, 504),
)
async def list_queues(
    context: ContextDependency, response: Response, _query: Annotated[NoQuery, Query()]
) -> list[QueueOut]:
    """List the queues or partitions. `X-As-Of` and `X-Stale` tell the answer's age."""
    seen = await context.cluster.queues()
    response.headers.update(_age(context, seen.at))
    return [
        QueueOut(
            name=queue.name,
            is_open=queue.is_open,
            native_state=queue.native_state,
            slots_total=queue.slots_total,
            slots_used=queue.slots_used,
            max_wall_time=queue.max_wall_time_seconds,
        )
        for queue in seen.answer
    ]


class QueueUsageQuery(RequestModel):
    """The time whose load is asked for."""

    since: OptionalTime = Field(
        default=None, description="RFC 3339; a day before `until` unless given."
    )
    until: OptionalTime = Field(default=None, description="RFC 3339; now unless given.")
    points: int = Field(
        default=480, ge=1, le=2000, description="The most points; each is a mean over its step."
    )

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ValueError("since has to be earlier than until")
        return self


@router.get(
    "/queues/{name}/usage",
    operation_id="getQueueUsage",
    summary="Read a queue's load over time",
    responses=responses(404, 502, 503, 504),
)
async def get_queue_usage(
    context: ContextDependency,
    name: Annotated[str, Path(description="As in `GET /queues`.", examples=["batch"])],
    query: Annotated[QueueUsageQuery, Query()],
) -> QueueUsageOut:
    """Read how many slots and jobs of a queue ran and waited, from samples of each minute.

    Minutes in which the service did not run, or the scheduler did not answer, have no sample.
    Samples are kept for `QUEUE_USAGE_KEPT_DAYS`.
    """
    history = await context.queue_usage.history(name, query.since, query.until, query.points)
    return QueueUsageOut(
        queue=name,
        since=context.wire.time(history.since),
        until=context.wire.time(history.until),
        step=round(history.step.total_seconds()),
        points=[
            QueuePointOut(
                time=context.wire.time(point.at),
                slots_total=point.slots_total,
                slots_used=point.slots_used,
                slots_queued=point.slots_queued,
                jobs_running=point.jobs_running,
                jobs_queued=point.jobs_queued,
            )
            for point in history.points
        ],
    )


@router.get(
    "/nodes",
    operation_id="listNodes",
    summary="List nodes",
    responses=responses(502, 503, 504),
)
async def list_nodes(
    context: ContextDependency, response: Response, _query: Annotated[NoQuery, Query()]
) -> list[NodeOut]:
    """List the hosts that run jobs. `X-As-Of` and `X-Stale` tell the answer's age."""
    seen = await context.cluster.nodes()
    response.headers.update(_age(context, seen.at))
    return [
        NodeOut(
            name=node.name,
            is_up=node.is_up,
            native_state=node.native_state,
            slots_total=node.slots_total,
            slots_used=node.slots_used,
            memory=gibibytes(node.memory_bytes),
            queues=list(node.queues),
        )
        for node in seen.answer
    ]


def _age(context: Context, at: datetime) -> dict[str, str]:
    return age_headers(Freshness(at, stale=now() - at > context.stale_after))
