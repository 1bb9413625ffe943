"""Starting the service: settings, socket, logs, then uvicorn."""

import getpass
import ipaddress
import signal
import socket
import sys
from pathlib import Path
from types import FrameType

from hpcq.config import Settings, SettingsError, load_settings, prepare_state_directory

__all__ = ["EXIT_SETTINGS", "EXIT_SOCKET", "open_socket", "serve"]

EXIT_SOCKET = 1
EXIT_SETTINGS = 2

_BACKLOG = 2048

# Long enough for an answer under way; streams that follow a job would never end by themselves.
_SHUTDOWN_SECONDS = 5


def serve(folder: Path) -> int:
    """Run the service until it is told to stop, and return the process's exit status.

    Args:
        folder: the installation folder; its ``.env`` is read.
    """
    try:
        settings = load_settings(folder / ".env")
        prepare_state_directory(settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return EXIT_SETTINGS
    try:
        listener = open_socket(settings.host, settings.port)
    except OSError as error:
        print(_refusal(settings, error), file=sys.stderr)
        return EXIT_SOCKET
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    with listener:
        _run(settings, listener)
    return 0


def open_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens on the first address of ``host``.

    It listens at once, before the application is loaded, so that a taken port is known early and
    a client that comes early waits instead of being refused.

    Raises:
        OSError: the address does not exist, is taken, or may not be used.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # A restart must not wait for the connections of the service before it to be forgotten.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _run(settings: Settings, listener: socket.socket) -> None:
    # Imported here because these take most of the start; a mistake in the settings is told first.
    import uvicorn

    from hpcq.api.app import create_app
    from hpcq.telemetry import configure_logging

    configure_logging(settings.log_format, settings.log_level)
    _warn_of_strangers(listener)
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _leave(_number: int, _frame: FrameType | None) -> None:
    # uvicorn stops gracefully first and then raises the signal again: that is a good end.
    raise SystemExit(0)


def _refusal(settings: Settings, error: OSError) -> str:
    reason = error.strerror or str(error)
    return (
        f"Cannot listen on HOST={settings.host!r}, PORT={settings.port}: {reason}. "
        "Another service may be running there; choose another HOST or PORT, or stop it."
    )


def _warn_of_strangers(listener: socket.socket) -> None:
    import structlog

    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        return
    structlog.get_logger("hpcq.serve").warning(
        f"Nobody is asked who they are: everyone who can reach {host} port {port} can run "
        f"commands as {getpass.getuser()!r}, and see and end all its jobs. Let only a proxy "
        "that checks its callers reach it, or set HOST=127.0.0.1."
    )
