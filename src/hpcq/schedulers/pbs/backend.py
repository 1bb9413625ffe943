"""PBS behind the backend contract."""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from hpcq.domain.actions import Action, Signal
from hpcq.domain.arrays import ranges_of
from hpcq.domain.errors import (
    InvalidSpec,
    JobNotFound,
    SchedulerError,
    UnsupportedCapability,
    WrongState,
)
from hpcq.domain.job_changes import CHANGEABLE
from hpcq.domain.jobs import DependencyCondition, JobSpec, NativeId, SubmissionKey
from hpcq.execution.protocol import Runner
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
from hpcq.schedulers.command_line import FIELDS, CommandLineBackend, batches
from hpcq.schedulers.pbs import parse, submit
from hpcq.schedulers.pbs.accounting import Accounting
from hpcq.schedulers.pbs.arrays import with_tasks
from hpcq.schedulers.pbs.cluster import parse_nodes, parse_queues
from hpcq.schedulers.pbs.errors import ERRORS, parse_qsub
from hpcq.schedulers.pbs.qstat import Qstat
from hpcq.schedulers.pbs.qstat_job import Record
from hpcq.schedulers.pbs.resources import has_chunks, has_memory
from hpcq.schedulers.pbs.script import OPTION_RULES, choose, tasks_of
from hpcq.schedulers.pbs.settings import PbsSettings, command_path
from hpcq.schedulers.pbs.tracejob import Tracejob
from hpcq.schedulers.pbs_family.actions import ACTIONS, build_action
from hpcq.schedulers.pbs_family.choices import Choices
from hpcq.schedulers.pbs_family.values import ID_FORMS

__all__ = ["PbsBackend", "create"]

# What depends on how a job ended.
_JUDGED = frozenset({DependencyCondition.SUCCESS, DependencyCondition.FAILURE})
_RANGES_IN_ONE_COMMAND = 500


class PbsBackend(CommandLineBackend):
    """OpenPBS 23.06 and PBS Professional, through their commands.

    Every method runs the commands named in ``docs/schedulers/pbs.md``. What a server can do is
    learnt from its answers, not from its version: two builds call themselves 23.06.06.
    """

    name = "PBS"
    errors = ERRORS
    option_rules = OPTION_RULES

    def __init__(self, options: SchedulerOptions, runner: Runner, settings: PbsSettings) -> None:
        super().__init__(options, runner)
        owner = options.environment.get("USER")
        self._resources = settings.pbs_resources
        self._environment = options.environment
        self._job_shell = options.job_shell
        self._qstat = Qstat(self._cli, owner)
        self._accounting = Accounting(options.environment, owner)
        self._listed: dict[NativeId, Record] = {}
        self._ended_tasks: dict[NativeId, Record] = {}
        self._tracejob = Tracejob(self._cli, self._qstat.arrays)

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities of PBS with the site's resources."""
        missing = set() if has_memory(self._resources) else {"memory_limit_bytes"}
        more = {"array", "project"}
        if self._resources.startswith("select="):
            more.add("exclusive")
        if has_chunks(self._resources):
            more |= {"nodes", "slots_per_node", "gpus"}
            if "mpiprocs=" not in self._resources:
                more.add("cpus_per_task")
        return Capabilities(
            id_forms=ID_FORMS,
            fields=(FIELDS | more) - missing,
            actions=ACTIONS,
            changes=frozenset(CHANGEABLE) - missing,
            removals=frozenset({"priority"}),
            accounting=True,
            memory_enforced=False,
        )

    def check_script(self, spec: JobSpec, script: bytes) -> ScriptDirectives:
        """Return what the script's ``#PBS`` lines decide; see `SchedulerBackend.check_script`."""
        self._site_options.words(spec.options)
        return self._choose(spec, script).directives

    async def submit(self, spec: JobSpec, key: SubmissionKey, script: bytes) -> NativeId:
        """Run ``qsub`` in the job's directory; see `SchedulerBackend.submit`."""
        plan = await self.plan(spec, key, script)
        done = await self._cli.run(plan.argv, stdin=plan.stdin, cwd=plan.cwd, mark=key)
        limits_tasks = spec.array is not None and spec.array.max_running is not None
        program = self._cli.locate("qsub")
        native_id, is_array = parse_qsub(done, program, limits_tasks=limits_tasks)
        if is_array:
            self._qstat.arrays.add(native_id)
            self._tracejob.expect(native_id, tasks_of(native_id, self._choose(spec, script).array))
        return native_id

    async def plan(self, spec: JobSpec, key: SubmissionKey, script: bytes) -> SubmissionPlan:
        """Return the ``qsub``; see `PlansSubmission`."""
        await self._check_dependencies(spec)
        choices = self._choose(spec, script)
        argv = submit.build_qsub(
            spec,
            choices,
            key,
            key_is_account=await self._accounting.logs() is not None,
            arrays=self._qstat.arrays,
            login_shell=self._environment.get("SHELL"),
            site_options=self._site_options.words(spec.options),
        )
        return SubmissionPlan(
            argv=argv,
            cwd=spec.working_directory,
            stdin=submit.build_stdin(spec, choices, script, self._job_shell),
        )

    def _choose(self, spec: JobSpec, script: bytes) -> Choices:
        return choose(spec, script, self._resources, self._environment)

    async def find(self, key: SubmissionKey, run_as: str | None = None) -> NativeId | None:
        """Look for the key among the jobs in the queue, the finished ones, and the accounting."""
        found = _with_key(await self._qstat.queue(), key)
        finished = None if found is not None else await self._qstat.history(())
        if finished is not None:
            found = _with_key(finished, key)
        return found or await self._accounting.find(key)

    async def find_similar_ended(self, spec: JobSpec, since: datetime) -> Sequence[NativeId]:
        """Look in the accounting logs for ended jobs of this account with this name.

        Without history PBS forgets a job's variables with the job, and its account, which the
        logs keep, may be the user's own. With history it forgets nothing so soon.
        """
        return (
            ()
            if self._qstat.keeps_history
            else await self._accounting.find_similar_ended(spec, since)
        )

    async def jobs(self) -> Listing:
        """Run one ``qstat`` for all users' jobs, array tasks included.

        Tasks that have ended while their array goes on are left to `history`.
        """
        async with self._listing:
            answer = await self._qstat.queue(remember=True)
            records = with_tasks(answer.records)
            going_on = [record for record in records if not record.is_over]
            self._listed = {record.observation.native_id: record for record in going_on}
            # Those that have ended are there as long as their array is.
            self._ended_tasks = {
                record.observation.native_id: record
                for record in records
                if record.is_over and record.observation.array_task_id is not None
            }
            self._qstat.arrays |= {seen for seen, record in self._listed.items() if record.is_array}
            self._tracejob.remember(records)
        return Listing(
            observations=[record.observation for record in going_on],
            unreadable=answer.unreadable,
        )

    async def history(self, ids: Sequence[NativeId]) -> Listing:
        """Run ``qstat -x``; without history read the accounting logs, or ask ``tracejob``."""
        gone = [native_id for native_id in dict.fromkeys(ids) if native_id not in self._listed]
        seen = [self._ended_tasks[i].complete for i in gone if i in self._ended_tasks]
        found = await self._qstat.ended([i for i in gone if i not in self._ended_tasks])
        observations = [*seen, *found.observations]
        known = {seen.native_id for seen in observations}
        missing = [native_id for native_id in gone if native_id not in known]
        accounted = await self._logged(missing) if missing else Listing()
        return Listing(
            observations=[*observations, *accounted.observations],
            unreadable=[*found.unreadable, *accounted.unreadable],
        )

    async def _logged(self, missing: Sequence[NativeId]) -> Listing:
        """Return what the logs tell of jobs that ``qstat`` does not know."""
        accounted = await self._accounting.ended(missing)
        if accounted is not None:
            return accounted
        if self._qstat.keeps_history:
            return Listing()
        return Listing(observations=await self._tracejob.ended(missing))

    async def details(self, ids: Sequence[NativeId]) -> Listing:
        """Return these jobs as the last `jobs` had them: ``qstat -f`` always prints everything."""
        if any(native_id not in self._listed for native_id in ids):
            await self.jobs()
        listed = (self._listed.get(native_id) for native_id in ids)
        return Listing(observations=[record.complete for record in listed if record is not None])

    async def cancel(self, native_id: NativeId, run_as: str | None = None) -> bool:
        """Run ``qdel``; it is silent, so what became of the job is seen later."""
        with contextlib.suppress(WrongState):
            await self._change(("qdel",), native_id)
        return False

    async def cancel_tasks(
        self, array: NativeId, tasks: Mapping[int, NativeId], run_as: str | None = None
    ) -> Collection[NativeId]:
        """Run one ``qdel`` for up to 500 ranges of tasks; see `CancelsTasks`."""
        for ranges in batches(ranges_of(tasks), _RANGES_IN_ONE_COMMAND):
            done = await self._cli.run(submit.build_qdel_tasks(array, ranges))
            with contextlib.suppress(WrongState, JobNotFound):
                ERRORS.check(done, array)
        return ()

    async def act(
        self,
        action: Action,
        native_id: NativeId,
        run_as: str | None = None,
        signal: Signal | None = None,
    ) -> None:
        """Run ``qhold``, ``qrls``, ``qrerun`` or ``qsig``.

        A running job goes on when held, and is held if it is put back; one that has ended meanwhile
        has no hold to release.

        Raises:
            UnsupportedCapability: a task is to be held or released; PBS does so with whole arrays
                alone (qhold(1B)).
        """
        if action in (Action.HOLD, Action.RELEASE) and "[" in native_id:
            raise UnsupportedCapability(
                action.value,
                self.name,
                f"PBS can {action} a whole array, not one of its tasks.",
            )
        harmless = (WrongState,) if action is Action.RELEASE else ()
        with contextlib.suppress(*harmless):
            await self._change(build_action(action, signal), native_id)

    async def alter(
        self,
        native_id: NativeId,
        spec: JobSpec,
        fields: frozenset[str],
        run_as: str | None = None,
    ) -> None:
        """Run ``qmove`` for another queue, and ``qalter`` for all the rest; ``qstat`` around them.

        What is listed then tells what came of it.
        """
        await self.jobs()
        record = self._listed.get(native_id)
        if record is None:
            raise JobNotFound(native_id)
        if not record.observation.state.is_queued:
            raise WrongState("The job does not wait in the queue any more.")
        try:
            for command in submit.build_alterations(spec, fields, record.select):
                await self._change(command, native_id, fields)
        finally:
            with contextlib.suppress(SchedulerError):
                await self.jobs()

    async def queues(self) -> Sequence[Queue]:
        """Run ``qstat -Q -f``."""
        return parse_queues(await self._cli.check_output(("qstat", "-Q", "-f"), listing=True))

    async def nodes(self) -> Sequence[Node]:
        """Run ``pbsnodes -a``."""
        return parse_nodes(await self._cli.check_output(("pbsnodes", "-a"), listing=True))

    async def _change(
        self,
        command: Sequence[str],
        native_id: NativeId,
        fields: frozenset[str] = frozenset(),
    ) -> None:
        """Run a command on one job; once more with brackets if that is an array's way to exist."""
        arrays = self._qstat.arrays
        done = await self._cli.run((*command, submit.job_word(native_id, arrays)))
        could_be_array = native_id.isdigit() and native_id not in arrays
        if could_be_array and ERRORS.kind_of(done) is ErrorKind.UNKNOWN_JOB:
            again = await self._cli.run((*command, submit.job_word(native_id, {native_id})))
            if ERRORS.kind_of(again) is not ErrorKind.UNKNOWN_JOB:
                arrays.add(native_id)
                done = again
        ERRORS.check_alteration(done, native_id, fields)

    async def _check_dependencies(self, spec: JobSpec) -> None:
        """Make sure that what a job waits for is still known to PBS.

        PBS takes a job that waits for one that it has forgotten, and deletes it at once.

        Raises:
            InvalidSpec: one has ended, and the server keeps no history.
        """
        wanted = [dependency.native_id for dependency in spec.depends_on]
        if any(native_id not in self._listed for native_id in wanted):
            await self.jobs()
        for dependency in spec.depends_on:
            judged = dependency.condition in _JUDGED
            if judged and dependency.native_id in self._qstat.arrays:
                raise InvalidSpec(
                    f"The job {dependency.native_id} is an array, and PBS takes an array for a"
                    " success when the task that ended last was one, although others failed: a job"
                    " could wait for it in vain, or not at all. Wait for its end (any), or for its"
                    " start (started).",
                    field="dependsOn",
                )
        gone = [native_id for native_id in wanted if native_id not in self._listed]
        if not gone:
            return
        finished = await self._qstat.ended(gone)
        known = {seen.native_id for seen in finished.observations} | self._ended_tasks.keys()
        for native_id in gone:
            if native_id not in known:
                raise InvalidSpec(
                    f"The job {native_id} has ended, and PBS knows nothing of it any more: a job"
                    " that waits for it would be deleted. Submit it again.",
                    field="dependsOn",
                )


def create(options: SchedulerOptions, runner: Runner, settings: PbsSettings) -> PbsBackend:
    """Return the backend, not started."""
    path = command_path(options.command_path, options.environment)
    return PbsBackend(replace(options, command_path=path), runner, settings)


def _with_key(answer: parse.Answer, key: SubmissionKey) -> NativeId | None:
    """Return the job that carries the key; the tasks of an array carry that of the whole."""
    for record in answer.records:
        seen = record.observation
        if seen.submission_key == key and seen.array_task_id is None:
            return seen.native_id
    return None
