"""Torque behind the backend contract."""

import asyncio
import contextlib
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from hpcq.domain.actions import Action, Signal
from hpcq.domain.arrays import is_whole_array, ranges_of
from hpcq.domain.errors import InvalidSpec, JobNotFound, OutputParseError, WrongState
from hpcq.domain.job_changes import CHANGEABLE
from hpcq.domain.jobs import Dependency, JobSpec, NativeId, Observation, SubmissionKey
from hpcq.execution.accounts import account_name
from hpcq.execution.protocol import Completed, Runner
from hpcq.schedulers.abilities import SubmissionPlan
from hpcq.schedulers.base import (
    Capabilities,
    Listing,
    Node,
    Queue,
    SchedulerOptions,
    ScriptDirectives,
)
from hpcq.schedulers.command_errors import ErrorKind
from hpcq.schedulers.command_line import FIELDS, CommandLineBackend
from hpcq.schedulers.pbs_family.accounting import AccountingLogs
from hpcq.schedulers.pbs_family.actions import ACTIONS, build_action
from hpcq.schedulers.pbs_family.values import ID_FORMS, parse_job_id
from hpcq.schedulers.torque.accounting import KINDS
from hpcq.schedulers.torque.arrays import Arrays
from hpcq.schedulers.torque.cluster import parse_pbsnodes, parse_queues
from hpcq.schedulers.torque.errors import ERRORS, check_completed, check_is_torque, parse_qsub
from hpcq.schedulers.torque.logs import Logs
from hpcq.schedulers.torque.parse import Reader
from hpcq.schedulers.torque.script import OPTION_RULES, choose, has_nodes
from hpcq.schedulers.torque.settings import TorqueSettings
from hpcq.schedulers.torque.submit import (
    build_alterations,
    build_change,
    build_qdel_tasks,
    build_qstat,
    build_qsub,
)

__all__ = ["TorqueBackend", "create"]

_ASKED_BY_ID = 8
"""Up to so many jobs are asked for one by one; beyond that the whole queue is the lighter way."""
# Releases before 5 say it on standard error, in small letters.
_VERSION = re.compile(r"^version:\s*", re.IGNORECASE)

_OF_NODES = frozenset({"nodes", "slots_per_node", "gpus", "constraints"})
_CAPABILITIES = Capabilities(
    id_forms=ID_FORMS,
    fields=FIELDS | {"array", "exclusive"},
    actions=ACTIONS,
    changes=frozenset(CHANGEABLE),
    removals=frozenset({"priority"}),
    accounting=True,
    memory_enforced=True,
)


class TorqueBackend(CommandLineBackend):
    """Torque 6.1, and older releases that print the same.

    Every method runs the commands named in ``docs/schedulers/torque.md``.
    """

    name = "TORQUE"
    errors = ERRORS
    option_rules = OPTION_RULES

    def __init__(self, options: SchedulerOptions, runner: Runner, settings: TorqueSettings) -> None:
        super().__init__(options, runner)
        self._choose = partial(
            choose,
            template=settings.torque_resources,
            slots_per_node=settings.torque_slots_per_node,
            environment=options.environment,
        )
        self._has_nodes = has_nodes(settings.torque_resources)
        self._job_shell = options.job_shell
        account = account_name(os.geteuid())
        self._qstat = self._cli.locate("qstat")
        self._is_torque = False
        self._reader = Reader(account, self._qstat)
        folder = settings.torque_home / "server_priv" / "accounting"
        accounting = AccountingLogs(folder, kinds=KINDS)
        self._logs = Logs(accounting, self._cli, account)
        self._arrays = Arrays(accounting)
        self._listed: Mapping[NativeId, Observation] = {}

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities of Torque with the site's template."""
        more = _OF_NODES if self._has_nodes else frozenset()
        return replace(_CAPABILITIES, fields=_CAPABILITIES.fields | more)

    def check_script(self, spec: JobSpec, script: bytes) -> ScriptDirectives:
        """Return what the script's ``#PBS`` lines decide; see `SchedulerBackend.check_script`."""
        self._site_options.words(spec.options)
        return self._choose(spec, script).directives

    async def submit(self, spec: JobSpec, key: SubmissionKey, script: bytes) -> NativeId:
        """Run ``qsub`` with a wrapper on its standard input; see `SchedulerBackend.submit`."""
        plan = await self.plan(spec, key, script)
        done = await self._run(plan.argv, stdin=plan.stdin, cwd=plan.cwd, mark=key)
        job_id = parse_qsub(done)
        self._logs.server = job_id.server or self._logs.server
        self._logs.remember([job_id.short])
        if job_id.is_array:
            self._arrays.add(job_id.short)
        return job_id.short

    async def plan(self, spec: JobSpec, key: SubmissionKey, script: bytes) -> SubmissionPlan:
        """Return the ``qsub``; see `PlansSubmission`."""
        await self._look_up(spec.depends_on)
        return build_qsub(
            spec,
            key,
            script,
            self._choose(spec, script),
            arrays=self._arrays.ids,
            job_shell=self._job_shell,
            site_options=self._site_options.words(spec.options),
        )

    async def find(self, key: SubmissionKey, run_as: str | None = None) -> NativeId | None:
        """Look for the key among the variables of this account's jobs, ended ones included.

        The accounting does not keep them.
        """
        listing = await self.jobs()
        found = (seen for seen in listing.observations if seen.submission_key == key)
        if (seen := next(found, None)) is not None:
            # Each job of an array carries its key.
            return NativeId(seen.array_job_id or seen.native_id)
        if any(key.encode() in record for record in self._reader.not_understood):
            reason = f"a record that holds the key {key} was not understood"
            raise OutputParseError(self._qstat, reason, b"")
        return None

    async def find_similar_ended(self, spec: JobSpec, since: datetime) -> Sequence[NativeId]:
        """Look in the accounting logs for ended jobs of this account with this name.

        Torque forgets a job's variables, and with them its key, when it forgets the job.
        """
        return await self._logs.find_similar_ended(spec, since)

    async def jobs(self) -> Listing:
        """Run one ``qstat`` for all users' jobs, each job of an array for itself.

        What a running job used so far changes with every look, and is left to `details`.
        """
        listing = await self._query()
        return replace(
            listing,
            observations=[
                seen if seen.state.is_final else replace(seen, usage=None)
                for seen in listing.observations
            ],
        )

    async def history(self, ids: Sequence[NativeId]) -> Listing:
        """Read the accounting logs; where that is not allowed, ask ``tracejob`` for each job."""
        wanted = [native_id for native_id in ids if native_id not in self._listed]
        ended = [self._listed[i] for i in ids if i in self._listed]
        kept = [seen for seen in ended if seen.state.is_final]
        gone = await self._logs.open_arrays(wanted)
        if gone:
            await self._query()
            gone.difference_update(map(str, self._listed))
        told = await self._logs.history(wanted, gone)
        return replace(told, observations=[*kept, *told.observations])

    async def details(self, ids: Sequence[NativeId]) -> Listing:
        """Run ``qstat -x`` for these jobs, or for all when there are many or an array is one."""
        if not ids:
            return Listing()
        wanted = set(ids)
        listing: Listing | None = None
        if len(ids) <= _ASKED_BY_ID and wanted.isdisjoint(self._arrays.ids):
            listing = await self._ask(build_qstat(*ids))
            missing = wanted.difference(seen.native_id for seen in listing.observations)
            if missing and await self._are_arrays(missing):
                listing = None
        listing = listing or await self._query()
        return Listing(
            observations=[seen for seen in listing.observations if seen.native_id in wanted],
            unreadable=[bad for bad in listing.unreadable if bad.native_id in wanted],
        )

    async def cancel(self, native_id: NativeId, run_as: str | None = None) -> bool:
        """Run ``qdel``. It does not say whether the job had started: the queue shows it."""
        with contextlib.suppress(WrongState):
            await self._change(("qdel",), native_id)
        return False

    async def cancel_tasks(
        self, array: NativeId, tasks: Mapping[int, NativeId], run_as: str | None = None
    ) -> Collection[NativeId]:
        """Run one ``qdel -t``; see `CancelsTasks`."""
        done = await self._run(build_qdel_tasks(array, ranges_of(tasks)))
        with contextlib.suppress(WrongState, JobNotFound):
            check_completed(done, array)
        return ()

    async def act(
        self,
        action: Action,
        native_id: NativeId,
        run_as: str | None = None,
        signal: Signal | None = None,
    ) -> None:
        """Run ``qhold``, ``qrls``, ``qrerun`` or ``qsig``.

        Raises:
            WrongState: the job to be held has started already.
        """
        await self._change(build_action(action, signal), native_id)
        if action is Action.HOLD:
            await self._undo_hold_if_started(native_id)

    async def alter(
        self,
        native_id: NativeId,
        spec: JobSpec,
        fields: frozenset[str],
        run_as: str | None = None,
    ) -> None:
        """Run ``qmove`` for another queue, and ``qalter`` for all the rest."""
        for command in build_alterations(spec, fields):
            await self._change(command, native_id, fields)

    async def _undo_hold_if_started(self, native_id: NativeId) -> None:
        """Release a job that runs: Torque takes a hold of it, and goes on with it.

        Of an array the other jobs are held.
        """
        for seen in (await self.details([native_id])).observations:
            if not (seen.state.is_queued or is_whole_array(seen)):
                with contextlib.suppress(WrongState, JobNotFound):
                    await self._change(("qrls",), native_id)
                raise WrongState("The job has started already; there is nothing to hold.")

    async def queues(self) -> Sequence[Queue]:
        """Run ``qstat -Q -f``."""
        return parse_queues(await self._cli.check_output(("qstat", "-Q", "-f"), listing=True))

    async def nodes(self) -> Sequence[Node]:
        """Run ``pbsnodes -x``."""
        return parse_pbsnodes(await self._cli.check_output(("pbsnodes", "-x"), listing=True))

    async def version(self) -> str:
        """Return what ``qstat --version`` says: ``Torque 6.1.3.h5``."""
        return f"Torque {_VERSION.sub('', await super().version())}"

    async def _run(self, argv: Sequence[str], **options: Any) -> Completed:
        """Run a command, once it is known that the commands found are Torque's.

        Another scheduler's have the same names: what they print may look like an empty queue.
        """
        if not self._is_torque:
            check_is_torque(self._qstat, await self._cli.run(("qstat", "--version")))
            self._is_torque = True
        return await self._cli.run(argv, **options)

    async def _ask(self, argv: Sequence[str]) -> Listing:
        """Run ``qstat`` for some jobs; those that it does not know are absent."""
        done = await self._run(argv, listing=True)
        if ERRORS.kind_of(done) is not ErrorKind.UNKNOWN_JOB:
            check_completed(done)
        return self._reader.read(done.stdout)

    async def _are_arrays(self, ids: Iterable[NativeId]) -> bool:
        """Look whether some of these, which are no jobs, are arrays that no listing has shown."""
        numbers = [native_id for native_id in ids if native_id.isdecimal()]
        if not numbers:
            return False
        listing = await self._ask(build_qstat(*numbers, are_arrays=True))
        return any(seen.array_job_id in numbers for seen in listing.observations)

    async def _query(self) -> Listing:
        async with self._listing:
            done = await self._run(build_qstat(), listing=True)
            check_completed(done)
            if not done.stdout.strip() and done.stderr.strip():
                raise OutputParseError(
                    self._qstat, "it listed nothing, and complained", done.stderr
                )
            listing = await asyncio.to_thread(self._reader.read, done.stdout, remember=True)
            observations = await self._arrays.complete(listing.observations)
            listing = replace(listing, observations=observations)
            self._listed = {seen.native_id: seen for seen in listing.observations}
            self._logs.remember(i for i, seen in self._listed.items() if seen.submission_key)
        return listing

    async def _look_up(self, depends_on: Sequence[Dependency]) -> None:
        """Make sure that Torque knows these jobs, and that it is known which of them are arrays.

        Raises:
            InvalidSpec: it has forgotten one.
        """
        ids = [one.native_id for one in depends_on]
        if any(native_id not in self._listed for native_id in ids):
            await self._query()
        for native_id in ids:
            if native_id not in self._listed:
                raise InvalidSpec(
                    f"Torque does not know the job {native_id} any more, so nothing can wait for "
                    "it: it has ended.",
                    field="dependsOn",
                )

    async def _change(
        self,
        command: tuple[str, ...],
        native_id: NativeId,
        fields: frozenset[str] = frozenset(),
    ) -> Completed:
        try:
            parsed = parse_job_id(native_id)
        except ValueError:
            raise JobNotFound(native_id) from None
        is_array = native_id in self._arrays.ids
        done = await self._run(build_change(command, native_id, is_array=is_array))
        if ERRORS.kind_of(done) is ErrorKind.UNKNOWN_JOB and parsed.task is None and not is_array:
            # An array that no listing has shown yet.
            done = await self._run(build_change(command, native_id, is_array=True))
        ERRORS.check_alteration(done, native_id, fields)
        check_completed(done, native_id)
        return done


def create(options: SchedulerOptions, runner: Runner, settings: TorqueSettings) -> TorqueBackend:
    """Return the backend, not started."""
    return TorqueBackend(options, runner, settings)
