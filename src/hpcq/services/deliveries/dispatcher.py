"""The tasks that send messages about events, each until it has arrived or is given up."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime

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
from hpcq.storage.deliveries import DeliveryQueue

__all__ = ["Dispatcher"]

_log = structlog.get_logger("hpcq.deliveries")

_LOOK_SECONDS = 0.5
_AT_ONCE = 8
_LONGEST_REST_SECONDS = 60.0


class Dispatcher:
    """Sends what subscribers are owed.

    A message about a job goes only when the one before about the same job has arrived or was given
    up; those about different jobs go side by side. Each arrives at least once.

    Args:
        queue: what is owed.
        transports: how subscribers of each kind are told; the others are not.
        is_leader: says whether this replica is the one that sends.
        clock: the present, aware.
    """

    def __init__(
        self,
        queue: DeliveryQueue,
        transports: Mapping[SubscriberKind, Transport],
        is_leader: Callable[[], bool],
        clock: Callable[[], datetime],
    ) -> None:
        self._queue = queue
        self._transports = transports
        self._is_leader = is_leader
        self._now = clock
        self._is_ready = False

    async def run(self) -> None:
        """Send messages until cancelled."""
        async with AsyncExitStack() as stack:
            for transport in self._transports.values():
                await stack.enter_async_context(transport)
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
                pass
            known = {one.webhook_id: one for one in await self._queue.subscribers()}
        gone = [name for name, task in tasks.items() if name not in known or task.done()]
        await _end([tasks.pop(name) for name in gone])
        for name, subscriber in known.items():
            if name not in tasks:
                tasks[name] = asyncio.create_task(self._serve(subscriber))

    async def _serve(self, subscriber: Webhook) -> None:
        failures = 0
        while True:
            due = await self._queue.due(subscriber.webhook_id, self._now(), _AT_ONCE)
            replies = await asyncio.gather(
                *(self._attempt(subscriber, *message) for message in due)
            )
            if any(reply.is_gone for reply in replies):
                _log.warning("webhook.disabled", webhook=subscriber.webhook_id)
                await self._queue.disable(subscriber.webhook_id, self._now())
                return
            is_away = bool(due) and all(reply.problem and not reply.is_final for reply in replies)
            failures = failures + 1 if is_away else 0
            if is_away:
                # Whoever does not answer is not asked for each of ten thousand jobs.
                await asyncio.sleep(min(2.0**failures, _LONGEST_REST_SECONDS))
            elif not due:
                await asyncio.sleep(_LOOK_SECONDS)

    async def _attempt(self, subscriber: Webhook, delivery: Delivery, event: Event) -> Reply:
        """Send a message once, and write down what came of it."""
        reply = await self._transports[subscriber.kind].deliver(subscriber, event, self._now())
        at, attempts = self._now(), delivery.attempts + 1
        status, again = DeliveryStatus.DELIVERED, None
        if reply.problem is not None:
            if not reply.is_final:
                again = next_attempt(attempts, event.at, at, reply.pause)
            status = DeliveryStatus.FAILED if again is None else DeliveryStatus.PENDING
            _log.warning(
                "delivery.given_up" if again is None else "delivery.failed",
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
        await self._queue.note(noted)
        return reply


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            _log.warning("deliveries.behind", problem=str(outcome) or repr(outcome))
