"""The programs that users can run: read off the event loop, within a time limit."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence

import structlog

from hpcq.domain.errors import StoreUnavailable
from hpcq.domain.programs import Program
from hpcq.programs import Reading

__all__ = ["ProgramService"]

_log = structlog.get_logger("hpcq.programs")


class ProgramService:
    """Answers which programs there are.

    Args:
        readers: each reads the programs of one root; it may block.
        timeout_seconds: how long a caller waits for them. After that what is known is given.
        cache_seconds: how long a reading serves further callers.
    """

    def __init__(
        self,
        readers: Sequence[Callable[[], Reading]],
        *,
        timeout_seconds: float,
        cache_seconds: float = 10.0,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._sources = [_Source(read, cache_seconds) for read in readers]

    async def list(self, name: str | None = None, version: str | None = None) -> Sequence[Program]:
        """Return the programs, of this name and version only when given, both exact.

        A root that does not answer in time gives what it gave last, or nothing.

        Raises:
            StoreUnavailable: no root answered in time, now or before.
        """
        readings = await self._readings()
        return [
            program
            for reading in readings
            for program in reading.programs
            if name in (None, program.name) and version in (None, program.version)
        ]

    async def _readings(self) -> Sequence[Reading]:
        stale = [source for source in self._sources if not source.is_fresh()]
        if stale:
            waiting = [source.refresh() for source in stale]
            done, late = await asyncio.wait(waiting, timeout=self._timeout_seconds)
            for finished in done:
                finished.result()
            if late:
                _log.warning("programs.unanswered", roots=len(late), seconds=self._timeout_seconds)
        known = [source.known for source in self._sources if source.known is not None]
        if not known:
            raise StoreUnavailable(
                "The folders of the programs could not be read within "
                f"{self._timeout_seconds:g} s; is their file server slow or away?"
            )
        return known


class _Source:
    """One root: what is known of it, and the one thread that may be reading it."""

    def __init__(self, read: Callable[[], Reading], cache_seconds: float) -> None:
        self.known: Reading | None = None
        self._read = read
        self._cache_seconds = cache_seconds
        self._fresh_until = 0.0
        self._running: asyncio.Future[None] | None = None

    def is_fresh(self) -> bool:
        return self.known is not None and time.monotonic() < self._fresh_until

    def refresh(self) -> asyncio.Future[None]:
        """Begin to read, unless that is under way; a root that hangs costs a single thread."""
        if self._running is None:
            self._running = asyncio.ensure_future(self._refresh())
        return self._running

    async def _refresh(self) -> None:
        try:
            reading = await _in_thread(self._read)
        finally:
            self._running = None
        if self.known is None or reading.problems != self.known.problems:
            for problem in reading.problems:
                _log.warning("programs.left_out", problem=problem)
        self.known = reading
        self._fresh_until = time.monotonic() + self._cache_seconds


def _in_thread(read: Callable[[], Reading]) -> asyncio.Future[Reading]:
    """Run ``read`` in a thread that the process does not wait for when it ends.

    The event loop's own threads are joined at the end, and there are few of them: those that
    hang in a file server would hold up the service's stop and everybody else's work.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Reading] = loop.create_future()

    def settle(reading: Reading | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        elif reading is not None:
            future.set_result(reading)

    def work() -> None:
        reading, error = None, None
        try:
            reading = read()
        except Exception as problem:
            error = problem
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, reading, error)

    threading.Thread(target=work, name="hpcq-programs", daemon=True).start()
    return future
