"""Starting the service: settings, then the socket, then the rest."""

import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from hpcq.config import Settings, SettingsError, load_settings, prepare_state_directory

__all__ = ["COLLECT_SELDOM", "EXIT_SETTINGS", "EXIT_SOCKET", "EXIT_START", "open_socket", "serve"]

EXIT_SOCKET = 1
EXIT_SETTINGS = 2
EXIT_START = 3

_BACKLOG = 2048

# A snapshot of 100,000 jobs is a million objects, none of them garbage: with Python's own (700,
# 10, 10) looking through them held every request up for 0.3 s (bench/scale.py), with these 0.1 s.
COLLECT_SELDOM = (100_000, 50, 100)


def serve(folder: Path) -> int:
    """Run the service until it is told to stop, and return the process's exit status.

    Args:
        folder: the installation folder; its ``.env`` is read.
    """
    _speak_utf8()
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
    with _without_collections():
        # Imported here because it takes long: a mistake in the settings is told before.
        from hpcq.cli.server import run
    with listener:
        return 0 if run(settings, listener) else EXIT_START


def _speak_utf8() -> None:
    """Start this program anew with paths and arguments in UTF-8, unless they are already.

    In a locale such as ``pt_BR.ISO-8859-1`` Python would give programs other bytes than clients
    sent.
    """
    if sys.getfilesystemencoding() != "utf-8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606


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


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Load code without looking for garbage in it: a tenth less time, then and at every look."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(*COLLECT_SELDOM)
        gc.enable()


def _leave(_number: int, _frame: FrameType | None) -> None:
    # uvicorn stops gracefully first and then raises the signal again: that is a good end.
    raise SystemExit(0)


def _refusal(settings: Settings, error: OSError) -> str:
    reason = error.strerror or str(error)
    return (
        f"Cannot listen on HOST={settings.host!r}, PORT={settings.port}: {reason}. "
        "Another service may be running there; choose another HOST or PORT, or stop it."
    )
