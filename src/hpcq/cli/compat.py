"""``hpcq compat``: ``qsub``, ``qstat`` and ``qdel`` as the original implementation offered them.

They are small commands of the original, not those of a scheduler: ``qsub SCRIPT SLOTS ARGS...``.
"""

import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from hpcq.cli.commands import Json, command, fail, quick_client
from hpcq.cli.screen import plain, print_json
from hpcq.cli.texts import translated as _
from hpcq.client import Client, Job

__all__ = ["add_to"]

_NAMES = ("qsub", "qstat", "qdel")
_MARK = "# Made by hpcq compat install."
_LONGEST_DIRECTORY = 40
_HEADERS = ("id", "name", "status", "startTime", "slots", "workingDirectory")


def add_to(app: typer.Typer) -> None:
    """Add the group of commands to an application."""
    group = typer.Typer(help=_("Commands as the original offered them."), no_args_is_help=True)
    for function in (install, qsub, qstat, qdel):
        command(group)(function)
    app.add_typer(group, name="compat")


def install(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help=_("A folder for your PATH."))],
    as_json: Json = False,
) -> None:
    """Write qsub, qstat and qdel for scripts that expect the original's."""
    files = [folder / name for name in _NAMES]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            if file.exists() and _MARK not in file.read_text(errors="replace"):
                fail(_("{file} is another command; choose an empty folder.").format(file=file))
        for file in files:
            python = shlex.quote(sys.executable)
            file.write_text(f'#!/bin/sh\n{_MARK}\nexec {python} -m hpcq compat {file.name} "$@"\n')
            file.chmod(0o755)
    except OSError as error:
        fail(_("{file} cannot be written: {why}.").format(file=folder, why=error.strerror))
    if as_json:
        print_json([str(file) for file in files])
    else:
        print(*files, sep="\n")


def qsub(
    script: Annotated[str, typer.Argument(help=_("The script."))],
    slots: Annotated[int, typer.Argument(min=1, help=_("CPUs to reserve."))],
    args: Annotated[list[str] | None, typer.Argument(help=_("Arguments of the script."))] = None,
    name: Annotated[str | None, typer.Option("--name", "-n", help=_("The job's name."))] = None,
    directory: Annotated[
        str | None, typer.Option("--workdir", "-wd", help=_("Where it runs; default: here."))
    ] = None,
    as_json: Json = False,
) -> None:
    """Submit a script, as the original's qsub."""
    with Client() as client:
        job = client.submit(script, args or (), slots=slots, working_directory=directory, name=name)
        if as_json:
            print_json(job.refresh())
            return
        shown = name or Path(directory or "").absolute().name
        print(f"Your job {plain(shown)} ({job.id}) was submitted.")


def qstat(
    job_id: Annotated[str | None, typer.Option("--jobid", "-j", help=_("Only this job."))] = None,
    as_json: Json = False,
) -> None:
    """List jobs that are not over, as the original's qstat."""
    with quick_client() as client:
        if job_id is not None:
            print_json(client.job(job_id))
            return
        jobs = list(client.jobs(active=True))
    if as_json:
        print_json(jobs)
    elif jobs:
        print("\n".join(_lines([_HEADERS, *map(_row, jobs)])))


def qdel(
    job_id: Annotated[str, typer.Argument(metavar="JOBID", help=_("The job's id."))],
    as_json: Json = False,
) -> None:
    """End a job, as the original's qdel."""
    with quick_client() as client:
        job = client.job(job_id)
        job.delete()
        if as_json:
            print_json(job.refresh())
        else:
            print(f"Your job ({job.id}) was deleted.")


def _row(job: Job) -> tuple[str, ...]:
    directory = job.working_directory or ""
    if len(directory) > _LONGEST_DIRECTORY:
        directory = "..." + directory[-_LONGEST_DIRECTORY:]
    cells = (job.id, job.name or "", job.status, _time(job.start_time), job.reserved_slots or "")
    return tuple(plain(str(cell)) for cell in (*cells, directory))


def _time(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone().strftime("%H:%M:%S %d-%m-%Y")


def _lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table: headers, dashes, rows. Columns of numbers go to the right."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    are_numbers = [all(cell.isdigit() for cell in column[1:] if cell) for column in columns]
    dashes = ["-" * width for width in widths]
    return [
        "  ".join(
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(row, widths, are_numbers, strict=True)
        ).rstrip()
        for row in (rows[0], dashes, *rows[1:])
    ]
