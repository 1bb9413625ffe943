"""A scheduler that hiccups or dies: reads are repeated, a dead scheduler is left in peace.

Only commands that change nothing are repeated. A submission, a deletion, hold and release are
carried out once; `hpcq.services.submission` decides about one that was not answered.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from time import monotonic
from typing import TypeVar

import structlog

from hpcq.domain.actions import Action, Signal
from hpcq.domain.errors import (
    CircuitOpen,
    CommandTimedOut,
    SchedulerError,
    SchedulerUnavailable,
    UnsupportedCapability,
)
from hpcq.domain.jobs import JobSpec, NativeId, SubmissionKey
from hpcq.schedulers.abilities import (
    AltersJobs,
    ChecksSubmission,
    ForgetsKeys,
    KeepsRecords,
    KnowsEnds,
    PlansSubmission,
    SubmissionPlan,
)
from hpcq.schedulers.base import (
    Capabilities,
    Listing,
    Node,
    Queue,
    SchedulerBackend,
    ScriptDirectives,
)
from hpcq.services.array_tasks import cancel_tasks
from hpcq.services.circuit_breaker import CircuitBreaker, is_away
from hpcq.services.settings import ServiceSettings

__all__ = ["ResilientBackend"]

_log = structlog.get_logger("hpcq.scheduler")

_T = TypeVar("_T")

_PAUSES_SECONDS = (0.2, 0.4)
_JITTER_SECONDS = 0.3
# No read is repeated after so much time: its caller has waited enough.
_NO_LATER_THAN_SECONDS = 3.0
# The accounting has no question of its own that comes with every interval.
_ACCOUNTING_INTERVALS = 6


class ResilientBackend:
    """A `SchedulerBackend` before another one.

    The queue and all commands share one circuit, the accounting has its own: submissions go on
    without it. While the first is open, `jobs` alone is let through; the monitor calls it once an
    interval, so recovery is seen within one. Should that call not come, another is let through
    an interval later.

    Args:
        wrapped: the scheduler.
        settings: the number of failures that open a circuit, and the interval of `jobs`.

    Attributes:
        wrapped: the same.
    """

    def __init__(self, wrapped: SchedulerBackend, settings: ServiceSettings) -> None:
        failures = settings.circuit_breaker_failures
        interval_seconds = settings.poll_interval_seconds
        self.wrapped = wrapped
        self._scheduler = CircuitBreaker(
            name="scheduler",
            subject=f"The {wrapped.name} scheduler",
            failures=failures,
            probe_seconds=interval_seconds,
            patience_seconds=interval_seconds,
            concerns=lambda error: not error.of_accounting,
        )
        self._accounting = CircuitBreaker(
            name="accounting",
            subject=f"The accounting of the {wrapped.name} scheduler",
            failures=failures,
            probe_seconds=_ACCOUNTING_INTERVALS * interval_seconds,
        )

    @property
    def circuits(self) -> Mapping[str, CircuitBreaker]:
        """The circuits, under the names that ``/health/ready`` gives them."""
        return {"scheduler": self._scheduler, "accounting": self._accounting}

    def rejection(self) -> CircuitOpen | None:
        """Return why nothing is to be submitted now; None when it may be."""
        return self._scheduler.rejection()

    @property
    def name(self) -> str:
        """The wrapped one's."""
        return self.wrapped.name

    @property
    def capabilities(self) -> Capabilities:
        """The wrapped one's."""
        return self.wrapped.capabilities

    async def start(self, wake: Callable[[], None]) -> None:
        """Start the wrapped one."""
        await self.wrapped.start(wake)

    async def stop(self) -> None:
        """Stop the wrapped one."""
        await self.wrapped.stop()

    def check_script(self, spec: JobSpec, script: bytes) -> ScriptDirectives:
        """Ask the wrapped one, which looks at nothing else."""
        return self.wrapped.check_script(spec, script)

    async def submit(self, spec: JobSpec, key: SubmissionKey, script: bytes) -> NativeId:
        """Hand the job over, once."""
        with self._change(spec.run_as):
            return await self.wrapped.submit(spec, key, script)

    async def plan(self, spec: JobSpec, key: SubmissionKey, script: bytes) -> SubmissionPlan:
        """Ask the wrapped one, if it can tell; see `PlansSubmission`."""
        if not isinstance(self.wrapped, PlansSubmission):
            raise UnsupportedCapability("dryRun", self.name)
        return await self.wrapped.plan(spec, key, script)

    def _change(self, run_as: str | None) -> contextlib.AbstractContextManager[object]:
        # An account can stop what runs in its name: its failures say nothing to others.
        return self._scheduler.ask(failure_counts=run_as is None)

    async def find(self, key: SubmissionKey, run_as: str | None = None) -> NativeId | None:
        """Look for the key, if both the queue and the accounting can be asked."""
        rejection = self._accounting.rejection()
        if rejection is not None:
            raise rejection
        try:
            return await self._read(self._scheduler, lambda: self.wrapped.find(key, run_as))
        except SchedulerError as error:
            if error.of_accounting:
                self._accounting.record_failure(error)
            raise

    async def check_submission(self) -> None:
        """Ask the wrapped one, if it can tell; see `ChecksSubmission`."""
        if isinstance(self.wrapped, ChecksSubmission):
            await self.wrapped.check_submission()

    async def find_similar_ended(self, spec: JobSpec, since: datetime) -> Sequence[NativeId]:
        """Ask the wrapped one, if it can be asked; see `ForgetsKeys`."""
        wrapped = self.wrapped
        if not isinstance(wrapped, ForgetsKeys):
            return ()
        return await self._read(self._scheduler, lambda: wrapped.find_similar_ended(spec, since))

    async def forget(self, before: datetime) -> int:
        """Have the wrapped one delete what it keeps; see `KeepsRecords`."""
        wrapped = self.wrapped
        return await wrapped.forget(before) if isinstance(wrapped, KeepsRecords) else 0

    async def jobs(self) -> Listing:
        """List the queue; asked also while the circuit is open."""
        return await self._read(self._scheduler, self.wrapped.jobs, probe=True)

    async def history(self, ids: Sequence[NativeId]) -> Listing:
        """Ask the accounting.

        What the rest of the scheduler says in its stead is an answer, unless it took the whole
        limit of a command to get it. While the accounting is left in peace the rest is asked.
        """
        wrapped, rejection = self.wrapped, self._accounting.rejection()
        if rejection is not None and isinstance(wrapped, KnowsEnds):
            listing = await self._read(self._scheduler, lambda: wrapped.ended(ids))
            return replace(listing, partial_reason=rejection)

        async def once() -> Listing:
            with self._accounting.ask() as question:
                listing = await self.wrapped.history(ids)
                if isinstance(listing.partial_reason, CommandTimedOut):
                    question.failure = listing.partial_reason
                return listing

        return await _with_retry(once, self._accounting)

    async def details(self, ids: Sequence[NativeId]) -> Listing:
        """Ask the queue for more."""
        return await self._read(self._scheduler, lambda: self.wrapped.details(ids))

    async def cancel(self, native_id: NativeId, run_as: str | None = None) -> bool:
        """End the job; asked once."""
        with self._change(run_as):
            return await self.wrapped.cancel(native_id, run_as)

    async def cancel_tasks(
        self, array: NativeId, tasks: Mapping[int, NativeId], run_as: str | None = None
    ) -> Collection[NativeId]:
        """End some tasks of an array; asked once, or once for each task."""
        with self._change(run_as):
            return await cancel_tasks(self.wrapped, array, tasks, run_as)

    async def act(
        self,
        action: Action,
        native_id: NativeId,
        run_as: str | None = None,
        signal: Signal | None = None,
    ) -> None:
        """Do something with the job; asked once."""
        with self._change(run_as):
            await self.wrapped.act(action, native_id, run_as, signal)

    async def alter(
        self,
        native_id: NativeId,
        spec: JobSpec,
        fields: frozenset[str],
        run_as: str | None = None,
    ) -> None:
        """Change the job, once; see `AltersJobs`."""
        if not isinstance(self.wrapped, AltersJobs):
            raise UnsupportedCapability("PATCH", self.name)
        with self._change(run_as):
            await self.wrapped.alter(native_id, spec, fields, run_as)

    async def queues(self) -> Sequence[Queue]:
        """Ask for the queues."""
        return await self._read(self._scheduler, self.wrapped.queues)

    async def nodes(self) -> Sequence[Node]:
        """Ask for the hosts."""
        return await self._read(self._scheduler, self.wrapped.nodes)

    async def version(self) -> str:
        """Ask the client for the version, which is no sign that the scheduler is there."""
        rejection = self._scheduler.rejection()
        if rejection is not None:
            raise rejection
        return await _with_retry(self.wrapped.version, self._scheduler)

    async def _read(
        self, circuit: CircuitBreaker, ask: Callable[[], Awaitable[_T]], *, probe: bool = False
    ) -> _T:
        async def once() -> _T:
            with circuit.ask(probe=probe):
                return await ask()

        return await _with_retry(once, circuit)


async def _with_retry(ask: Callable[[], Awaitable[_T]], circuit: CircuitBreaker) -> _T:
    """Ask, and ask again where that may help."""
    began = monotonic()
    for pause in _PAUSES_SECONDS:
        try:
            return await ask()
        except SchedulerUnavailable as error:
            # After a timeout, which has cost its whole limit, or behind an open circuit: no use.
            is_retryable = is_away(error) and circuit.is_closed
            if not is_retryable or monotonic() - began > _NO_LATER_THAN_SECONDS:
                raise
            _log.debug("scheduler.asked_again", problem=error.detail)
        await asyncio.sleep(pause + random.uniform(0, _JITTER_SECONDS))  # noqa: S311
    return await ask()
