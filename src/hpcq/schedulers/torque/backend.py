"""Torque behind the backend contract."""

import asyncio
import contextlib
import os
import pwd
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from hpcq.domain.errors import (
    CommandFailed,
    CommandMissing,
    InvalidSpec,
    JobNotFound,
    OutputParseError,
    WrongState,
)
from hpcq.domain.jobs import Dependency, JobSpec, NativeId, Observation, SubmissionKey
from hpcq.execution.leftovers import marked
from hpcq.execution.protocol import Completed, Runner
from hpcq.schedulers.base import Capabilities, Listing, Node, Queue, SchedulerOptions
from hpcq.schedulers.cli import CommandLine
from hpcq.schedulers.pbs_family.accounting import AccountingLogs
from hpcq.schedulers.pbs_family.values import parse_job_id
from hpcq.schedulers.torque.accounting import observe_lines, parse_tracejob
from hpcq.schedulers.torque.answers import Meaning, check_completed, meaning_of, parse_qsub
from hpcq.schedulers.torque.cluster import parse_pbsnodes, parse_queues
from hpcq.schedulers.torque.commands import (
    acceptable_name,
    build_change,
    build_qstat,
    build_qsub,
    check_template,
)
from hpcq.schedulers.torque.parse import Reader, array_of

__all__ = ["TorqueBackend", "create"]

_ASKED_BY_ID = 8
"""Up to so many jobs are asked for one by one; beyond that the whole queue is the lighter way."""
_TRACED_AT_ONCE = 2
_TRACED_DAYS = 7
_BAD_DEPENDENCY = 208  # 15056 PBSE_BADDEPEND
_BAD_ARRAY = 235  # 15083 PBSE_BAD_ARRAY_REQ
# Releases before 5 say it on standard error, in small letters.
_VERSION = re.compile(r"^version:\s*", re.IGNORECASE)
# The server's may be so far away from ours.
_OTHER_CLOCK = timedelta(minutes=10)

_CAPABILITIES = Capabilities(
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
            "array",
        }
    ),
    actions=frozenset({"hold", "release"}),
    accounting=True,
    memory_enforced=True,
)


class TorqueBackend:
    """Torque 6.1, and older releases that print the same.

    Every method runs the commands named in ``docs/schedulers/torque.md``.
    """

    name = "TORQUE"

    def __init__(self, options: SchedulerOptions, runner: Runner) -> None:
        self._cli = CommandLine(options, runner)
        self._template = options.torque_resources
        self._slots_per_node = options.torque_slots_per_node
        self._account = _account()
        self._reader = Reader(self._account)
        self._logs = AccountingLogs(options.torque_home / "server_priv" / "accounting")
        self._listed: Mapping[NativeId, Observation] = {}
        self._arrays: dict[NativeId, dict[NativeId, Observation]] = {}
        self._listing = asyncio.Lock()
        self._tracing = asyncio.Semaphore(_TRACED_AT_ONCE)
        self._server: str | None = None

    @property
    def capabilities(self) -> Capabilities:
        """What Torque can express."""
        return _CAPABILITIES

    async def start(self, wake: Callable[[], None]) -> None:
        """Do nothing: Torque tells nobody when its queue changes."""

    async def stop(self) -> None:
        """Do nothing: nothing is held open."""

    async def submit(self, spec: JobSpec, key: SubmissionKey) -> NativeId:
        """Run ``qsub`` with a carrier on its standard input; see `SchedulerBackend.submit`."""
        await self._look_up(spec.depends_on)
        submission = build_qsub(
            spec,
            key,
            template=self._template,
            slots_per_node=self._slots_per_node,
            arrays=self._arrays,
        )
        await asyncio.to_thread(_check_output_folders, spec)
        script = await _read_script(spec.script_file)
        done = await self._cli.run(
            submission.argv,
            stdin=submission.carry(spec, script),
            cwd=submission.cwd,
            extra_environment=marked(key),
        )
        try:
            job_id = parse_qsub(done)
        except CommandFailed as error:
            _explain(error)
            raise
        self._server = job_id.server or self._server
        if job_id.is_array:
            self._arrays.setdefault(job_id.short, {})
        return job_id.short

    async def find(self, key: SubmissionKey) -> NativeId | None:
        """Look for the key among the variables of this account's jobs, ended ones included.

        The accounting does not keep them.
        """
        listing = await self.jobs()
        found = (seen for seen in listing.observations if seen.submission_key == key)
        return next((seen.native_id for seen in found), None)

    async def lookalikes(self, spec: JobSpec, since: datetime) -> Sequence[NativeId]:
        """Look in the accounting logs for ended jobs of this account with this name.

        Torque forgets a job's variables, and with them its key, when it forgets the job.
        """
        end = " " if spec.array is None else "-"
        mark = f" jobname={acceptable_name(spec.name)}{end}".encode()
        try:
            lines = await asyncio.to_thread(self._logs.having, mark)
        except OSError:
            return ()
        earliest = since - _OTHER_CLOCK
        found = [
            NativeId(seen.array_job_id or seen.native_id)
            for seen in observe_lines(lines)[0]
            if self._account in (None, seen.owner)
            and (seen.submit_time is None or seen.submit_time >= earliest)
        ]
        return list(dict.fromkeys(found))

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
        numbers = dict.fromkeys(parse_job_id(native_id).number for native_id in wanted)
        try:
            lines = await asyncio.to_thread(self._logs.lines, numbers)
        except OSError:
            traced = await asyncio.gather(*map(self._trace, wanted))
            return Listing(observations=[*kept, *(seen for seen in traced if seen is not None)])
        observations, unreadable = observe_lines(lines)
        asked = set(wanted)
        observations += _wholes(observations)
        return Listing(
            observations=[*kept, *(seen for seen in observations if seen.native_id in asked)],
            unreadable=unreadable,
        )

    async def details(self, ids: Sequence[NativeId]) -> Listing:
        """Run ``qstat -x`` for these jobs, or for all when there are many."""
        if not ids:
            return Listing()
        arrays = any(self._is_array(native_id) for native_id in ids)
        if arrays or len(ids) > _ASKED_BY_ID:
            listing = await self._query()
        else:
            done = await self._cli.run(build_qstat(*ids), listing=True)
            if meaning_of(done) is not Meaning.UNKNOWN_JOB:
                check_completed(done)
            listing = self._reader.read(done.stdout)
        wanted = set(ids)
        return Listing(
            observations=[seen for seen in listing.observations if seen.native_id in wanted],
            unreadable=[bad for bad in listing.unreadable if bad.native_id in wanted],
        )

    async def cancel(self, native_id: NativeId) -> bool:
        """Run ``qdel``. It does not say whether the job had started: the queue shows it."""
        try:
            await self._change("qdel", native_id)
        except WrongState:
            return False  # it has ended, or is about to
        return False

    async def hold(self, native_id: NativeId) -> None:
        """Run ``qhold``: a user's hold. Torque takes it for a running job, and goes on with it.

        Raises:
            WrongState: the job has started already.
        """
        await self._change("qhold", native_id)
        for seen in (await self.details([native_id])).observations:
            if not seen.state.is_queued:
                with contextlib.suppress(WrongState, JobNotFound):
                    await self._change("qrls", native_id)
                raise WrongState("The job has started already; there is nothing to hold.")

    async def release(self, native_id: NativeId) -> None:
        """Run ``qrls``: lifts a user's hold."""
        await self._change("qrls", native_id)

    async def queues(self) -> Sequence[Queue]:
        """Run ``qstat -Q -f``."""
        done = await self._cli.run(("qstat", "-Q", "-f"), listing=True)
        check_completed(done)
        return parse_queues(done.stdout)

    async def nodes(self) -> Sequence[Node]:
        """Run ``pbsnodes -x``."""
        done = await self._cli.run(("pbsnodes", "-x"), listing=True)
        check_completed(done)
        return parse_pbsnodes(done.stdout)

    async def version(self) -> str:
        """Return what ``qstat --version`` says: ``Torque 6.1.3.h5``."""
        done = await self._cli.run(("qstat", "--version"))
        said = (done.stdout or done.stderr).decode("utf-8", "replace").strip()
        first = _VERSION.sub("", said.partition("\n")[0])
        if not first:
            raise OutputParseError("qstat --version", "it printed nothing", b"")
        return f"Torque {first}"

    async def _query(self) -> Listing:
        async with self._listing:
            done = await self._cli.run(build_qstat(), listing=True)
            check_completed(done)
            if not done.stdout.strip() and done.stderr.strip():
                raise OutputParseError("qstat", "it listed nothing, and complained", done.stderr)
            listing = await asyncio.to_thread(self._reader.read, done.stdout, remember=True)
            listing = replace(
                listing, observations=await self._with_whole_arrays(listing.observations)
            )
            self._listed = {seen.native_id: seen for seen in listing.observations}
        return listing

    async def _with_whole_arrays(self, seen: Sequence[Observation]) -> list[Observation]:
        """Return the same, arrays with those of their jobs that Torque has forgotten already.

        It forgets each a while after its own end: they are remembered from earlier listings and,
        before the array is taken for over, looked for in the accounting logs.
        """
        tasks: dict[NativeId, dict[NativeId, Observation]] = {}
        for one in seen:
            if one.array_job_id is not None:
                tasks.setdefault(NativeId(one.array_job_id), {})[one.native_id] = one
        listed = {number: len(ours) for number, ours in tasks.items()}
        for number, ours in tasks.items():
            before = self._arrays.get(number, {})
            tasks[number] = {**{i: o for i, o in before.items() if o.state.is_final}, **ours}
            if all(o.state.is_final for o in ours.values()) and not _are_over(before):
                tasks[number] = {**await self._accounted(number), **tasks[number]}
        self._arrays = tasks
        wholes = {
            number: array_of(number, [*ours.values()])
            for number, ours in tasks.items()
            if len(ours) > listed[number]
        }
        return [
            replace(wholes[o.native_id], submission_key=o.submission_key)
            if o.native_id in wholes
            else o
            for o in seen
        ]

    async def _accounted(self, number: NativeId) -> dict[NativeId, Observation]:
        """Return the ends of an array's jobs by the accounting logs, as far as they are open."""
        try:
            lines = await asyncio.to_thread(self._logs.lines, [number])
        except OSError:
            return {}
        ends = observe_lines(lines)[0]
        return {seen.native_id: seen for seen in ends if seen.array_job_id == number}

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

    def _is_array(self, native_id: NativeId) -> bool:
        return native_id in self._arrays

    async def _change(self, command: str, native_id: NativeId) -> Completed:
        try:
            parsed = parse_job_id(native_id)
        except ValueError:
            raise JobNotFound(native_id) from None
        is_array = self._is_array(native_id)
        done = await self._cli.run(build_change(command, native_id, is_array=is_array))
        if meaning_of(done) is Meaning.UNKNOWN_JOB and parsed.task is None and not is_array:
            # An array that no listing has shown yet.
            done = await self._cli.run(build_change(command, native_id, is_array=True))
        check_completed(done, native_id)
        return done

    async def _trace(self, native_id: NativeId) -> Observation | None:
        """Ask the logs about one job; ``tracejob`` exits with 0 whatever it finds."""
        wanted = parse_job_id(native_id)
        server = wanted.server or self._server
        name = f"{wanted.short}.{server}" if server else wanted.short
        async with self._tracing:
            try:
                done = await self._cli.run(
                    ("tracejob", "-n", str(_TRACED_DAYS), name), listing=True
                )
            except CommandMissing:
                return None  # not every installation of the client has it
        check_completed(done)
        return parse_tracejob(done.stdout, wanted)


def create(options: SchedulerOptions, runner: Runner) -> TorqueBackend:
    """Return the backend, not started.

    Raises:
        ValueError: the template for resources cannot be used.
    """
    check_template(options.torque_resources)
    return TorqueBackend(options, runner)


def _wholes(tasks: Sequence[Observation]) -> list[Observation]:
    """Return the arrays whose jobs these are."""
    arrays: dict[str, list[Observation]] = {}
    for task in tasks:
        if task.array_job_id is not None:
            arrays.setdefault(task.array_job_id, []).append(task)
    return [array_of(number, ours) for number, ours in arrays.items()]


def _are_over(tasks: Mapping[NativeId, Observation]) -> bool:
    return bool(tasks) and all(task.state.is_final for task in tasks.values())


def _explain(error: CommandFailed) -> None:
    """Say of a refusal which field is to blame, where its exit status says so.

    Raises:
        InvalidSpec: it does.
    """
    said = error.scheduler_message or ""
    if error.exit_code == _BAD_DEPENDENCY:
        raise InvalidSpec(
            "Torque does not let it wait for these jobs; one of them may have ended meanwhile: "
            f"{said}",
            field="dependsOn",
        ) from error
    if error.exit_code == _BAD_ARRAY:
        raise InvalidSpec(f"Torque does not take the array: {said}", field="array") from error


def _account() -> str | None:
    """Return who owns the jobs that this service submits, by the system's word."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return None


def _check_output_folders(spec: JobSpec) -> None:
    """Refuse outputs in missing folders of the working directory.

    Torque accepts them and leaves the output where nobody looks. Paths elsewhere may exist on the
    execution hosts only.

    Raises:
        InvalidSpec: there is no such folder.
    """
    for path, wire in ((spec.stdout_path, "stdoutPath"), (spec.stderr_path, "stderrPath")):
        if path is None or path.startswith("/"):
            continue
        folder = os.path.dirname(os.path.join(spec.working_directory, path))
        if not os.path.isdir(folder):
            raise InvalidSpec(f"There is no folder {folder!r} for the {wire}.", field=wire)


async def _read_script(path: str) -> bytes:
    try:
        return await asyncio.to_thread(Path(path).read_bytes)
    except OSError as error:
        raise InvalidSpec(
            f"The script file {path!r} cannot be read: {error.strerror}.", field="scriptFile"
        ) from error
