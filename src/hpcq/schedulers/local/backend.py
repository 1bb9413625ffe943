"""The LOCAL backend: the contract `SchedulerBackend`, met by the embedded scheduler."""

import asyncio
import os
import re
import socket
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from signal import Signals
from typing import TypeVar

from hpcq import __version__
from hpcq.domain.actions import Action, Signal
from hpcq.domain.arrays import summarize_array, tasks_by_array
from hpcq.domain.errors import (
    InvalidSpec,
    JobNotFound,
    NotAuthorized,
    SchedulerUnavailable,
    WrongState,
)
from hpcq.domain.ids import IdForm
from hpcq.domain.jobs import JobSpec, NativeId, Observation, SubmissionKey
from hpcq.domain.outputs import as_pattern, default_name, file_name
from hpcq.domain.units import from_epoch
from hpcq.execution.protocol import Runner
from hpcq.schedulers.abilities import SubmissionPlan
from hpcq.schedulers.base import (
    Capabilities,
    Listing,
    Node,
    Queue,
    SchedulerBackend,
    SchedulerOptions,
    ScriptDirectives,
)
from hpcq.schedulers.local.account_lookups import AccountsUnavailable
from hpcq.schedulers.local.accounts import AccountUnusable
from hpcq.schedulers.local.checks import check_job, check_queue, check_text
from hpcq.schedulers.local.engine import Engine
from hpcq.schedulers.local.environment import account_name
from hpcq.schedulers.local.ids import is_local
from hpcq.schedulers.local.job import QUEUE_NAME, LocalJob, Site, build_usage
from hpcq.schedulers.local.processes import boot_id as read_boot_id
from hpcq.schedulers.local.settings import LocalSettings
from hpcq.schedulers.local.spool_file import NothingWritten
from hpcq.schedulers.local.spool_row import Phase, SpoolRow

__all__ = ["LocalBackend", "create"]

_BUILT_ON_THE_LOOP = 50
_OBSERVED_AT_ONCE = 1000

_Part = TypeVar("_Part")
_Built = TypeVar("_Built")

_FIELDS = frozenset(
    {
        "array",
        "depends_on",
        "environment",
        "exclusive",
        "hold",
        "memory_limit_bytes",
        "nodes",
        "queue",
        "script",
        "slots_per_node",
        "stderr_path",
        "stdout_path",
        "wall_time_limit_seconds",
    }
)
_CAPABILITIES = Capabilities(
    id_forms=(
        IdForm(re.compile(r"([0-9]+(?:\[[0-9]+\])?)")),
        IdForm(re.compile(r"([0-9]+)\[\]"), is_array=True),
    ),
    fields=_FIELDS,
    actions=frozenset(Action),
    changes=frozenset({"name", "queue", "wall_time_limit_seconds", "memory_limit_bytes"}),
    removals=frozenset({"wall_time_limit_seconds", "memory_limit_bytes"}),
    accounting=True,
    memory_enforced=True,
    absence_is_certain=True,
)
_OF_ROOT = replace(_CAPABILITIES, fields=_FIELDS | {"run_as"})


def create(options: SchedulerOptions, runner: Runner, settings: LocalSettings) -> SchedulerBackend:
    """Return the embedded scheduler, not started. It runs no commands of a cluster.

    Raises:
        ValueError: this system cannot run it.
    """
    if not hasattr(os, "pidfd_open"):
        raise ValueError("the LOCAL scheduler needs Linux 5.3 or newer")
    return LocalBackend(options, settings)


class LocalBackend:
    """The batch scheduler of one machine; see `hpcq.schedulers.base.SchedulerBackend`."""

    def __init__(
        self,
        options: SchedulerOptions,
        settings: LocalSettings,
        boot_id: Callable[[], str] = read_boot_id,
    ) -> None:
        self._slots = settings.internal_scheduler_max_slots
        self._is_for_accounts = options.accounts is not None
        self._engine = Engine(options, settings, boot_id)
        self._site = Site(socket.gethostname(), account_name())

    @property
    def name(self) -> str:
        """``LOCAL``."""
        return "LOCAL"

    @property
    def capabilities(self) -> Capabilities:
        """The features of LOCAL; only root can run jobs as other accounts."""
        return _OF_ROOT if os.geteuid() == 0 else _CAPABILITIES

    async def start(self, wake: Callable[[], None]) -> None:
        """Open the spool and go on with its jobs.

        Raises:
            SchedulerUnavailable: another service uses the spool, or it cannot be used; or jobs are
                to run as other accounts, and cannot.
        """
        if self._is_for_accounts:
            try:
                await asyncio.to_thread(self._engine.runs.folders.check_accounts)
            except AccountUnusable as error:
                raise SchedulerUnavailable(str(error)) from None
        await self._engine.start(wake)

    async def stop(self) -> None:
        """Leave the spool; jobs go on."""
        await self._engine.stop()

    def check_script(self, spec: JobSpec, script: bytes) -> ScriptDirectives:
        """Return the names of the output files; see `SchedulerBackend.check_script`."""
        stem = as_pattern(file_name(spec.name or default_name(spec.working_directory)))
        suffix = "" if spec.array is None else ".%a"
        return ScriptDirectives(
            stdout=f"{stem}.o%j{suffix}", stderr=f"{stem}.e%j{suffix}", task_suffix=suffix or None
        )

    async def submit(self, spec: JobSpec, key: SubmissionKey, script: bytes) -> NativeId:
        """Take a job. Harmless when repeated: each key is taken once."""
        await self.plan(spec, key, script)
        return NativeId(str(await self._engine.admit(spec, key, script)))

    async def plan(self, spec: JobSpec, key: SubmissionKey, script: bytes) -> SubmissionPlan:
        """Return what the job's shepherd starts; see `PlansSubmission`.

        The script is a copy, and an interpreter runs it where the kernel does not. One that came
        as text goes by the job's name.
        """
        if spec.run_as is not None:
            await self._check_account(spec.run_as)
        try:
            await asyncio.to_thread(check_job, spec, self._slots)
        except RuntimeError as error:
            raise NothingWritten(f"The machine allows no more threads: {error}.") from error
        return SubmissionPlan(
            argv=(spec.script_file or file_name(spec.name), *spec.args),
            cwd=spec.working_directory,
            environment=spec.environment,
        )

    async def find(self, key: SubmissionKey, run_as: str | None = None) -> NativeId | None:
        number = await self._engine.spool.find(key)
        return None if number is None else NativeId(str(number))

    async def jobs(self) -> Listing:
        self._engine.check()
        observations = await self._observe(self._engine.jobs.by_number.values())
        for array in tuple(self._engine.jobs.arrays.values()):
            tasks = await self._observe(array.tasks.values())
            observations.append(await _in_thread_if_long(array.observe, tasks))
        return Listing(observations=observations)

    async def _observe(self, jobs: Iterable[LocalJob]) -> list[Observation]:
        """Return jobs as the service sees them; let others go on while these are many."""
        observations: list[Observation] = []
        for job in tuple(jobs):
            observations.append(job.observe(self._site))
            if len(observations) % _OBSERVED_AT_ONCE == 0:
                await asyncio.sleep(0)
        return observations

    async def history(self, ids: Sequence[NativeId]) -> Listing:
        rows = await self._engine.spool.finished(list(filter(is_local, ids)))
        return await _in_thread_if_long(lambda rows: _ends(rows, self._site), rows)

    async def details(self, ids: Sequence[NativeId]) -> Listing:
        jobs = [job for job in map(self._engine.jobs.find_job, ids) if job is not None]
        arrays = [array for array in map(self._engine.jobs.find_array, ids) if array is not None]
        tasks = [task for array in arrays for task in array.tasks.values() if task.result is None]
        running = [job for job in (*jobs, *tasks) if job.phase == Phase.DISPATCHED]
        samples = await self._engine.runs.samples(running) if running else []
        usages = {j.number: build_usage(s) for j, s in zip(running, samples, strict=True)}
        queued = any(job.phase == Phase.QUEUED for job in (*jobs, *tasks))
        starts = self._engine.jobs.planned_starts() if queued else {}
        now = time.time()

        def observe(job: LocalJob) -> Observation:
            seen, start = job.observe(self._site), starts.get(job.number)
            if job.number in usages:
                return replace(seen, usage=usages[job.number])
            return seen if start is None else replace(seen, start_estimate=from_epoch(now + start))

        observations = [observe(job) for job in jobs]
        for array in arrays:
            await self._observe(array.tasks.values())
            parts = [observe(task) for task in array.tasks.values()]
            summarize = partial(summarize_array, array.whole.native_id)
            observations.append(await _in_thread_if_long(summarize, parts))
        return Listing(observations=observations)

    async def forget(self, before: datetime) -> int:
        """Delete some of the jobs that ended before a moment from the spool."""
        return await self._engine.spool.forget(before.timestamp())

    async def cancel(self, native_id: NativeId, run_as: str | None = None) -> bool:
        is_array = self._engine.jobs.find_array(native_id) is not None
        jobs = await self._unfinished(native_id, run_as)
        never_started = bool(jobs) and await self._engine.control.cancel(jobs)
        # Some tasks of an array may have ended before.
        return never_started and not is_array

    async def cancel_tasks(
        self, array: NativeId, tasks: Mapping[int, NativeId], run_as: str | None = None
    ) -> Collection[NativeId]:
        """End some tasks of an array in one transaction; see `CancelsTasks`."""
        jobs = [job for job in map(self._engine.jobs.find_job, tasks.values()) if job is not None]
        if not jobs:
            return ()
        self._require_owner(jobs[0], run_as)
        await self._engine.control.cancel(jobs)
        return [job.native_id for job in jobs if job.result is not None and not job.has_started]

    async def act(
        self,
        action: Action,
        native_id: NativeId,
        run_as: str | None = None,
        signal: Signal | None = None,
    ) -> None:
        jobs = await self._unfinished(native_id, run_as)
        if not jobs:
            raise WrongState(f"Job {native_id} has ended.")
        if action is Action.HOLD:
            await self._engine.control.hold(jobs)
        elif action is Action.RELEASE:
            await self._engine.control.release(jobs)
        elif signal is not None:
            await self._engine.control.send_signal(jobs, Signals[f"SIG{signal}"])
        else:
            await self._engine.control.request(jobs, action)

    async def alter(
        self,
        native_id: NativeId,
        spec: JobSpec,
        fields: frozenset[str],
        run_as: str | None = None,
    ) -> None:
        jobs = await self._unfinished(native_id, run_as)
        if not jobs:
            raise WrongState(f"Job {native_id} has ended.")
        values = {name: getattr(spec, name) for name in fields}
        altered = replace(jobs[0].spec, **values)
        check_text("name", [altered.name])
        check_queue(altered)
        await self._engine.control.alter(jobs, altered)

    async def queues(self) -> Sequence[Queue]:
        used = self._engine.jobs.slots_used
        return [
            Queue(name=QUEUE_NAME, is_open=True, slots_total=self._slots, slots_used=used),
        ]

    async def nodes(self) -> Sequence[Node]:
        node = Node(
            name=self._site.host,
            is_up=True,
            slots_total=self._slots,
            slots_used=self._engine.jobs.slots_used,
            memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            queues=(QUEUE_NAME,),
        )
        return [node]

    async def version(self) -> str:
        return f"hpcq LOCAL {__version__} (SQLite {sqlite3.sqlite_version})"

    async def _check_account(self, name: str) -> None:
        try:
            await self._engine.runs.check_account(name)
        except AccountsUnavailable as error:
            raise NothingWritten(str(error)) from None
        except AccountUnusable as error:
            raise InvalidSpec(str(error)) from None

    async def _unfinished(self, native_id: NativeId, run_as: str | None) -> Sequence[LocalJob]:
        """Return the job with this id, or the tasks of the array; none if all is over.

        Raises:
            JobNotFound: there is no such job.
            NotAuthorized: it belongs to someone else.
        """
        job, array = self._engine.jobs.find_job(native_id), self._engine.jobs.find_array(native_id)
        whole = array.whole if array is not None else job
        if whole is None:
            known = await self._engine.spool.finished([native_id]) if is_local(native_id) else []
            if not known:
                raise JobNotFound(native_id)
            return ()
        self._require_owner(whole, run_as)
        if array is None:
            return (whole,)
        return [task for task in array.tasks.values() if task.result is None]

    def _require_owner(self, job: LocalJob, name: str | None) -> None:
        owner = job.spec.run_as or self._site.owner
        if name not in (None, self._site.owner, owner):
            raise NotAuthorized(f"Job {job.native_id} belongs to {owner!r}, not to {name!r}.")


def _ends(rows: Sequence[SpoolRow], site: Site) -> Listing:
    """Return finished jobs, and arrays made of their tasks."""
    jobs = [LocalJob.from_row(row) for row in rows]
    observations = [job.observe(site) for job in jobs if not job.is_whole_array]
    tasks = tasks_by_array(observations)
    wholes = [job.native_id for job in jobs if job.is_whole_array]
    arrays = [summarize_array(one, tasks[one]) for one in wholes if one in tasks]
    return Listing(observations=[*observations, *arrays])


async def _in_thread_if_long(
    build: Callable[[Sequence[_Part]], _Built], parts: Sequence[_Part]
) -> _Built:
    if len(parts) <= _BUILT_ON_THE_LOOP:
        return build(parts)
    return await asyncio.to_thread(build, parts)
