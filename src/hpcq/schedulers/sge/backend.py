"""Grid Engine behind the backend contract."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from hpcq.domain.errors import (
    JobNotFound,
    OutputParseError,
)
from hpcq.domain.jobs import JobSpec, NativeId, Observation, SubmissionKey
from hpcq.domain.outputs import default_name
from hpcq.execution.leftovers import marked
from hpcq.execution.protocol import Completed, Runner
from hpcq.schedulers.base import (
    Capabilities,
    Listing,
    Node,
    Queue,
    SchedulerOptions,
    ScriptDirectives,
    Unreadable,
)
from hpcq.schedulers.cli import CommandLine, read_script
from hpcq.schedulers.sge.accounting import AccountingFile
from hpcq.schedulers.sge.answers import check_completed, never_ran, parse_qsub
from hpcq.schedulers.sge.carrier import build_carrier
from hpcq.schedulers.sge.cluster import parse_qhost_xml, parse_queue_limits, parse_queue_summary
from hpcq.schedulers.sge.commands import (
    acceptable_name,
    build_change,
    build_qsub,
    job_number,
)
from hpcq.schedulers.sge.details import parse_qstat_details
from hpcq.schedulers.sge.entries import Entry, observe
from hpcq.schedulers.sge.parse import QueueMemo, parse_qstat_xml
from hpcq.schedulers.sge.qacct import parse_qacct

__all__ = ["SgeBackend", "create"]

_QSTAT = ("qstat", "-u", "*", "-xml")
_IDS_IN_ONE_COMMAND = 500
_QACCT_AT_ONCE = 2
_DEBIAN_ROOT = "/var/lib/gridengine"

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
        }
    ),
    actions=frozenset({"hold", "release"}),
    accounting=True,
    memory_enforced=True,
)


class SgeBackend:
    """Grid Engine: Son of Grid Engine 8.1, OGS/GE 2011.11, Sun Grid Engine 6.2.

    Every method runs the commands named in ``docs/schedulers/sge.md``.
    """

    name = "SGE"

    def __init__(self, options: SchedulerOptions, runner: Runner) -> None:
        self._cli = CommandLine(options, runner)
        self._parallel_environment = options.parallel_environment
        self._accounting = AccountingFile(_accounting_path(options.environment))
        self._memo = QueueMemo()
        self._listing = asyncio.Lock()
        self._listed: Mapping[NativeId, Observation] = {}
        self._qacct = asyncio.Semaphore(_QACCT_AT_ONCE)

    @property
    def capabilities(self) -> Capabilities:
        """What Grid Engine can express."""
        return _CAPABILITIES

    async def start(self, wake: Callable[[], None]) -> None:
        """Do nothing: Grid Engine tells nobody when its queue changes."""

    async def stop(self) -> None:
        """Let go of the accounting file."""
        await asyncio.to_thread(self._accounting.close)

    def check_script(self, spec: JobSpec, script: bytes) -> ScriptDirectives:
        """Return the names of the output files; see `SchedulerBackend.check_script`."""
        stem = acceptable_name(spec.name or default_name(spec.working_directory))
        return ScriptDirectives(stdout=f"{stem}.o%j", stderr=f"{stem}.e%j")

    async def submit(self, spec: JobSpec, key: SubmissionKey) -> NativeId:
        """Run ``qsub`` in the job's directory; see `SchedulerBackend.submit`."""
        submission = build_qsub(spec, key, parallel_environment=self._parallel_environment)
        stdin = b""
        if submission.needs_carrier:
            script = await asyncio.to_thread(read_script, spec.script_file)
            stdin = build_carrier(script, submission.carried_args, submission.carried_environment)
        done = await self._cli.run(
            submission.argv,
            stdin=stdin,
            cwd=spec.working_directory,
            extra_environment=marked(key),
        )
        return parse_qsub(done)

    async def find(self, key: SubmissionKey) -> NativeId | None:
        """Look for the key in the queue, newest jobs first, then in the accounting.

        Raises:
            OutputParseError: it may stand in what cannot be read.
        """
        listing = await self.jobs()
        numbers = {int(job_number(seen.native_id)) for seen in listing.observations}
        for bad in listing.unreadable:
            if bad.native_id is None:
                raise OutputParseError("qstat", f"{bad.reason}, in one of its jobs", bad.excerpt)
            numbers.add(int(job_number(bad.native_id)))
        for batch in _batches([NativeId(str(n)) for n in sorted(numbers, reverse=True)]):
            output = await self._qstat_j(batch)
            if key.encode() not in output:
                continue
            found = parse_qstat_details(output, batch, self._listed)
            for seen in found.observations:
                if seen.submission_key == key:
                    return seen.native_id
            for bad in found.unreadable:
                raise OutputParseError("qstat -j", bad.reason, bad.excerpt)
        return await self._find_in_accounting(key)

    async def jobs(self) -> Listing:
        """Run one ``qstat`` for all users' jobs, pending ones included."""
        async with self._listing:
            done = await self._cli.run(_QSTAT, listing=True)
            check_completed(done)
            listing = await asyncio.to_thread(parse_qstat_xml, done.stdout, self._memo)
            self._listed = {seen.native_id: seen for seen in listing.observations}
        return listing

    async def history(self, ids: Sequence[NativeId]) -> Listing:
        """Read the accounting file, or run ``qacct -j`` for each job where it is not readable."""
        numbers = list(dict.fromkeys(job_number(native_id) for native_id in ids))
        entries, unreadable = await self._entries(numbers)
        # An array that still has tasks in the queue has not ended, whatever its first tasks did.
        wanted = {native_id for native_id in ids if native_id not in self._listed}
        return Listing(
            observations=[seen for seen in observe(entries) if seen.native_id in wanted],
            unreadable=unreadable,
        )

    async def details(self, ids: Sequence[NativeId]) -> Listing:
        """Run ``qstat -j`` for up to 500 jobs at a time."""
        if any(native_id not in self._listed for native_id in ids):
            await self.jobs()
        observations: list[Observation] = []
        unreadable: list[Unreadable] = []
        for batch in _batches(ids):
            output = await self._qstat_j(batch)
            listing = parse_qstat_details(output, batch, self._listed)
            observations += listing.observations
            unreadable += listing.unreadable
        return Listing(observations=observations, unreadable=unreadable)

    async def cancel(self, native_id: NativeId) -> bool:
        """Run ``qdel``; return whether the job was still waiting, and so leaves no record."""
        return never_ran(await self._change("qdel", native_id))

    async def hold(self, native_id: NativeId) -> None:
        """Run ``qhold``: a user's hold."""
        await self._change("qhold", native_id)

    async def release(self, native_id: NativeId) -> None:
        """Run ``qrls``: lifts a user's hold."""
        await self._change("qrls", native_id)

    async def queues(self) -> Sequence[Queue]:
        """Run ``qstat -g c``, and ``qconf -sq`` for their time limits where that is allowed."""
        done = await self._cli.run(("qstat", "-g", "c", "-xml"), listing=True)
        check_completed(done)
        names = [queue.name for queue in parse_queue_summary(done.stdout, {})]
        limits: dict[str, int] = {}
        if names:
            shown = await self._cli.run(("qconf", "-sq", ",".join(names)), listing=True)
            limits = parse_queue_limits(shown.stdout) if shown.exit_code == 0 else {}
        return parse_queue_summary(done.stdout, limits)

    async def nodes(self) -> Sequence[Node]:
        """Run ``qhost -q``."""
        done = await self._cli.run(("qhost", "-q", "-xml"), listing=True)
        check_completed(done)
        return parse_qhost_xml(done.stdout)

    async def version(self) -> str:
        """Return the first line of ``qstat -help``: ``SGE 8.1.9``."""
        done = await self._cli.run(("qstat", "-help"))
        first, _, _ = (done.stdout or done.stderr).decode("utf-8", "replace").partition("\n")
        if not first.strip():
            raise OutputParseError("qstat -help", "it printed nothing", b"")
        return first.strip()

    async def _change(self, command: str, native_id: NativeId) -> Completed:
        try:
            argv = build_change(command, native_id)
            job_number(native_id)
        except ValueError:
            raise JobNotFound(native_id) from None
        done = await self._cli.run(argv)
        check_completed(done, native_id)
        return done

    async def _qstat_j(self, ids: Iterable[NativeId]) -> bytes:
        numbers = dict.fromkeys(job_number(native_id) for native_id in ids)
        done = await self._cli.run(("qstat", "-j", ",".join(numbers), "-xml"), listing=True)
        check_completed(done)
        return done.stdout

    async def _entries(self, numbers: Sequence[str]) -> tuple[list[Entry], list[Unreadable]]:
        try:
            return await asyncio.to_thread(self._accounting.records, numbers)
        except OSError:
            answers = await asyncio.gather(*map(self._run_qacct, numbers))
        return (
            [entry for entries, _ in answers for entry in entries],
            [bad for _, unreadable in answers for bad in unreadable],
        )

    async def _run_qacct(self, *selection: str) -> tuple[list[Entry], list[Unreadable]]:
        """Run ``qacct -j``; no record, or no accounting file at all yet, is an empty answer."""
        async with self._qacct:
            done = await self._cli.run(("qacct", "-j", *selection), listing=True)
        if done.exit_code != 0 and not done.stdout.strip():
            if b"not found" in done.stderr or b"No such file" in done.stderr:
                return [], []
            check_completed(done)
        return parse_qacct(done.stdout) if done.stdout.strip() else ([], [])

    async def _find_in_accounting(self, key: SubmissionKey) -> NativeId | None:
        try:
            return await asyncio.to_thread(self._accounting.find, key)
        except OSError:
            entries, _ = await self._run_qacct("-A", key)
        return NativeId(entries[0].number) if entries else None


def create(options: SchedulerOptions, runner: Runner) -> SgeBackend:
    """Return the backend, not started.

    Raises:
        ValueError: the parallel environment is not a name.
    """
    name = options.parallel_environment
    if not name or name.startswith("-") or not name.isprintable() or " " in name:
        raise ValueError(f"{name!r} cannot be the name of a Grid Engine parallel environment")
    return SgeBackend(options, runner)


def _accounting_path(environment: Mapping[str, str]) -> Path:
    root = environment.get("SGE_ROOT") or _DEBIAN_ROOT
    return Path(root) / (environment.get("SGE_CELL") or "default") / "common" / "accounting"


def _batches(ids: Sequence[NativeId]) -> Iterator[Sequence[NativeId]]:
    for start in range(0, len(ids), _IDS_IN_ONE_COMMAND):
        yield ids[start : start + _IDS_IN_ONE_COMMAND]
