"""``hpcq token``: make, list and revoke tokens, in the records of the service."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from hpcq.cli.commands import Json, command
from hpcq.cli.screen import print_json
from hpcq.cli.texts import translated as _
from hpcq.domain.errors import StoreUnavailable
from hpcq.domain.principals import Role, Scope
from hpcq.domain.units import format_time, now

if TYPE_CHECKING:
    from hpcq.storage.tokens import Token, TokenStore

__all__ = ["app"]

app = typer.Typer(help=_("Make, list and revoke tokens."), no_args_is_help=True)

_T = TypeVar("_T")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}")
_LIFETIME = re.compile(r"([1-9][0-9]{0,5})([hdw])")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


@command(app)
def create(
    user: Annotated[str, typer.Option(help=_("The name that jobs, logs and events show."))],
    role: Annotated[Role, typer.Option(help=_("What its bearer may do."))] = Role.USER,
    expires: Annotated[
        str | None, typer.Option(help=_("Its lifetime: hours, days or weeks, as 12h, 90d, 4w."))
    ] = None,
    scope: Annotated[
        list[Scope] | None, typer.Option(help=_("Narrow it to this; may be given again."))
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a token and print it. It is shown this once: the records hold only its hash."""
    if _USER.fullmatch(user) is None:
        raise typer.BadParameter(
            _("{name} is not a name of letters, digits and . _ @ -").format(name=repr(user))
        )
    # Imported here because the other commands do without the service.
    from hpcq.auth.tokens import create_token, digest_of

    lifetime = None if expires is None else _lifetime(expires)
    scopes = frozenset(scope) if scope else None

    async def make(store: "TokenStore") -> tuple[str, "Token"]:
        at = now()
        expires_at = None if lifetime is None else at + lifetime
        text = await create_token(
            store, user=user, role=role, at=at, scopes=scopes, expires_at=expires_at
        )
        token = await store.find(digest_of(text))
        assert token is not None  # noqa: S101
        return text, token

    text, token = _with_store(make)
    if as_json:
        print_json({"token": text, **_as_json(token)})
    else:
        typer.echo(text)


@command(app, "list")
def list_tokens(as_json: Json = False) -> None:
    """List all tokens: id, user, role, scopes, when it was made, and until when it is good."""
    tokens = _with_store(lambda store: store.all())
    if as_json:
        print_json([_as_json(token) for token in tokens])
        return
    for token in tokens:
        if token.revoked_at is not None:
            until = f"revoked {format_time(token.revoked_at)}"
        elif token.expires_at is not None:
            is_over = token.expires_at <= now()
            until = f"{'expired' if is_over else 'expires'} {format_time(token.expires_at)}"
        else:
            until = "never expires"
        scopes = "all scopes" if token.scopes is None else ",".join(sorted(token.scopes))
        cells = (token.token_id, token.user, token.role, scopes, format_time(token.created_at))
        typer.echo("\t".join((*cells, until)))


@command(app)
def revoke(
    token_id: Annotated[str, typer.Argument(help=_("As `hpcq token list` shows it."))],
) -> None:
    """Make a token worthless. A running service notices within 5 s."""
    if not _with_store(lambda store: store.revoke(token_id, now())):
        words = _("There is no token {token}; `hpcq token list` shows all.")
        typer.echo(words.format(token=repr(token_id)), err=True)
        raise typer.Exit(1)
    typer.echo(_("The token {token} is worthless now.").format(token=token_id))


def _as_json(token: "Token") -> Mapping[str, object]:
    def time(at: datetime | None) -> str | None:
        return None if at is None else format_time(at)

    return {
        "id": token.token_id,
        "user": token.user,
        "role": token.role,
        "scopes": None if token.scopes is None else sorted(token.scopes),
        "createdAt": time(token.created_at),
        "expiresAt": time(token.expires_at),
        "revokedAt": time(token.revoked_at),
    }


def _lifetime(text: str) -> timedelta:
    found = _LIFETIME.fullmatch(text)
    if found is None:
        raise typer.BadParameter(
            _("{text} is not a lifetime such as 12h, 90d or 4w").format(text=repr(text))
        )
    return int(found[1]) * _UNITS[found[2]]


def _with_store(do: Callable[["TokenStore"], Awaitable[_T]]) -> _T:
    """Return what a function does with the tokens of the service whose settings are here."""
    from hpcq.config import SettingsError, deployment_of, load_settings
    from hpcq.storage.database import Database
    from hpcq.storage.tokens import TokenStore
    from hpcq.telemetry import configure_logging

    async def work() -> _T:
        database = Database(settings.store_url, deployment_of(settings), beside_the_service=True)
        await database.open()
        try:
            return await do(TokenStore(database))
        finally:
            await database.close()

    try:
        settings = load_settings(Path.cwd() / ".env")
        # Standard output is for the token alone.
        configure_logging(settings.log_format, settings.log_level)
        return asyncio.run(work())
    except (SettingsError, StoreUnavailable) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
