"""The way of a message to its receiver, and what came of it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Protocol, Self

from hpcq.domain.events import Event
from hpcq.domain.webhooks import Webhook

__all__ = ["Reply", "Transport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The outcome of one attempt to send a message.

    Attributes:
        code: the status of the answer, HTTP's or SMTP's; None if none came.
        problem: why it counts as failed, in words; None for success.
        pause: the time that the receiver wants to be left alone (``Retry-After``).
        is_final: whether the receiver will never take this message.
        is_gone: whether the receiver wants no message any more.
    """

    code: int | None = None
    problem: str | None = None
    pause: timedelta | None = None
    is_final: bool = False
    is_gone: bool = False


class Transport(Protocol):
    """Sends messages to one subscriber; it is open while it is entered."""

    async def deliver(self, subscriber: Webhook, event: Event, at: datetime) -> Reply:
        """Send the message of an event once.

        Args:
            subscriber: to whom.
            event: of what.
            at: the present, aware.

        Raises:
            StoreUnavailable: what it says cannot be read now.
        """
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...
