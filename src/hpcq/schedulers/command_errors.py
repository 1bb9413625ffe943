"""Refusals of a scheduler's commands: words and exit statuses, and the errors that they mean."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from hpcq.domain.errors import (
    CommandFailed,
    InvalidSpec,
    JobNotFound,
    NotAuthorized,
    OutputParseError,
    QuotaExceeded,
    SchedulerUnavailable,
    WrongState,
    excerpt,
)
from hpcq.domain.jobs import NativeId
from hpcq.execution.protocol import Completed

__all__ = ["ErrorKind", "ErrorTable"]


_WIRE_NAMES = {"wall_time_limit_seconds": "wallTimeLimit", "memory_limit_bytes": "memoryLimit"}


class ErrorKind(Enum):
    """Reason for which a command failed."""

    UNAVAILABLE = auto()
    """The scheduler did not answer, and did nothing."""
    ANSWER_LOST = auto()
    """The request was sent; whether it was carried out is not known."""
    UNKNOWN_JOB = auto()
    FORBIDDEN = auto()
    WRONG_STATE = auto()
    """The job has ended, or is about to."""
    LIMIT_REACHED = auto()
    """The site takes no more jobs at present."""
    OTHER = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorTable:
    """Refusals of one scheduler's commands.

    Attributes:
        scheduler: its name in messages: ``Grid Engine``.
        words: patterns of what a failed command prints. The first that is found counts, and words
            count before exit statuses.
        statuses: exit statuses.
        fields: patterns of what the submission command refuses and a caller can correct, with the
            request's field that they are about, as the wire names it; None for no single one.
        field_statuses: exit statuses of the same.
        own_words: what the submission command prints before its own complaints. Whatever else
            fails, a site's wrapper around it for one, may fail after it has done its work.
        noise: what messages leave out: the usage, a frame around the words.
        reads_stdout: whether commands complain on standard output too.

    >>> words = [(re.compile("Invalid job id"), ErrorKind.UNKNOWN_JOB)]
    >>> done = Completed(argv=("scancel", "7"), exit_code=1, stdout=b"", stderr=b"Invalid job id")
    >>> ErrorTable(scheduler="Slurm", words=words).kind_of(done)
    <ErrorKind.UNKNOWN_JOB: 3>
    """

    scheduler: str
    words: Sequence[tuple[re.Pattern[str], ErrorKind]] = ()
    statuses: Mapping[int, ErrorKind] = field(default_factory=dict)
    fields: Sequence[tuple[re.Pattern[str], str | None]] = ()
    field_statuses: Mapping[int, str] = field(default_factory=dict)
    own_words: re.Pattern[str] = re.compile("")
    noise: re.Pattern[str] = re.compile(r"(?!)")
    reads_stdout: bool = False

    def kind_of(self, done: Completed) -> ErrorKind | None:
        """Return the reason for which a command failed; None for one that exited with 0."""
        if done.exit_code == 0:
            return None
        said = self._said(done)
        found = (kind for pattern, kind in self.words if pattern.search(said))
        return next(found, self.statuses.get(done.exit_code, ErrorKind.OTHER))

    def message_of(self, done: Completed) -> str:
        """Return the beginning of a command's complaint, without noise."""
        said = self._said(done).strip() or done.stdout.decode("utf-8", "replace")
        return excerpt(self.noise.sub("", said).strip() or said)

    def words_of(self, done: Completed) -> str:
        """Return a command's complaint as part of a sentence."""
        return self.message_of(done)

    def check(self, done: Completed, native_id: NativeId | None = None) -> None:
        """Return if the command succeeded.

        Args:
            done: a command that ended.
            native_id: the job that it was about.

        Raises:
            SchedulerUnavailable: the scheduler did not answer.
            JobNotFound: there is no such job, or no longer.
            NotAuthorized: the job, or the right to touch it, is someone else's.
            WrongState: the job has ended, or is about to.
            QuotaExceeded: a limit on the number of jobs is reached.
            CommandFailed: anything else.
        """
        kind = self.kind_of(done)
        if kind is None:
            return
        message, words = self.message_of(done), self.words_of(done)
        match kind:
            case ErrorKind.UNAVAILABLE | ErrorKind.ANSWER_LOST:
                raise SchedulerUnavailable(
                    f"{self.scheduler} does not answer: {words}", scheduler_message=message
                )
            case ErrorKind.UNKNOWN_JOB if native_id is not None:
                raise JobNotFound(native_id)
            case ErrorKind.FORBIDDEN:
                raise NotAuthorized(
                    f"{self.scheduler} does not allow it: {words}", scheduler_message=message
                )
            case ErrorKind.WRONG_STATE:
                raise WrongState(f"The job's state does not allow it: {words}")
            case ErrorKind.LIMIT_REACHED:
                raise QuotaExceeded(
                    f"{self.scheduler} takes no more jobs at present: {words}",
                    scheduler_message=message,
                )
        raise CommandFailed(done.argv, done.exit_code, message.encode())

    def check_submission(
        self, done: Completed, job_id: re.Pattern[bytes], program: str | None = None
    ) -> None:
        """Return if the submission command exited with 0.

        Args:
            done: how it ended.
            job_id: what it prints on standard output when it has submitted a job.
            program: its path, for messages.

        Raises:
            OutputParseError: the job may exist nevertheless.
            InvalidSpec: there is no job, for a reason that the caller can correct.
            QuotaExceeded, NotAuthorized, SchedulerUnavailable, CommandFailed: there is no job.
        """
        if done.exit_code == 0:
            return
        said, kind = self._said(done), self.kind_of(done)
        reason = None
        if done.exit_code < 0:
            reason = f"signal {-done.exit_code} ended it"
        elif job_id.fullmatch(done.stdout):
            reason = f"it printed an id and exited with {done.exit_code}"
        elif kind is ErrorKind.ANSWER_LOST:
            reason = f"the answer of {self.scheduler} was lost"
        elif not self.own_words.search(said):
            reason = f"it exited with {done.exit_code}, without words of its own"
        if reason is not None:
            raise OutputParseError(program or done.argv[0], reason, done.stderr + done.stdout)
        names = self._fields_of(done)
        if names and kind not in (ErrorKind.UNAVAILABLE, ErrorKind.LIMIT_REACHED):
            raise InvalidSpec(f"{self.scheduler} refuses it: {self.words_of(done)}", field=names[0])
        self.check(done)

    def check_alteration(
        self, done: Completed, native_id: NativeId, fields: Collection[str]
    ) -> None:
        """Return if a command changed a job.

        Args:
            done: how it ended.
            native_id: the job.
            fields: those of `JobSpec` that were to change.

        Raises:
            InvalidSpec: the scheduler does not take one of their values.
            HpcqError: see `check`.
        """
        asked = {_WIRE_NAMES.get(name, name) for name in fields}
        named = [name for name in self._fields_of(done) if name in asked]
        # "The project does not exist" is not said of a job.
        if named and self.kind_of(done) in (ErrorKind.OTHER, ErrorKind.UNKNOWN_JOB):
            raise InvalidSpec(f"{self.scheduler} refuses it: {self.words_of(done)}", field=named[0])
        self.check(done, native_id)

    def _fields_of(self, done: Completed) -> list[str | None]:
        said = self._said(done)
        names = [name for pattern, name in self.fields if pattern.search(said)]
        return names + [
            name for code, name in self.field_statuses.items() if code == done.exit_code
        ]

    def _said(self, done: Completed) -> str:
        said = done.stderr + b"\n" + done.stdout if self.reads_stdout else done.stderr
        return said.decode("utf-8", "replace")
