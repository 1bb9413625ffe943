"""An OpenID Connect provider that answers over HTTP on loopback, late or wrongly if told to."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from typing import Any, Self

from joserfc import jwt
from joserfc.jwk import Key, KeySet, RSAKey

AUDIENCE = "hpc-queue"
DISCOVERY, KEYS, TOKENS = "/.well-known/openid-configuration", "/keys", "/tokens"
FIRST, SECOND, STRANGER = (
    RSAKey.generate_key(2048, {"kid": kid}, private=True) for kid in ("first", "second", "first")
)


class Provider:
    """A provider that answers over HTTP on loopback.

    Attributes:
        issuer: what it calls itself in its discovery document.
        asked: how often its keys were fetched.
        connected: how often it was asked for anything.
        is_away: whether it answers with 503.
        documents: answers in place of its own, by path.
    """

    def __init__(self) -> None:
        self.keys: list[Key] = [FIRST]
        self.asked = 0
        self.connected = 0
        self.is_away = False
        self.documents: dict[str, bytes] = {}
        self._drips: tuple[str, str] | None = None
        self._may_answer = threading.Event()
        self._is_dripping = threading.Event()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.connected += 1
                if provider._drips is not None and self.path == provider._drips[0]:
                    self.drip(provider._drips[1])
                    return
                if provider.is_away:
                    self.send_error(503)
                    return
                if self.path == DISCOVERY:
                    body: Any = {
                        "issuer": provider.issuer,
                        "jwks_uri": f"{provider.url}{KEYS}",
                        "token_endpoint": f"{provider.url}{TOKENS}",
                    }
                else:
                    provider.asked += 1
                    body = KeySet(list(provider.keys)).as_dict(private=False)
                data = provider.documents.get(self.path, json.dumps(body).encode())
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET

            def drip(self, part: str) -> None:
                """Send a part of an answer that never ends, one byte each 0.2 s."""
                beginning = b"HTTP/1.1 200 OK\r\nX-Slow: "
                if part == "body":
                    self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
                    beginning = b"{"
                for byte in chain(beginning, repeat(ord(" "))):
                    with contextlib.suppress(ConnectionError):
                        self.wfile.write(bytes([byte]))
                    provider._is_dripping.set()
                    if provider._may_answer.wait(0.2):
                        return

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @contextlib.contextmanager
    def dripping(self, path: str, part: str = "body") -> Iterator[threading.Event]:
        """Have it drip at this path; yield an event that is set once it does."""
        self._is_dripping.clear()
        self._may_answer.clear()
        self._drips = path, part
        try:
            yield self._is_dripping
        finally:
            self._drips = None
            self._may_answer.set()

    def claims(self, **changes: Any) -> dict[str, Any]:
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "exp": int(time.time()) + 300,
            "preferred_username": "ana",
            "roles": ["planners"],
        } | changes
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, key: Any = None, header: dict[str, Any] | None = None, **changes: Any) -> str:
        key = key or self.keys[0]
        header = {"alg": "RS256", "kid": key.kid} | (header or {})
        return jwt.encode(header, self.claims(**changes), key, algorithms=[header["alg"]])
