"""``hpcq top``: the command; its screens are loaded when it is run."""

import sys

import typer

from hpcq.cli.commands import command, fail
from hpcq.cli.screen import out
from hpcq.cli.texts import translated as _

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command to an application."""
    command(app)(top)


def top() -> None:
    """Show the jobs live, to sort, filter, open and end them."""
    if not (out.is_terminal and sys.stdin.isatty()):
        fail(_("hpcq top needs a terminal; a script can use `hpcq ls` and `hpcq events`."))
    # Imported here because it takes longer to load than most commands to run.
    from hpcq.cli.top_app import TopApp

    app = TopApp()
    app.run()
    if app.error is not None:
        raise app.error
    raise typer.Exit(app.return_code or 0)
