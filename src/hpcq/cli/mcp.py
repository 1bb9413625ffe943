"""``hpcq mcp``: the service as tools of a language model, by the Model Context Protocol."""

import asyncio
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
    server = make_server(address, allows_changes=allows_changes)
    if port is None:
        if names or host != "127.0.0.1":
            fail(_("--host and --name need --port."))
        server.run("stdio")
        return
    from hpcq.cli.mcp_http import serve_http, token_refusal

    refusal = asyncio.run(token_refusal(address.url, _NO_TOKEN))
    if refusal is None:
        fail(_("The service asks nobody who they are (AUTH=none); serve MCP without --port."))
    if not isinstance(refusal, NotAuthenticated):
        raise refusal
    serve_http(server, address.url, host, port, tuple(names or ()))
