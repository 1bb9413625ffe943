"""Contract between the services and a scheduler's backend, and the data that crosses it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hpcq.domain.actions import Action, Signal
from hpcq.domain.errors import SchedulerError
from hpcq.domain.ids import ANY_ID, IdForm
from hpcq.domain.jobs import JobSpec, NativeId, Observation, SubmissionKey
from hpcq.execution.accounts import Accounts
from hpcq.execution.protocol import Runner

__all__ = [
    "ACCOUNT_VARIABLES",
    "BackendFactory",
    "Capabilities",
    "Listing",
    "Node",
    "ParseFailure",
    "Queue",
    "SchedulerBackend",
    "SchedulerOptions",
    "ScriptDirectives",
]

ACCOUNT_VARIABLES = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG")
"""Variables that a login gives an account; a job gets no others of the service's environment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerOptions:
    """Settings that every backend gets, whichever scheduler it is for.

    Attributes:
        cluster_id: this deployment's name.
        state_directory: where the service keeps its files; LOCAL has its spool below it.
        environment: what the scheduler's commands are given and nothing else: ``PATH``, ``HOME``,
            ``USER``, ``LOGNAME``, ``SHELL``, ``LANG`` and the scheduler's own variables
            (``SGE_ROOT``, ``SLURM_CONF`` …).
        command_path: the ``PATH`` in which the scheduler's commands are looked up.
        command_timeout_seconds: how long one command may take.
        listing_limit_bytes: the most a queue listing may print.
        job_shell: the interpreter of scripts without a ``#!`` line; None for the scheduler's own
            choice, and for ``/bin/bash`` where it has none.
        submit_options: names of options of the submission command that requests may give.
        accounts: those in whose name jobs are submitted; None where the service does so itself.
    """

    cluster_id: str
    state_directory: Path
    environment: Mapping[str, str]
    command_path: str
    command_timeout_seconds: float
    listing_limit_bytes: int
    job_shell: str | None = None
    submit_options: tuple[str, ...] = ()
    accounts: Accounts | None = None

    def environment_of(self, run_as: str | None) -> dict[str, str]:
        """Return what the scheduler's commands are given in the name of an account.

        Args:
            run_as: the account; None for the service's own.
        """
        if run_as is None or self.accounts is None:
            return dict(self.environment)
        return {**self.environment, **self.accounts.environment(run_as)}

    @property
    def account_environment(self) -> dict[str, str]:
        """The first variables of the environment of the service's own jobs."""
        return self.account_environment_of(None)

    def account_environment_of(self, run_as: str | None) -> dict[str, str]:
        """Return the first variables of a job's environment, without those of the scheduler.

        Args:
            run_as: the account whose job it is; None for the service's own.
        """
        known = self.environment_of(run_as)
        return {name: known[name] for name in ACCOUNT_VARIABLES if name in known}


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Fields and actions that a scheduler can express; data, so that clients can ask first.

    Attributes:
        fields: the optional fields of `JobSpec` that a submission may set.
        actions: what `SchedulerBackend.act` can do with a job.
        changes: the fields of `JobSpec` that `AltersJobs.alter` can change of a queued job.
        removals: those among them that it can take back, so that the job has none.
        accounting: whether finished jobs can be asked for.
        memory_enforced: whether a job above its memory limit is ended.
        absence_is_certain: whether a job that `SchedulerBackend.find` does not find surely does
            not exist, and will not turn up later.
        max_script_bytes: the size of the largest script that it takes.
        id_forms: how it writes the ids of its jobs; anything else is no job's.
        task_id: how it writes the id of a task: with ``{array}`` and ``{task}``.
    """

    fields: frozenset[str]
    actions: frozenset[Action]
    accounting: bool
    memory_enforced: bool
    absence_is_certain: bool = False
    max_script_bytes: int = 64 << 20
    id_forms: tuple[IdForm, ...] = (ANY_ID,)
    task_id: str = "{array}[{task}]"
    changes: frozenset[str] = frozenset()
    removals: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptDirectives:
    """Choices that a script makes by directives of its own, where the request makes none.

    Attributes:
        name: the job's name; None when the script does not say.
        stdout, stderr: patterns of the output's paths, as `hpcq.domain.outputs.place_outputs`
            takes them. None for ``NAME.oID`` and ``NAME.eID``; a backend whose own default
            differs, as for an array, gives that. The request's paths win.
        task_suffix: what is added to a path of the request so that each task of an array has a
            file of its own, ``.%a``; None for a job that is no array.
        asks_time_limit: False if the script surely asks for no wall time limit, and the scheduler
            shows its queue's in place of none.
    """

    name: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    task_suffix: str | None = None
    asks_time_limit: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseFailure:
    """One record in a scheduler's answer that could not be read.

    Attributes:
        reason: what is wrong with it, in words.
        excerpt: its beginning, printable.
        native_id: the job, when at least that could be read.
    """

    reason: str
    excerpt: str
    native_id: NativeId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Answer of a scheduler: the records that could be read and, beside them, the others.

    Observations that did not change since the last listing may be the same objects.

    Attributes:
        observations: the readable records.
        unreadable: the others.
        partial_reason: the failure for which records may be absent that exist: a part of the
            scheduler was away, and another one answered for it.
    """

    observations: Sequence[Observation] = ()
    unreadable: Sequence[ParseFailure] = ()
    partial_reason: SchedulerError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue or partition."""

    name: str
    is_open: bool
    """True if it takes and starts jobs."""
    native_state: str | None = None
    slots_total: int | None = None
    slots_used: int | None = None
    max_wall_time_seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An execution host."""

    name: str
    is_up: bool
    native_state: str | None = None
    slots_total: int | None = None
    slots_used: int | None = None
    memory_bytes: int | None = None
    queues: tuple[str, ...] = field(default=())


class SchedulerBackend(Protocol):
    """One scheduler. All methods may raise `SchedulerError` and its kinds.

    A plugin inherits nothing: it has these members, and an entry point in the group
    ``hpcq.schedulers`` that names a `BackendFactory`.
    """

    @property
    def name(self) -> str:
        """The ``SCHEDULER`` setting that selects it: ``SLURM``."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """The features of the scheduler."""
        ...

    async def start(self, wake: Callable[[], None]) -> None:
        """Begin work. A scheduler that can tell when its queue changed calls ``wake`` then."""
        ...

    async def stop(self) -> None:
        """End work; jobs go on."""
        ...

    def check_script(self, spec: JobSpec, script: bytes) -> ScriptDirectives:
        """Return what the script's own directives decide where the request is silent.

        Pure, and called outside the event loop. What the request says wins; what it does not say,
        the script's stands: `submit` gives no option for it.

        Args:
            spec: the job; its name is empty when the request gives none.
            script: the content of the script file.

        Raises:
            InvalidSpec: a directive cannot be honoured; it is named, with its line.
        """
        ...

    async def submit(self, spec: JobSpec, key: SubmissionKey, script: bytes) -> NativeId:
        """Hand the job over, marked with the key, and return the scheduler's id.

        Called once per key, after `check_script`; never retried blindly.

        Args:
            spec: the job. With ``run_as`` that account submits it (`Command.run_as`).
            key: the mark.
            script: the content of the script file. A backend reads no file of a job itself: it
                would do so with the service's rights.

        Raises:
            InvalidSpec: the scheduler can never take this content.
            CommandFailed: it refused; the message is the scheduler's.
            CommandTimedOut, OutputParseError: the job may exist: `find` it.
            SchedulerUnavailable: it is away.
        """
        ...

    async def find(self, key: SubmissionKey, run_as: str | None = None) -> NativeId | None:
        """Return the job that carries the key, in queue or accounting; None if none does.

        Args:
            key: the mark.
            run_as: the account that submitted it; None for the service's own.
        """
        ...

    async def jobs(self) -> Listing:
        """Return the whole queue, of all users, in one command: one observation per job.

        Array tasks that the scheduler tells apart are one observation each.
        """
        ...

    async def history(self, ids: Sequence[NativeId]) -> Listing:
        """Return what accounting knows of these jobs, final states only; unknown ones are absent.

        A job that ran has a `Usage`, if only an empty one, once accounting has told its end; one
        without has it from elsewhere, and may be asked about again.

        Where an id was used more than once the observations of all its jobs are returned; the
        caller tells them apart by submission time, owner and key.
        """
        ...

    async def details(self, ids: Sequence[NativeId]) -> Listing:
        """Return what the queue knows of these jobs beyond `jobs`: usage, directory, reasons.

        Jobs no longer in the queue are absent. As few commands as the scheduler allows.
        """
        ...

    async def cancel(self, native_id: NativeId, run_as: str | None = None) -> bool:
        """Ask the scheduler to end the job. A finished one is left alone, without an error.

        Args:
            native_id: the job.
            run_as: the account in whose name the scheduler is asked; None for the service's own.

        Returns:
            Whether the scheduler said that it deleted the job from the queue before it ever
            started, in which case some keep no accounting of it. False says nothing.

        Raises:
            JobNotFound: the scheduler does not know it (any more).
            NotAuthorized: it belongs to someone else.
        """
        ...

    async def act(
        self,
        action: Action,
        native_id: NativeId,
        run_as: str | None = None,
        signal: Signal | None = None,
    ) -> None:
        """Ask the scheduler to do something with a job in its queue.

        Called for actions among `Capabilities.actions`.

        Args:
            action: what it is to do.
            native_id: the job.
            run_as: the account in whose name the scheduler is asked; None for the service's own.
            signal: for `Action.SIGNAL`; else None.

        Raises:
            JobNotFound: the scheduler does not know it (any more).
            NotAuthorized: it belongs to someone else, or the action is for operators.
            WrongState: it is not in a state in which this can be done.
        """
        ...

    async def queues(self) -> Sequence[Queue]:
        """Return the queues or partitions."""
        ...

    async def nodes(self) -> Sequence[Node]:
        """Return the execution hosts."""
        ...

    async def version(self) -> str:
        """Return the scheduler's name and version in its own words: ``slurm 22.05.8``."""
        ...


class BackendFactory(Protocol):
    """Makes a backend; starts nothing."""

    def __call__(
        self, options: SchedulerOptions, runner: Runner, settings: Any
    ) -> SchedulerBackend:
        """Return the backend, not started.

        Args:
            options: what every backend gets.
            runner: runs commands.
            settings: the section of settings that the scheduler's package declares, if it does.

        Raises:
            ValueError: a setting has a value that this scheduler cannot work with.
        """
        ...
