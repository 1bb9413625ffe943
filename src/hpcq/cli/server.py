"""The running service: logs and uvicorn. Importing this takes most of the service's start."""

import asyncio
import functools
import getpass
import ipaddress
import logging
import socket

import structlog
import uvicorn

from hpcq.api.app import create_app
from hpcq.cli.connections import Connections
from hpcq.config import Settings
from hpcq.execution.descriptors import raise_limit
from hpcq.telemetry import configure_logging

__all__ = ["run"]

# Long enough for an answer under way; streams that follow a job would never end by themselves.
_SHUTDOWN_SECONDS = 5


def run(settings: Settings, listener: socket.socket) -> bool:
    """Serve until a signal; finish answers under way first.

    Returns:
        Whether the service could start; if not, the log says why.

    Args:
        settings: the settings of the whole service.
        listener: a socket that listens already.
    """
    configure_logging(settings.log_format, settings.log_level)
    _warn_of_open_address(*listener.getsockname()[:2])
    connections = Connections(settings, raise_limit())
    config = uvicorn.Config(
        create_app(settings),
        loop="uvloop",
        http=connections.protocol,
        timeout_keep_alive=settings.keep_alive_seconds,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    server = _Server(config, connections)
    server.run(sockets=[listener])
    return server.started


class _Server(uvicorn.Server):
    """A uvicorn server with bounded connections; it logs its address, also with our socket."""

    def __init__(self, config: uvicorn.Config, connections: Connections) -> None:
        super().__init__(config)
        self._connections = connections

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        protocol = functools.partial(
            self._connections.protocol,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        for listener in sockets or ():
            listener.setblocking(False)
            asyncio.get_running_loop().add_reader(
                listener, self._connections.accept, listener, protocol
            )
            host, port = listener.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            logging.getLogger("uvicorn.error").info(
                "Uvicorn running on http://%s:%d (Press CTRL+C to quit)", shown, port
            )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in sockets or ():
            asyncio.get_running_loop().remove_reader(listener)
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Close connections whose time is over, once a second; uvicorn calls ten times a second."""
        if counter % 10 == 0:
            self._connections.check_times(asyncio.get_running_loop().time())
        return await super().on_tick(counter)


def _warn_of_open_address(host: str, port: int) -> None:
    if ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        return
    structlog.get_logger("hpcq.serve").warning(
        f"Nobody is asked who they are: everyone who can reach {host} port {port} can run "
        f"commands as {getpass.getuser()!r}, and see and end all its jobs. Let only a proxy "
        "that checks its callers reach it, or set HOST=127.0.0.1."
    )
