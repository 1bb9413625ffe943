"""What Slurm's commands print when they refuse, as exceptions.

The texts are those of ``slurm_strerror`` (``src/common/slurm_errno.c``), which versions keep.
"""

import re

from hpcq.domain.errors import (
    CommandFailed,
    CommandMissing,
    CommandTimedOut,
    HpcqError,
    JobNotFound,
    NotAuthorized,
    OutputParseError,
    QuotaExceeded,
    SchedulerUnavailable,
    excerpt,
)
from hpcq.execution.protocol import Completed

__all__ = ["accounting_failure", "failure", "is_over", "is_unknown_job", "submission_failure"]

_AWAY = (
    b"Unable to contact slurm controller",
    b"Slurm backup controller in standby mode",
    b"Connection refused",
    b"Unable to establish controller machine",
    b"Unable to resolve",
    b"Unable to establish configuration source",
    b"Protocol authentication error",
    b"Munge encode failed",
    b"Problem talking to the database",
    b"Unable to establish control machine",
    # scontrol's words when the controller is down (22.05).
    b"Unexpected message received",
)
# The request was sent, or may have been: Slurm may have done it.
_UNCERTAIN = (
    b"Socket timed out",
    b"Zero Bytes were transmitted",
    b"Message receive failure",
    b"Message send failure",
    b"Transport endpoint is not connected",
    b"Communication connection failure",
)
_FORBIDDEN = (
    b"Access/permission denied",
    b"Invalid user id",
    b"User not found on host",
    b"not permitted to use",
    b"Access denied",
)
# Limits that pass: MaxJobCount, MaxSubmitJobs and the like.
_QUOTA = (
    b"Job violates accounting/QOS policy",
    b"temporarily unable to accept job",
    b"job submit limit",
)
_UNKNOWN = (b"Invalid job id specified", b"Invalid Job Id")
_OVER = (b"already completing or completed", b"already finished")
_NO_ACCOUNTING = (b"accounting storage is disabled", b"Slurm accounting storage is disabled")

_NOT_FOUND = 127
"""The shell's exit status for a command that does not exist."""
_NOT_FOUND_WORDS = re.compile(rb"sbatch\S*: (?:command )?not found|sbatch: No such file")
# What sbatch says before its own complaints. Whatever else fails, a site's wrapper around it for
# one, may fail after sbatch has done its work.
_OWN_WORDS = re.compile(
    rb"^(?:/\S*/)?sbatch: (?:error|fatal|unrecognized option|invalid option|option )", re.MULTILINE
)


def is_unknown_job(done: Completed) -> bool:
    """Whether the controller does not know the job, or no longer."""
    return _has(done, _UNKNOWN)


def is_over(done: Completed) -> bool:
    """Whether the command came too late, because the job has ended."""
    return _has(done, _OVER)


def failure(done: Completed, job_id: str | None = None) -> HpcqError:
    """Return the exception for a command that failed.

    Args:
        done: a command with another exit status than 0, or with an error on stderr.
        job_id: whose job it was about.
    """
    message = excerpt(done.stderr) or excerpt(done.stdout)
    if job_id is not None and is_unknown_job(done):
        return JobNotFound(job_id)
    if _has(done, _AWAY) or _has(done, _UNCERTAIN):
        return SchedulerUnavailable(
            f"Slurm does not answer {done.argv[0]}: {_last_line(message)}.",
            scheduler_message=message,
        )
    if _has(done, _FORBIDDEN):
        return NotAuthorized(
            "Slurm does not let this service's account do that.", scheduler_message=message
        )
    return CommandFailed(done.argv, done.exit_code, done.stderr, done.stdout)


def submission_failure(done: Completed, timeout_seconds: float) -> HpcqError:
    """Return the exception for an sbatch that failed.

    `CommandTimedOut` and `OutputParseError` say that the job may exist nevertheless.

    Args:
        done: sbatch with another exit status than 0.
        timeout_seconds: how long it was given.
    """
    if _has(done, _UNCERTAIN):
        return CommandTimedOut(done.argv, timeout_seconds, done.stdout, done.stderr)
    if done.stdout.strip():
        return OutputParseError(
            "sbatch", f"it printed an id and exited with {done.exit_code}", done.stdout
        )
    if done.exit_code == _NOT_FOUND and _NOT_FOUND_WORDS.search(done.stderr):
        return CommandMissing(
            "The command 'sbatch' was not found. Is Slurm's client installed on this machine?",
            scheduler_message=excerpt(done.stderr),
        )
    if done.exit_code < 0:
        return OutputParseError("sbatch", f"signal {-done.exit_code} ended it", done.stderr)
    if not _OWN_WORDS.search(done.stderr):
        return OutputParseError(
            "sbatch", f"it exited with {done.exit_code}, without words of its own", done.stderr
        )
    if _has(done, _QUOTA):
        message = excerpt(done.stderr)
        return QuotaExceeded(
            f"A limit of the site is reached: {_last_line(message)}.", scheduler_message=message
        )
    return failure(done)


def accounting_failure(done: Completed) -> HpcqError | None:
    """Return the exception for a failed sacct; None where the site keeps no accounting."""
    return None if _has(done, _NO_ACCOUNTING) else failure(done)


def _has(done: Completed, texts: tuple[bytes, ...]) -> bool:
    return any(text in done.stderr for text in texts)


def _last_line(message: str) -> str:
    return message.splitlines()[-1].rstrip(".") if message else "it said nothing"
