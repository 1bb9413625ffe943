"""The commands that change jobs: end, hold, signal and others."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from hpcq.cli.commands import JobIds, Json, command, complain_of, fail, quick_client
from hpcq.cli.jobs import headers, row
from hpcq.cli.options import fields_of, seconds_of
from hpcq.cli.screen import print_json, print_table
from hpcq.cli.texts import translated as _
from hpcq.client import Job
from hpcq.client.errors import ClientError

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the commands to an application."""
    for function in (rm, change, hold, release, suspend, resume, requeue, signal):
        command(app)(function)


def rm(
    job_ids: JobIds,
    tasks: Annotated[
        str | None, typer.Option("--tasks", help=_("Only these tasks of an array: 3-7,9."))
    ] = None,
    as_json: Json = False,
) -> None:
    """End jobs, or take ended ones off the listing."""
    _each(job_ids, lambda job: job.delete(tasks), as_json)


def change(
    job_ids: JobIds,
    name: Annotated[str | None, typer.Option("--name", "-N", help=_("The job's name."))] = None,
    queue: Annotated[str | None, typer.Option("--queue", "-q", help=_("The queue."))] = None,
    limit: Annotated[
        str | None, typer.Option("--time", "-t", help=_("The time limit: 90m, 12h, 2d, 1:30:00."))
    ] = None,
    memory: Annotated[
        float | None, typer.Option("--memory", "-m", help=_("The memory limit of the job, GB."))
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option("--field", "-F", help=_("NAME=VALUE, any other field of the API.")),
    ] = None,
    as_json: Json = False,
) -> None:
    """Change what queued jobs ask for."""
    given = {
        "name": name,
        "queue": queue,
        "wallTimeLimit": None if limit is None else seconds_of(limit),
        "memoryLimit": memory,
    }
    more: Any = {
        **{field: value for field, value in given.items() if value is not None},
        **fields_of(fields),
    }
    if not more:
        fail(_("Say what to change: --name, --queue, --time, --memory or --field."))
    _each(job_ids, lambda job: job.change(**more), as_json)


def hold(job_ids: JobIds, as_json: Json = False) -> None:
    """Keep queued jobs from starting."""
    _each(job_ids, Job.hold, as_json)


def release(job_ids: JobIds, as_json: Json = False) -> None:
    """Let held jobs start."""
    _each(job_ids, Job.release, as_json)


def suspend(job_ids: JobIds, as_json: Json = False) -> None:
    """Stop the processes of running jobs."""
    _each(job_ids, Job.suspend, as_json)


def resume(job_ids: JobIds, as_json: Json = False) -> None:
    """Let suspended jobs go on."""
    _each(job_ids, Job.resume, as_json)


def requeue(job_ids: JobIds, as_json: Json = False) -> None:
    """End running jobs and put them back into the queue."""
    _each(job_ids, Job.requeue, as_json)


def signal(
    name: Annotated[str, typer.Argument(metavar="SIGNAL", help=_("Its name: USR1."))],
    job_ids: JobIds,
    as_json: Json = False,
) -> None:
    """Send a signal to running jobs."""
    _each(job_ids, lambda job: job.signal(name.upper().removeprefix("SIG")), as_json)


def _each(job_ids: Sequence[str], act: Callable[[Job], object], as_json: bool) -> None:
    """Do something to each job; exit with the status of the last that failed."""
    status = 0
    done = []
    with quick_client() as client:
        for job_id in job_ids:
            try:
                job = client.job(job_id)
                act(job)
                done.append(job.refresh())
            except ClientError as error:
                status = complain_of(error)
    if as_json:
        print_json(done)
    else:
        print_table(headers(), map(row, done))
    raise typer.Exit(status)
