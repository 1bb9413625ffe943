"""The making of commands: their help in the user's language, their errors in one sentence."""

import functools
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer

from hpcq.cli.screen import complain, leave_quietly
from hpcq.cli.texts import error_text
from hpcq.cli.texts import translated as _
from hpcq.client import Client
from hpcq.client.errors import (
    ClientError,
    NotAllowed,
    NotAuthenticated,
    ProfileError,
    SchedulerTimeout,
    Unavailable,
    Unreachable,
    Unreadable,
)

__all__ = [
    "EXIT_AWAY",
    "EXIT_INTERRUPTED",
    "EXIT_NOT_ALLOWED",
    "EXIT_REFUSED",
    "EXIT_TIMEOUT",
    "EXIT_USAGE",
    "JobId",
    "JobIds",
    "Json",
    "command",
    "complain_of",
    "completing_client",
    "fail",
    "quick_client",
]

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_AWAY = 3
EXIT_NOT_ALLOWED = 4
EXIT_TIMEOUT = 124
EXIT_INTERRUPTED = 130

_PATIENCE_SECONDS = 3.0
_EXITS: tuple[tuple[tuple[type[ClientError], ...], int], ...] = (
    ((ProfileError,), EXIT_USAGE),
    ((Unreachable, Unreadable, Unavailable, SchedulerTimeout), EXIT_AWAY),
    ((NotAuthenticated, NotAllowed), EXIT_NOT_ALLOWED),
)

Command = Callable[..., None]


def quick_client() -> Client:
    """Return a client for somebody who waits at a terminal: it tells soon that nobody answers."""
    return Client(patience=_PATIENCE_SECONDS)


def completing_client() -> Client:
    """Return a client that gives up at once, for the completion of words."""
    return Client(patience=0, timeout=2)


def _ids(incomplete: str) -> list[str]:
    try:
        with completing_client() as client:
            return [job.id for job in client.jobs() if job.id.startswith(incomplete)]
    except ClientError:
        return []


Json = Annotated[bool, typer.Option("--json", help=_("Print JSON with the fields of the API."))]
JobId = Annotated[
    str,
    typer.Argument(
        metavar="JOB", help=_("The scheduler's id of the job, or its uid."), autocompletion=_ids
    ),
]
JobIds = Annotated[
    list[str],
    typer.Argument(
        metavar="JOB...", help=_("The scheduler's ids of the jobs, or uids."), autocompletion=_ids
    ),
]


def command(app: typer.Typer, name: str | None = None, **settings: Any) -> Callable[[Command], Any]:
    """Add a function to an application as a command.

    The first sentence of its docstring, in the user's language, is its help.
    """

    def add(function: Command) -> Command:
        text = (function.__doc__ or "").strip().partition("\n")[0]
        return app.command(name, help=_(text), **settings)(_in_a_sentence(function))

    return add


def _in_a_sentence(function: Command) -> Command:
    """Return a command whose errors are one sentence and an exit status."""

    @functools.wraps(function)
    def run(*args: Any, **options: Any) -> None:
        try:
            function(*args, **options)
            sys.stdout.flush()
        except ClientError as error:
            raise typer.Exit(complain_of(error)) from None
        except UnicodeEncodeError:
            fail(_("What you gave is not text in UTF-8."))
        except KeyboardInterrupt:
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            leave_quietly()
            raise typer.Exit(EXIT_REFUSED) from None

    return run


def complain_of(error: ClientError) -> int:
    """Print an error on standard error; return the exit status that tells its kind."""
    complain(error_text(error))
    return next((status for kinds, status in _EXITS if isinstance(error, kinds)), EXIT_REFUSED)


def fail(sentence: str) -> NoReturn:
    """Print what is wrong with the command line, and exit."""
    complain(sentence)
    raise typer.Exit(EXIT_USAGE)
