"""PBS behind the backend contract."""

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hpcq.domain.errors import (
    CommandFailed,
    CommandMissing,
    InvalidSpec,
    OutputParseError,
    SchedulerError,
    WrongState,
)
from hpcq.domain.jobs import JobSpec, NativeId, Observation, SubmissionKey
from hpcq.execution.leftovers import marked
from hpcq.execution.protocol import Completed, Runner
from hpcq.schedulers.base import Capabilities, Listing, Node, Queue, SchedulerOptions, Unreadable
from hpcq.schedulers.cli import CommandLine
from hpcq.schedulers.pbs import answers, commands, parse
from hpcq.schedulers.pbs.accounting import accounting_folder, parse_accounting
from hpcq.schedulers.pbs.cluster import parse_nodes, parse_queues
from hpcq.schedulers.pbs.conf import command_path
from hpcq.schedulers.pbs.records import Record, whole_of
from hpcq.schedulers.pbs.trace import parse_tracejob
from hpcq.schedulers.pbs_family.accounting import AccountingLogs, parse_accounting_line
from hpcq.schedulers.pbs_family.values import parse_job_id

__all__ = ["PbsBackend", "create"]

_IDS_IN_ONE_COMMAND = 500
_ASKED_ALONE = 10
"""So many jobs of which an answer tells twice are asked about one by one."""
_FIELDS = frozenset(
    {
        "queue",
        "account",
        "priority",
        "wall_time_limit_seconds",
        "environment",
        "stdout_path",
        "stderr_path",
        "hold",
        "depends_on",
        "array",
    }
)
_OTHER_CLOCK = timedelta(minutes=10)
"""The server's may be so far away from ours."""
_TRACED_AT_ONCE = 2
_TRACED_DAYS = 7
_HISTORY_ASKED_AGAIN_SECONDS = 600.0
_NO_LIMIT_OF_TASKS = re.compile(rb"illegal -J value|illegal -W value|max_run_subjobs")


class PbsBackend:
    """OpenPBS 23.06 and PBS Professional, through their commands.

    Every method runs the commands named in ``docs/schedulers/pbs.md``. What a server can do is
    learnt from its answers, not from its version: two builds that call themselves 23.06.06 print
    different JSON.
    """

    name = "PBS"

    def __init__(self, options: SchedulerOptions, runner: Runner) -> None:
        self._cli = CommandLine(options, runner)
        self._owner = options.environment.get("USER")
        self._environment = options.environment
        self._resources = options.pbs_resources
        self._reader = parse.Reader(self._owner)
        self._listing = asyncio.Lock()
        self._listed: dict[NativeId, Record] = {}
        self._ended_tasks: dict[NativeId, Record] = {}
        self._arrays: set[NativeId] = set()
        self._prints_json = True
        self._groups_ids = True
        self._no_history_until = 0.0
        self._logs: AccountingLogs | None = None
        self._tracing = asyncio.Semaphore(_TRACED_AT_ONCE)
        self._traces = True

    @property
    def capabilities(self) -> Capabilities:
        """What PBS can express with the site's resources."""
        memory = {"memory_limit_bytes"} if commands.has_memory(self._resources) else set()
        return Capabilities(
            fields=_FIELDS | memory,
            actions=frozenset({"hold", "release"}),
            accounting=True,
            memory_enforced=False,
        )

    async def start(self, wake: Callable[[], None]) -> None:
        """Do nothing: PBS tells nobody when its queue changes."""

    async def stop(self) -> None:
        """Do nothing."""

    async def submit(self, spec: JobSpec, key: SubmissionKey) -> NativeId:
        """Run ``qsub`` in the job's directory; see `SchedulerBackend.submit`."""
        await self._check_dependencies(spec)
        script = await _read_script(spec.script_file)
        argv = commands.build_qsub(
            spec,
            key,
            script,
            resources=self._resources,
            key_is_account=await self._accounting() is not None,
            arrays=self._arrays,
        )
        done = await self._cli.run(
            argv,
            stdin=commands.build_stdin(spec, script),
            cwd=spec.working_directory,
            extra_environment=marked(key),
        )
        try:
            native_id, is_array = answers.parse_qsub(done)
        except CommandFailed as error:
            limited = spec.array is not None and spec.array.max_running is not None
            if limited and _NO_LIMIT_OF_TASKS.search(done.stderr):
                raise InvalidSpec(
                    "This PBS cannot limit how many tasks of an array run at the same time"
                    f" (releases before 2020 cannot): {error.scheduler_message}",
                    field="array.maxRunning",
                ) from error
            raise
        if is_array:
            self._arrays.add(native_id)
        return native_id

    async def find(self, key: SubmissionKey) -> NativeId | None:
        """Look for the key among the jobs in the queue, the finished ones, and the accounting."""
        found = _with_key(await self._qstat(), key)
        finished = None if found is not None else await self._history_of(())
        if finished is not None:
            found = _with_key(finished, key)
        logs = await self._accounting()
        if found is None and logs is not None:
            found = await asyncio.to_thread(_find_account, logs, key)
        return found

    async def lookalikes(self, spec: JobSpec, since: datetime) -> Sequence[NativeId]:
        """Look in the accounting logs for ended jobs of this account with this name.

        Without history PBS forgets a job's variables with the job, and its account, which the
        logs keep, may be the user's own. With history it forgets nothing so soon.
        """
        logs = None if self._keeps_history else await self._accounting()
        if logs is None:
            return ()
        mark = f" jobname={commands.acceptable_name(spec.name)} ".encode()
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

    async def jobs(self) -> Listing:
        """Run one ``qstat`` for all users' jobs, array tasks included.

        Tasks that have ended while their array goes on are left to `history`.
        """
        async with self._listing:
            answer = await self._qstat(remember=True)
            self._listed = {
                record.observation.native_id: record
                for record in answer.records
                if not record.is_over
            }
            # Those that have ended are there as long as their array is.
            self._ended_tasks = {
                record.observation.native_id: record
                for record in answer.records
                if record.is_over and record.observation.array_task_id is not None
            }
            self._arrays |= {seen for seen, record in self._listed.items() if record.is_array}
        return answer.listing(over=False)

    async def history(self, ids: Sequence[NativeId]) -> Listing:
        """Run ``qstat -x``; without history read the accounting logs, or ask ``tracejob``."""
        gone = [native_id for native_id in dict.fromkeys(ids) if native_id not in self._listed]
        seen = [self._ended_tasks[i].complete for i in gone if i in self._ended_tasks]
        found = await self._finished([i for i in gone if i not in self._ended_tasks])
        observations = [*seen, *found.observations]
        known = {seen.native_id for seen in observations}
        missing = [native_id for native_id in gone if native_id not in known]
        logs = await self._accounting() if missing else None
        accounted = Listing()
        if logs is not None:
            accounted = await _accounted(logs, missing)
        elif not self._keeps_history:
            traced = await asyncio.gather(*map(self._trace, missing))
            accounted = Listing(observations=[seen for seen in traced if seen is not None])
        return Listing(
            observations=[*observations, *accounted.observations],
            unreadable=[*found.unreadable, *accounted.unreadable],
        )

    async def details(self, ids: Sequence[NativeId]) -> Listing:
        """Return what the last `jobs` told of these: ``qstat -f`` always tells everything."""
        if any(native_id not in self._listed for native_id in ids):
            await self.jobs()
        listed = (self._listed.get(native_id) for native_id in ids)
        return Listing(observations=[record.complete for record in listed if record is not None])

    async def cancel(self, native_id: NativeId) -> bool:
        """Run ``qdel``; it is silent, so what became of the job is seen later."""
        done = await self._change("qdel", native_id)
        if not answers.is_past_changing(done):
            answers.check_change(done, native_id)
        return False

    async def hold(self, native_id: NativeId) -> None:
        """Run ``qhold``: a user's hold. A running job goes on, and is held if it is put back."""
        done = await self._change("qhold", native_id)
        if answers.is_past_changing(done):
            raise WrongState(f"The job {native_id} has ended, or is about to.")
        answers.check_change(done, native_id)

    async def release(self, native_id: NativeId) -> None:
        """Run ``qrls``: lifts a user's hold; a job that has ended meanwhile has none."""
        done = await self._change("qrls", native_id)
        if not answers.is_past_changing(done):
            answers.check_change(done, native_id)

    async def queues(self) -> Sequence[Queue]:
        """Run ``qstat -Q``."""
        return parse_queues(await self._as_json_or_text("qstat", "-Q", "-f"))

    async def nodes(self) -> Sequence[Node]:
        """Run ``pbsnodes``."""
        return parse_nodes(await self._as_json_or_text("pbsnodes", "-a"))

    async def version(self) -> str:
        """Return what ``qstat --version`` says: ``pbs_version = 23.06.06``."""
        done = await self._cli.run(("qstat", "--version"))
        first, _, _ = (done.stdout or done.stderr).decode("utf-8", "replace").partition("\n")
        if not first.strip():
            raise OutputParseError("qstat --version", "it printed nothing", b"")
        return first.strip()

    async def _as_json_or_text(self, *argv: str) -> bytes:
        done = await self._cli.run((*argv, "-F", "json"), listing=True)
        if answers.has_no_json(done):
            done = await self._cli.run(argv, listing=True)
        answers.check_completed(done)
        return done.stdout

    async def _change(self, command: str, native_id: NativeId) -> Completed:
        """Run a command on one job; once more with brackets if that is an array's way to exist."""
        word = commands.job_word(native_id, self._arrays)
        done = await self._cli.run(commands.build_change(command, word))
        could_be_array = native_id.isdigit() and native_id not in self._arrays
        if done.exit_code != 0 and could_be_array and answers.is_unknown_job(done):
            array = commands.job_word(native_id, {native_id})
            again = await self._cli.run(commands.build_change(command, array))
            if not answers.is_unknown_job(again):
                self._arrays.add(native_id)
                return again
        return done

    async def _finished(self, ids: Sequence[NativeId]) -> Listing:
        """Ask ``qstat -x`` about jobs, and once more about those that may be whole arrays."""
        observations: list[Observation] = []
        unreadable: list[Unreadable] = []
        for batch in _batches(ids, _IDS_IN_ONE_COMMAND if self._prints_json else 1):
            words = [commands.job_word(native_id, self._arrays) for native_id in batch]
            told = await self._history_of(words)
            if told is None:
                return Listing()
            records = list(told.records)
            unreadable += told.unreadable
            known = {record.observation.native_id for record in records}
            unknown = [i for i in batch if i not in known | self._arrays and i.isdigit()]
            if unknown:
                more = await self._history_of([commands.job_word(i, {i}) for i in unknown])
                records += more.records if more is not None else ()
            over = [record for record in records if record.is_over]
            self._arrays |= {record.observation.native_id for record in over if record.is_array}
            for record in over:
                ended = await self._whole(record) if record.is_array else record.complete
                observations.append(ended)
        return Listing(observations=observations, unreadable=unreadable)

    async def _whole(self, array: Record) -> Observation:
        """Return how an array ended, by its tasks: its own exit status does not tell enough.

        It is 1 whatever the tasks exited with, and 0 where one was deleted (recording
        qstat-x-E-f-json.40-ids).
        """
        seen = array.complete
        told = await self._history_of([f"{seen.native_id}[]"], tasks=True)
        records = told.records if told is not None else ()
        return whole_of(
            seen, [r.complete for r in records if r.observation.array_job_id == seen.native_id]
        )

    async def _check_dependencies(self, spec: JobSpec) -> None:
        """Make sure that what a job waits for is still known to PBS.

        PBS takes a job that waits for one that it has forgotten, and deletes it at once.

        Raises:
            InvalidSpec: one has ended, and the server keeps no history.
        """
        wanted = [dependency.native_id for dependency in spec.depends_on]
        if any(native_id not in self._listed for native_id in wanted):
            await self.jobs()
        gone = [native_id for native_id in wanted if native_id not in self._listed]
        if not gone:
            return
        finished = await self._finished(gone)
        known = {seen.native_id for seen in finished.observations} | self._ended_tasks.keys()
        for native_id in gone:
            if native_id not in known:
                raise InvalidSpec(
                    f"The job {native_id} has ended, and PBS knows nothing of it any more: a job"
                    " that waits for it would be deleted. Submit it again.",
                    field="dependsOn",
                )

    @property
    def _keeps_history(self) -> bool:
        return asyncio.get_running_loop().time() >= self._no_history_until

    async def _trace(self, native_id: NativeId) -> Observation | None:
        """Ask ``tracejob`` about one job; what it fails to tell is not known."""
        if not self._traces:
            return None
        word = commands.job_word(native_id, self._arrays)
        try:
            async with self._tracing:
                argv = ("tracejob", "-n", str(_TRACED_DAYS), word)
                done = await self._cli.run(argv, listing=True)
        except CommandMissing:
            self._traces = False
            return None
        except SchedulerError:
            return None
        return parse_tracejob(done.stdout, native_id) if done.exit_code == 0 else None

    async def _qstat(self, *, remember: bool = False) -> parse.Answer:
        if self._prints_json:
            done = await self._cli.run(commands.build_qstat(), listing=True)
            self._prints_json = not answers.has_no_json(done)
        if not self._prints_json:
            return await self._settled(await self._qstat_text())
        answers.check_qstat(done)
        answer = await asyncio.to_thread(self._reader.read, done.stdout, remember=remember)
        return await self._settled(answer)

    async def _qstat_text(self) -> parse.Answer:
        """Run ``qstat -f``, and ``qselect`` for the ids: no user can add to those."""
        done = await self._cli.run(("qstat", "-f"), listing=True)
        answers.check_qstat(done)
        known = await self._selected()
        return await self._read_text(done.stdout, known)

    async def _settled(self, answer: parse.Answer, *, history: bool = False) -> parse.Answer:
        """Ask alone about jobs of which an answer tells twice: nobody can stand for them there."""
        for native_id in answer.contradicted[:_ASKED_ALONE]:
            word = commands.job_word(native_id, self._arrays)
            if self._prints_json:
                done = await self._cli.run(commands.build_qstat([word], history=history))
                answers.check_qstat(done)
                alone = await asyncio.to_thread(self._reader.read, done.stdout)
            else:
                done = await self._cli.run(("qstat", *(["-x"] if history else []), "-f", word))
                answers.check_qstat(done)
                alone = await self._read_text(done.stdout, None, is_single=True)
            answer = answer.replaced(native_id, alone.only([word]))
        return answer

    async def _selected(self, *options: str) -> list[str]:
        found = await self._cli.check(("qselect", *options), listing=True)
        return found.decode("ascii", "replace").split()

    async def _read_text(
        self, output: bytes, known: Sequence[str] | None, *, is_single: bool = False
    ) -> parse.Answer:
        sampled = datetime.now(UTC)
        return await asyncio.to_thread(
            parse.read_text, output, known, self._owner, sampled, is_single=is_single
        )

    async def _history_of(
        self, words: Sequence[str], *, tasks: bool = False
    ) -> parse.Answer | None:
        """Run ``qstat -x`` for all jobs or these; None where the server keeps none."""
        if not self._keeps_history:
            return None
        if self._prints_json and words and not tasks and not self._groups_ids:
            return await self._one_by_one(words)
        if not self._prints_json:
            done = await self._cli.run(("qstat", "-x", "-f", *words), listing=True)
        else:
            argv = commands.build_qstat(words, history=True, grouped=not tasks)
            done = await self._cli.run(argv, listing=True)
        if answers.has_no_history(done):
            now = asyncio.get_running_loop().time()
            self._no_history_until = now + _HISTORY_ASKED_AGAIN_SECONDS
            return None
        if self._prints_json and words and not tasks and answers.has_no_json(done):
            self._groups_ids = False
            return await self._one_by_one(words)
        answers.check_qstat(done)
        if words and not self._prints_json:
            answer = await self._read_text(done.stdout, None, is_single=True)
            return answer.only(words)
        if self._prints_json:
            answer = await asyncio.to_thread(self._reader.read, done.stdout)
        else:
            answer = await self._read_text(done.stdout, await self._selected("-x"))
        return await self._settled(answer, history=True)

    async def _one_by_one(self, words: Sequence[str]) -> parse.Answer | None:
        """Ask about each job by itself, where ``qstat`` does not know ``-E``."""
        told = [await self._history_of([word], tasks=True) for word in words]
        known = [answer for answer in told if answer is not None]
        if len(known) < len(told):
            return None
        return parse.Answer(
            tuple(record for answer in known for record in answer.records),
            tuple(bad for answer in known for bad in answer.unreadable),
        )

    async def _accounting(self) -> AccountingLogs | None:
        """Return the accounting logs, if this account may read them."""
        folder = await asyncio.to_thread(accounting_folder, self._environment)
        if folder is None:
            return None
        if self._logs is None or self._logs.directory != folder:
            self._logs = AccountingLogs(folder)
        return self._logs


def create(options: SchedulerOptions, runner: Runner) -> PbsBackend:
    """Return the backend, not started.

    Raises:
        ValueError: the site's resources are no template for ``-l``.
    """
    commands.check_resources(options.pbs_resources)
    path = command_path(options.command_path, options.environment)
    return PbsBackend(replace(options, command_path=path), runner)


def _batches(ids: Sequence[NativeId], size: int) -> Iterator[Sequence[NativeId]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


async def _accounted(logs: AccountingLogs, wanted: Sequence[NativeId]) -> Listing:
    """Return what the accounting logs tell of jobs, and of arrays by their tasks."""
    numbers = dict.fromkeys(native_id.partition("[")[0] for native_id in wanted)
    lines = await asyncio.to_thread(logs.lines, numbers)
    told = parse_accounting(lines, None)
    tasks = [seen for seen in told.observations if seen.array_job_id is not None]
    return Listing(
        observations=[
            whole_of(seen, [task for task in tasks if task.array_job_id == seen.native_id])
            for seen in told.observations
            if seen.native_id in wanted
        ],
        unreadable=told.unreadable,
    )


def _find_account(logs: AccountingLogs, key: SubmissionKey) -> NativeId | None:
    line = logs.find(f'account="{key}"'.encode())
    return None if line is None else parse_job_id(parse_accounting_line(line).job_id).short


def _with_key(answer: parse.Answer, key: SubmissionKey) -> NativeId | None:
    """Return the job that carries the key: a whole array before its tasks."""
    found = [record for record in answer.records if record.observation.submission_key == key]
    found.sort(key=lambda record: record.observation.array_task_id is not None)
    return found[0].observation.native_id if found else None


async def _read_script(path: str) -> bytes:
    try:
        return await asyncio.to_thread(Path(path).read_bytes)
    except OSError as error:
        raise InvalidSpec(
            f"The script file {path!r} cannot be read: {error.strerror}.", field="scriptFile"
        ) from error
