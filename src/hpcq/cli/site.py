"""The commands about the site: programs, queues, nodes, and the events of jobs."""

from typing import Annotated

import typer

from hpcq.cli.commands import Json, command, quick_client
from hpcq.cli.screen import (
    Cell,
    duration,
    gigabytes,
    local_time,
    print_json,
    print_json_line,
    print_row,
    print_table,
    state,
)
from hpcq.cli.texts import translated as _
from hpcq.client import Client
from hpcq.client.answers import Event

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the commands to an application."""
    for function in (events, programs, queues, nodes):
        command(app)(function)


def programs(
    name: Annotated[str | None, typer.Argument(help=_("Only this program."))] = None,
    as_json: Json = False,
) -> None:
    """List the installed programs."""
    with quick_client() as client:
        found = client.programs(name)
    if as_json:
        print_json(found)
        return
    headers = (_("program"), _("version"), _("id"), _("default"), _("arguments"))
    rows = (
        (one.name, one.version, one.program_id, "*" if one.is_default else "", " ".join(one.args))
        for one in found
    )
    print_table(headers, rows)


def queues(as_json: Json = False) -> None:
    """List the queues."""
    with quick_client() as client:
        found = client.queues()
    if as_json:
        print_json(found)
        return
    headers = (_("queue"), _("open"), _("slots in use"), _("slots"), _("time limit"))
    print_table(
        headers,
        (
            (
                one.name,
                _("yes") if one.is_open else _("no"),
                _number(one.slots_used),
                _number(one.slots_total),
                duration(one.max_wall_time),
            )
            for one in found
        ),
    )


def nodes(as_json: Json = False) -> None:
    """List the hosts that run jobs."""
    with quick_client() as client:
        found = client.nodes()
    if as_json:
        print_json(found)
        return
    headers = (_("node"), _("up"), _("slots in use"), _("slots"), _("memory"), _("queues"))
    print_table(
        headers,
        (
            (
                one.name,
                _("yes") if one.is_up else _("no"),
                _number(one.slots_used),
                _number(one.slots_total),
                gigabytes(one.memory),
                " ".join(one.queues),
            )
            for one in found
        ),
    )


def events(
    job_id: Annotated[
        str | None, typer.Argument(metavar="JOB", help=_("Only the events of this job."))
    ] = None,
    follows: Annotated[
        bool, typer.Option("--follow", "-f", help=_("Go on with what happens from now on."))
    ] = False,
    types: Annotated[
        list[str] | None, typer.Option("--type", "-t", help=_("Only these: job.state."))
    ] = None,
    after: Annotated[
        int | None, typer.Option("--after", min=0, help=_("Begin behind the event with this id."))
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell what happened to jobs so far, or with -f what happens."""
    wanted = types or ()
    with Client() as client:
        if job_id is not None:
            told = client.job(job_id).events(wanted, after, follow=follows)
        else:
            begin = 0 if after is None and not follows else after
            told = client.events(wanted, begin, follow=follows)
        for event in told:
            if as_json:
                print_json_line(event)
            else:
                print_row(_row(event))


def _row(event: Event) -> tuple[Cell, ...]:
    word = state(event.state) if event.state else ""
    moment = local_time(event.timestamp)
    return (str(event.id), moment, event.type, event.job_id or event.uid, word)


def _number(count: int | None) -> str:
    return "" if count is None else str(count)
