"""Changes of a job: ``PATCH``, and the actions ``/hold``, ``/release``, ``/requeue`` and others."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response
from pydantic import Field, StrictStr

from hpcq.api.context import ContextDependency, PrincipalDependency
from hpcq.api.http_cache import age_headers
from hpcq.api.job_submission import memory_bytes
from hpcq.api.problems import responses
from hpcq.api.requests import BodyRoute, NoQuery, Number, RequestModel, WholeNumber
from hpcq.api.routers.jobs import JobId
from hpcq.api.schemas import Accepted, Job, SignalRequest
from hpcq.domain.actions import Action
from hpcq.domain.jobs import JobRecord
from hpcq.domain.units import now

__all__ = ["JobUpdate", "router"]

router = APIRouter(tags=["jobs"], route_class=BodyRoute)

_JobInPath = Annotated[JobId, Path(alias="jobId")]
_NoQuery = Annotated[NoQuery, Query()]
_MERGE_PATCH = {"schema": {"$ref": "#/components/schemas/JobUpdate"}}


class JobUpdate(RequestModel):
    """Changes of a job that waits: a JSON merge patch (RFC 7396).

    What is absent stays as it is; `null` takes a limit or the priority back.
    """

    name: StrictStr | None = Field(default=None, examples=["pmo-2026-12"])
    queue: StrictStr | None = None
    account: StrictStr | None = None
    priority: WholeNumber | None = Field(
        default=None, description="Higher runs sooner, in the scheduler's own units."
    )
    wall_time_limit: WholeNumber | None = Field(default=None, examples=[86400], description="s.")
    memory_limit: Number | None = Field(default=None, description="GB, whole job.")

    def values(self) -> dict[str, object]:
        """Return the fields of a `JobSpec` that are to change.

        Raises:
            InvalidSpec: no job can have such a memory limit.
        """
        asked: dict[str, tuple[str, object]] = {
            "name": ("name", self.name),
            "queue": ("queue", self.queue),
            "account": ("account", self.account),
            "priority": ("priority", self.priority),
            "wall_time_limit": ("wall_time_limit_seconds", self.wall_time_limit),
            "memory_limit": ("memory_limit_bytes", memory_bytes(self.memory_limit)),
        }
        return dict(asked[name] for name in asked if name in self.model_fields_set)


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


def _add_route(action: Action, summary: str, description: str) -> None:
    @router.post(
        f"/jobs/{{jobId}}/{action}",
        status_code=202,
        operation_id=f"{action}Job",
        summary=summary,
        description=description,
        response_model=Accepted,
        responses=responses(403, 404, 409, 501, 502, 503, 504),
    )
    async def act_on_job(
        context: ContextDependency,
        principal: PrincipalDependency,
        job_id: _JobInPath,
        _query: _NoQuery,
    ) -> Accepted:
        return _accepted(await context.changer.act(action, principal, job_id))


_add_route(
    Action.HOLD, "Hold a queued job", "Keep a queued job from starting until it is released."
)
_add_route(Action.RELEASE, "Release a held job", "Let a held job start when its turn comes.")
_add_route(
    Action.REQUEUE,
    "Put a running job back into the queue",
    "End a running job, which then waits to start anew under the same id.",
)
_add_route(
    Action.SUSPEND,
    "Suspend a running job",
    "Stop the processes of a running job until it is resumed.",
)
_add_route(Action.RESUME, "Resume a suspended job", "Let a suspended job go on.")


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
