"""Queries to Torque's logs about jobs that it has forgotten."""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from hpcq.domain.errors import CommandMissing
from hpcq.domain.jobs import JobSpec, NativeId, Observation
from hpcq.schedulers.base import Listing
from hpcq.schedulers.command_line import CommandLine
from hpcq.schedulers.pbs_family.accounting import AccountingLogs, in_question
from hpcq.schedulers.pbs_family.values import parse_job_id
from hpcq.schedulers.torque.accounting import arrays_not_over, observe_lines, parse_tracejob
from hpcq.schedulers.torque.errors import check_completed
from hpcq.schedulers.torque.parse import wholes
from hpcq.schedulers.torque.script import acceptable_name

__all__ = ["Logs"]

_TRACED_AT_ONCE = 2
_MOST_REMEMBERED = 100_000
_TRACED_DAYS = 7


class Logs:
    """Reads the accounting logs; where that is not allowed, asks ``tracejob``.

    Args:
        accounting: the server's accounting logs.
        cli: runs ``tracejob``.
        account: who owns the jobs that this service submits; None: it is not known.

    Attributes:
        server: whose jobs ``tracejob`` is asked about; None until it is known.
        wrapped: the jobs and arrays of ours that were seen, the latest last.
    """

    def __init__(self, accounting: AccountingLogs, cli: CommandLine, account: str | None) -> None:
        self._accounting = accounting
        self._cli = cli
        self._account = account
        self._tracing = asyncio.Semaphore(_TRACED_AT_ONCE)
        self.server: str | None = None
        self.wrapped: dict[NativeId, None] = {}

    def remember(self, ids: Iterable[NativeId]) -> None:
        """Remember that these jobs are ours."""
        self.wrapped.update(dict.fromkeys(ids))
        while len(self.wrapped) > _MOST_REMEMBERED:
            del self.wrapped[next(iter(self.wrapped))]

    async def history(self, ids: Sequence[NativeId], gone: Collection[str] = ()) -> Listing:
        """Return how these jobs ended, as far as the logs say.

        Args:
            ids: the jobs and arrays.
            gone: the numbers of arrays that Torque no longer has.

        Raises:
            SchedulerError: ``tracejob`` had to be asked, and failed.
        """
        try:
            lines = await asyncio.to_thread(self._accounting.lines, _numbers(ids))
        except OSError:
            traced = await asyncio.gather(*map(self._trace, ids))
            return Listing(observations=[seen for seen in traced if seen is not None])
        observations, unreadable = observe_lines(lines, self.wrapped, gone)
        asked = set(ids)
        not_over = arrays_not_over(lines).difference(gone)
        observations += [seen for seen in wholes(observations) if seen.native_id not in not_over]
        return Listing(
            observations=[seen for seen in observations if seen.native_id in asked],
            unreadable=unreadable,
        )

    async def open_arrays(self, ids: Sequence[NativeId]) -> set[str]:
        """Return the numbers of those arrays with jobs that have no record of their end."""
        try:
            lines = await asyncio.to_thread(self._accounting.lines, _numbers(ids))
        except OSError:
            return set()
        return arrays_not_over(lines)

    async def find_similar_ended(self, spec: JobSpec, since: datetime) -> Sequence[NativeId]:
        """Return the ended jobs of this account with this name, by the accounting alone.

        Args:
            spec: what was submitted.
            since: when; jobs submitted well before are left out.
        """
        end = " " if spec.array is None else "-"
        mark = f" jobname={acceptable_name(spec.name)}{end}".encode()
        try:
            lines = await asyncio.to_thread(self._accounting.having, mark)
        except OSError:
            return ()
        ends = in_question(observe_lines(lines)[0], self._account, since)
        return list(dict.fromkeys(NativeId(end.array_job_id or end.native_id) for end in ends))

    async def _trace(self, native_id: NativeId) -> Observation | None:
        """Ask the logs about one job; ``tracejob`` exits with 0 whatever it finds."""
        wanted = parse_job_id(native_id)
        server = wanted.server or self.server
        name = f"{wanted.short}.{server}" if server else wanted.short
        async with self._tracing:
            try:
                done = await self._cli.run(
                    ("tracejob", "-n", str(_TRACED_DAYS), name), listing=True
                )
            except CommandMissing:
                return None  # not every installation of the client has it
        check_completed(done)
        return parse_tracejob(done.stdout, wanted, self.wrapped)


def _numbers(ids: Sequence[NativeId]) -> list[str]:
    return list(dict.fromkeys(parse_job_id(native_id).number for native_id in ids))
