"""Whether one part of a scheduler answers, and who may ask it while it does not.

A circuit is *closed* while the part answers. After some failures in a row it is *open*: what is
asked fails at once, so that a dead scheduler is not buried under commands that hang. One question
at a time is let through to see whether it is back; meanwhile the circuit is *half open*. The first
answer closes it.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import structlog
from circuitbreaker import CircuitBreaker

from hpcq.domain.errors import (
    CommandTimedOut,
    NotAsked,
    SchedulerError,
    SchedulerUnavailable,
)
from hpcq.domain.units import format_time
from hpcq.services.clock import now

__all__ = ["Circuit", "CircuitState", "Question", "is_away"]

_log = structlog.get_logger("hpcq.scheduler")


def is_away(error: BaseException) -> bool:
    """Return whether an error says that nobody is there.

    A command that is missing on this machine asked nobody. A refusal, and an answer that cannot be
    read, mostly come from somebody, whom asking less would not mend; but some are the last words of
    a server that dies. They neither open a circuit nor close it.
    """
    return isinstance(error, SchedulerUnavailable | CommandTimedOut) and not isinstance(
        error, NotAsked
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitState:
    """What a circuit is like at one moment.

    Attributes:
        state: see the module.
        failures: how many questions in a row were not answered.
        retry_after_seconds: when the part is asked next; None while the circuit is closed.
    """

    state: Literal["closed", "open", "half_open"]
    failures: int
    retry_after_seconds: int | None


@dataclass(slots=True)
class Question:
    """Something that is being asked.

    Attributes:
        failure: to be set when an answer came, though not from the part that was asked.
    """

    failure: SchedulerError | None = None


class Circuit:
    """Lets questions through to one part of a scheduler, and learns from what becomes of them.

    Args:
        name: what the logs call it: ``scheduler``.
        subject: what sentences call it: ``The SLURM scheduler``.
        failures: so many unanswered questions in a row open it.
        asked_again_seconds: how long after a failure its own question comes, which is always let
            through.
        patience_seconds: how much later another question is let through in its stead.
        concerns: which of the failures are this part's.
    """

    def __init__(
        self,
        *,
        name: str,
        subject: str,
        failures: int,
        asked_again_seconds: float,
        patience_seconds: float = 0.0,
        concerns: Callable[[SchedulerError], bool] = lambda _: True,
    ) -> None:
        self._breaker = CircuitBreaker(
            failure_threshold=failures,
            recovery_timeout=asked_again_seconds + patience_seconds,
            expected_exception=SchedulerError,
            name=name,
        )
        self._subject = subject
        self._patience_seconds = math.ceil(patience_seconds)
        self._concerns = concerns
        self._answers = 0
        self._probes = 0
        self._away_since: datetime | None = None

    @property
    def is_closed(self) -> bool:
        """Whether everything is let through."""
        return bool(self._breaker.closed)

    @property
    def state(self) -> CircuitState:
        """What it is like now."""
        failures = self._breaker.failure_count
        if self.is_closed:
            return CircuitState(state="closed", failures=failures, retry_after_seconds=None)
        due = self._probes or not self._breaker.opened
        return CircuitState(
            state="half_open" if due else "open",
            failures=failures,
            retry_after_seconds=self._retry_after_seconds,
        )

    @property
    def _retry_after_seconds(self) -> int:
        return max(1, int(self._breaker.open_remaining) - self._patience_seconds)

    def refusal(self) -> NotAsked | None:
        """Return what a question is told that may not be asked now; None when it may."""
        if self.is_closed or not (self._breaker.opened or self._probes):
            return None
        return self.problem()

    def problem(self) -> NotAsked:
        """Return in words what is wrong while the circuit is not closed."""
        last = self._breaker.last_failure
        wait = self._retry_after_seconds
        since = format_time(self._away_since or now())
        at = format_time(now() + timedelta(seconds=wait))
        asked = "being asked now" if self._probes else f"not asked again before {at}"
        return NotAsked(
            f"{self._subject} has not answered since {since}, and is {asked}. "
            f"The last failure: {getattr(last, 'detail', last)}",
            scheduler_message=getattr(last, "scheduler_message", None),
            retry_after_seconds=wait,
        )

    @contextlib.contextmanager
    def asked(self, *, anyway: bool = False) -> Iterator[Question]:
        """Ask within this context, for the circuit to learn whether an answer came.

        Args:
            anyway: whether to ask also while the circuit is open.

        Raises:
            NotAsked: the circuit is open.
        """
        refusal = None if anyway else self.refusal()
        if refusal is not None:
            raise refusal
        is_probe, answers = not self.is_closed, self._answers
        question = Question()
        self._probes += is_probe
        try:
            yield question
        except SchedulerError as error:
            question.failure = error
            raise
        else:
            if question.failure is None:
                self.answered()
        finally:
            self._probes -= is_probe
            # Otherwise somebody was answered meanwhile, or it is known already.
            is_news = answers == self._answers and (is_probe or self.is_closed)
            if question.failure is not None and is_news:
                self.unanswered(question.failure)

    def answered(self) -> None:
        """Take note of an answer."""
        self._answers += 1
        if not self.is_closed:
            _log.info("circuit.closed", circuit=self._breaker.name)
        self._breaker.reset()
        self._away_since = None

    def unanswered(self, error: SchedulerError) -> None:
        """Take note of a failure, if it is one of this part and means that it is away."""
        if not is_away(error) or not self._concerns(error):
            return
        was_closed = self.is_closed
        self._away_since = self._away_since or now()
        with contextlib.suppress(SchedulerError), self._breaker:
            raise error
        if was_closed and not self.is_closed:
            _log.warning(
                "circuit.opened",
                circuit=self._breaker.name,
                failures=self._breaker.failure_count,
                problem=error.detail,
            )
