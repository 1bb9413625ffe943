"""Ends of jobs: from the accounting file, else ``qacct``, and from how they left the queue.

Grid Engine writes no record of a job that is deleted while it waits. One that was started has a
record soon after its end, as late as the qmaster's ``flush_time``. One that was last seen waiting,
and has none by then, was deleted before it started.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from hpcq.domain.errors import OutputParseError
from hpcq.domain.jobs import NativeId, Observation, SubmissionKey
from hpcq.domain.states import FailureKind, JobState
from hpcq.domain.units import parse_clock
from hpcq.schedulers.base import ParseFailure
from hpcq.schedulers.command_line import CommandLine
from hpcq.schedulers.sge.accounting import AccountingFile
from hpcq.schedulers.sge.accounting_record import AccountingRecord, observe
from hpcq.schedulers.sge.errors import ERRORS
from hpcq.schedulers.sge.qacct import parse_qacct

__all__ = ["Departures", "History", "accounting_path", "parse_record_delay"]

_DEBIAN_ROOT = "/var/lib/gridengine"
_QACCT_AT_ONCE = 2
_UNKNOWN_RECORD_DELAY = timedelta(seconds=60)
_DEPARTURES_KEPT = 10_000
_DELETED = "It was deleted while it waited, and never started."

# sge_conf(5), reporting_params
_ACCOUNTING = re.compile(r"\baccounting=(\w+)")
_FLUSH_TIME = re.compile(r"\b(?:accounting_)?flush_time=([0-9:]+)")
_DEFAULT_FLUSH_SECONDS = 15.0
_ON_ITS_WAY_SECONDS = 15.0


def accounting_path(environment: Mapping[str, str]) -> Path:
    """Return the path of the cell's accounting file."""
    root = environment.get("SGE_ROOT") or _DEBIAN_ROOT
    return Path(root) / (environment.get("SGE_CELL") or "default") / "common" / "accounting"


class History:
    """Queries for the ends of jobs.

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
    ) -> tuple[list[Observation], list[ParseFailure], set[str]]:
        """Return the ends of these jobs and of their tasks.

        Returns:
            The ends; the records that could not be read; the arrays whose other ends are late.
        """
        # What is written after this moment may be missed, however long the rest takes.
        asked_at = self._now()
        records, unreadable = await self._records(numbers)
        ends = observe(records)
        recorded = {seen.native_id for seen in ends}
        left = self.departures.ends(numbers)
        missing = [seen for native_id, seen in left.items() if native_id not in recorded]
        delay = await self._record_delay() if missing else None
        due = [
            seen
            for seen in missing
            if delay is not None and self.departures.is_due(seen.native_id, asked_at, delay)
        ]
        late = {seen.array_job_id or seen.native_id for seen in missing if seen not in due}
        return [*ends, *due], unreadable, late

    async def find(self, key: SubmissionKey, owner: str | None) -> NativeId | None:
        """Return the number of the job that the accounting shows with the key.

        Args:
            key: what is looked for.
            owner: the account whose job it is; None for any.
        """
        try:
            return await asyncio.to_thread(self.accounting.find, key, owner)
        except OSError:
            records, unreadable = await self._run_qacct("-A", key, "-j")
            if unreadable:
                bad = unreadable[0]
                raise OutputParseError("qacct -A", bad.reason, bad.excerpt) from None
        ours = (NativeId(record.number) for record in records if owner in (None, record.owner))
        return next(ours, None)

    async def has_run(self, native_id: NativeId) -> bool:
        """Return whether the accounting shows that a job, or a task, was started at least once."""
        records, _ = await self._records([native_id.partition("[")[0]])
        return any(record.native_id == native_id and record.started for record in records)

    async def _record_delay(self) -> timedelta | None:
        done = await self._cli.run(("qconf", "-sconf"))
        return parse_record_delay(done.stdout) if done.exit_code == 0 else _UNKNOWN_RECORD_DELAY

    async def _records(
        self, numbers: Sequence[str]
    ) -> tuple[list[AccountingRecord], list[ParseFailure]]:
        try:
            return await asyncio.to_thread(self.accounting.records, numbers)
        except OSError:
            answers = await asyncio.gather(*(self._run_qacct("-j", n) for n in numbers))
        return (
            [record for records, _ in answers for record in records],
            [bad for _, unreadable in answers for bad in unreadable],
        )

    async def _run_qacct(
        self, *selection: str
    ) -> tuple[list[AccountingRecord], list[ParseFailure]]:
        """Run ``qacct -j``; no record, or no accounting file at all yet, is an empty answer."""
        async with self._qacct:
            done = await self._cli.run(("qacct", *selection), listing=True)
        if done.exit_code != 0 and not done.stdout.strip():
            if b"not found" in done.stderr or b"No such file" in done.stderr:
                return [], []
            ERRORS.check(done)
        return parse_qacct(done.stdout) if done.stdout.strip() else ([], [])


@dataclass(frozen=True, slots=True)
class _Departure:
    seen: Observation
    at: datetime


class Departures:
    """Memory of the jobs that waited when they were last seen, and are gone."""

    def __init__(self) -> None:
        self._left: OrderedDict[NativeId, _Departure] = OrderedDict()

    def note(
        self,
        before: Mapping[NativeId, Observation],
        now: Mapping[NativeId, Observation],
        at: datetime,
    ) -> None:
        """Compare a listing with the one before it.

        Args:
            before: what that one showed.
            now: what the newer one shows.
            at: when the newer one was answered: a job may have ended just before.
        """
        told_apart = {seen.array_job_id for seen in before.values() if seen.array_task_id}
        for native_id in before.keys() - now.keys():
            # Of an array its tasks tell, if they are known.
            if before[native_id].state.is_queued and native_id not in told_apart:
                self._left[native_id] = _Departure(before[native_id], at)
        for native_id in self._left.keys() & now.keys():
            del self._left[native_id]
        while len(self._left) > _DEPARTURES_KEPT:
            self._left.popitem(last=False)

    def ends(self, numbers: Iterable[str]) -> dict[NativeId, Observation]:
        """Return the ends of the jobs with these numbers that left, and of their tasks.

        They are true of those that the accounting does not show in time.
        """
        wanted = set(numbers)
        return {
            native_id: replace(
                left.seen,
                state=JobState.FAILED,
                native_state=None,
                stage=None,
                state_reason=_DELETED,
                failure_kind=FailureKind.CANCELLED,
                start_time=None,
                end_time=left.at,
            )
            for native_id, left in self._left.items()
            if native_id.partition("[")[0] in wanted
        }

    def is_due(self, native_id: NativeId, at: datetime, delay: timedelta) -> bool:
        """Return whether a job that left would have its record by now, if it had been started."""
        return at - self._left[native_id].at >= delay


def parse_record_delay(configuration: bytes) -> timedelta | None:
    """Return how long after its end a job has its record, by what ``qconf -sconf`` printed.

    Returns:
        None where the accounting is off.
    """
    text = configuration.decode("utf-8", "replace")
    kept = _ACCOUNTING.search(text)
    if kept is not None and kept[1] != "true":
        return None
    times = [parse_clock(match) for match in _FLUSH_TIME.findall(text)]
    return timedelta(seconds=max(times, default=_DEFAULT_FLUSH_SECONDS) + _ON_ITS_WAY_SECONDS)
