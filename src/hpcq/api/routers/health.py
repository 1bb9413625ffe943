"""``/health``: for those who watch the service."""

from fastapi import APIRouter
from fastapi.responses import Response

from hpcq.api.context import ContextDependency
from hpcq.api.problems import plain_problem, responses
from hpcq.api.schemas import Health
from hpcq.domain.units import format_time
from hpcq.services.clock import now

__all__ = ["router"]

router = APIRouter(prefix="/health", tags=["operation"])


@router.get("/live", operation_id="healthLive", summary="Is the process alive?")
async def live() -> Health:
    """Answer as long as the process works at all."""
    return Health(status="live")


@router.get(
    "/ready",
    operation_id="healthReady",
    summary="Can it serve?",
    response_model=Health,
    responses=responses(503),
)
async def ready(context: ContextDependency) -> Health | Response:
    """Answer 200 when the scheduler answers and what is served is fresh, else 503 and why."""
    health = context.monitor.health
    if not health.answered:
        return plain_problem(503, health.problem or "The scheduler has not answered yet.")
    freshness = context.board.snapshot.freshness(now(), context.stale_after)
    if freshness.stale or freshness.as_of is None:
        return plain_problem(503, "The scheduler has not answered for too long; it may hang.")
    return Health(
        status="ready",
        scheduler=context.scheduler,
        as_of=format_time(freshness.as_of),
    )
