"""Backend of Slurm."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from hpcq.domain.actions import Action, Signal
from hpcq.domain.errors import CommandTimedOut, JobNotFound, SchedulerError, WrongState
from hpcq.domain.ids import IdForm
from hpcq.domain.job_changes import CHANGEABLE
from hpcq.domain.jobs import JobSpec, NativeId, SubmissionKey, Usage
from hpcq.execution.protocol import Completed, Runner
from hpcq.schedulers.abilities import Mistake, SubmissionPlan
from hpcq.schedulers.base import (
    Capabilities,
    Listing,
    Node,
    Queue,
    SchedulerOptions,
    ScriptDirectives,
)
from hpcq.schedulers.command_errors import ErrorKind
from hpcq.schedulers.command_line import (
    FIELDS,
    CommandLineBackend,
    ParseCache,
    batches,
    join_listings,
)
from hpcq.schedulers.slurm import (
    cluster,
    commands,
    errors,
    fields,
    parse,
    usage,
)
from hpcq.schedulers.slurm.arrays import ArraySummaries
from hpcq.schedulers.slurm.history import History, combine
from hpcq.schedulers.slurm.script import OPTION_RULES
from hpcq.schedulers.slurm.settings import SlurmSettings
from hpcq.schedulers.slurm.submit import (
    build_sbatch,
    build_trial,
    build_update,
    directives_of,
)

__all__ = ["SlurmBackend", "create"]

_ID_FORMS = (
    IdForm(re.compile(r"([0-9]+(?:[_+][0-9]+)?)")),
    # An array's tasks that wait, as squeue prints them without --array.
    IdForm(re.compile(r"([0-9]+)_\[[0-9,:%.-]+\]"), is_array=True),
)
_FIELDS = frozenset({"nodes", "slots_per_node", "cpus_per_task", "gpus", "exclusive"})
_FIELDS |= {"array", "qos", "reservation", "constraints", "run_as"}
_CAPABILITIES = Capabilities(
    id_forms=_ID_FORMS,
    fields=FIELDS | _FIELDS,
    actions=frozenset(Action),
    changes=frozenset(CHANGEABLE),
    removals=frozenset({"priority"}),
    accounting=True,
    memory_enforced=True,
    task_id="{array}_{task}",
)
# Of an array some of whose tasks are over scontrol says so of each, and exits with 1 (seen in
# 22.05): "12_1: Job has already finished", "12_3,5: No error".
_SOME_TASKS_DONE = re.compile(rb"^[0-9]+_[0-9,:\[\]-]+: No error$", re.MULTILINE)
_IDS_IN_ONE_COMMAND = 1000


# Recent versions print (null).
_NO_ACCOUNTING = re.compile(
    rb"^AccountingStorageType\s*=\s*(accounting_storage/none|\(null\))", re.M
)


class SlurmBackend(CommandLineBackend):
    """Slurm 20.11 and newer, through its commands.

    Every method runs the commands named in ``docs/schedulers/slurm.md``.
    """

    name = "SLURM"
    capabilities = _CAPABILITIES
    errors = errors.ERRORS
    option_rules = OPTION_RULES
    version_command = ("squeue", "--version")

    def __init__(self, options: SchedulerOptions, runner: Runner) -> None:
        super().__init__(options, runner)
        self._timeout_seconds = options.command_timeout_seconds
        self._owner = options.environment.get("USER")
        self._account_environment = options.account_environment_of
        known = options.environment
        self._configuration = {n: known[n] for n in ("SLURM_CONF",) if n in known}
        self._interpreter = options.job_shell or "/bin/bash"
        self._marks = commands.new_marks()
        self._cache = ParseCache(partial(parse.parse_record, marks=self._marks))
        self._arrays = ArraySummaries()
        self._history = History(self._cli, self._marks, self._arrays)

    async def check_submission(self) -> None:
        """Run ``sbatch --test-only``; see `ChecksSubmission`."""
        built = build_trial(self._account_environment(None))
        errors.check_trial(await self._sbatch(built))

    async def examine(self) -> Mistake | None:
        """Run ``scontrol show config`` and look for the accounting; see `ExaminesSite`."""
        shown = await self._cli.check_output(("scontrol", "show", "config"))
        if _NO_ACCOUNTING.search(shown) is None:
            return None
        return Mistake(
            "Slurm keeps no accounting: once it has forgotten a job (MinJobAge), nobody can tell "
            "how it ended, nor what it used.",
            "Run slurmdbd, set AccountingStorageType=accounting_storage/slurmdbd in slurm.conf, "
            "and restart slurmctld.",
        )

    def check_script(self, spec: JobSpec, script: bytes) -> ScriptDirectives:
        """Read the script's ``#SBATCH`` lines; see `SchedulerBackend.check_script`."""
        self._site_options.words(spec.options)
        return directives_of(spec, script, self._account_environment(spec.run_as))

    async def submit(self, spec: JobSpec, key: SubmissionKey, script: bytes) -> NativeId:
        """Run ``sbatch``; see `SchedulerBackend.submit`."""
        plan = await self.plan(spec, key, script)
        try:
            done = await self._sbatch(plan, key, spec.run_as)
        except CommandTimedOut as error:
            errors.raise_timeout(error)
        errors.check_submission(done, self._timeout_seconds, spec)
        return parse.parse_job_id(done.stdout)

    async def plan(self, spec: JobSpec, key: SubmissionKey, script: bytes) -> SubmissionPlan:
        """Return the ``sbatch``; see `PlansSubmission`."""
        account = self._account_environment(spec.run_as)
        return build_sbatch(
            spec,
            key,
            script,
            account=account,
            interpreter=self._interpreter,
            site_options=self._site_options.words(spec.options),
        )

    async def find(self, key: SubmissionKey, run_as: str | None = None) -> NativeId | None:
        """Look for the key among the account's jobs: in the queue, then in accounting."""
        return await self._history.find(key, self._owner, run_as)

    async def jobs(self) -> Listing:
        """Run one ``squeue`` for all users' jobs, pending ones and array tasks included."""
        argv, environment = commands.build_listing(self._marks)
        async with self._listing:
            stdout = await self._cli.check_output(argv, extra_environment=environment, listing=True)
            listing = await asyncio.to_thread(parse.parse_listing, stdout, self._marks, self._cache)
            return replace(listing, observations=self._arrays.add(listing.observations))

    async def history(self, ids: Sequence[NativeId]) -> Listing:
        """Run ``sacct``, and ``squeue`` for what the controller still knows of ended jobs."""
        return await _in_batches(ids, self._history.ends)

    async def ended(self, ids: Sequence[NativeId]) -> Listing:
        """Run ``squeue`` for what the controller still knows of ended jobs."""
        seen = await _in_batches(ids, self._history.controller)
        return combine(Listing(), seen)

    async def details(self, ids: Sequence[NativeId]) -> Listing:
        """Run ``squeue`` with all columns, and ``sstat`` for the usage of those that run."""
        return await _in_batches(ids, self._details)

    async def cancel(self, native_id: NativeId, run_as: str | None = None) -> bool:
        """Run ``scancel``; accounting tells whether the job had begun."""
        done = await self._scancel(commands.build_scancel(native_id), native_id, run_as)
        kind = self.errors.kind_of(done)
        if kind is ErrorKind.UNKNOWN_JOB:
            # The controller forgets jobs MinJobAge after their end; accounting does not.
            accounted = await self._history.accounted([native_id])
            if not accounted.listing.observations and not accounted.unfinished:
                raise JobNotFound(native_id)
        elif kind is not ErrorKind.WRONG_STATE:
            self.errors.check(done, native_id)
        return False

    async def cancel_tasks(
        self, array: NativeId, tasks: Mapping[int, NativeId], run_as: str | None = None
    ) -> Collection[NativeId]:
        """Run one ``scancel``; see `CancelsTasks`.

        It ends those that it can, and complains about those that are over (seen in 22.05).
        """
        argv = commands.build_scancel_tasks(array, tasks)
        done = await self._scancel(argv, array, run_as)
        if self.errors.kind_of(done) not in (ErrorKind.UNKNOWN_JOB, ErrorKind.WRONG_STATE):
            self.errors.check(done, array)
        return ()

    async def _scancel(
        self, argv: Sequence[str], native_id: NativeId, run_as: str | None
    ) -> Completed:
        done = await self._change(argv, native_id, run_as)
        if b"error:" in done.stderr:
            # scancel --verbose also exits with 0 when it failed.
            done = replace(done, exit_code=done.exit_code or 1)
        return done

    async def act(
        self,
        action: Action,
        native_id: NativeId,
        run_as: str | None = None,
        signal: Signal | None = None,
    ) -> None:
        """Run ``scontrol``, or ``scancel`` for a signal."""
        argv = commands.build_action(action, native_id, signal)
        try:
            done = await self._change(argv, native_id, run_as)
        except CommandTimedOut as error:
            # scancel asks again and again until a job runs that waits or is suspended.
            if b"in transitional state" in error.stderr:
                raise WrongState("The job does not run, so no signal reaches it.") from None
            raise
        # `scontrol suspend` and `resume` of an unknown job, or without a controller (22.05).
        is_unclear = b"Unexpected message received" in done.stderr
        if is_unclear and not (await self.details([native_id])).observations:
            raise JobNotFound(native_id)
        if _SOME_TASKS_DONE.search(done.stderr) is None:
            self.errors.check(done, native_id)

    async def alter(
        self,
        native_id: NativeId,
        spec: JobSpec,
        fields: frozenset[str],
        run_as: str | None = None,
    ) -> None:
        """Run one ``scontrol update``; see `AltersJobs`.

        Raises:
            WrongState: the job is held and its priority is to change. Slurm gives a held job a
                priority when its ``Nice`` changes, and so releases it (``_update_job`` in
                job_mgr.c; seen in 22.05).
        """
        if "priority" in fields:
            seen = (await self.details([native_id])).observations
            if any(job.state.is_held for job in seen):
                raise WrongState(
                    "Slurm would release a held job whose priority changes. Change the priority"
                    " before the job is held, or once it is released."
                )
        done = await self._change(build_update(native_id, spec, fields), native_id, run_as)
        self.errors.check_alteration(done, native_id, fields)

    async def queues(self) -> Sequence[Queue]:
        """Run ``sinfo`` for partitions."""
        return cluster.parse_queues(
            await self._cli.check_output(commands.build_queues(), listing=True)
        )

    async def nodes(self) -> Sequence[Node]:
        """Run ``sinfo`` for nodes."""
        return cluster.parse_nodes(
            await self._cli.check_output(commands.build_nodes(), listing=True)
        )

    async def _sbatch(
        self, plan: SubmissionPlan, mark: str = "", run_as: str | None = None
    ) -> Completed:
        # The job inherits the environment: no mark of ours may stand in it.
        return await self._cli.run(
            plan.argv,
            stdin=plan.stdin,
            mark=mark,
            run_as=run_as,
            cwd=plan.cwd,
            whole_environment={**(plan.environment or {}), **self._configuration},
        )

    async def _change(
        self, argv: Sequence[str], native_id: NativeId, run_as: str | None
    ) -> Completed:
        if not fields.is_job_id(native_id):
            raise JobNotFound(native_id)
        return await self._cli.run(argv, run_as=run_as)

    async def _details(self, ids: Sequence[NativeId]) -> Listing:
        stdout = await self._history.squeue(ids, finished=False)
        listing = parse.parse_details(stdout, self._marks)
        numbers = parse.raw_ids(stdout, self._marks)
        running = {seen.native_id for seen in listing.observations if seen.start_time}
        used = await self._usage({raw: i for raw, i in numbers.items() if i in running})
        observations = [
            replace(seen, usage=used[seen.native_id]) if seen.native_id in used else seen
            for seen in listing.observations
        ]
        return replace(listing, observations=self._arrays.complete(ids, observations))

    async def _usage(self, ids: Mapping[str, NativeId]) -> Mapping[NativeId, Usage]:
        """Ask the nodes; jobs on nodes that do not answer have no usage, and keep the rest."""
        if not ids:
            return {}
        try:
            argv = commands.build_usage([NativeId(raw) for raw in ids])
            done = await self._cli.run(argv, listing=True)
        except SchedulerError:
            return {}
        return usage.parse_usage(done.stdout, ids, datetime.now(UTC))


def create(options: SchedulerOptions, runner: Runner, settings: SlurmSettings) -> SlurmBackend:
    """Return the backend, not started."""
    return SlurmBackend(options, runner)


async def _in_batches(
    ids: Iterable[NativeId], ask: Callable[[Sequence[NativeId]], Awaitable[Listing]]
) -> Listing:
    """Ask for those of the ids that Slurm can have, as many at a time as one command takes."""
    possible = filter(fields.is_job_id, ids)
    return join_listings([await ask(some) for some in batches(possible, _IDS_IN_ONE_COMMAND)])
