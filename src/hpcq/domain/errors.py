"""The exception tree.

::

    HpcqError
    ├── InvalidSpec             the request's content cannot be a job
    ├── InvalidWebhook          nor a webhook
    ├── JobNotFound             no such job, here or in the scheduler
    ├── WebhookNotFound         no such webhook
    ├── EventsGone              the events that are asked for are kept no longer
    ├── NoSuchFile              the job has no such file, or none that can be shown
    ├── NotAuthenticated        it is not known who asks
    │   └── SessionEnded            the browser's session is over
    ├── ProviderUnavailable     the identity provider cannot be asked who asks
    ├── NotAuthorized           the scheduler or the site forbids it
    ├── UnsupportedCapability   this scheduler cannot express it
    ├── QuotaExceeded           a limit of the site was reached
    ├── TooManyRequests         somebody asks faster than they may
    ├── SubmissionInProgress    the same submission is under way at this moment
    ├── SubmissionUnclear       nobody knows whether it went through, and nobody is told later
    ├── IdempotencyKeyReused    its key names another submission
    ├── WrongState              the job is past the point where that could be done
    ├── PartlyChanged           some of the changes of a job were made, and others refused
    ├── Overloaded              this service is at a limit of its own: connections, files, memory
    ├── PathUnavailable         the file system of a path does not answer
    ├── AccountUnavailable      this service cannot act in the name of an account at present
    ├── StoreUnavailable        this service's own records cannot be written or read
    │   └── RecordDamaged           the record of one job cannot; the others can
    └── SchedulerError
        ├── CommandFailed           it ran and said no
        ├── CommandTimedOut         it did not answer within the limit
        ├── OutputParseError        it answered something unreadable
        └── SchedulerUnavailable    it is not there
            └── CircuitOpen                it was left in peace, for it did not answer lately
                └── CommandMissing          its command is not there

Errors carry a sentence and fields; `hpcq.api.problems` alone chooses HTTP codes. `LeaseLost` stands
apart: no client sees it.
"""

from collections.abc import Sequence

__all__ = [
    "AccountUnavailable",
    "CircuitOpen",
    "CommandFailed",
    "CommandMissing",
    "CommandTimedOut",
    "EventsGone",
    "HpcqError",
    "IdempotencyKeyReused",
    "InvalidSpec",
    "InvalidWebhook",
    "JobNotFound",
    "LeaseLost",
    "NoSuchFile",
    "NotAuthenticated",
    "NotAuthorized",
    "OutputParseError",
    "Overloaded",
    "PartlyChanged",
    "PathUnavailable",
    "ProviderUnavailable",
    "QuotaExceeded",
    "RecordDamaged",
    "SchedulerError",
    "SchedulerUnavailable",
    "SessionEnded",
    "StoreUnavailable",
    "SubmissionInProgress",
    "SubmissionUnclear",
    "TooManyRequests",
    "UnsupportedCapability",
    "WebhookNotFound",
    "WrongState",
    "excerpt",
]

_EXCERPT_CHARACTERS = 400


def excerpt(output: bytes | str, limit: int = _EXCERPT_CHARACTERS) -> str:
    """Return the beginning of a command's output, printable, at most ``limit`` characters."""
    if isinstance(output, bytes):
        output = output[: 4 * limit].decode("utf-8", "replace")
    printable = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in output.strip())
    return printable if len(printable) <= limit else printable[: limit - 1] + "…"


class HpcqError(Exception):
    """Anything this service reports on purpose.

    Attributes:
        detail: a plain sentence a person can act on.
        transient: whether the same request may succeed later, unchanged.
        reached_scheduler: whether the scheduler may have acted on the request.
    """

    transient = False
    reached_scheduler = True

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class InvalidSpec(HpcqError):
    """The content of a request cannot be a job.

    Attributes:
        field: the field's name on the wire (``workingDirectory``), or None.
    """

    reached_scheduler = False

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        super().__init__(detail)
        self.field = field


class InvalidWebhook(HpcqError):
    """The content of a request cannot be a webhook.

    Attributes:
        field: the field's name on the wire.
    """

    reached_scheduler = False

    def __init__(self, detail: str, *, field: str) -> None:
        super().__init__(detail)
        self.field = field


class WebhookNotFound(HpcqError):
    """There is no such webhook."""

    reached_scheduler = False

    def __init__(self, webhook_id: str) -> None:
        super().__init__(f"There is no webhook {webhook_id!r}. GET /webhooks lists them.")


class JobNotFound(HpcqError):
    """Neither this service nor the scheduler knows the job."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"There is no job {job_id!r} in this cluster.")
        self.job_id = job_id


class EventsGone(HpcqError):
    """The events that a reader has missed are kept no longer, or are of other records."""

    reached_scheduler = False

    def __init__(self, after: int, oldest: int, newest: int) -> None:
        super().__init__(
            f"The events after {after} cannot be told: those from {oldest} to {newest} are kept. "
            "Read the jobs anew (GET /jobs), then follow without Last-Event-ID."
        )


class QueueNotFound(HpcqError):
    """The scheduler has no such queue, and had none of which a sample is kept."""

    def __init__(self, queue: str) -> None:
        super().__init__(
            f"There is no queue {queue!r:.200} in this cluster. GET /queues lists them."
        )


class NoSuchFile(HpcqError):
    """A job has no such file, at present or ever, or none that may be shown."""

    reached_scheduler = False


class Overloaded(HpcqError):
    """This service is at a limit of its own, which says nothing about the request."""

    transient = True
    reached_scheduler = False


class PathUnavailable(HpcqError):
    """The file system of a path does not answer, which says nothing about the path."""

    transient = True
    reached_scheduler = False


class AccountUnavailable(HpcqError):
    """This service cannot act in the name of an account; nothing was done in its name."""

    transient = True
    reached_scheduler = False


class NotAuthenticated(HpcqError):
    """It is not known who asks, or what they show is not good."""

    reached_scheduler = False


class SessionEnded(NotAuthenticated):
    """The cookie of a request is of a session that is over."""


class ProviderUnavailable(HpcqError):
    """The OpenID Connect provider, or the directory of accounts, cannot say who asks."""

    transient = True
    reached_scheduler = False


class NotAuthorized(HpcqError):
    """The scheduler or the site does not let this account do that."""

    def __init__(self, detail: str, *, scheduler_message: str | None = None) -> None:
        super().__init__(detail)
        self.scheduler_message = scheduler_message


class UnsupportedCapability(HpcqError):
    """The scheduler in use has no way to say this.

    Attributes:
        field: the request's field or the action that cannot be expressed.
    """

    reached_scheduler = False

    def __init__(self, field: str, scheduler: str, detail: str | None = None) -> None:
        super().__init__(
            detail or f"The {scheduler} scheduler of this cluster cannot express {field!r}."
        )
        self.field = field
        self.scheduler = scheduler


class QuotaExceeded(HpcqError):
    """A limit of the site was reached, of the scheduler (its message says which) or of ours."""

    transient = True

    def __init__(self, detail: str, *, scheduler_message: str | None = None) -> None:
        super().__init__(detail)
        self.scheduler_message = scheduler_message


class TooManyRequests(HpcqError):
    """Somebody sends more requests in a second than they may.

    Attributes:
        retry_after_seconds: when the same request will be answered.
    """

    transient = True
    reached_scheduler = False

    def __init__(self, detail: str, *, retry_after_seconds: int) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class SubmissionInProgress(HpcqError):
    """The same submission was sent before, and its answer is still waited for."""

    transient = True
    retry_after_seconds = 1


class SubmissionUnclear(HpcqError):
    """Nobody knows whether the scheduler took a job, nor can it be promised to be carried out."""


class IdempotencyKeyReused(HpcqError):
    """An idempotency key was used for another submission before."""

    field = "Idempotency-Key"


class WrongState(HpcqError):
    """The job is in a state in which this cannot be done to it."""


class PartlyChanged(HpcqError):
    """The scheduler made some of the changes that a request asks for, and refused the others.

    Attributes:
        changed: the fields that are as the request has them, by their names on the wire.
    """

    def __init__(self, changed: Sequence[str], reason: HpcqError) -> None:
        super().__init__(
            f"The scheduler changed {', '.join(changed)}, and not the rest: {reason.detail}"
        )
        self.changed = tuple(changed)
        self.field = getattr(reason, "field", None)
        self.scheduler_message = getattr(reason, "scheduler_message", None)


class StoreUnavailable(HpcqError):
    """This service's own records cannot be read or written (disk full, locked, missing)."""

    transient = True


class RecordDamaged(StoreUnavailable):
    """The record of one job cannot be read; waiting does not help."""

    def __init__(self, uid: str, reason: str) -> None:
        super().__init__(f"The record of the job {uid} is damaged: {reason}.")
        self.uid = uid


class LeaseLost(Exception):
    """Another replica has taken the task of asking the scheduler over.

    Attributes:
        holder: the replica that had it.
    """

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


class SchedulerError(HpcqError):
    """The scheduler did not do what it was asked to.

    Attributes:
        of_accounting: whether it was the accounting that failed; the rest may be well.
    """

    of_accounting = False

    def __init__(self, detail: str, *, scheduler_message: str | None = None) -> None:
        super().__init__(detail)
        self.scheduler_message = scheduler_message


class CommandFailed(SchedulerError):
    """A scheduler's command ran and refused.

    Attributes:
        argv: the command, as run.
        exit_code: its exit status; negative for a signal.
        scheduler_message: an excerpt of its standard error, else of its standard output.
    """

    def __init__(
        self, argv: Sequence[str], exit_code: int, stderr: bytes, stdout: bytes = b""
    ) -> None:
        message = excerpt(stderr) or excerpt(stdout)
        super().__init__(
            f"The scheduler refused: {argv[0]} exited with {exit_code}"
            + (f" and said: {message}" if message else " and said nothing."),
            scheduler_message=message or None,
        )
        self.argv = tuple(argv)
        self.exit_code = exit_code


class CommandTimedOut(SchedulerError):
    """A scheduler's command did not end within its limit; all its processes were killed.

    Attributes:
        argv: the command, as run.
        timeout_seconds: the limit.
        stdout, stderr: what it had printed until then.
    """

    transient = True

    def __init__(
        self, argv: Sequence[str], timeout_seconds: float, stdout: bytes = b"", stderr: bytes = b""
    ) -> None:
        super().__init__(
            f"The scheduler did not answer: {argv[0]} was ended after {timeout_seconds:g} s.",
            scheduler_message=excerpt(stderr) or None,
        )
        self.argv = tuple(argv)
        self.timeout_seconds = timeout_seconds
        self.stdout = stdout
        self.stderr = stderr


class OutputParseError(SchedulerError):
    """A scheduler's command answered something that cannot be read.

    Attributes:
        command: the name of the command.
        excerpt: the beginning of what it printed.
    """

    transient = True

    def __init__(self, command: str, reason: str, output: bytes | str) -> None:
        self.command = command
        self.excerpt = excerpt(output)
        super().__init__(
            f"The answer of {command} could not be read: {reason}.",
            scheduler_message=self.excerpt or None,
        )


class SchedulerUnavailable(SchedulerError):
    """The scheduler's commands are missing, or its server does not answer them.

    Attributes:
        retry_after_seconds: when the same request may succeed, if that is known.
    """

    transient = True

    def __init__(
        self,
        detail: str,
        *,
        scheduler_message: str | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(detail, scheduler_message=scheduler_message)
        self.retry_after_seconds = retry_after_seconds


class CircuitOpen(SchedulerUnavailable):
    """Nothing has reached the scheduler."""

    reached_scheduler = False


class CommandMissing(CircuitOpen):
    """A scheduler's command could not be started at all.

    Attributes:
        forbidden: the path of the command if it is there, and this account may not run it.
    """

    forbidden: str | None = None
