"""How jobs ended: from the accounting file, else ``qacct``, and from how they left the queue."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from hpcq.domain.errors import OutputParseError
from hpcq.domain.jobs import NativeId, Observation, SubmissionKey
from hpcq.schedulers.base import Unreadable
from hpcq.schedulers.cli import CommandLine
from hpcq.schedulers.sge.accounting import AccountingFile
from hpcq.schedulers.sge.answers import check_completed
from hpcq.schedulers.sge.departures import Departures, parse_record_delay
from hpcq.schedulers.sge.entries import Entry, observe
from hpcq.schedulers.sge.qacct import parse_qacct

__all__ = ["History"]

_QACCT_AT_ONCE = 2
_WHERE_NOT_TOLD = timedelta(seconds=60)


class History:
    """Tells the ends of jobs by their numbers.

    Attributes:
        accounting: the file, followed as it grows.
        departures: the jobs that left the queue while they waited.
    """

    def __init__(
        self,
        cli: CommandLine,
        path: Path,
        clock: Callable[[], datetime],
    ) -> None:
        self._cli = cli
        self._now = clock
        self._qacct = asyncio.Semaphore(_QACCT_AT_ONCE)
        self.accounting = AccountingFile(path)
        self.departures = Departures()

    async def ends(
        self, numbers: Sequence[str]
    ) -> tuple[list[Observation], list[Unreadable], set[str]]:
        """Return the ends of these jobs and of their tasks.

        Returns:
            The ends; the records that could not be read; the arrays of which more is to come.
        """
        # What is written after this moment may be missed, however long the rest takes.
        asked_at = self._now()
        entries, unreadable = await self._entries(numbers)
        ends = observe(entries)
        recorded = {seen.native_id for seen in ends}
        left = self.departures.of(numbers)
        missing = [seen for native_id, seen in left.items() if native_id not in recorded]
        delay = await self._record_delay() if missing else None
        due = [
            seen
            for seen in missing
            if delay is not None and self.departures.is_due(seen.native_id, asked_at, delay)
        ]
        late = {seen.array_job_id for seen in missing if seen.array_job_id and seen not in due}
        return [*ends, *due], unreadable, late

    async def find(self, key: SubmissionKey) -> NativeId | None:
        """Return the number of the job that the accounting shows with the key."""
        try:
            return await asyncio.to_thread(self.accounting.find, key)
        except OSError:
            entries, unreadable = await self._run_qacct("-A", key, "-j")
            for bad in unreadable:
                raise OutputParseError("qacct -A", bad.reason, bad.excerpt) from None
        return NativeId(entries[0].number) if entries else None

    async def has_run(self, native_id: NativeId) -> bool:
        """Whether the accounting shows that a job, or a task, was started at least once."""
        entries, _ = await self._entries([native_id.partition("[")[0]])
        return any(entry.native_id == native_id and entry.started for entry in entries)

    async def _record_delay(self) -> timedelta | None:
        done = await self._cli.run(("qconf", "-sconf"))
        return parse_record_delay(done.stdout) if done.exit_code == 0 else _WHERE_NOT_TOLD

    async def _entries(self, numbers: Sequence[str]) -> tuple[list[Entry], list[Unreadable]]:
        try:
            return await asyncio.to_thread(self.accounting.records, numbers)
        except OSError:
            answers = await asyncio.gather(*(self._run_qacct("-j", n) for n in numbers))
        return (
            [entry for entries, _ in answers for entry in entries],
            [bad for _, unreadable in answers for bad in unreadable],
        )

    async def _run_qacct(self, *selection: str) -> tuple[list[Entry], list[Unreadable]]:
        """Run ``qacct -j``; no record, or no accounting file at all yet, is an empty answer."""
        async with self._qacct:
            done = await self._cli.run(("qacct", *selection), listing=True)
        if done.exit_code != 0 and not done.stdout.strip():
            if b"not found" in done.stderr or b"No such file" in done.stderr:
                return [], []
            check_completed(done)
        return parse_qacct(done.stdout) if done.stdout.strip() else ([], [])
