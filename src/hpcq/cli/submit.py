"""``hpcq submit``: a script or a program becomes a job."""

import contextlib
import re
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from hpcq.cli.commands import Json, command, completing_client, fail
from hpcq.cli.options import fields_of, pairs_of, seconds_of
from hpcq.cli.screen import out, plain, print_fields, print_json
from hpcq.cli.texts import translated as _
from hpcq.cli.waiting import exit_status, follow, wait_for
from hpcq.client import Client
from hpcq.client.answers import Plan, Program
from hpcq.client.errors import ClientError

__all__ = ["add_to"]

_ARRAY = re.compile(r"(\d+)-(\d+)(?::(\d+))?(?:%(\d+))?")


def add_to(app: typer.Typer) -> None:
    """Add the command to an application."""
    # What stands behind the script is the script's own, options included.
    settings = {"allow_interspersed_args": False, "ignore_unknown_options": True}
    command(app, context_settings=settings)(submit)


def _programs() -> list[Program]:
    with contextlib.suppress(ClientError), completing_client() as client:
        return client.programs()
    return []


def _names(incomplete: str) -> list[str]:
    return sorted({one.name for one in _programs() if one.name.startswith(incomplete)})


def _versions(context: typer.Context, incomplete: str) -> list[str]:
    name = context.params.get("program")
    found = (one for one in _programs() if name in (None, one.name))
    return sorted({one.version for one in found if one.version.startswith(incomplete)})


def submit(
    script: Annotated[
        str | None, typer.Argument(help=_("The script; - reads it from standard input."))
    ] = None,
    args: Annotated[list[str] | None, typer.Argument(help=_("Arguments of the script."))] = None,
    slots: Annotated[int, typer.Option("--slots", "-n", min=1, help=_("CPUs to reserve."))] = 1,
    program: Annotated[
        str | None,
        typer.Option("--program", "-p", autocompletion=_names, help=_("A program, not a script.")),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option("--version", autocompletion=_versions, help=_("The program's version.")),
    ] = None,
    program_args: Annotated[
        list[str] | None, typer.Option("--arg", help=_("NAME=VALUE, an argument of the program."))
    ] = None,
    name: Annotated[str | None, typer.Option("--name", "-N", help=_("The job's name."))] = None,
    directory: Annotated[
        str | None, typer.Option("--directory", "-C", help=_("Where it runs; default: here."))
    ] = None,
    queue: Annotated[str | None, typer.Option("--queue", "-q", help=_("The queue."))] = None,
    time: Annotated[
        str | None, typer.Option("--time", "-t", help=_("The time limit: 90m, 12h, 2d, 1:30:00."))
    ] = None,
    memory: Annotated[
        float | None, typer.Option("--memory", "-m", help=_("The memory limit of the job, GB."))
    ] = None,
    environment: Annotated[
        list[str] | None, typer.Option("--env", "-e", help=_("NAME=VALUE, a variable of the job."))
    ] = None,
    after: Annotated[
        list[str] | None,
        typer.Option("--after", help=_("JOB or JOB:CONDITION, a job that has to come first.")),
    ] = None,
    array: Annotated[
        str | None, typer.Option("--array", help=_("FIRST-LAST, also :STEP and %MOST at a time."))
    ] = None,
    hold: Annotated[bool, typer.Option("--hold", help=_("Wait until released."))] = False,
    fields: Annotated[
        list[str] | None,
        typer.Option("--field", "-F", help=_("NAME=VALUE, any other field of the API.")),
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", help=_("The same key never makes a second job."))
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help=_("Show what would run; submit nothing."))
    ] = False,
    waits: Annotated[
        bool, typer.Option("--wait", "-W", help=_("Wait for the end; exit as the job does."))
    ] = False,
    follows: Annotated[
        bool, typer.Option("--follow", "-f", help=_("Print its output; exit as the job does."))
    ] = False,
    as_json: Json = False,
) -> None:
    """Submit a script or a program, and print the job's id."""
    more = dict(fields_of(fields))
    if script == "-":
        script, more["script"] = None, sys.stdin.read()
    sources = (script, program, more.get("script"), more.get("programId"))
    if sum(source is not None for source in sources) != 1:
        fail(_("Name a script, or a program with --program."))
    if key is not None and not (key.isascii() and key.isprintable()):
        fail(_("--key takes printable ASCII characters."))
    given: Any = {
        "name": name,
        "program": program,
        "version": version,
        "program_args": pairs_of("--arg", program_args),
        "queue": queue,
        "wall_time_limit": None if time is None else seconds_of(time),
        "memory_limit": memory,
        "environment": pairs_of("--env", environment),
        "depends_on": None if not after else [_dependency(one) for one in after],
        "array": None if array is None else _array(array),
        "hold": hold or None,
        **more,
    }
    with Client() as client:
        if dry_run:
            plan = client.plan(
                script, args or (), slots=slots, working_directory=directory, **given
            )
            _show_plan(plan, as_json)
            return
        job = client.submit(
            script,
            args or (),
            slots=slots,
            working_directory=directory,
            idempotency_key=key,
            **given,
        )
        if follows or waits:
            job = follow(job) if follows else wait_for(job)
        if as_json:
            print_json(job if job.is_over else job.refresh())
        elif out.is_terminal and not follows:
            words = _("The job {job} is over: {state}.") if job.is_over else _("Submitted: {job}.")
            out.print(plain(words.format(job=job.id, state=job.state)), markup=False)
        elif not follows:
            print(job.id)
        raise typer.Exit(exit_status(job) if job.is_over else 0)


def _show_plan(plan: Plan, as_json: bool) -> None:
    if as_json:
        print_json(plan)
        return
    print_fields(
        (
            (_("command"), " ".join(plan.argv)),
            (_("directory"), plan.working_directory),
            *((_("directive"), line) for line in plan.directives),
            *((_("variable"), f"{name}={value}") for name, value in plan.environment.items()),
        )
    )


def _dependency(text: str) -> Mapping[str, str]:
    job, sign, condition = text.partition(":")
    return {"jobId": job, **({"condition": condition} if sign else {})}


def _array(text: str) -> Mapping[str, int]:
    found = _ARRAY.fullmatch(text)
    if found is None:
        fail(_("--array takes FIRST-LAST, as 1-12 or 1-12:2%4."))
    names = ("first", "last", "step", "maxRunning")
    return {name: int(word) for name, word in zip(names, found.groups(), strict=True) if word}
