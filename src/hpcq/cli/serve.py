"""The start of the service: settings, then the socket, then everything else."""

import contextlib
import errno
import gc
import os
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from hpcq.config import Settings, SettingsError, load_settings, prepare_state_directory
from hpcq.config.settings import UNIX_SOCKET
from hpcq.domain.principals import Method

__all__ = [
    "EXIT_SETTINGS",
    "EXIT_SOCKET",
    "EXIT_START",
    "GARBAGE_THRESHOLDS",
    "open_socket",
    "serve",
]

EXIT_SOCKET = 1
EXIT_SETTINGS = 2
EXIT_START = 3

_BACKLOG = 2048

# A table of 100,000 jobs is a million objects, none of them garbage. With Python's own thresholds
# (700, 10, 10) a collection delayed every request by 0.3 s (bench/scale.py), with these by 0.1 s.
GARBAGE_THRESHOLDS = (100_000, 50, 100)


def serve(folder: Path) -> int:
    """Run the service until a signal stops it; return the exit status of the process.

    Args:
        folder: the installation folder; its ``.env`` is read.
    """
    _restart_in_utf8()
    try:
        settings = load_settings(folder / ".env")
        prepare_state_directory(settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return EXIT_SETTINGS
    try:
        listener = open_socket(
            settings.host, settings.port, 0o600 if Method.NONE in settings.auth else 0o666
        )
    except OSError as error:
        print(_socket_error(settings, error), file=sys.stderr)
        return EXIT_SOCKET
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    with _without_garbage_collection():
        # Imported late because this is slow: a mistake in the settings shows first.
        from hpcq.cli.server import run
    with listener, _removed_at_the_end(settings.host):
        return 0 if run(settings, listener) else EXIT_START


def _restart_in_utf8() -> None:
    """Start this program again with paths and arguments in UTF-8, unless they already are.

    In a locale such as ``pt_BR.ISO-8859-1`` Python would change the bytes that clients send.
    """
    if sys.getfilesystemencoding() != "utf-8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606


def open_socket(host: str, port: int, mode: int = 0o600) -> socket.socket:
    """Return a socket that listens on the first address of ``host``, or at its path.

    It listens before the application is loaded, so that a taken port shows early, and an early
    client waits instead of being refused.

    Args:
        host: the name or address of a host; or `UNIX_SOCKET` and the path of a socket.
        port: unused with a path.
        mode: the permissions of a socket with a path.

    Raises:
        OSError: the address does not exist, is taken, or may not be used.
    """
    if host.startswith(UNIX_SOCKET):
        return _open_unix_socket(host.removeprefix(UNIX_SOCKET), mode)
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # A restart must not wait until the kernel forgets the connections of the last service.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _open_unix_socket(path: str, mode: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_left_over(path):
            os.unlink(path)
        # Nobody without the right to connect ever finds it with another mode.
        old = os.umask(0o777 & ~mode)
        try:
            listener.bind(path)
        finally:
            os.umask(old)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def _removed_at_the_end(host: str) -> Iterator[None]:
    try:
        yield
    finally:
        if host.startswith(UNIX_SOCKET):
            with contextlib.suppress(OSError):
                os.unlink(host.removeprefix(UNIX_SOCKET))


def _is_left_over(path: str) -> bool:
    """Return whether there is a socket without a listener at the path."""
    with contextlib.suppress(FileNotFoundError), socket.socket(socket.AF_UNIX) as probe:
        is_socket = stat.S_ISSOCK(os.lstat(path).st_mode)
        return is_socket and probe.connect_ex(path) == errno.ECONNREFUSED
    return False


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Load code without garbage collections, and exclude it from later ones: a tenth less time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(*GARBAGE_THRESHOLDS)
        gc.enable()


def _exit(_number: int, _frame: FrameType | None) -> None:
    # uvicorn stops gracefully and then raises the signal again: this is a good end.
    raise SystemExit(0)


def _socket_error(settings: Settings, error: OSError) -> str:
    reason = error.strerror or str(error)
    return (
        f"Cannot listen on HOST={settings.host!r}, PORT={settings.port}: {reason}. "
        "Another service may be running there; choose another HOST or PORT, or stop it."
    )
