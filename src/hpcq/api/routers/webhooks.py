"""``/webhooks``: who is told of events, and what came of it."""

from datetime import datetime
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field

from hpcq.api.context import Context, ContextDependency, PrincipalDependency
from hpcq.api.problems import responses
from hpcq.api.requests import BodyRoute, NoQuery, RequestModel
from hpcq.api.schemas import DeliveryOut, WebhookCreated, WebhookOut
from hpcq.domain.events import EventKind
from hpcq.domain.webhooks import Delivery, DeliveryStatus, Webhook, message_id

__all__ = ["router"]

router = APIRouter(tags=["webhooks"], route_class=BodyRoute)

WebhookId = Annotated[str, Path(alias="webhookId", examples=["9f2c1d7a4b3e8f60"])]


class WebhookIn(RequestModel):
    """A wish to be told of events."""

    url: str = Field(
        max_length=2000,
        description="Where messages are sent to, by POST.",
        examples=["https://portal.example/jobs"],
    )
    events: Annotated[list[EventKind], Field(min_length=1)] | None = Field(
        default=None, description="The events that are wanted; all of them without it."
    )
    secret: str | None = Field(
        default=None,
        max_length=200,
        description="The key of the signatures: `whsec_` and the base64 of 24 to 64 bytes. "
        "Without it one is made.",
        examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        json_schema_extra={"pattern": "^whsec_[A-Za-z0-9+/]+=*$"},
    )


class DeliveryQuery(RequestModel):
    """A choice of messages."""

    status: DeliveryStatus | None = Field(default=None, description="Those alone.")
    limit: int = Field(
        default=100,
        ge=1,
        le=1000,
        description="Answer with at most so many; `Link` leads to the next ones.",
    )
    before: int | None = Field(
        default=None, ge=1, le=2**53, description="Those of events with a lower number."
    )


@router.post(
    "/webhooks",
    status_code=201,
    operation_id="createWebhook",
    summary="Create a webhook",
    responses=responses(400, 403, 503),
)
async def create_webhook(
    context: ContextDependency,
    principal: PrincipalDependency,
    request: Request,
    response: Response,
    body: WebhookIn,
    _query: Annotated[NoQuery, Query()],
) -> WebhookCreated:
    """Have events of all jobs sent to a URL, from now on. Operators alone may.

    Messages are those of [Standard Webhooks](https://www.standardwebhooks.com): check the
    signature with one of its libraries. A message that you do not answer with 2xx within 20 s is
    sent again, for a day, and may arrive twice; those about one job arrive in their order.
    """
    kinds = None if body.events is None else frozenset(body.events)
    webhook = await context.webhooks.create(body.url, kinds, body.secret, principal.user)
    root = request.scope.get("root_path", "")
    response.headers["Location"] = f"{root}/webhooks/{webhook.webhook_id}"
    return WebhookCreated(**_shown(context, webhook, 0).model_dump(), secret=webhook.secret)


@router.get(
    "/webhooks", operation_id="listWebhooks", summary="List webhooks", responses=responses(403, 503)
)
async def list_webhooks(
    context: ContextDependency, _query: Annotated[NoQuery, Query()]
) -> list[WebhookOut]:
    """List the webhooks, the oldest first; their secrets are not shown."""
    return [_shown(context, *one) for one in await context.webhooks.all()]


@router.get(
    "/webhooks/{webhookId}",
    operation_id="getWebhook",
    summary="Read a webhook",
    responses=responses(403, 404, 503),
)
async def get_webhook(
    context: ContextDependency, webhook_id: WebhookId, _query: Annotated[NoQuery, Query()]
) -> WebhookOut:
    """Read one webhook."""
    return _shown(context, *await context.webhooks.read(webhook_id))


@router.delete(
    "/webhooks/{webhookId}",
    status_code=204,
    response_class=Response,
    operation_id="deleteWebhook",
    summary="Delete a webhook",
    responses=responses(403, 404, 503),
)
async def delete_webhook(
    context: ContextDependency, webhook_id: WebhookId, _query: Annotated[NoQuery, Query()]
) -> None:
    """Delete a webhook. What it is still owed is not sent."""
    await context.webhooks.delete(webhook_id)


@router.get(
    "/webhooks/{webhookId}/deliveries",
    operation_id="listWebhookDeliveries",
    summary="List the messages of a webhook",
    responses=responses(403, 404, 503),
)
async def list_deliveries(
    context: ContextDependency,
    request: Request,
    response: Response,
    webhook_id: WebhookId,
    query: Annotated[DeliveryQuery, Query()],
) -> list[DeliveryOut]:
    """List the messages that a webhook was sent, or is to be sent, the newest events first.

    They are kept as long as their events (`EVENTS_KEPT_DAYS`).
    """
    found = await context.webhooks.deliveries(webhook_id, query.limit, query.before, query.status)
    if len(found) == query.limit:
        following: dict[str, object] = {"limit": query.limit, "before": found[-1].number}
        if query.status is not None:
            following["status"] = query.status.value
        root = request.scope.get("root_path", "")
        path = f"{root}/webhooks/{webhook_id}/deliveries"
        response.headers["Link"] = f'<{path}?{urlencode(following)}>; rel="next"'
    return [_delivery(context, one) for one in found]


def _shown(context: Context, webhook: Webhook, pending: int) -> WebhookOut:
    return WebhookOut(
        webhook_id=webhook.webhook_id,
        url=webhook.url,
        events=None if webhook.kinds is None else sorted(webhook.kinds),
        created_by=webhook.created_by,
        created_at=context.wire.time(webhook.created_at),
        disabled_at=_time(context, webhook.disabled_at),
        pending=pending,
    )


def _delivery(context: Context, delivery: Delivery) -> DeliveryOut:
    return DeliveryOut(
        message_id=message_id(delivery.webhook_id, delivery.number),
        event=delivery.number,
        type=delivery.kind,
        uid=str(delivery.uid),
        status=delivery.status,
        attempts=delivery.attempts,
        last_attempt=_time(context, delivery.last_attempt_at),
        last_code=delivery.last_code,
        last_problem=delivery.last_problem,
        next_attempt=_time(context, delivery.next_attempt_at),
    )


def _time(context: Context, moment: datetime | None) -> str | None:
    return None if moment is None else context.wire.time(moment)
