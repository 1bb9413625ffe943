"""A receiver of webhooks: an HTTP server on this machine that keeps what it is sent."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

__all__ = ["Message", "Receiver", "receiving"]


@dataclass(frozen=True)
class Message:
    """A request as it came."""

    headers: dict[str, str]
    body: bytes

    @property
    def content(self) -> Any:
        return json.loads(self.body)

    @property
    def event(self) -> int:
        """The number of the event, which ends the message's id."""
        return int(self.headers["webhook-id"].rpartition("_")[2])


@dataclass
class Receiver:
    """The messages so far, and what each is answered.

    Attributes:
        answer: the status and the headers for a message.
        secret: signs the messages; each is checked when it comes, for an old one is not good.
        unsigned: those whose signatures are wrong.
    """

    url: str = ""
    answer: Callable[[Message], tuple[int, dict[str, str]]] = lambda _message: (204, {})
    secret: str | None = None
    messages: list[Message] = field(default_factory=list)
    unsigned: list[Message] = field(default_factory=list)

    def take(self, message: Message) -> tuple[int, dict[str, str]]:
        """Keep a message; return its answer."""
        self.messages.append(message)
        if self.secret is not None:
            try:
                Webhook(self.secret).verify(message.body, message.headers)
            except WebhookVerificationError:
                self.unsigned.append(message)
        return self.answer(message)


@contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    """Run a receiver; port 0 for any free one."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = self.rfile.read(length)
            if len(body) < length:
                return  # its sender was killed while it wrote
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, more = receiver.take(Message(headers, body))
            self.send_response(status)
            for name, value in {"Content-Length": "0", **more}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        receiver.url = f"http://127.0.0.1:{server.server_address[1]}/jobs"
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
