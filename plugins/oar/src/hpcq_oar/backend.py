"""OAR 2.5 behind the backend contract."""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from hpcq.domain.actions import Action, Signal
from hpcq.domain.errors import JobNotFound
from hpcq.domain.ids import IdForm
from hpcq.domain.jobs import JobSpec, NativeId, SubmissionKey
from hpcq.domain.states import JobState
from hpcq.execution.protocol import Runner
from hpcq.schedulers.base import (
    Capabilities,
    Listing,
    Node,
    Queue,
    SchedulerOptions,
    ScriptDirectives,
)
from hpcq.schedulers.command_line import CommandLine, batches, join_listings
from hpcq_oar import parse, submit
from hpcq_oar.errors import ERRORS
from hpcq_oar.settings import OarSettings

__all__ = ["OarBackend", "create"]

_CHANGES = {
    Action.HOLD: ("oarhold", JobState.QUEUED),
    Action.RELEASE: ("oarresume", JobState.QUEUED_HELD),
}
"""The command of each action, and the state that a job has until it is done."""
_CAPABILITIES = Capabilities(
    id_forms=(IdForm(re.compile(r"([0-9]+)")),),
    fields=frozenset(
        {
            "queue",
            "account",
            "wall_time_limit_seconds",
            "environment",
            "stdout_path",
            "stderr_path",
            "hold",
            "depends_on",
        }
    ),
    actions=frozenset(_CHANGES),
    accounting=True,
    memory_enforced=False,
    # oarsub runs as OAR's account: one that took too long cannot be ended, and goes on.
    absence_is_certain=False,
)
_IDS_IN_ONE_COMMAND = 500
_LOOKS_FOR_EFFECT = 40
_PAUSE_SECONDS = 0.25


class OarBackend:
    """OAR 2.5, through its commands; its database keeps all jobs, ended ones too.

    Every method runs the commands named in ``docs/schedulers/oar.md``.
    """

    name = "OAR"

    def __init__(self, options: SchedulerOptions, runner: Runner, settings: OarSettings) -> None:
        self._cli = CommandLine(options, runner, ERRORS)
        self._owner = options.environment.get("USER")
        self._account = options.account_environment
        self._interpreter = options.job_shell or "/bin/sh"
        self._resources = settings.oar_resources

    @property
    def capabilities(self) -> Capabilities:
        """The features that OAR has."""
        return _CAPABILITIES

    async def start(self, wake: Callable[[], None]) -> None:
        """Do nothing: OAR tells nobody when its queue changes."""

    async def stop(self) -> None:
        """Do nothing."""

    def check_script(self, spec: JobSpec, script: bytes) -> ScriptDirectives:
        """Read the script's ``#OAR`` lines; see `SchedulerBackend.check_script`."""
        return submit.check_script(spec, script)

    async def submit(self, spec: JobSpec, key: SubmissionKey, script: bytes) -> NativeId:
        """Run ``oarsub``; see `SchedulerBackend.submit`."""
        argv = submit.build_oarsub(
            spec,
            key,
            script,
            account=self._account,
            resources=self._resources,
            interpreter=self._interpreter,
        )
        return parse.parse_oarsub(await self._cli.run(argv, mark=key))

    async def find(self, key: SubmissionKey, run_as: str | None = None) -> NativeId | None:
        """Run ``oarstat`` for the jobs, ended ones too, whose command holds the key."""
        return parse.find_key(await self._select(f"command LIKE '%{key}%'"), key, self._owner)

    async def jobs(self) -> Listing:
        """Run one ``oarstat`` for all users' jobs that have not ended.

        Without ``--full``, which asks the database twice as much: `details` has the wall time.
        """
        return await self._oarstat("--json")

    async def history(self, ids: Sequence[NativeId]) -> Listing:
        """Run ``oarstat`` for these jobs, of which those that ended are told."""
        return _those(await self._of(ids), lambda state: state.is_final)

    async def details(self, ids: Sequence[NativeId]) -> Listing:
        """Run ``oarstat`` for these jobs, of which those that ended are not told."""
        return _those(await self._of(ids), lambda state: not state.is_final)

    async def cancel(self, native_id: NativeId, run_as: str | None = None) -> bool:
        """Run ``oardel``; OAR keeps jobs that are deleted before they start too."""
        done = await self._cli.run(("oardel", native_id))
        # Registered in the database, it is carried out even if the daemon was away meanwhile.
        taken = b"REGISTERED" in done.stdout or b"already killed" in done.stderr
        if done.exit_code != 0 and not taken:
            # The words for a job that is not there are those for another user's.
            if not (await self._of([native_id])).observations:
                raise JobNotFound(native_id)
            ERRORS.check(done, native_id)
        return False

    async def act(
        self,
        action: Action,
        native_id: NativeId,
        run_as: str | None = None,
        signal: Signal | None = None,
    ) -> None:
        """Run ``oarhold`` or ``oarresume``, and wait until the daemon has done it."""
        command, before = _CHANGES[action]
        await self._change(command, native_id, lambda state: state is not before)

    async def queues(self) -> Sequence[Queue]:
        """Return none: OAR has no command that tells users of its queues."""
        return ()

    async def nodes(self) -> Sequence[Node]:
        """Run ``oarnodes``."""
        return parse.parse_nodes(await self._cli.check_output(("oarnodes", "--json"), listing=True))

    async def version(self) -> str:
        """Run ``oarstat --version``: ``OAR version : 2.5.9``."""
        stdout = await self._cli.check_output(("oarstat", "--version"))
        return stdout.decode("utf-8", "replace").strip()

    async def _change(
        self, command: str, native_id: NativeId, is_done: Callable[[JobState], bool]
    ) -> None:
        await self._cli.check_output((command, native_id), native_id=native_id)
        for _ in range(_LOOKS_FOR_EFFECT):
            if all(is_done(seen.state) for seen in (await self._of([native_id])).observations):
                break
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _of(self, ids: Sequence[NativeId]) -> Listing:
        numbers = [native_id for native_id in ids if native_id.isdecimal()]
        return join_listings(
            [
                await self._select(f"job_id IN ({', '.join(some)})")
                for some in batches(numbers, _IDS_IN_ONE_COMMAND)
            ]
        )

    async def _select(self, condition: str) -> Listing:
        return await self._oarstat("--full", "--json", f"--sql={condition}")

    async def _oarstat(self, *options: str) -> Listing:
        stdout = await self._cli.check_output(("oarstat", *options), listing=True)
        return await asyncio.to_thread(parse.parse_jobs, stdout)


def _those(listing: Listing, wanted: Callable[[JobState], bool]) -> Listing:
    chosen = [seen for seen in listing.observations if wanted(seen.state)]
    return replace(listing, observations=chosen)


def create(options: SchedulerOptions, runner: Runner, settings: OarSettings) -> OarBackend:
    """Return the backend, not started; see `BackendFactory`."""
    return OarBackend(options, runner, settings)
