"""``/metrics``: for Prometheus."""

import asyncio

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
    accept = request.headers.get("accept", "")
    # The text costs 5 ms; what it is made from can be read in any thread.
    body, media_type = await asyncio.to_thread(context.metrics.text, accept)
    return Response(body, media_type=media_type)
