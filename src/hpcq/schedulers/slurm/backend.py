"""Slurm behind the backend contract."""

import asyncio
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hpcq.domain.errors import CommandTimedOut, JobNotFound, SchedulerError
from hpcq.domain.ids import IdForm
from hpcq.domain.jobs import JobSpec, NativeId, SubmissionKey, Usage
from hpcq.execution.protocol import Completed, Runner
from hpcq.schedulers.base import (
    Capabilities,
    Listing,
    Node,
    Queue,
    SchedulerOptions,
    ScriptDirectives,
)
from hpcq.schedulers.cli import CommandLine, read_script
from hpcq.schedulers.slurm import (
    accounting,
    cluster,
    commands,
    failures,
    fields,
    parse,
    queries,
    usage,
)
from hpcq.schedulers.slurm.arrays import Wholes, ended_wholes
from hpcq.schedulers.slurm.merge import combine
from hpcq.schedulers.slurm.outcome import is_refused

__all__ = ["SlurmBackend", "create"]

_ID_FORMS = (
    IdForm(re.compile(r"([0-9]+(?:[_+][0-9]+)?)")),
    # An array's tasks that wait, as squeue prints them without --array.
    IdForm(re.compile(r"([0-9]+)_\[[0-9,:%.-]+\]"), is_array=True),
)
_CAPABILITIES = Capabilities(
    id_forms=_ID_FORMS,
    fields=frozenset(
        {
            "queue",
            "account",
            "priority",
            "wall_time_limit_seconds",
            "memory_limit_bytes",
            "environment",
            "stdout_path",
            "stderr_path",
            "hold",
            "depends_on",
        }
    ),
    actions=frozenset({"hold", "release"}),
    accounting=True,
    memory_enforced=True,
)
_IDS_IN_ONE_COMMAND = 1000
_ACCOUNTING_GRACE = timedelta(seconds=5)
"""How long after a job's end its accounting record, which alone has its usage, is waited for
before the controller's word is taken."""


class SlurmBackend:
    """Slurm 20.11 and newer, through its commands.

    Every method runs the commands named in ``docs/schedulers/slurm.md``.
    """

    name = "SLURM"

    def __init__(self, options: SchedulerOptions, runner: Runner) -> None:
        self._cli = CommandLine(options, runner)
        self._timeout_seconds = options.command_timeout_seconds
        self._owner = options.environment.get("USER")
        self._job_environment = options.account_environment
        known = options.environment
        self._configuration = {n: known[n] for n in ("SLURM_CONF",) if n in known}
        self._interpreter = options.job_shell or "/bin/bash"
        self._marks = queries.new_marks()
        self._reader = parse.ListingReader(self._marks)
        self._wholes = Wholes()
        self._listing = asyncio.Lock()
        self._over_since: dict[tuple[NativeId, datetime], float] = {}

    @property
    def capabilities(self) -> Capabilities:
        """What Slurm can express."""
        return _CAPABILITIES

    async def start(self, wake: Callable[[], None]) -> None:
        """Do nothing: Slurm tells nobody when its queue changes."""

    async def stop(self) -> None:
        """Do nothing."""

    async def check_submission(self) -> None:
        """Run ``sbatch --test-only``; see `ChecksSubmission`."""
        built = commands.build_trial(self._job_environment)
        problem = failures.trial_failure(await self._sbatch(built, "/"))
        if problem is not None:
            raise problem

    def check_script(self, spec: JobSpec, script: bytes) -> ScriptDirectives:
        """Read the script's ``#SBATCH`` lines; see `SchedulerBackend.check_script`."""
        return commands.check_script(spec, script, self._job_environment)

    async def submit(self, spec: JobSpec, key: SubmissionKey) -> NativeId:
        """Run ``sbatch``; see `SchedulerBackend.submit`."""
        script = await asyncio.to_thread(read_script, spec.script_file)
        built = commands.build_sbatch(
            spec, key, script, account=self._job_environment, interpreter=self._interpreter
        )
        try:
            done = await self._sbatch(built, spec.working_directory, key)
        except CommandTimedOut as error:
            raise failures.submission_timeout(error) from None
        if done.exit_code != 0:
            raise failures.submission_failure(done, self._timeout_seconds, spec)
        return parse.parse_job_id(done.stdout)

    async def find(self, key: SubmissionKey) -> NativeId | None:
        """Look for the key among this account's jobs: in the queue, then in accounting."""
        argv, environment = queries.build_find_in_queue(self._marks)
        done = await self._run(argv, environment)
        native_id = parse.find_key(done.stdout, key, self._marks)
        if native_id is None:
            delimiter = queries.new_delimiter()
            stdout = await self._sacct(queries.build_find_in_accounting(delimiter, self._owner))
            native_id = accounting.find_key(stdout, delimiter, key)
        if native_id is None or await self._was_refused(native_id):
            return None
        return native_id

    async def _was_refused(self, native_id: NativeId) -> bool:
        seen = (await self._controller([native_id], finished=True)).observations
        if not seen:
            seen = (await self._accounted([native_id])).listing.observations
        return any(one.native_id == native_id and is_refused(one) for one in seen)

    async def jobs(self) -> Listing:
        """Run one ``squeue`` for all users' jobs, pending ones and array tasks included."""
        argv, environment = queries.build_listing(self._marks)
        async with self._listing:
            done = await self._run(argv, environment)
            listing = await asyncio.to_thread(self._reader.read, done.stdout)
            return replace(listing, observations=self._wholes.add(listing.observations))

    async def history(self, ids: Sequence[NativeId]) -> Listing:
        """Run ``sacct``, and ``squeue`` for what the controller still knows of ended jobs."""
        listings = [await self._history(batch) for batch in _batches(ids)]
        return _joined(listings)

    async def ended(self, ids: Sequence[NativeId]) -> Listing:
        """Run ``squeue`` for what the controller still knows of ended jobs."""
        seen = _joined([await self._controller(batch, finished=True) for batch in _batches(ids)])
        return combine(Listing(), seen)

    async def details(self, ids: Sequence[NativeId]) -> Listing:
        """Run ``squeue`` with all columns, and ``sstat`` for the usage of those that run."""
        return _joined([await self._details(batch) for batch in _batches(ids)])

    async def cancel(self, native_id: NativeId) -> bool:
        """Run ``scancel``; accounting tells whether the job had begun."""
        done = await self._change(commands.build_scancel(native_id), native_id)
        if failures.is_unknown_job(done):
            # The controller forgets jobs MinJobAge after their end; accounting does not.
            history = await self._accounted([native_id])
            if not history.listing.observations and not history.unfinished:
                raise JobNotFound(native_id)
        elif not failures.is_over(done) and _complains(done):
            raise failures.failure(done, native_id)
        return False

    async def hold(self, native_id: NativeId) -> None:
        """Run ``scontrol uhold``."""
        done = await self._change(commands.build_hold(native_id), native_id)
        if done.exit_code != 0:
            raise failures.failure(done, native_id)

    async def release(self, native_id: NativeId) -> None:
        """Run ``scontrol release``."""
        done = await self._change(commands.build_release(native_id), native_id)
        if done.exit_code != 0:
            raise failures.failure(done, native_id)

    async def queues(self) -> Sequence[Queue]:
        """Run ``sinfo`` for partitions."""
        return cluster.parse_queues((await self._run(queries.build_queues(), {})).stdout)

    async def nodes(self) -> Sequence[Node]:
        """Run ``sinfo`` for nodes."""
        return cluster.parse_nodes((await self._run(queries.build_nodes(), {})).stdout)

    async def version(self) -> str:
        """Run ``squeue --version``: ``slurm 23.11.4``, Debian's ``slurm-wlm 22.05.8``."""
        done = await self._cli.check(("squeue", "--version"))
        return done.decode("utf-8", "replace").strip()

    async def _sbatch(self, built: commands.Submission, folder: str, mark: str = "") -> Completed:
        # The job inherits the environment: no mark of ours may stand in it.
        return await self._cli.run(
            built.argv,
            stdin=built.stdin,
            mark=mark,
            cwd=folder,
            whole_environment={**built.environment, **self._configuration},
        )

    async def _run(self, argv: Sequence[str], environment: Mapping[str, str]) -> Completed:
        done = await self._cli.run(argv, extra_environment=environment, listing=True)
        if done.exit_code != 0:
            raise failures.failure(done)
        return done

    async def _sacct(self, argv: Sequence[str]) -> bytes:
        """Run sacct; a site without accounting answers with nothing."""
        try:
            done = await self._cli.run(argv, extra_environment=queries.EPOCH_TIMES, listing=True)
            problem = None if done.exit_code == 0 else failures.accounting_failure(done)
            if problem is not None:
                raise problem
        except SchedulerError as error:
            error.of_accounting = True
            raise
        return done.stdout if done.exit_code == 0 else b""

    async def _change(self, argv: Sequence[str], native_id: NativeId) -> Completed:
        if not fields.is_job_id(native_id):
            raise JobNotFound(native_id)
        return await self._cli.run(argv)

    async def _history(self, ids: Sequence[NativeId]) -> Listing:
        accounted, seen = await asyncio.gather(
            self._accounted(ids), self._controller(ids, finished=True), return_exceptions=True
        )
        # Either adds to the other, and can do without.
        if isinstance(seen, BaseException):
            if not isinstance(seen, SchedulerError) or isinstance(accounted, BaseException):
                raise seen if not isinstance(accounted, BaseException) else accounted
            seen = Listing()
        missing: SchedulerError | None = None
        if isinstance(accounted, BaseException):
            if not isinstance(accounted, SchedulerError) or not seen.observations:
                raise accounted
            missing, accounted = accounted, accounting.History()
        waiting = self._lately_over(seen)
        listing = combine(accounted.listing, seen, waiting=waiting)
        told = {one.native_id for one in (*listing.observations, *seen.observations)}
        ended = [*listing.observations, *self._wholes.lost(ids, told, accounted)]
        # Without accounting some of their tasks may be forgotten.
        wholes = [] if missing else ended_wholes(ids, ended, accounted, seen.observations)
        return replace(listing, observations=[*ended, *wholes], missing=missing)

    def _lately_over(self, seen: Listing) -> set[NativeId]:
        """Return the jobs that ended so short a while ago that accounting may still tell more.

        The controller's clock may be ahead of ours, so that ends lie in the future for minutes:
        no job is waited for any longer than from when its end was first seen.
        """
        late, here = datetime.now(UTC) - _ACCOUNTING_GRACE, time.monotonic()
        ends = ((one.native_id, one.end_time) for one in seen.observations)
        over = {(job, end) for job, end in ends if end is not None and end > late}
        known = {end: since for end, since in self._over_since.items() if end[1] > late}
        self._over_since = dict.fromkeys(over, here) | known
        patient_since = here - _ACCOUNTING_GRACE.total_seconds()
        return {end[0] for end in over if self._over_since[end] > patient_since}

    async def _accounted(self, ids: Sequence[NativeId]) -> accounting.History:
        """Ask accounting, a second time for the wholes of tasks that it does not tell one by one.

        Those are tasks of arrays that never ran, and components since 24.11.
        """
        history = await self._ask_accounting(ids, ids)
        told = {seen.native_id for seen in history.listing.observations} | history.unfinished
        missing = [i for i in ids if fields.base_id(i) != i and i not in told]
        if not missing:
            return history
        parents = list(dict.fromkeys(NativeId(fields.base_id(i)) for i in missing))
        more = await self._ask_accounting(parents, missing)
        wanted = set(missing)
        added = [seen for seen in more.listing.observations if seen.native_id in wanted]
        listing = replace(history.listing, observations=[*history.listing.observations, *added])
        return accounting.History(
            listing, history.unfinished | more.unfinished, history.known | more.known
        )

    async def _ask_accounting(
        self, ids: Sequence[NativeId], wanted: Sequence[NativeId]
    ) -> accounting.History:
        delimiter = queries.new_delimiter()
        stdout = await self._sacct(queries.build_history(ids, delimiter))
        return await asyncio.to_thread(accounting.parse_history, stdout, delimiter, wanted)

    async def _controller(self, ids: Sequence[NativeId], *, finished: bool) -> Listing:
        return parse.parse_details(await self._squeue(ids, finished=finished), self._marks)

    async def _squeue(self, ids: Sequence[NativeId], *, finished: bool) -> bytes:
        argv, environment = queries.build_details(ids, self._marks, finished=finished)
        done = await self._cli.run(argv, extra_environment=environment, listing=True)
        if done.exit_code == 0:
            return done.stdout
        if failures.is_unknown_job(done):
            return b""
        raise failures.failure(done)

    async def _details(self, ids: Sequence[NativeId]) -> Listing:
        stdout = await self._squeue(ids, finished=False)
        listing = parse.parse_details(stdout, self._marks)
        numbers = parse.raw_ids(stdout, self._marks)
        running = {seen.native_id for seen in listing.observations if seen.start_time}
        used = await self._usage({raw: i for raw, i in numbers.items() if i in running})
        observations = [
            replace(seen, usage=used[seen.native_id]) if seen.native_id in used else seen
            for seen in listing.observations
        ]
        return replace(listing, observations=self._wholes.complete(ids, observations))

    async def _usage(self, ids: Mapping[str, NativeId]) -> Mapping[NativeId, Usage]:
        """Ask the nodes; jobs whose nodes do not answer have no usage, and keep the rest."""
        if not ids:
            return {}
        try:
            argv = queries.build_usage([NativeId(raw) for raw in ids])
            done = await self._cli.run(argv, listing=True)
        except SchedulerError:
            return {}
        return usage.parse_usage(done.stdout, ids, datetime.now(UTC))


def create(options: SchedulerOptions, runner: Runner) -> SlurmBackend:
    """Return the backend, not started."""
    return SlurmBackend(options, runner)


def _batches(ids: Sequence[NativeId]) -> Iterator[Sequence[NativeId]]:
    unique = [i for i in dict.fromkeys(ids) if fields.is_job_id(i)]
    for start in range(0, len(unique), _IDS_IN_ONE_COMMAND):
        yield unique[start : start + _IDS_IN_ONE_COMMAND]


def _joined(listings: Sequence[Listing]) -> Listing:
    return Listing(
        observations=[seen for listing in listings for seen in listing.observations],
        unreadable=[bad for listing in listings for bad in listing.unreadable],
        missing=next((listing.missing for listing in listings if listing.missing), None),
    )


def _complains(done: Completed) -> bool:
    # scancel --verbose also exits 0 when it failed; its complaints are errors by name.
    return done.exit_code != 0 or b"error:" in done.stderr
