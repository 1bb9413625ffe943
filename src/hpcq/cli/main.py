"""The ``hpcq`` command: its subcommands."""

from pathlib import Path

import typer

from hpcq import __version__
from hpcq.cli import token

__all__ = ["app"]

app = typer.Typer(
    help="One REST API in front of the batch scheduler of your cluster.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


app.add_typer(token.app, name="token")


@app.command()
def serve() -> None:
    """Start the service with the settings of the environment and of ./.env, and its state here."""
    # Imported here because the other subcommands do without the service.
    from hpcq.cli.serve import serve as run

    raise typer.Exit(run(Path.cwd()))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)
