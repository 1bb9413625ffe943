"""The wait for a job's end, and the exit status that tells it."""

import typer

from hpcq.cli.commands import EXIT_REFUSED, EXIT_TIMEOUT
from hpcq.cli.screen import complain, print_output, sign_of_life
from hpcq.cli.texts import translated as _
from hpcq.client import Job
from hpcq.client.errors import NotFound

__all__ = ["exit_status", "follow", "wait_for"]

_SIGNAL_EXIT = 128


def wait_for(job: Job, timeout: float | None = None) -> Job:
    """Wait until a job is over, with a sign of life on a terminal; return it.

    Raises:
        Exit: it was not over in time.
    """
    try:
        with sign_of_life(_("Waiting for the job {job}; Ctrl-C leaves it be.").format(job=job.id)):
            return job.wait(timeout)
    except TimeoutError:
        complain(_("The job {job} is not over yet.").format(job=job.id))
        raise typer.Exit(EXIT_TIMEOUT) from None


def follow(job: Job) -> Job:
    """Print what a job writes until it is over; return it."""
    try:
        for text in job.output().follow():
            print_output(text)
    except NotFound as error:
        complain(error.detail)
    return job.wait()


def exit_status(job: Job) -> int:
    """Return the exit status that tells how a job ended."""
    if job.state == "DONE":
        return 0
    if job.exit_signal:
        return _SIGNAL_EXIT + job.exit_signal
    return job.exit_code or EXIT_REFUSED
