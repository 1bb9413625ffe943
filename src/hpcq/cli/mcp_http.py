"""MCP over HTTP: each caller shows a token of the service, which decides what it may do."""

import re
import socket
from typing import Any

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import INTERNAL_ERROR, INVALID_REQUEST
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from hpcq.cli.mcp_server import bearer_token
from hpcq.cli.texts import error_text
from hpcq.client import AsyncClient
from hpcq.client.errors import ClientError, NotAllowed, Problem

__all__ = ["KnownCallers", "serve_http", "token_refusal"]

_SHUTDOWN_SECONDS = 5
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
# The library takes any text for a port: 127.0.0.1:80@evil.example too.
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@/]+)(:[0-9]{1,5})?")


async def token_refusal(url: str, token: str) -> ClientError | None:
    """Return the error of the service at a URL that does not take a token; None if it does."""
    try:
        async with AsyncClient(url, token, patience=0) as client:
            await client.cluster()
    except NotAllowed:
        return None
    except ClientError as error:
        return error
    return None


class KnownCallers:
    """An application that answers only those whom the service knows by their token.

    Args:
        application: for the others.
        url: of the service.
    """

    def __init__(self, application: ASGIApp, url: str) -> None:
        self._application = application
        self._url = url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        application = self._application
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            token = bearer_token(headers.get("authorization"))
            if not _HOST.fullmatch(headers.get("host", "")):
                application = _refusal("The header Host has to be a name and a port.", 421)
            elif token is None:
                application = _refusal("Send the header `Authorization: Bearer TOKEN`.", 401)
            elif (error := await token_refusal(self._url, token)) is not None:
                status = error.status if isinstance(error, Problem) else 503
                application = _refusal(error_text(error), status)
        await application(scope, receive, send)


def _refusal(sentence: str, status: int) -> JSONResponse:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    # Clients show the words of an error of JSON-RPC, whatever the status.
    error = {"code": INVALID_REQUEST if status < 500 else INTERNAL_ERROR, "message": sentence}
    return JSONResponse({"jsonrpc": "2.0", "id": None, "error": error}, status, headers)


def serve_http(
    server: MCPServer[Any], url: str, listener: socket.socket, names: tuple[str, ...]
) -> None:
    """Serve until a signal, without sessions: a restart loses nothing.

    Args:
        server: the tools.
        url: of the service.
        listener: a socket that listens already.
        names: hosts by which clients may come, beside those of loopback; no web page may.
    """
    allowed = [one for name in (*_LOOPBACK, *names) for one in (name, f"{name}:*")]
    application = server.streamable_http_app(
        stateless_http=True,
        json_response=True,
        transport_security=TransportSecuritySettings(allowed_hosts=allowed),
    )
    config = uvicorn.Config(
        KnownCallers(application, url),
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listener])
