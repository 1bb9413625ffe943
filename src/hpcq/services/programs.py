"""The programs that users can run: read off the event loop, within a time limit."""

import asyncio
import contextlib
import operator
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

from hpcq.domain.errors import HpcqError, StoreUnavailable
from hpcq.domain.programs import Installation, Program, ProgramKey
from hpcq.programs import AS_LAST, Reading

__all__ = ["Catalogue", "Guide", "Numbers", "ProgramService", "Source", "in_thread"]

_log = structlog.get_logger("hpcq.programs")

_T = TypeVar("_T")
_MOST_LOGGED = 20


class Numbers(Protocol):
    """Gives each program the number in its id, the same every time."""

    async def of(self, programs: Sequence[ProgramKey]) -> Mapping[ProgramKey, int]:
        """Return the number of each program.

        Raises:
            StoreUnavailable: they cannot be had now.
        """
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """One place where programs are found.

    Attributes:
        name: what it is called in messages: ``NEWAVE``.
        read: looks at it, as cheaply as it can when nothing has changed.
    """

    name: str
    read: Callable[[], Awaitable[Reading]]


class Guide(Protocol):
    """Knows the sources where these may change while the service runs.

    Attributes:
        source: read before the others; it holds no programs itself.
    """

    source: Source

    def sources(self) -> Sequence[Source]:
        """Return the sources as of the last reading; one that has not changed is the same."""
        ...


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The programs that there are now.

    Attributes:
        programs: by source, then in the order of the version names.
        problems: a sentence for each thing that is missing from them, or is as it was last.
    """

    programs: Sequence[Program]
    problems: Sequence[str]


class ProgramService:
    """Answers which programs there are.

    Args:
        sources: where they are found.
        numbers: for their ids.
        timeout_seconds: how long a caller waits for a source. After that what is known is given.
        guide: knows further sources.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        numbers: Numbers,
        *,
        timeout_seconds: float,
        guide: Guide | None = None,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._sources = [_Watched(source) for source in sources]
        self._guide = guide
        self._guiding = [] if guide is None else [_Watched(guide.source)]
        self._guided: list[_Watched] = []
        self._numbers = numbers
        self._known_numbers: dict[ProgramKey, int] = {}
        self._numbering = asyncio.Lock()
        self._made: tuple[Sequence[Reading], Catalogue] | None = None

    async def catalogue(self) -> Catalogue:
        """Return the programs; while nothing has changed, the same object.

        A source that does not answer in time gives what it gave last, or nothing, and a problem.
        One that was given that time by an earlier request, and still hangs, is not waited for.
        """
        silent = await self._looked_at(self._guiding)
        if self._guide is not None:
            before = {watched.source: watched for watched in self._guided}
            self._guided = [before.get(one) or _Watched(one) for one in self._guide.sources()]
        sources = [*self._sources, *self._guided]
        silent += await self._looked_at(sources)
        readings = [watched.known for watched in (*self._guiding, *sources)]
        catalogue = await self._of(readings)
        if silent:
            return Catalogue(catalogue.programs, [*silent, *catalogue.problems])
        return catalogue

    async def _looked_at(self, sources: Sequence["_Watched"]) -> list[str]:
        """Look at sources; return what is said of those that do not answer."""
        running = {watched.refresh(): watched for watched in sources}
        now = time.monotonic()
        ends = {one: watched.began_at + self._timeout_seconds for one, watched in running.items()}
        waited_for = [one for one, end in ends.items() if end > now]
        if waited_for:
            await asyncio.wait(waited_for, timeout=max(ends.values()) - now)
        silent = []
        for one, watched in running.items():
            if one.done():
                one.result()
            else:
                silent.append(watched.unanswered(self._timeout_seconds))
        return silent

    async def _of(self, readings: Sequence[Reading]) -> Catalogue:
        async with self._numbering:
            made = self._made
            if made is not None and _are_same(made[0], readings):
                return made[1]
            problems = [problem for reading in readings for problem in reading.problems]
            found = [one for reading in readings for one in reading.installations]
            programs = await self._with_ids(found, problems)
            catalogue = Catalogue(programs, problems)
            # What has no id yet gets one as soon as that is possible.
            self._made = (readings, catalogue) if len(programs) == len(found) else None
            return catalogue

    async def _with_ids(
        self, found: Sequence[Installation], problems: list[str]
    ) -> Sequence[Program]:
        keys = [one.key for one in found]
        known = self._known_numbers
        new = [key for key in keys if key not in known]
        if new:
            try:
                known.update(await self._numbers.of(new))
            except StoreUnavailable as error:
                # An id that may change later would be worse than a program that comes later.
                problems.append(f"{len(new)} programs have no id yet: {error.detail}")
        return [
            Program(f"{one.id_prefix}{known[key]}", one)
            for key, one in zip(keys, found, strict=True)
            if key in known
        ]


def _are_same(some: Sequence[Reading], others: Sequence[Reading]) -> bool:
    return len(some) == len(others) and all(map(operator.is_, some, others))


class _Watched:
    """A source: what is known of it, and the one look at it that may be under way."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.name = source.name
        self.known = Reading(installations=())
        self.began_at = 0.0
        self._read = source.read
        self._logged: Sequence[str] = ()
        self._is_silent = False
        self._running: asyncio.Future[None] | None = None

    def refresh(self) -> asyncio.Future[None]:
        """Begin to read, unless that is under way; a source that hangs costs a single thread."""
        if self._running is None:
            self.began_at = time.monotonic()
            self._running = asyncio.ensure_future(self._refresh())
        return self._running

    def unanswered(self, seconds: float) -> str:
        """Return what is said of a source that did not answer in time; it is logged once."""
        if not self._is_silent:
            self._is_silent = True
            _log.warning("programs.unanswered", of=self.name)
        silent = (
            f"{self.name} did not answer within {seconds:g} s; is its file server slow or away?"
        )
        return silent + AS_LAST * bool(self.known.installations)

    async def _refresh(self) -> None:
        try:
            known = await self._read()
        except HpcqError as error:
            # A command of the site that failed: what was known is the best there is.
            problem = f"{self.name} could not be read: {error.detail}"
            known = Reading(installations=self.known.installations, problems=(problem,))
        finally:
            self._running = None
        if known != self.known:
            self.known = known
        if self._is_silent:
            self._is_silent = False
            _log.info("programs.answers", of=self.name)
        self._log(known.problems)

    def _log(self, problems: Sequence[str]) -> None:
        if problems == self._logged:
            return
        self._logged = problems
        for problem in problems[:_MOST_LOGGED]:
            _log.warning("programs.left_out", problem=problem)
        if len(problems) > _MOST_LOGGED:
            _log.warning("programs.left_out", more=len(problems) - _MOST_LOGGED)


def in_thread(read: Callable[[], _T]) -> Callable[[], Awaitable[_T]]:
    """Return what runs ``read`` in a thread that the process does not wait for when it ends.

    The event loop's own threads are joined at the end, and there are few of them: those that
    hang in a file server would hold up the service's stop and everybody else's work.
    """

    def begin() -> Awaitable[_T]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()

        def settle(answer: list[_T], error: Exception | None) -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(answer[0])

        def work() -> None:
            answer: list[_T] = []
            error = None
            try:
                answer.append(read())
            except Exception as problem:
                error = problem
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(settle, answer, error)

        threading.Thread(target=work, name="hpcq-programs", daemon=True).start()
        return future

    return begin
