"""``/metrics``: for Prometheus."""

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

from hpcq.api.context import ContextDependency

__all__ = ["router"]

router = APIRouter(tags=["operation"])


@router.get(
    "/metrics",
    operation_id="getMetrics",
    summary="Metrics for Prometheus",
    response_class=PlainTextResponse,
    responses={
        200: {"content": {"application/openmetrics-text": {"schema": {"type": "string"}}}},
    },
)
async def metrics(request: Request, context: ContextDependency) -> Response:
    """Answer in Prometheus' text format, or as OpenMetrics if `Accept` names that.

    A scrape asks neither the scheduler nor the database.
    """
    body, media_type = context.metrics.text(request.headers.get("accept", ""))
    return Response(body, media_type=media_type)
