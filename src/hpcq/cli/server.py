"""The running service: logs and uvicorn. Importing this takes most of the service's start."""

import asyncio
import functools
import getpass
import ipaddress
import logging
import os
import socket
import sys

import structlog
import uvicorn
from fastapi import FastAPI

from hpcq.api.app import create_app
from hpcq.api.metrics import CONNECTIONS, LOG
from hpcq.cli.connections import Connections
from hpcq.config import Settings
from hpcq.domain.principals import Method
from hpcq.execution.descriptors import raise_limit
from hpcq.log_writer import LogWriter
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
    try:
        log = configure_logging(settings.log_format, settings.log_level)
    except RuntimeError as error:
        # There is no log yet.
        print(
            f"The service cannot start: its account may have no more processes and threads "
            f"({error}). End some, or raise the limit (ulimit -u, TasksMax=).",
            file=sys.stderr,
        )
        return False
    if Method.NONE in settings.auth and listener.family != socket.AF_UNIX:
        _warn_of_open_address(*listener.getsockname()[:2])
    connections = Connections(settings, raise_limit())
    app = create_app(settings)
    app.state.metrics.read(connections, CONNECTIONS)
    if isinstance(log, LogWriter):
        app.state.metrics.read(log, LOG)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=connections.protocol,
        timeout_keep_alive=settings.keep_alive_seconds,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        # A forwarding header is believed from TRUSTED_PROXIES alone (hpcq.auth).
        proxy_headers=False,
        server_header=False,
    )
    server = _Server(config, app, settings, connections)
    try:
        server.run(sockets=[listener])
    finally:
        # The lines that say why it ended are written by a thread, which ends with the process.
        logging.shutdown()
    return server.started


class _Server(uvicorn.Server):
    """A uvicorn server with bounded connections; it logs its address and how to come in."""

    def __init__(
        self,
        config: uvicorn.Config,
        app: FastAPI,
        settings: Settings,
        connections: Connections,
    ) -> None:
        super().__init__(config)
        self._app = app
        self._settings = settings
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
            address = listener.getsockname()
            if listener.family == socket.AF_UNIX:
                shown, curl = f"unix socket {address}", f"--unix-socket {address} http://localhost"
            else:
                host = f"[{address[0]}]" if ":" in address[0] else address[0]
                shown = curl = f"http://{host}:{address[1]}"
            logging.getLogger("uvicorn.error").info(
                "Uvicorn running on %s (Press CTRL+C to quit)", shown
            )
            if self.started and Method.TOKEN in self._settings.auth:
                structlog.get_logger("hpcq.serve").info(
                    "The operator's token is good from anywhere: curl -H "
                    f'"Authorization: Bearer $(cat {self._settings.operator_token})" '
                    f"{curl}/jobs"
                )
        if self.started:
            _tell_systemd("READY=1")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in sockets or ():
            asyncio.get_running_loop().remove_reader(listener)
        if self.started:
            # They would end by themselves only with the time that is given to answers.
            self._app.state.context.events.close()
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Close connections whose time is over, once a second; uvicorn calls ten times a second."""
        if counter % 10 == 0:
            self._connections.check_times(asyncio.get_running_loop().time())
        return await super().on_tick(counter)


def _tell_systemd(state: str) -> None:
    """Tell the unit's manager a state, where the unit is of ``Type=notify`` (sd_notify(3))."""
    address = os.environ.pop("NOTIFY_SOCKET", None)
    if address is not None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            # Names in the abstract name space begin with a zero byte.
            manager.sendto(state.encode(), address.replace("@", "\0", 1))


def _warn_of_open_address(host: str, port: int) -> None:
    if ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        return
    structlog.get_logger("hpcq.serve").warning(
        f"AUTH=none: nobody is asked who they are. Everyone who can reach {host} port {port} can "
        f"run commands as {getpass.getuser()!r}, and see and end all its jobs. Leave AUTH out, set "
        "HOST=127.0.0.1, or let only a proxy that checks its callers reach it."
    )
