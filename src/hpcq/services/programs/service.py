"""The programs that users can run: read off the event loop, within a time limit."""

import asyncio
import operator
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from hpcq.domain.errors import HpcqError, StoreUnavailable
from hpcq.domain.programs import Installation, Program, ProgramKey
from hpcq.programs.scanner import LAST_KNOWN, Scan
from hpcq.services.programs.sources import CatalogueFile, Source

__all__ = ["Catalogue", "ProgramNumbers", "ProgramService"]

_log = structlog.get_logger("hpcq.programs")

_MOST_LOGGED = 20


ProgramNumbers = Callable[[Sequence[ProgramKey]], Awaitable[Mapping[ProgramKey, int]]]
"""Returns the number in the id of each program, always the same. Raises `StoreUnavailable`."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The programs that are installed now.

    Attributes:
        programs: by source, then in the order of the version names.
        problems: a sentence for each thing that is missing from them, or is as it was last.
    """

    programs: Sequence[Program]
    problems: Sequence[str]


class ProgramService:
    """The catalogue of the installed programs, looked at anew for each caller.

    Args:
        sources: the places, or the catalogue file that names them.
        numbers: for their ids.
        timeout_seconds: the time that a caller waits for a source. After that what is known is
            given.
    """

    def __init__(
        self,
        sources: Sequence[Source] | CatalogueFile,
        numbers: ProgramNumbers,
        *,
        timeout_seconds: float,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._file = sources if isinstance(sources, CatalogueFile) else None
        self._reading_file = [] if self._file is None else [_SourceState(self._file.source)]
        self._states = [] if isinstance(sources, CatalogueFile) else [*map(_SourceState, sources)]
        self._numbers = numbers
        self._known_numbers: dict[ProgramKey, int] = {}
        self._numbering = asyncio.Lock()
        self._made: tuple[Sequence[Scan], Catalogue] | None = None

    async def catalogue(self) -> Catalogue:
        """Return the programs; while nothing has changed, the same object.

        A source that does not answer in time gives what it gave last, or nothing, and a problem.
        One that was given that time by an earlier request, and still hangs, is not waited for.
        """
        silent = await self._refresh(self._reading_file)
        if self._file is not None:
            before = {state.source: state for state in self._states}
            self._states = [before.get(one) or _SourceState(one) for one in self._file.sources()]
        states = self._states
        silent += await self._refresh(states)
        catalogue = await self._catalogue([one.known for one in (*self._reading_file, *states)])
        if silent:
            return Catalogue(catalogue.programs, [*silent, *catalogue.problems])
        return catalogue

    async def _refresh(self, states: Sequence["_SourceState"]) -> list[str]:
        """Look at sources; return a sentence about each that does not answer."""
        running = {state.refresh(): state for state in states}
        now = time.monotonic()
        ends = {one: state.began_at + self._timeout_seconds for one, state in running.items()}
        waited_for = [one for one, end in ends.items() if end > now]
        if waited_for:
            await asyncio.wait(waited_for, timeout=max(ends.values()) - now)
        silent = []
        for one, state in running.items():
            if one.done():
                one.result()
            else:
                silent.append(state.unanswered(self._timeout_seconds))
        return silent

    async def _catalogue(self, scans: Sequence[Scan]) -> Catalogue:
        async with self._numbering:
            made = self._made
            if made is not None and _are_same(made[0], scans):
                return made[1]
            problems = [problem for scan in scans for problem in scan.problems]
            found = [one for scan in scans for one in scan.installations]
            programs = await self._with_ids(found, problems)
            catalogue = Catalogue(programs, problems)
            # What has no id yet gets one as soon as that is possible.
            self._made = (scans, catalogue) if len(programs) == len(found) else None
            return catalogue

    async def _with_ids(
        self, found: Sequence[Installation], problems: list[str]
    ) -> Sequence[Program]:
        keys = [one.key for one in found]
        known = self._known_numbers
        new = [key for key in keys if key not in known]
        if new:
            try:
                known.update(await self._numbers(new))
            except StoreUnavailable as error:
                # An id that may change later would be worse than a program that comes later.
                problems.append(f"{len(new)} programs have no id yet: {error.detail}")
        return [
            Program(f"{one.id_prefix}{known[key]}", one)
            for key, one in zip(keys, found, strict=True)
            if key in known
        ]


def _are_same(some: Sequence[Scan], others: Sequence[Scan]) -> bool:
    return len(some) == len(others) and all(map(operator.is_, some, others))


class _SourceState:
    """A source: its last known programs, and the one look at it that may be under way."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.name = source.name
        self.known = Scan(installations=())
        self.began_at = 0.0
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
        """Return a sentence about a source that did not answer in time, and log it once."""
        if not self._is_silent:
            self._is_silent = True
            _log.warning("programs.unanswered", of=self.name)
        silent = (
            f"{self.name} did not answer within {seconds:g} s; is its file server slow or away?"
        )
        return silent + LAST_KNOWN * bool(self.known.installations)

    async def _refresh(self) -> None:
        try:
            known = await self.source.read()
        except HpcqError as error:
            # A command of the site that failed: what was known is the best there is.
            problem = f"{self.name} could not be read: {error.detail}"
            known = Scan(installations=self.known.installations, problems=(problem,))
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
