"""The ``hpcq`` command: its subcommands."""

import io
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from hpcq import __version__
from hpcq.cli import actions, compat, doctor, jobs, mcp, site, submit, token, top
from hpcq.cli.commands import Json, command
from hpcq.cli.screen import print_json
from hpcq.cli.texts import translated as _

__all__ = ["app"]

app = typer.Typer(
    help=_("One REST API in front of the batch scheduler of your cluster."),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def choose_service(
    profile: Annotated[
        str | None, typer.Option("--profile", help=_("The service: a section of the profile file."))
    ] = None,
) -> None:
    """Take the service of a profile, whatever address the environment names."""
    # A locale such as pt_BR.ISO-8859-1 lacks characters that names of jobs may have.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if profile is not None:
        os.environ.pop("HPCQ_URL", None)
        os.environ["HPCQ_PROFILE"] = profile


submit.add_to(app)
jobs.add_to(app)
actions.add_to(app)
site.add_to(app)
top.add_to(app)
compat.add_to(app)
doctor.add_to(app)
mcp.add_to(app)
app.add_typer(token.app, name="token")


@command(app)
def serve() -> None:
    """Start the service with the settings of the environment and of ./.env, and its state here."""
    # Imported here because the other subcommands do without the service.
    from hpcq.cli.serve import serve as run

    raise typer.Exit(run(Path.cwd()))


@command(app)
def version(as_json: Json = False) -> None:
    """Print the version."""
    if as_json:
        print_json({"version": __version__})
    else:
        typer.echo(__version__)


@command(app)
def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help=_("Your shell."))],
) -> None:
    """Print what makes your shell complete words: eval "$(hpcq completion bash)"."""
    os.environ["_HPCQ_COMPLETE"] = f"source_{shell}"
    typer.main.get_command(app).main(args=[], prog_name="hpcq")
