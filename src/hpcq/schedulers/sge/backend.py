"""Backend of Grid Engine."""

import asyncio
import contextlib
import fnmatch
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from hpcq.domain.actions import Action, Signal
from hpcq.domain.arrays import is_whole_array, ranges_of
from hpcq.domain.errors import InvalidSpec, JobNotFound, SchedulerError
from hpcq.domain.ids import IdForm
from hpcq.domain.job_changes import CHANGEABLE
from hpcq.domain.jobs import JobSpec, NativeId, SubmissionKey
from hpcq.domain.outputs import default_name
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
from hpcq.schedulers.command_line import FIELDS, CommandLineBackend, batches
from hpcq.schedulers.sge.actions import ACTIONS, build_change, build_qalter, build_qdel_tasks
from hpcq.schedulers.sge.cluster import parse_qhost_xml, parse_queue_limits, parse_queue_summary
from hpcq.schedulers.sge.errors import ERRORS, check_qmod, never_ran, parse_qsub, tasks_never_run
from hpcq.schedulers.sge.history import History, accounting_path
from hpcq.schedulers.sge.names import acceptable_name, job_numbers
from hpcq.schedulers.sge.outputs import place_outputs
from hpcq.schedulers.sge.parse import with_arrays
from hpcq.schedulers.sge.qstat import Qstat
from hpcq.schedulers.sge.resources import LIMITS, Complexes, build_requests
from hpcq.schedulers.sge.script import OPTION_RULES, directive_lines, read_options
from hpcq.schedulers.sge.settings import SgeSettings
from hpcq.schedulers.sge.states import is_in_error
from hpcq.schedulers.sge.submit import build_qsub
from hpcq.schedulers.sge.wrapper_script import build_wrapper

__all__ = ["SgeBackend", "create"]

_RANGES_IN_ONE_COMMAND = 500

_ID_FORMS = (
    IdForm(re.compile(r"([0-9]+(?:\[[0-9]+\])?)")),
    # The commands' own word for a task, and what qsub -terse prints for an array.
    IdForm(re.compile(r"([0-9]+)\.([0-9]+)"), r"\1[\2]"),
    IdForm(re.compile(r"([0-9]+)\.[0-9]+-[0-9]+:[0-9]+"), is_array=True),
)
_CAPABILITIES = Capabilities(
    id_forms=_ID_FORMS,
    fields=FIELDS | {"array", "project", "reservation", "run_as"},
    actions=frozenset(ACTIONS),
    changes=frozenset(CHANGEABLE),
    removals=frozenset({"priority", *LIMITS}),
    accounting=True,
    memory_enforced=True,
)


class SgeBackend(CommandLineBackend):
    """Grid Engine: Son of Grid Engine 8.1, OGS/GE 2011.11, Sun Grid Engine 6.2.

    Every method runs the commands named in ``docs/schedulers/sge.md``.
    """

    name = "SGE"
    errors = ERRORS
    option_rules = OPTION_RULES
    version_command = ("qstat", "-help")

    def __init__(self, options: SchedulerOptions, runner: Runner, settings: SgeSettings) -> None:
        super().__init__(options, runner)
        self._parallel_environment = settings.sge_parallel_environment
        self._complexes = Complexes(
            exclusive=settings.sge_exclusive_complex, gpus=settings.sge_gpu_complex
        )
        self._job_shell = options.job_shell
        self._account_environment = options.account_environment_of
        self._history = History(self._cli, accounting_path(options.environment), _now)
        self._qstat = Qstat(
            self._cli, lambda before, now: self._history.departures.note(before, now, _now())
        )

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities of Grid Engine with the site's complexes."""
        known = {name for name in ("exclusive", "gpus") if getattr(self._complexes, name)}
        return replace(_CAPABILITIES, fields=_CAPABILITIES.fields | known)

    async def stop(self) -> None:
        """Let go of the accounting file."""
        await asyncio.to_thread(self._history.accounting.close)

    async def examine(self) -> Mistake | None:
        """Run ``qconf -spl`` and look for the parallel environment; see `ExaminesSite`."""
        shown = await self._cli.check_output(("qconf", "-spl"))
        known = shown.decode("utf-8", "replace").split()
        if fnmatch.filter(known, self._parallel_environment):
            return None
        name = self._parallel_environment
        return Mistake(
            f"Grid Engine has no parallel environment {name!r}: it takes no job with several "
            "slots.",
            f"Set SGE_PARALLEL_ENVIRONMENT to one of those that `qconf -spl` lists "
            f"({', '.join(known) or 'there is none'}), or make it: qconf -ap {name}.",
        )

    def check_script(self, spec: JobSpec, script: bytes) -> ScriptDirectives:
        """Return what the script's ``#$`` lines decide; see `SchedulerBackend.check_script`."""
        self._site_options.words(spec.options)
        build_requests(spec, self._complexes)
        options = read_options(script).with_array(spec.array)
        stem = acceptable_name(spec.name or options.name or default_name(spec.working_directory))
        stdout, stderr = place_outputs(spec, stem, options, self._account_environment(spec.run_as))
        return ScriptDirectives(
            name=options.name, stdout=stdout, stderr=stderr, task_suffix=options.task_suffix
        )

    async def submit(self, spec: JobSpec, key: SubmissionKey, script: bytes) -> NativeId:
        """Run ``qsub`` in the job's directory; see `SchedulerBackend.submit`."""
        plan = await self.plan(spec, key, script)
        done = await self._cli.run(
            plan.argv, stdin=plan.stdin, cwd=plan.cwd, mark=key, run_as=spec.run_as
        )
        try:
            return parse_qsub(done, asks_array=spec.array is not None)
        except InvalidSpec as error:
            if error.field == "account" and spec.account is None and spec.project is not None:
                raise InvalidSpec(error.detail, field="project") from None
            raise

    async def plan(self, spec: JobSpec, key: SubmissionKey, script: bytes) -> SubmissionPlan:
        """Return the ``qsub``; see `PlansSubmission`."""
        submission = build_qsub(
            spec,
            key,
            script,
            parallel_environment=self._parallel_environment,
            complexes=self._complexes,
            job_shell=self._job_shell,
            site_options=self._site_options.words(spec.options),
        )
        wrapped = submission.wrapped
        return SubmissionPlan(
            argv=submission.argv,
            cwd=spec.working_directory,
            stdin=b"" if wrapped is None else build_wrapper(script, wrapped),
            directives=directive_lines(script),
        )

    async def find(self, key: SubmissionKey, run_as: str | None = None) -> NativeId | None:
        """Look for the key in the queue, newest jobs first, then in the accounting.

        Raises:
            OutputParseError: it may stand in what cannot be read.
        """
        found = await self._qstat.find(key, run_as)
        return found or await self._history.find(key, run_as)

    async def jobs(self) -> Listing:
        """Run one ``qstat``, and one ``qstat -j`` for jobs that came into the error state."""
        return await self._qstat.queue()

    async def history(self, ids: Sequence[NativeId]) -> Listing:
        """Read the accounting file, or run ``qacct -j`` for each job where it is not readable.

        An array comes with its tasks.
        """
        numbers = job_numbers(ids)
        with contextlib.suppress(SchedulerError):
            await self._qstat.require_listing()
        listed = self._qstat.listed
        ends, unreadable, late = await self._history.ends(numbers)
        arrays = {seen.array_job_id for seen in ends if seen.array_job_id is not None}
        late |= await self._qstat.still_there(arrays & set(ids))
        return Listing(
            observations=[
                seen
                for seen in with_arrays(ends)
                if (seen.native_id in ids or seen.array_job_id in ids)
                and seen.native_id not in listed
                and not (is_whole_array(seen) and seen.native_id in late)
            ],
            unreadable=unreadable,
        )

    async def details(self, ids: Sequence[NativeId]) -> Listing:
        """Run ``qstat -j`` for up to 500 jobs at a time, and ask who holds those that are held."""
        return await self._qstat.details(ids)

    async def cancel(self, native_id: NativeId, run_as: str | None = None) -> bool:
        """Run ``qdel``; return whether the job was still waiting, and so leaves no record.

        One in the error state may have been started before it got there.
        """
        seen = self._qstat.listed.get(native_id)
        if not never_ran(await self._change(("qdel",), native_id, run_as)):
            return False
        if seen is None or is_in_error(seen.native_state):
            return not await self._history.has_run(native_id)
        return True

    async def cancel_tasks(
        self, array: NativeId, tasks: Mapping[int, NativeId], run_as: str | None = None
    ) -> Collection[NativeId]:
        """Run one ``qdel`` for up to 500 ranges of tasks; see `CancelsTasks`.

        It ends those that it can, and complains about those that are over (seen in 8.1.9).
        """
        listed, never_began = self._qstat.listed, set[NativeId]()
        for words in batches(ranges_of(tasks), _RANGES_IN_ONE_COMMAND):
            done = await self._cli.run(build_qdel_tasks(array, words), run_as=run_as)
            if ERRORS.kind_of(done) is not ErrorKind.UNKNOWN_JOB:
                ERRORS.check(done, array)
            for native_id in (tasks[number] for number in tasks.keys() & tasks_never_run(done)):
                seen = listed.get(native_id) or listed.get(array)
                is_doubtful = seen is None or is_in_error(seen.native_state)
                if not is_doubtful or not await self._history.has_run(native_id):
                    never_began.add(native_id)
        return never_began

    async def act(
        self,
        action: Action,
        native_id: NativeId,
        run_as: str | None = None,
        signal: Signal | None = None,
    ) -> None:
        """Run ``qhold`` or ``qrls`` for a user's hold, else ``qmod``."""
        done = await self._change(ACTIONS[action], native_id, run_as)
        check_qmod(done)

    async def alter(
        self,
        native_id: NativeId,
        spec: JobSpec,
        fields: frozenset[str],
        run_as: str | None = None,
    ) -> None:
        """Run one ``qalter``; for a limit, ``qstat -j`` tells the other resources before."""
        requests: Mapping[str, str] = {}
        if fields & LIMITS.keys():
            requests = await self._qstat.requests(native_id)
        await self._change(build_qalter(spec, fields, requests), native_id, run_as, fields)

    async def queues(self) -> Sequence[Queue]:
        """Run ``qstat -g c``, and ``qconf -sq`` for their time limits where that is allowed."""
        output = await self._cli.check_output(("qstat", "-g", "c", "-xml"), listing=True)
        names = [queue.name for queue in parse_queue_summary(output, {})]
        limits: dict[str, int] = {}
        if names:
            shown = await self._cli.run(("qconf", "-sq", ",".join(names)), listing=True)
            limits = parse_queue_limits(shown.stdout) if shown.exit_code == 0 else {}
        return parse_queue_summary(output, limits)

    async def nodes(self) -> Sequence[Node]:
        """Run ``qhost -q``."""
        return parse_qhost_xml(await self._cli.check_output(("qhost", "-q", "-xml"), listing=True))

    async def _change(
        self,
        command: tuple[str, ...],
        native_id: NativeId,
        run_as: str | None,
        fields: frozenset[str] = frozenset(),
    ) -> Completed:
        try:
            argv = build_change(command, native_id)
        except ValueError:
            raise JobNotFound(native_id) from None
        done = await self._cli.run(argv, run_as=run_as)
        ERRORS.check_alteration(done, native_id, fields)
        return done


def create(options: SchedulerOptions, runner: Runner, settings: SgeSettings) -> SgeBackend:
    """Return the backend, not started."""
    return SgeBackend(options, runner, settings)


def _now() -> datetime:
    return datetime.now(UTC)
