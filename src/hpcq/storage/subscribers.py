"""The subscribers of events, and the events that each of them wants."""

import contextlib
import json
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from hpcq.domain.errors import RecordDamaged
from hpcq.domain.events import EventKind
from hpcq.domain.jobs import JobRecord
from hpcq.domain.mails import makes_mail
from hpcq.domain.units import from_epoch
from hpcq.domain.webhooks import DeliveryStatus, SubscriberKind, Webhook
from hpcq.storage.database import Transaction
from hpcq.storage.job_rows import read_record, select_records
from hpcq.storage.schema import deliveries, deployments, jobs, webhooks

__all__ = [
    "disable_subscriber",
    "new_subscriber",
    "read_subscriber",
    "switch_mails",
    "wanted_events",
]


def new_subscriber(transaction: Transaction, subscriber: Webhook) -> None:
    """Write a new subscriber down; it gets the events from now on."""
    row = {
        "id": subscriber.webhook_id,
        "deployment_id": transaction.deployment_id,
        "kind": subscriber.kind,
        "url": subscriber.url,
        "secret": subscriber.secret,
        "kinds": None if subscriber.kinds is None else " ".join(sorted(subscriber.kinds)),
        "created_by": subscriber.created_by,
        "created_at": subscriber.created_at.timestamp(),
        "seen_event": _newest_event(transaction),
    }
    transaction.connection.execute(webhooks.insert(), row)


def _newest_event(transaction: Transaction) -> int:
    newest = sa.select(deployments.c.last_event)
    of_ours = newest.where(deployments.c.id == transaction.deployment_id)
    return int(transaction.connection.execute(of_ours).scalar_one())


def disable_subscriber(connection: sa.Connection, webhook_id: str, at: datetime) -> None:
    """Write that a subscriber gets no more events, and give up those that it waits for."""
    connection.execute(
        webhooks.update().where(webhooks.c.id == webhook_id).values(disabled_at=at.timestamp())
    )
    connection.execute(
        deliveries.update()
        .where(deliveries.c.webhook_id == webhook_id, deliveries.c.status == DeliveryStatus.PENDING)
        .values(status=DeliveryStatus.FAILED, next_at=None)
    )


def switch_mails(transaction: Transaction, at: datetime, *, is_on: bool) -> None:
    """Have mails written about what happens from now on, or no more."""
    connection = transaction.connection
    mails = (
        webhooks.c.deployment_id == transaction.deployment_id,
        webhooks.c.kind == SubscriberKind.MAIL,
    )
    row = connection.execute(sa.select(webhooks).where(*mails)).one_or_none()
    if row is None and is_on:
        mail = Webhook(
            webhook_id=secrets.token_hex(8),
            url="",
            secret="",
            kinds=frozenset({EventKind.STATE}),
            created_by="",
            created_at=at,
            kind=SubscriberKind.MAIL,
        )
        new_subscriber(transaction, mail)
    elif row is not None and is_on and row.disabled_at is not None:
        again = {"disabled_at": None, "seen_event": _newest_event(transaction)}
        connection.execute(webhooks.update().where(*mails).values(again))
    elif row is not None and not is_on and row.disabled_at is None:
        disable_subscriber(connection, row.id, at)


def wanted_events(
    connection: sa.Connection, subscriber: Any, unseen: Sequence[Any]
) -> Sequence[Any]:
    """Return those of the events that a subscriber wants."""
    kinds = None if subscriber.kinds is None else set(subscriber.kinds.split())
    wanted = [event for event in unseen if kinds is None or event.kind in kinds]
    if subscriber.kind != SubscriberKind.MAIL or not wanted:
        return wanted
    of_events = jobs.c.uid.in_({event.uid for event in wanted})
    records: dict[str, JobRecord] = {}
    for row in connection.execute(select_records(of_events)):
        # The address of a mail stands in the record.
        with contextlib.suppress(RecordDamaged):
            records[row.uid] = read_record(row)
    return [
        event
        for event in wanted
        if event.uid in records and makes_mail(records[event.uid], json.loads(event.data))
    ]


def read_subscriber(row: Any) -> Webhook:
    """Return the subscriber of a row."""
    kinds = None if row.kinds is None else frozenset(map(EventKind, row.kinds.split()))
    return Webhook(
        webhook_id=row.id,
        url=row.url,
        secret=row.secret,
        kinds=kinds,
        created_by=row.created_by,
        created_at=datetime.fromtimestamp(row.created_at, UTC),
        disabled_at=from_epoch(row.disabled_at),
        kind=SubscriberKind(row.kind),
    )
