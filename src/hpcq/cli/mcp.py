"""``hpcq mcp``: the service as tools of a language model, by the Model Context Protocol."""

import asyncio
import socket
import sys
from importlib.util import find_spec
from typing import Annotated

import typer

from hpcq.cli.commands import command, fail
from hpcq.cli.texts import translated as _
from hpcq.client import find_address
from hpcq.client.errors import NotAuthenticated

__all__ = ["add_to"]

_NO_TOKEN = "hpcq-mcp-asks-who-is-known"  # noqa: S105  (good for nothing, on purpose)


def add_to(app: typer.Typer) -> None:
    """Add the command to an application."""
    command(app)(mcp)


def mcp(
    allows_changes: Annotated[
        bool, typer.Option("--allow-changes", help=_("Also tools that submit and cancel jobs."))
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", min=1, max=65535, help=_("Serve HTTP there; default: standard input.")
        ),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help=_("The address to listen on, with --port."))
    ] = "127.0.0.1",
    names: Annotated[
        list[str] | None,
        typer.Option("--name", help=_("A host by whose name clients come, with --port.")),
    ] = None,
) -> None:
    """Serve jobs, programs and queues as tools of a language model (MCP)."""
    if find_spec("mcp") is None:
        fail(_("`hpcq mcp` needs one package more: pip install 'hpc-queue-api[mcp]'."))
    # Imported here because the other commands do without the package.
    from hpcq.cli.mcp_server import make_server

    address = find_address()
    server = make_server(address, allows_changes=allows_changes, over_http=port is not None)
    if port is None:
        if names or host != "127.0.0.1":
            fail(_("--host and --name need --port."))
        if sys.stdin.isatty():
            typer.echo(_("An assistant starts this; nothing is to be typed here."), err=True)
        server.run("stdio")
        return
    from hpcq.cli.mcp_http import serve_http, token_refusal

    refusal = asyncio.run(token_refusal(address.url, _NO_TOKEN))
    if refusal is None:
        fail(_("The service asks nobody who they are (AUTH=none); serve MCP without --port."))
    if not isinstance(refusal, NotAuthenticated):
        raise refusal
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        why = error.strerror or str(error)
        fail(
            _("{host} port {port} cannot be listened on: {why}.").format(
                host=host, port=port, why=why
            )
        )
    shown = f"[{host}]" if ":" in host else host
    typer.echo(_("MCP is served at {url}.").format(url=f"http://{shown}:{port}/mcp"), err=True)
    with listener:
        serve_http(server, address.url, listener, (shown, *(names or ())))
