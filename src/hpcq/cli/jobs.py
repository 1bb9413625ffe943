"""The commands about jobs: list, show, act, read their output, wait for them."""

import getpass
import itertools
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import UTC
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live

from hpcq.cli.commands import (
    JobId,
    JobIds,
    Json,
    command,
    fail,
    quick_client,
)
from hpcq.cli.screen import (
    Cell,
    duration,
    gigabytes,
    local_time,
    out,
    print_fields,
    print_json,
    print_json_line,
    print_output,
    print_table,
    sparkline,
    state,
    table_of,
)
from hpcq.cli.texts import reason
from hpcq.cli.texts import translated as _
from hpcq.cli.waiting import exit_status, wait_for
from hpcq.client import Client, Job
from hpcq.client.answers import JobData, ResourceUsage
from hpcq.domain.units import format_share

__all__ = ["add_to", "charts", "fields", "headers", "is_of", "row"]

_WATCH_SECONDS = 2.0


def add_to(app: typer.Typer) -> None:
    """Add the commands to an application."""
    for function in (ls, show, logs, files, fetch, wait):
        command(app)(function)
    command(app, "usage")(show_usage)


def ls(
    mine: Annotated[bool, typer.Option("--mine", "-m", help=_("Only your own jobs."))] = False,
    active: Annotated[
        bool, typer.Option("--active", "-a", help=_("Only jobs that are not over."))
    ] = False,
    states: Annotated[
        list[str] | None, typer.Option("--state", "-s", help=_("Only jobs in this state."))
    ] = None,
    owner: Annotated[
        list[str] | None, typer.Option("--owner", "-u", help=_("Only jobs of this account."))
    ] = None,
    queue: Annotated[
        list[str] | None, typer.Option("--queue", "-q", help=_("Only jobs in this queue."))
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", "-n", help=_("Only jobs with this name; * is any text."))
    ] = None,
    program: Annotated[
        str | None, typer.Option("--program", help=_("Only jobs that run this program."))
    ] = None,
    text: Annotated[
        str | None,
        typer.Option("--text", "-t", help=_("Only jobs with this in the name, directory or id.")),
    ] = None,
    archived: Annotated[
        bool, typer.Option("--archived", help=_("Also jobs that ended long ago."))
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help=_("Show it anew every two seconds."))
    ] = False,
    as_json: Json = False,
) -> None:
    """List jobs, your own first."""
    if watch and (as_json or not out.is_terminal):
        fail(_("--watch needs a terminal; a script can follow `hpcq events`."))
    user = getpass.getuser()
    with quick_client() as client:

        def listed() -> list[Job]:
            found = client.jobs(
                archived=archived or None,
                state=states or None,
                owner=owner or None,
                queue=queue or None,
                name=name,
                program=program,
                text=text,
                active=active or None,
            )
            shown = (job for job in found if is_of(user, job) or not mine)
            return sorted(shown, key=lambda job: is_of(user, job), reverse=True)

        if as_json:
            print_json(listed())
        elif watch:
            with Live(console=out, screen=True, auto_refresh=False) as live:
                while True:
                    live.update(table_of(headers(), map(row, listed())), refresh=True)
                    time.sleep(_WATCH_SECONDS)
        else:
            print_table(headers(), map(row, listed()))


def is_of(user: str, job: JobData) -> bool:
    """Return whether a job is that of an account."""
    # The owner of a new job is known after the next look at the scheduler.
    return user in (job.owner, job.submitted_by)


def headers() -> Sequence[str]:
    """Return the headers of a table of jobs."""
    words = (_("job"), _("state"), _("name"), _("owner"), _("queue"), _("slots"), _("elapsed"))
    return (*words, _("remark"))


def row(job: JobData) -> Sequence[Cell]:
    """Return the cells of a job in such a table."""
    return (
        job.id,
        state(job.state),
        job.name or "",
        job.owner or "",
        job.queue or "",
        "" if job.reserved_slots is None else str(job.reserved_slots),
        duration(job.elapsed),
        reason(job.reason_code, job.explanation),
    )


def show(job_id: JobId, as_json: Json = False) -> None:
    """Show all that is known of a job."""
    with quick_client() as client:
        job = client.job(job_id)
    if as_json:
        print_json(job)
    else:
        print_fields(fields(job))


def fields(job: JobData) -> Iterable[tuple[str, Cell]]:
    """Return the names and values of what is known of a job."""
    usage, efficiency = job.resource_usage, job.efficiency
    known: tuple[tuple[str, Cell | None], ...] = (
        (_("job"), job.job_id),
        (_("uid"), job.uid),
        (_("name"), job.name),
        (_("state"), state(job.state)),
        (_("remark"), reason(job.reason_code, job.explanation)),
        (_("scheduler's words"), job.native_reason),
        (_("exit code"), None if job.exit_code is None else str(job.exit_code)),
        (_("signal"), None if job.exit_signal is None else str(job.exit_signal)),
        (_("owner"), job.owner),
        (_("queue"), job.queue),
        (_("account"), job.account),
        (_("slots"), None if job.reserved_slots is None else str(job.reserved_slots)),
        (_("tasks"), _tasks(job)),
        (_("hosts"), ", ".join(job.hosts or ())),
        (_("time limit"), duration(job.wall_time_limit)),
        (_("memory limit"), gigabytes(job.memory_limit)),
        (_("submitted"), local_time(job.submit_time)),
        (_("expected start"), local_time(job.start_estimate)),
        (_("started"), local_time(job.start_time)),
        (_("ended"), local_time(job.end_time)),
        (_("elapsed"), duration(job.elapsed)),
        (_("CPU time"), None if usage is None else duration(usage.cpu_seconds)),
        (_("most memory"), None if usage is None else gigabytes(usage.max_total_memory)),
        (_("CPU efficiency"), None if efficiency is None else format_share(efficiency.cpu)),
        (_("memory efficiency"), None if efficiency is None else format_share(efficiency.memory)),
        (_("directory"), job.working_directory),
        (_("script"), job.script_file),
        (_("arguments"), " ".join(job.args or ())),
        (_("depends on"), ", ".join(job.depends_on or ())),
        (_("output"), job.stdout_path),
        (_("errors"), job.stderr_path),
    )
    return ((name, value) for name, value in known if value)


def _tasks(job: JobData) -> str:
    counts = {} if job.tasks is None else job.tasks.by_state
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)


def logs(
    job_id: JobId,
    follows: Annotated[
        bool, typer.Option("--follow", "-f", help=_("Go on until the job is over."))
    ] = False,
    errors: Annotated[
        bool, typer.Option("--stderr", "-e", help=_("The standard error, not the output."))
    ] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", min=1, help=_("Only the last lines."))
    ] = None,
    as_json: Json = False,
) -> None:
    """Print what a job wrote."""
    with Client() as client:
        output = client.job(job_id).output("stderr" if errors else "stdout")
        if follows and as_json:
            for text in output.follow(tail):
                print_json_line({"text": text})
        elif follows:
            for text in output.follow(tail):
                print_output(text)
        elif as_json:
            print_json({"text": output.text(tail)})
        elif sys.stdout.isatty():
            print_output(output.text(tail))
        else:
            sys.stdout.buffer.write(output.read(tail))


def files(
    job_id: JobId,
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help=_("A folder in its working directory."))
    ] = "",
    as_json: Json = False,
) -> None:
    """List the files of a job."""
    with Client() as client:
        found = client.job(job_id).files(folder)
    if as_json:
        print_json(found)
        return
    rows = [
        [
            entry.name + "/" * (entry.kind == "folder"),
            "" if entry.size is None else gigabytes(entry.size / 2**30),
            local_time(entry.modified),
        ]
        for entry in found.entries
    ]
    print_table([_("Name"), _("Size"), _("Changed")], rows)
    if not found.is_complete:
        out.print(_("There are more files than these."))


def fetch(
    job_id: JobId,
    path: Annotated[
        str, typer.Argument(metavar="FILE", help=_("A file in its working directory."))
    ],
    target: Annotated[
        Path | None,
        typer.Argument(metavar="TARGET", help=_("Where to write it; its own name unless given.")),
    ] = None,
) -> None:
    """Copy a file of a job to here."""
    target = target or Path(Path(path).name)
    try:
        # Nothing is written over what is there already.
        into = target.open("xb")
    except FileExistsError:
        fail(_("{target} is there already.").format(target=target))
    except OSError as error:
        why = error.strerror
        fail(_("{target} cannot be written: {why}.").format(target=target, why=why))
    try:
        with into, Client() as client:
            client.job(job_id).fetch(path, into)
    except BaseException:
        target.unlink()
        raise


def wait(
    job_ids: JobIds,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0, help=_("Give up after so many seconds."))
    ] = None,
    as_json: Json = False,
) -> None:
    """Wait until jobs are over, and exit as the first of them that failed."""
    until = None if timeout is None else time.monotonic() + timeout
    with Client() as client:
        jobs = []
        for job_id in job_ids:
            left = None if until is None else max(0.0, until - time.monotonic())
            jobs.append(wait_for(client.job(job_id), left))
    if as_json:
        print_json(jobs)
    raise typer.Exit(next(filter(None, map(exit_status, jobs)), 0))


def show_usage(job_id: JobId, as_json: Json = False) -> None:
    """Show what a job used over time."""
    with quick_client() as client:
        job = client.job(job_id)
        samples = job.usage()
    if as_json:
        print_json(samples)
        return
    if not out.is_terminal:
        for sample in samples:
            figures = (sample.cpu_seconds, sample.instant_total_memory, sample.max_total_memory)
            print(sample.time_instant.astimezone(UTC).isoformat(), *figures, sep="\t")
        return
    print_fields(charts(job, samples))


def charts(job: JobData, samples: Sequence[ResourceUsage]) -> Iterable[tuple[str, Cell]]:
    """Return the names and lines of bars of what a job used over time."""
    rates = [
        (after.cpu_seconds - before.cpu_seconds)
        / max(1e-3, (after.time_instant - before.time_instant).total_seconds())
        for before, after in itertools.pairwise(samples)
    ]
    yield _("CPUs in use"), f"{sparkline(rates)} {max(rates, default=0.0):.1f}"
    memory = [sample.instant_total_memory for sample in samples]
    yield _("memory"), f"{sparkline(memory)} {gigabytes(max(memory, default=0.0))}"
    if job.resource_usage is not None:
        yield _("CPU time"), duration(job.resource_usage.cpu_seconds)
        yield _("most memory"), gigabytes(job.resource_usage.max_total_memory)
    yield _("elapsed"), duration(job.elapsed)
