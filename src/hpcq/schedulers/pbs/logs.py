"""What PBS's accounting logs tell of jobs, as far as this account may read them."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from hpcq.domain.jobs import JobSpec, NativeId, SubmissionKey
from hpcq.schedulers.base import Listing
from hpcq.schedulers.pbs.accounting import accounting_folder, parse_accounting
from hpcq.schedulers.pbs.arrays import as_task, whole_of
from hpcq.schedulers.pbs.script import acceptable_name
from hpcq.schedulers.pbs_family.accounting import AccountingLogs, parse_accounting_line
from hpcq.schedulers.pbs_family.values import parse_job_id

__all__ = ["Logs"]

_OTHER_CLOCK = timedelta(minutes=10)
"""The server's may be so far away from ours."""


class Logs:
    """The accounting logs.

    Args:
        environment: says where PBS is configured.
        owner: the service's account.
    """

    def __init__(self, environment: Mapping[str, str], owner: str | None) -> None:
        self._environment = environment
        self._owner = owner
        self._accounting: AccountingLogs | None = None

    async def accounting(self) -> AccountingLogs | None:
        """Return the accounting logs, if this account may read them."""
        folder = await asyncio.to_thread(accounting_folder, self._environment)
        if folder is None:
            return None
        if self._accounting is None or self._accounting.directory != folder:
            self._accounting = AccountingLogs(folder)
        return self._accounting

    async def ended(self, wanted: Sequence[NativeId]) -> Listing | None:
        """Return what the accounting tells of jobs, and of arrays by their tasks.

        Returns:
            None where it cannot be read.
        """
        logs = await self.accounting()
        if logs is None:
            return None
        numbers = dict.fromkeys(native_id.partition("[")[0] for native_id in wanted)
        lines = await asyncio.to_thread(logs.lines, numbers)
        told = parse_accounting(lines, None)
        tasks = [seen for seen in told.observations if seen.array_job_id is not None]
        ends = {
            seen.native_id: whole_of(
                seen, [task for task in tasks if task.array_job_id == seen.native_id]
            )
            for seen in told.observations
        }
        known = (ends.get(native_id) or as_task(native_id, ends) for native_id in wanted)
        return Listing(
            observations=[seen for seen in known if seen is not None], unreadable=told.unreadable
        )

    async def find(self, key: SubmissionKey) -> NativeId | None:
        """Look for a job whose account is the key."""
        logs = await self.accounting()
        if logs is None:
            return None
        line = await asyncio.to_thread(logs.find, f'account="{key}"'.encode())
        return None if line is None else parse_job_id(parse_accounting_line(line).job_id).short

    async def lookalikes(self, spec: JobSpec, since: datetime) -> Sequence[NativeId]:
        """Look in the accounting for ended jobs of this account with this name, and no key.

        Args:
            spec: names the job.
            since: not before then, by this machine's clock.
        """
        logs = await self.accounting()
        if logs is None:
            return ()
        mark = f" jobname={acceptable_name(spec.name)} ".encode()
        lines = await asyncio.to_thread(logs.having, mark)
        told = parse_accounting([line for line in lines if b' account="hpcq-' not in line], None)
        earliest = since - _OTHER_CLOCK
        return [
            seen.native_id
            for seen in told.observations
            if seen.array_task_id is None
            and self._owner in (None, seen.owner)
            and (seen.submit_time is None or seen.submit_time >= earliest)
        ]
