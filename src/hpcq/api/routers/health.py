"""``/health``: for those who watch the service."""

from fastapi import APIRouter
from fastapi.responses import Response

from hpcq.api.context import ContextDependency
from hpcq.api.problems import plain_problem, responses
from hpcq.api.schemas import Health
from hpcq.domain.units import format_time

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
    """Answer 200 when the scheduler answered the newest query, else 503 with the reason."""
    health = context.monitor.health
    if not health.answered:
        return plain_problem(503, health.problem or "The scheduler has not answered yet.")
    as_of = context.board.snapshot.as_of
    return Health(
        status="ready",
        scheduler=context.scheduler,
        as_of=None if as_of is None else format_time(as_of),
    )
