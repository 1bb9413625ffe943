"""Abilities that a scheduler's backend may have besides the contract, and their data.

A backend has the method of an ability if its scheduler can do this. It inherits nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from hpcq.domain.jobs import JobSpec, NativeId, SubmissionKey
from hpcq.schedulers.base import Listing

__all__ = [
    "AltersJobs",
    "CancelsTasks",
    "ChecksSubmission",
    "ExaminesSite",
    "ForgetsKeys",
    "KeepsRecords",
    "KnowsEnds",
    "Mistake",
    "PlansSubmission",
    "SubmissionPlan",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionPlan:
    """The command that submits a job, ready to run.

    Attributes:
        argv: the command and its arguments.
        cwd: where it runs.
        stdin: what it reads; empty where it reads the script's file itself.
        environment: its whole environment, but for the scheduler's own variables; None for that
            of all commands.
        directives: the lines of the script that the scheduler obeys besides.
    """

    argv: tuple[str, ...]
    cwd: str
    stdin: bytes = b""
    environment: Mapping[str, str] | None = None
    directives: tuple[str, ...] = ()


@runtime_checkable
class KnowsEnds(Protocol):
    """A backend for a scheduler that shows ends without its accounting."""

    async def ended(self, ids: Sequence[NativeId]) -> Listing:
        """Return those of these jobs that ended lately, as `SchedulerBackend.history` does.

        Asked in its stead while the accounting is away, and must not ask it.
        """
        ...


@runtime_checkable
class CancelsTasks(Protocol):
    """A backend for a scheduler that ends many tasks of an array with one command."""

    async def cancel_tasks(
        self, array: NativeId, tasks: Mapping[int, NativeId], run_as: str | None = None
    ) -> Collection[NativeId]:
        """Ask the scheduler to end some tasks; those that are over are left alone.

        Args:
            array: the whole array.
            tasks: at least one, by their numbers.
            run_as: the account in whose name the scheduler is asked; None for the service's own.

        Returns:
            Those that the scheduler said it deleted before they ever started.

        Raises:
            NotAuthorized: the array belongs to someone else.
        """
        ...


@runtime_checkable
class ForgetsKeys(Protocol):
    """A backend for a scheduler that keeps the end of a job longer than its key."""

    async def find_similar_ended(self, spec: JobSpec, since: datetime) -> Sequence[NativeId]:
        """Return jobs that ended and may have been submitted for this, although no key says so.

        Asked when `find` has found nothing, before that is taken for certain. As far as can be
        told: none where nothing can be read.

        Args:
            spec: what was submitted.
            since: not before then, by this machine's clock.
        """
        ...


@runtime_checkable
class KeepsRecords(Protocol):
    """A backend that keeps records of ended jobs itself, for as long as asked."""

    async def forget(self, before: datetime) -> int:
        """Delete some of what is kept of jobs that ended before a moment.

        Returns:
            How many; 0 when none is left.
        """
        ...


@runtime_checkable
class ChecksSubmission(Protocol):
    """A backend that can tell beforehand whether submitting works."""

    async def check_submission(self) -> None:
        """Make sure that a plain job would be taken; submit nothing.

        Raises:
            SchedulerError: no job would be, or the scheduler does not answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class Mistake:
    """A mistake in a scheduler's configuration.

    Attributes:
        text: what is wrong, a sentence.
        remedy: what the site can do about it, a sentence.
    """

    text: str
    remedy: str


@runtime_checkable
class ExaminesSite(Protocol):
    """A backend that can look for mistakes in the scheduler's configuration."""

    async def examine(self) -> Mistake | None:
        """Return the first mistake that keeps the service from working as it should.

        Raises:
            SchedulerError: the scheduler does not answer.
        """
        ...


@runtime_checkable
class AltersJobs(Protocol):
    """A backend that can change what was asked for a job that waits."""

    async def alter(
        self,
        native_id: NativeId,
        spec: JobSpec,
        fields: frozenset[str],
        run_as: str | None = None,
    ) -> None:
        """Have the scheduler change a queued or held job, all fields at once where it can.

        Args:
            native_id: the job, or a whole array.
            spec: the job as it is to be. Of one that did not come through this service, its slots
                and what changes.
            fields: those that change, all of `Capabilities.changes`. One that is None now is taken
                back, and is one of `Capabilities.removals`.
            run_as: the account in whose name the scheduler is asked; None for the service's own.

        Raises:
            InvalidSpec: the scheduler does not take a value.
            JobNotFound: the scheduler does not know the job (any more).
            NotAuthorized: it belongs to someone else, or the change is for operators.
            WrongState: it does not wait (any more).
        """
        ...


@runtime_checkable
class PlansSubmission(Protocol):
    """A backend that can tell beforehand how it would submit a job."""

    async def plan(self, spec: JobSpec, key: SubmissionKey, script: bytes) -> SubmissionPlan:
        """Return what `SchedulerBackend.submit` runs with the same arguments; submit nothing.

        Raises as that does before it runs anything.
        """
        ...
