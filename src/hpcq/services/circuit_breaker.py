"""A circuit breaker: stops questions to a part of a scheduler that does not answer.

A circuit is *closed* while the part answers. After some failures in a row it is *open*: questions
fail at once, so that a dead scheduler is not buried under commands that hang. When the waiting time
is over, or while a probe runs, it is *half open*: questions are let through again, and the first
answer closes it.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Literal

import structlog

from hpcq.domain.errors import CircuitOpen, CommandTimedOut, SchedulerError, SchedulerUnavailable
from hpcq.domain.units import format_time, now

__all__ = ["CircuitBreaker", "CircuitState", "Question", "is_away"]

_log = structlog.get_logger("hpcq.scheduler")


def is_away(error: BaseException) -> bool:
    """Return whether an error says that the scheduler is not there.

    A command that is missing on this machine never reached it. A refusal and an unreadable answer
    mostly come from a scheduler that works, and fewer questions would not mend them; but some are
    the last words of a server that dies. They neither open a circuit nor close it.
    """
    return isinstance(error, SchedulerUnavailable | CommandTimedOut) and not isinstance(
        error, CircuitOpen
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitState:
    """The state of a circuit at one moment.

    Attributes:
        state: see the module.
        failures: unanswered questions in a row.
        retry_after_seconds: time until the next probe; None while the circuit is closed.
    """

    state: Literal["closed", "open", "half_open"]
    failures: int
    retry_after_seconds: int | None


@dataclass(slots=True)
class Question:
    """A question under way.

    Attributes:
        failure: set by the asker when an answer came, but not from the part that was asked.
    """

    failure: SchedulerError | None = None


class CircuitBreaker:
    """Lets questions through to one part of a scheduler, or rejects them.

    Args:
        name: its name in the logs: ``scheduler``.
        subject: its name in sentences: ``The SLURM scheduler``.
        failures: the number of unanswered questions in a row that opens it.
        probe_seconds: time from a failure to the regular probe (`ask` with ``probe``).
        patience_seconds: time after that until any other question serves as the probe.
        concerns: tells which failures are this part's.
    """

    def __init__(
        self,
        *,
        name: str,
        subject: str,
        failures: int,
        probe_seconds: float,
        patience_seconds: float = 0.0,
        concerns: Callable[[SchedulerError], bool] = lambda _: True,
    ) -> None:
        self._name = name
        self._subject = subject
        self._threshold = failures
        self._open_seconds = probe_seconds + patience_seconds
        self._patience_seconds = math.ceil(patience_seconds)
        self._concerns = concerns
        self._failures = 0
        self._last_failure: SchedulerError | None = None
        self._opened_at: float | None = None
        self._away_since: datetime | None = None
        self._answers = 0
        self._probes = 0

    @property
    def is_closed(self) -> bool:
        """True when every question is let through."""
        return self._opened_at is None

    @property
    def state(self) -> CircuitState:
        """The present state."""
        if self.is_closed:
            return CircuitState(state="closed", failures=self._failures, retry_after_seconds=None)
        is_half_open = self._probes or self._remaining_seconds <= 0
        return CircuitState(
            state="half_open" if is_half_open else "open",
            failures=self._failures,
            retry_after_seconds=self._retry_after_seconds,
        )

    @property
    def _remaining_seconds(self) -> float:
        """The time for which an open circuit rejects every question but the regular probe."""
        return (self._opened_at or 0.0) + self._open_seconds - monotonic()

    @property
    def _retry_after_seconds(self) -> int:
        return max(1, int(self._remaining_seconds) - self._patience_seconds)

    def rejection(self) -> CircuitOpen | None:
        """Return the error for a question that may not be asked now; None when it may."""
        is_half_open = self._remaining_seconds <= 0 and not self._probes
        return None if self.is_closed or is_half_open else self.problem()

    def problem(self) -> CircuitOpen:
        """Return in words what is wrong while the circuit is not closed."""
        last, wait = self._last_failure, self._retry_after_seconds
        since = format_time(self._away_since or now())
        at = format_time(now() + timedelta(seconds=wait))
        asked = "being asked now" if self._probes else f"not asked again before {at}"
        return CircuitOpen(
            f"{self._subject} has not answered since {since}, and is {asked}. "
            f"The last failure: {getattr(last, 'detail', last)}",
            scheduler_message=getattr(last, "scheduler_message", None),
            retry_after_seconds=wait,
        )

    @contextlib.contextmanager
    def ask(self, *, probe: bool = False, failure_counts: bool = True) -> Iterator[Question]:
        """Ask within this context; the circuit learns whether an answer came.

        Args:
            probe: ask also while the circuit is open.
            failure_counts: whether a missing answer says anything about the scheduler.

        Raises:
            CircuitOpen: the question is rejected.
        """
        rejection = None if probe else self.rejection()
        if rejection is not None:
            raise rejection
        # A regular probe that began before the circuit opened serves as one: it asks already.
        is_probe, answers = probe or not self.is_closed, self._answers
        question = Question()
        self._probes += is_probe
        try:
            yield question
        except SchedulerError as error:
            question.failure = error
            raise
        else:
            if question.failure is None:
                self._record_answer()
        finally:
            self._probes -= is_probe
            # Otherwise another question was answered meanwhile, or the failure is known already.
            is_news = answers == self._answers and (is_probe or self.is_closed)
            if question.failure is not None and is_news and failure_counts:
                self.record_failure(question.failure)

    def _record_answer(self) -> None:
        if not self.is_closed:
            _log.info("circuit.closed", circuit=self._name)
        self._answers += 1
        self._failures = 0
        self._opened_at = self._away_since = self._last_failure = None

    def record_failure(self, error: SchedulerError) -> None:
        """Count a failure, if it is one of this part and says that it is away."""
        if not is_away(error) or not self._concerns(error):
            return
        self._away_since = self._away_since or now()
        self._last_failure = error
        self._failures += 1
        if self._failures < self._threshold:
            return
        if self.is_closed:
            _log.warning(
                "circuit.opened",
                circuit=self._name,
                failures=self._failures,
                problem=error.detail,
            )
        self._opened_at = monotonic()
