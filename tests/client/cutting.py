"""A proxy that cuts connections to a service off, or leaves them hanging, as bad networks do."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from hpcq.schedulers.testing.service import Service

__all__ = ["CuttingProxy", "cutting"]


class CuttingProxy:
    """Passes bytes on, and cuts each of the first connections off; `stall` leaves them hanging.

    Attributes:
        url: leads through it to the service.
        cuts: for each connection to come, after how many bytes of answers it is cut; those behind
            the last are whole.
        connections: how many there were.
    """

    def __init__(self, service: Service, listener: socket.socket) -> None:
        self._service = service
        self._listener = listener
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.cuts: list[int] = []
        self.connections = 0
        self._stalled = threading.Event()
        self._ends: list[socket.socket] = []

    def stall(self) -> None:
        """Pass nothing on any more over the connections that there are, and close none of them."""
        self._stalled.set()
        self._stalled = threading.Event()

    def serve(self) -> None:
        """Take connections until the listener is shut down; return when all are over."""
        with suppress(OSError), ThreadPoolExecutor(16) as threads:
            while True:
                near, _ = self._listener.accept()
                self.connections += 1
                limit = self.cuts.pop(0) if self.cuts else None
                threads.submit(self._carry, near, limit)

    def cut_all(self) -> None:
        """Cut the connections that are left, for who is at their ends may not know of the end."""
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _carry(self, near: socket.socket, limit: int | None) -> None:
        far = socket.create_connection(("127.0.0.1", self._service.port))
        self._ends += (near, far)
        with near, far:
            stalled = self._stalled
            sending = threading.Thread(target=_pass, args=(near, far, None, stalled))
            sending.start()
            _pass(far, near, limit, stalled)
            sending.join()


def _pass(
    source: socket.socket, sink: socket.socket, limit: int | None, stalled: threading.Event
) -> None:
    """Pass on what comes, up to a limit; then shut both ends."""
    with suppress(OSError):
        while data := source.recv(65536):
            if stalled.is_set():
                continue
            sink.sendall(data if limit is None else data[:limit])
            if limit is not None and len(data) >= limit:
                break
            limit = None if limit is None else limit - len(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def cutting(service: Service) -> Iterator[CuttingProxy]:
    """Run a proxy in front of a service."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = CuttingProxy(service, listener)
        thread = threading.Thread(target=proxy.serve)
        thread.start()
        try:
            yield proxy
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            proxy.cut_all()
            thread.join()
