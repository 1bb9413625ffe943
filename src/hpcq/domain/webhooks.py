"""Subscribers of events: their messages, and when a message is tried again. Pure.

The messages of webhooks are those of Standard Webhooks (https://www.standardwebhooks.com): three
headers, the signature of which covers the message's id, the time of the attempt, and the body.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from hpcq.domain.events import Event, EventKind
from hpcq.domain.jobs import JobUid
from hpcq.domain.units import format_time

__all__ = [
    "Delivery",
    "DeliveryStatus",
    "SubscriberKind",
    "Webhook",
    "body_of",
    "headers_of",
    "message_id",
    "next_attempt",
    "read_secret",
]

_SECRET_PREFIX = "whsec_"  # noqa: S105
_SECRET_BYTES = range(24, 65)
_DELAYS = tuple(
    timedelta(seconds=seconds) for seconds in (5, 30, 120, 600, 1800, 3600, 7200, 14400)
)
_TRIED_FOR = timedelta(days=1)


class SubscriberKind(StrEnum):
    """The way in which a subscriber gets events."""

    WEBHOOK = "webhook"
    """A message to a URL for each event."""
    MAIL = "mail"
    """A mail for each event of a job that asks for one (`hpcq.domain.mails`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A subscription to events at a URL; one row of another kind stands for all mails.

    Attributes:
        secret: signs the messages; ``whsec_`` and base64.
        kinds: the events that are wanted; None for all.
        created_by: the user who asked for it.
        disabled_at: when the receiver said that it wants no more (410 Gone), or the site turned
            mails off; None while it is told.
    """

    webhook_id: str
    url: str
    secret: str
    kinds: frozenset[EventKind] | None
    created_by: str
    created_at: datetime
    disabled_at: datetime | None = None
    kind: SubscriberKind = SubscriberKind.WEBHOOK


class DeliveryStatus(StrEnum):
    """The course of one message to one webhook."""

    PENDING = "PENDING"
    """Still to be sent, or sent again."""
    DELIVERED = "DELIVERED"
    """The receiver took it."""
    FAILED = "FAILED"
    """Given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message to one webhook, and the attempts so far.

    Attributes:
        number: the event's.
        kind: the event's; None when the event is kept no longer.
        last_code: the status of the last attempt's answer, HTTP's or SMTP's; None if none came.
        last_problem: why the last attempt failed, in words.
        next_attempt_at: None when it is over, or waits for an earlier message about its job.
    """

    webhook_id: str
    number: int
    uid: JobUid
    kind: EventKind | None
    status: DeliveryStatus
    attempts: int
    last_attempt_at: datetime | None
    last_code: int | None
    last_problem: str | None
    next_attempt_at: datetime | None


def message_id(webhook_id: str, number: int) -> str:
    """Return the ``webhook-id`` of an event's message; every attempt has the same."""
    return f"msg_{webhook_id}_{number}"


def body_of(event: Event) -> bytes:
    """Return the body of an event's message."""
    message = {
        "type": event.kind.value,
        "timestamp": format_time(event.at),
        "data": {"uid": str(event.uid), **event.data},
    }
    return json.dumps(message, ensure_ascii=True, separators=(",", ":")).encode("ascii")


def headers_of(webhook: Webhook, number: int, body: bytes, at: datetime) -> Mapping[str, str]:
    """Return the headers of an attempt.

    Args:
        webhook: the receiver.
        number: the event's.
        body: the message's.
        at: when the attempt is made, aware; a receiver refuses what is too old.
    """
    identity, second = message_id(webhook.webhook_id, number), str(int(at.timestamp()))
    signed = f"{identity}.{second}.".encode() + body
    digest = hmac.digest(read_secret(webhook.secret), signed, hashlib.sha256)
    return {
        "webhook-id": identity,
        "webhook-timestamp": second,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode('ascii')}",
    }


def read_secret(secret: str) -> bytes:
    """Return the key of a secret.

    Raises:
        ValueError: it is not ``whsec_`` and the base64 of 24 to 64 bytes.
    """
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(_SECRET_PREFIX) or len(key) not in _SECRET_BYTES:
        raise ValueError(
            f"It has to be {_SECRET_PREFIX} and the base64 of 24 to 64 random bytes; leave it out, "
            "and one is made."
        )
    return key


def next_attempt(
    attempts: int, event_at: datetime, now: datetime, asked: timedelta | None = None
) -> datetime | None:
    """Return when a message is tried again; None when it is given up: its event is a day old.

    Args:
        attempts: how many have failed.
        event_at: when it happened.
        now: the present.
        asked: the pause that the receiver asked for, if it did (``Retry-After``).
    """
    delay = _DELAYS[min(attempts, len(_DELAYS)) - 1]
    at = now + max(delay, asked or delay)
    return at if at <= event_at + _TRIED_FOR else None
