"""A scheduler that hiccups or dies: reads are asked again, a dead one is left in peace.

Only what changes nothing is asked again. A submission, a deletion, hold and release are carried
out once; what becomes of one that was not answered is not decided here.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

import structlog

from hpcq.domain.errors import (
    CommandTimedOut,
    NotAsked,
    SchedulerError,
    SchedulerUnavailable,
)
from hpcq.domain.jobs import JobSpec, NativeId, SubmissionKey
from hpcq.schedulers.base import (
    Capabilities,
    ChecksSubmission,
    ForgetsKeys,
    KeepsRecords,
    KnowsEnds,
    Listing,
    Node,
    Queue,
    SchedulerBackend,
    ScriptDirectives,
)
from hpcq.services.circuit import Circuit, is_away

__all__ = ["ResilientBackend"]

_log = structlog.get_logger("hpcq.scheduler")

_T = TypeVar("_T")

_ATTEMPTS = 3
_FIRST_WAIT_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 1.0
_JITTER_SECONDS = 0.3
# No read is asked again when so much time has gone by: whoever waits for it has waited enough.
_NO_LATER_THAN_SECONDS = 3.0
# The accounting has no question of its own that comes with every interval.
_ACCOUNTING_INTERVALS = 6


class ResilientBackend:
    """A `SchedulerBackend` before another one.

    The queue and all commands share one circuit, the accounting has its own: submissions go on
    without it. While the first is open, `jobs` alone is let through; the monitor calls it once an
    interval, so recovery is seen within one. Should nobody call it, something else is let through
    an interval later.

    Args:
        wrapped: the scheduler.
        failures: so many unanswered commands in a row open a circuit.
        interval_seconds: how often `jobs` is called.

    Attributes:
        wrapped: the same.
    """

    def __init__(
        self, wrapped: SchedulerBackend, *, failures: int, interval_seconds: float
    ) -> None:
        self.wrapped = wrapped
        self._scheduler = Circuit(
            name="scheduler",
            subject=f"The {wrapped.name} scheduler",
            failures=failures,
            asked_again_seconds=interval_seconds,
            patience_seconds=interval_seconds,
            concerns=lambda error: not error.of_accounting,
        )
        self._accounting = Circuit(
            name="accounting",
            subject=f"The accounting of the {wrapped.name} scheduler",
            failures=failures,
            asked_again_seconds=_ACCOUNTING_INTERVALS * interval_seconds,
        )

    @property
    def circuits(self) -> Mapping[str, Circuit]:
        """The circuits, under the names that ``/health/ready`` gives them."""
        return {"scheduler": self._scheduler, "accounting": self._accounting}

    def refusal(self) -> NotAsked | None:
        """Return why nothing is to be submitted now; None when it may be."""
        return self._scheduler.refusal()

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

    async def submit(self, spec: JobSpec, key: SubmissionKey) -> NativeId:
        """Hand the job over, once."""
        with self._scheduler.asked():
            return await self.wrapped.submit(spec, key)

    async def find(self, key: SubmissionKey) -> NativeId | None:
        """Look for the key, if both the queue and the accounting can be asked."""
        refusal = self._accounting.refusal()
        if refusal is not None:
            raise refusal
        try:
            return await self._read(self._scheduler, lambda: self.wrapped.find(key))
        except SchedulerError as error:
            if error.of_accounting:
                self._accounting.unanswered(error)
            raise

    async def check_submission(self) -> None:
        """Ask the wrapped one, if it can tell; see `ChecksSubmission`."""
        if isinstance(self.wrapped, ChecksSubmission):
            await self.wrapped.check_submission()

    async def lookalikes(self, spec: JobSpec, since: datetime) -> Sequence[NativeId]:
        """Ask the wrapped one, if it can be asked; see `ForgetsKeys`."""
        wrapped = self.wrapped
        if not isinstance(wrapped, ForgetsKeys):
            return ()
        return await self._read(self._scheduler, lambda: wrapped.lookalikes(spec, since))

    async def forget(self, before: datetime) -> int:
        """Have the wrapped one delete what it keeps; see `KeepsRecords`."""
        wrapped = self.wrapped
        return await wrapped.forget(before) if isinstance(wrapped, KeepsRecords) else 0

    async def jobs(self) -> Listing:
        """List the queue; asked also while the circuit is open."""
        return await self._read(self._scheduler, self.wrapped.jobs, anyway=True)

    async def history(self, ids: Sequence[NativeId]) -> Listing:
        """Ask the accounting.

        What the rest of the scheduler says in its stead is an answer, unless it took the whole
        limit of a command to get it. While the accounting is left in peace the rest is asked.
        """
        wrapped, refusal = self.wrapped, self._accounting.refusal()
        if refusal is not None and isinstance(wrapped, KnowsEnds):
            listing = await self._read(self._scheduler, lambda: wrapped.ended(ids))
            return replace(listing, missing=refusal)

        async def once() -> Listing:
            with self._accounting.asked() as question:
                listing = await self.wrapped.history(ids)
                if isinstance(listing.missing, CommandTimedOut):
                    question.failure = listing.missing
                return listing

        return await _patiently(once, self._accounting)

    async def details(self, ids: Sequence[NativeId]) -> Listing:
        """Ask the queue for more."""
        return await self._read(self._scheduler, lambda: self.wrapped.details(ids))

    async def cancel(self, native_id: NativeId) -> bool:
        """End the job; asked once."""
        with self._scheduler.asked():
            return await self.wrapped.cancel(native_id)

    async def hold(self, native_id: NativeId) -> None:
        """Hold the job; asked once."""
        with self._scheduler.asked():
            await self.wrapped.hold(native_id)

    async def release(self, native_id: NativeId) -> None:
        """Release the job; asked once."""
        with self._scheduler.asked():
            await self.wrapped.release(native_id)

    async def queues(self) -> Sequence[Queue]:
        """Ask for the queues."""
        return await self._read(self._scheduler, self.wrapped.queues)

    async def nodes(self) -> Sequence[Node]:
        """Ask for the hosts."""
        return await self._read(self._scheduler, self.wrapped.nodes)

    async def version(self) -> str:
        """Ask the client for the version, which is no sign that the scheduler is there."""
        refusal = self._scheduler.refusal()
        if refusal is not None:
            raise refusal
        return await _patiently(self.wrapped.version, self._scheduler)

    async def _read(
        self, circuit: Circuit, ask: Callable[[], Awaitable[_T]], *, anyway: bool = False
    ) -> _T:
        async def once() -> _T:
            with circuit.asked(anyway=anyway):
                return await ask()

        return await _patiently(once, circuit)


async def _patiently(ask: Callable[[], Awaitable[_T]], circuit: Circuit) -> _T:
    """Ask, and ask again where that may help."""
    began = time.monotonic()
    try:
        return await ask()
    except SchedulerUnavailable as error:
        if not _may_mend(error, circuit) or time.monotonic() - began > _NO_LATER_THAN_SECONDS:
            raise
        failure = error
    return await _again(failure, ask, lambda error: _may_mend(error, circuit))


def _may_mend(error: Exception, circuit: Circuit) -> bool:
    """Return whether it is worth while to ask again soon. A timeout has cost its whole limit."""
    return isinstance(error, SchedulerUnavailable) and is_away(error) and circuit.is_closed


async def _again(
    failure: Exception, ask: Callable[[], Awaitable[_T]], may_mend: Callable[[Exception], bool]
) -> _T:
    """Ask again, now and then, after a first failure."""
    # Imported here because it takes 10 ms that a service whose scheduler answers can do without.
    import stamina

    # Its own hooks would log each wait at the level of a warning, under their own names.
    stamina.instrumentation.set_on_retry_hooks([])
    async for attempt in stamina.retry_context(
        on=may_mend,
        attempts=_ATTEMPTS,
        timeout=_NO_LATER_THAN_SECONDS,
        wait_initial=_FIRST_WAIT_SECONDS,
        wait_max=_LONGEST_WAIT_SECONDS,
        wait_jitter=_JITTER_SECONDS,
    ):
        with attempt:
            if attempt.num == 1:
                raise failure
            _log.debug("scheduler.asked_again", attempt=attempt.num, problem=str(failure))
            return await ask()
    raise AssertionError("unreachable")
