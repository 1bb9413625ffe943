"""Queries to ``qstat``, and the jobs in its newest listing."""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from hpcq.domain.errors import OutputParseError, SchedulerError
from hpcq.domain.jobs import NativeId, Observation, SubmissionKey
from hpcq.domain.states import ReasonCode
from hpcq.schedulers.base import Listing
from hpcq.schedulers.command_line import CommandLine, ParseCache, batches, join_listings
from hpcq.schedulers.sge.details import find_key, parse_qstat_details, parse_requests
from hpcq.schedulers.sge.names import is_job_id, job_number, job_numbers
from hpcq.schedulers.sge.parse import parse_element, parse_qstat_xml
from hpcq.schedulers.sge.states import is_in_error

__all__ = ["Qstat"]

_ALL_JOBS = ("qstat", "-u", "*", "-xml")
_IDS_IN_ONE_COMMAND = 500

_Listed = Mapping[NativeId, Observation]


class Qstat:
    """Jobs that ``qstat`` tells of.

    Args:
        cli: runs commands.
        on_listing: called with two listings that follow each other.

    Attributes:
        listed: the newest listing; empty before the first.
    """

    def __init__(
        self,
        cli: CommandLine,
        on_listing: Callable[
            [Mapping[NativeId, Observation], Mapping[NativeId, Observation]], None
        ],
    ) -> None:
        self._cli = cli
        self._on_listing = on_listing
        self._cache = ParseCache(parse_element)
        self._lock = asyncio.Lock()
        self._errors: dict[NativeId, Observation | None] = {}
        self._is_known = False
        self.listed: _Listed = {}

    async def queue(self) -> Listing:
        """Ask for all users' jobs, pending ones included.

        Jobs that came into the error state since are asked about with one ``qstat -j``.
        """
        async with self._lock:
            output = await self._cli.check_output(_ALL_JOBS, listing=True)
            listing = await asyncio.to_thread(parse_qstat_xml, output, self._cache)
            listed = {seen.native_id: seen for seen in listing.observations}
            if self._is_known:
                self._on_listing(self.listed, listed)
            self.listed, self._is_known = listed, True
            observations = await self._with_errors(listed)
        return replace(listing, observations=observations)

    async def require_listing(self) -> None:
        """Ask for the queue if there was no listing yet."""
        if not self._is_known:
            await self.queue()

    async def find(self, key: SubmissionKey, run_as: str | None) -> NativeId | None:
        """Look for the key in the queue, newest jobs first.

        Raises:
            OutputParseError: it may stand in what cannot be read.
        """
        listing = await self.queue()
        ids = [seen.native_id for seen in listing.observations]
        for bad in listing.unreadable:
            if bad.native_id is None:
                raise OutputParseError("qstat", f"{bad.reason}, in one of its jobs", bad.excerpt)
            ids.append(bad.native_id)
        numbers = sorted({int(job_number(native_id)) for native_id in ids}, reverse=True)
        newest_first = [NativeId(str(number)) for number in numbers]
        for batch in batches(newest_first, _IDS_IN_ONE_COMMAND):
            found = find_key(await self._ask(batch), key, run_as)
            if found is not None:
                return found
        return None

    async def details(self, ids: Sequence[NativeId]) -> Listing:
        """Ask for up to 500 jobs at a time, and who holds those that are held."""
        ids = [native_id for native_id in ids if is_job_id(native_id)]
        await self.require_listing()
        if any(native_id not in self.listed for native_id in ids):
            await self.queue()
        listed = self.listed
        listing = join_listings(
            [
                parse_qstat_details(await self._ask(batch), batch, listed)
                for batch in batches(ids, _IDS_IN_ONE_COMMAND)
            ]
        )
        observations = await self._with_holders(listing.observations)
        return replace(listing, observations=observations)

    async def requests(self, native_id: NativeId) -> Mapping[str, str]:
        """Return the resources that a job asks for, by their names."""
        return parse_requests(await self._ask([native_id]))

    async def still_there(self, arrays: Collection[str]) -> set[str]:
        """Return the arrays that still have tasks there, whatever became of the others."""
        if not arrays:
            return set()
        ids = [NativeId(number) for number in arrays]
        try:
            told = parse_qstat_details(await self._ask(ids), ids, {})
        except SchedulerError:
            return set(arrays)
        return {seen.native_id for seen in told.observations}

    async def _ask(self, ids: Iterable[NativeId]) -> bytes:
        argv = ("qstat", "-j", ",".join(job_numbers(ids)), "-xml")
        return await self._cli.check_output(argv, listing=True)

    async def _with_errors(self, listed: _Listed) -> Sequence[Observation]:
        """Put the reasons of jobs that could not be started beside their state."""
        failed = [i for i, seen in listed.items() if is_in_error(seen.native_state)]
        self._errors = {i: self._errors[i] for i in failed if i in self._errors}
        unknown = [i for i in failed if i not in self._errors][:_IDS_IN_ONE_COMMAND]
        if unknown:
            # One command in a round at most; a job whose reason is not told is not asked again.
            self._errors |= dict.fromkeys(unknown)
            with contextlib.suppress(SchedulerError):
                told = parse_qstat_details(await self._ask(unknown), unknown, listed)
                self._errors |= {seen.native_id: seen for seen in told.observations}
        return [_with_error(seen, self._errors.get(i)) for i, seen in listed.items()]

    async def _with_holders(self, observations: Sequence[Observation]) -> Sequence[Observation]:
        """Tell a user's hold from an operator's, which ``qstat -j`` does not."""
        held = [seen for seen in observations if seen.state.is_held and seen.reason_code is None]
        owners = sorted({seen.owner for seen in held if seen.owner is not None})
        if not owners:
            return observations
        argv = ("qstat", "-s", "hu", "-u", ",".join(owners), "-xml")
        try:
            listing = parse_qstat_xml(await self._cli.check_output(argv, listing=True))
        except SchedulerError:
            return observations
        by_users = {seen.native_id for seen in listing.observations}
        codes = {
            seen.native_id: ReasonCode.HELD_BY_USER
            if seen.native_id in by_users
            else ReasonCode.HELD_BY_OPERATOR
            for seen in held
        }
        return [
            replace(seen, reason_code=codes.get(seen.native_id, seen.reason_code))
            for seen in observations
        ]


def _with_error(seen: Observation, told: Observation | None) -> Observation:
    if told is None:
        return seen
    return replace(seen, state_reason=told.state_reason, native_reason=told.native_reason)
