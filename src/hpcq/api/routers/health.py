"""``/health``: for those who watch the service."""

from fastapi import APIRouter
from fastapi.responses import Response

from hpcq.api.context import Context, ContextDependency
from hpcq.api.problems import plain_problem, responses
from hpcq.api.schemas import CircuitOut, Health
from hpcq.domain.units import now
from hpcq.services.circuit_breaker import CircuitState
from hpcq.services.listing.job_entry import Freshness

__all__ = ["router"]

_NOT_YET = "The scheduler has not answered yet."

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
    """Answer 200 when what is served is fresh and jobs can be submitted, else 503 and why.

    An accounting that is away is told in `circuits`; the service can do without for a while.
    """
    circuits = {name: _out(circuit.state) for name, circuit in context.circuits.items()}
    freshness = context.table.freshness(now(), context.stale_after)
    problem = _problem(context, freshness)
    if problem is not None or freshness.as_of is None:
        shown = {name: circuit.model_dump(by_alias=True) for name, circuit in circuits.items()}
        return plain_problem(503, problem or _NOT_YET, circuits=shown)
    return Health(
        status="ready",
        scheduler=context.scheduler,
        as_of=context.wire.time(freshness.as_of),
        circuits=circuits,
    )


def _problem(context: Context, freshness: Freshness) -> str | None:
    """Return why the service is not ready."""
    health, circuit = context.monitor.health, context.circuits["scheduler"]
    if not health.answered:
        return health.problem or _NOT_YET
    if not circuit.is_closed:
        return circuit.problem().detail
    if freshness.stale:
        return "The scheduler has not answered for too long; it may hang."
    return context.submission_check.problem


def _out(state: CircuitState) -> CircuitOut:
    return CircuitOut(
        state=state.state, failures=state.failures, retry_after=state.retry_after_seconds
    )
