"""The tasks that send messages about events, each until it has arrived or is given up."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import structlog

from hpcq.domain.errors import LeaseLost, StoreUnavailable
from hpcq.domain.events import Event
from hpcq.domain.webhooks import (
    Delivery,
    DeliveryStatus,
    SubscriberKind,
    Webhook,
    next_attempt,
)
from hpcq.services.deliveries.transport import Reply, Transport
from hpcq.storage.deliveries import Backlog, DeliveryQueue

__all__ = ["AttemptOutcome", "Dispatcher"]

_log = structlog.get_logger("hpcq.deliveries")

_LOOK_SECONDS = 0.5
_IDLE_SECONDS = 2.0
_AT_ONCE = 8
_LONGEST_REST_SECONDS = 60.0
_COUNTED_EVERY = timedelta(seconds=10)


class AttemptOutcome(StrEnum):
    """The outcome of an attempt to send a message."""

    DELIVERED = "delivered"
    """The receiver took it."""
    FAILED = "failed"
    """It is sent again."""
    GIVEN_UP = "given_up"
    """It is not."""


class Dispatcher:
    """Sends what subscribers are owed.

    A message about a job goes only when the one before about the same job has arrived or was given
    up; those about different jobs go side by side. Each arrives at least once.

    Args:
        queue: what is owed.
        transports: make the ways to the subscribers of each kind; the others get nothing.
        is_leader: says whether this replica is the one that sends.
        clock: the present, aware.

    Attributes:
        attempts: how many attempts of this process came to what.
        backlog: what is owed, as of a few seconds ago; empty where another replica sends.
    """

    def __init__(
        self,
        queue: DeliveryQueue,
        transports: Mapping[SubscriberKind, Callable[[], Transport]],
        is_leader: Callable[[], bool],
        clock: Callable[[], datetime],
    ) -> None:
        self._queue = queue
        self._transports = transports
        self._is_leader = is_leader
        self._now = clock
        self._is_ready = False
        self._news = asyncio.Event()
        self._counted_at: datetime | None = None
        self.attempts: Counter[tuple[SubscriberKind, AttemptOutcome]] = Counter(
            {(kind, outcome): 0 for kind in transports for outcome in AttemptOutcome}
        )
        self.backlog: Mapping[SubscriberKind, Backlog] = {}

    async def run(self) -> None:
        """Send messages until cancelled."""
        tasks: dict[str, asyncio.Task[None]] = {}
        try:
            while self._transports or not self._is_ready:
                try:
                    await self._look(tasks)
                except (StoreUnavailable, LeaseLost) as error:
                    _log.warning("deliveries.behind", problem=str(error))
                except Exception:
                    _log.exception("deliveries.failed")
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            await _end(list(tasks.values()))

    async def _look(self, tasks: dict[str, asyncio.Task[None]]) -> None:
        """Write down what is owed, and give each subscriber a task of its own."""
        known: dict[str, Webhook] = {}
        if self._is_leader():
            if not self._is_ready:
                await self._queue.switch_mails(self._now())
                self._is_ready = True
            while await self._queue.is_behind() and await self._queue.enqueue(self._now()):
                self._news.set()
                self._news = asyncio.Event()
            known = {one.webhook_id: one for one in await self._queue.subscribers()}
            await self._count_backlog()
        else:
            self.backlog, self._counted_at = {}, None
        gone = [name for name, task in tasks.items() if name not in known or task.done()]
        await _end([tasks.pop(name) for name in gone])
        for name, subscriber in known.items():
            if name not in tasks:
                tasks[name] = asyncio.create_task(self._serve(subscriber))

    async def _count_backlog(self) -> None:
        now = self._now()
        if self._counted_at is None or now - self._counted_at >= _COUNTED_EVERY:
            self.backlog, self._counted_at = await self._queue.backlog(), now

    async def _serve(self, subscriber: Webhook) -> None:
        async with self._transports[subscriber.kind]() as transport:
            await self._send(subscriber, transport)

    async def _send(self, subscriber: Webhook, transport: Transport) -> None:
        failures = 0
        while True:
            news = self._news
            # Whoever does not answer is not asked for each of ten thousand jobs.
            limit = 1 if failures else _AT_ONCE
            due = await self._queue.due(subscriber.webhook_id, self._now(), limit)
            replies = await _all(
                [self._attempt(subscriber, transport, *message) for message in due]
            )
            if any(reply.is_gone for reply in replies):
                _log.warning("webhook.disabled", webhook=subscriber.webhook_id)
                await self._queue.disable(subscriber.webhook_id, self._now())
                return
            is_away = bool(due) and all(reply.problem and not reply.is_final for reply in replies)
            failures = failures + 1 if is_away else 0
            if is_away:
                await asyncio.sleep(min(2.0**failures, _LONGEST_REST_SECONDS))
            elif not due:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), _IDLE_SECONDS)

    async def _attempt(
        self, subscriber: Webhook, transport: Transport, delivery: Delivery, event: Event
    ) -> Reply:
        """Send a message once, and write down what came of it."""
        try:
            reply = await transport.deliver(subscriber, event, self._now())
        except StoreUnavailable:
            raise
        except Exception:
            # The messages about other jobs do not wait for one that cannot be made.
            _log.exception("delivery.defect", event_number=event.number, uid=str(event.uid))
            reply = Reply(problem="A defect of this service; its log has the reason.")
        at, attempts = self._now(), delivery.attempts + 1
        status, outcome, again = DeliveryStatus.DELIVERED, AttemptOutcome.DELIVERED, None
        if reply.problem is not None:
            if not reply.is_final:
                again = next_attempt(attempts, event.at, at, reply.pause)
            if again is None:
                status, outcome = DeliveryStatus.FAILED, AttemptOutcome.GIVEN_UP
            else:
                status, outcome = DeliveryStatus.PENDING, AttemptOutcome.FAILED
            _log.warning(
                f"delivery.{outcome}",
                kind=subscriber.kind.value,
                subscriber=subscriber.webhook_id,
                event_number=event.number,
                uid=str(event.uid),
                attempts=attempts,
                problem=reply.problem,
            )
        noted = replace(
            delivery,
            status=status,
            attempts=attempts,
            last_attempt_at=at,
            last_code=reply.code,
            last_problem=reply.problem,
            next_attempt_at=again,
        )
        await self._note(noted)
        self.attempts[subscriber.kind, outcome] += 1
        return reply

    async def _note(self, delivery: Delivery) -> None:
        """Write down an attempt, as soon as that can be done.

        Its subscriber gets nothing else before: it would be the same message again.
        """
        while True:
            try:
                await self._queue.note(delivery)
                return
            except StoreUnavailable as error:
                _log.warning("deliveries.behind", problem=str(error))
                await asyncio.sleep(_LOOK_SECONDS)


async def _all(attempts: Sequence[Coroutine[Any, Any, Reply]]) -> Sequence[Reply]:
    """Make attempts side by side; when this ends, all are over, and none goes on beside later ones.

    Raises:
        Exception: the first one that an attempt raised.
    """
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    replies = [outcome for outcome in outcomes if isinstance(outcome, Reply)]
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return replies


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            _log.warning("deliveries.behind", problem=str(outcome) or repr(outcome))
