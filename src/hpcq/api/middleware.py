"""Middleware before the routes: one spelling of paths, HEAD, bounded bodies, start failures."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hpcq.api.problems import plain_problem
from hpcq.api.requests import unknown_ignored

__all__ = ["BodyLimit", "HeadAsGet", "IgnoreUnknown", "NormalizePath", "PlainStartFailure"]


class PlainStartFailure:
    """Tells in one sentence why the service cannot start, where a traceback would stand.

    The sentence is what the lifespan left in ``app.state.cannot_start``.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def plainly(message: Message) -> None:
            reason = getattr(scope["app"].state, "cannot_start", None)
            if reason and message["type"] == "lifespan.startup.failed":
                message = {**message, "message": reason}
            await send(message)

        await self._app(scope, receive, plainly if scope["type"] == "lifespan" else send)


class NormalizePath:
    """Takes ``/jobs/``, ``//jobs`` and ``ROOT_PATH/jobs`` for ``/jobs``, without a redirect.

    Slashes are too many where a client joins its base address and a path, or a proxy takes a
    prefix away.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            # Routes are matched below the root path, and also where a path does not begin with it.
            path, root = _with_one_slash(scope["path"]), self._root_path
            if path.startswith(f"{root}/"):
                path = root + _with_one_slash(path.removeprefix(root))
            elif path == root:
                path = f"{root}/"
            scope = {**scope, "path": path, "root_path": root}
        await self._app(scope, receive, send)


def _with_one_slash(path: str) -> str:
    return "/" + path.strip("/")


class HeadAsGet:
    """Answers HEAD as GET is answered, headers included, without the body (RFC 9110, 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        is_sent = False

        async def without_body(message: Message) -> None:
            nonlocal is_sent
            if message["type"] == "http.response.body":
                # The client has all that it asked for: what streams a body is told that it is gone.
                message = {**message, "body": b"", "more_body": False}
                if is_sent:
                    return
                is_sent = True
            await send(message)

        await self._app({**scope, "method": "GET"}, receive, without_body)


class IgnoreUnknown:
    """Middleware that ignores unknown parts of requests, as the original implementation did."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with unknown_ignored():
            await self._app(scope, receive, send)


class BodyLimit:
    """Refuses a request with a body that is too long for a service on a head node."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        detail = f"The request body is longer than {self._max_bytes} bytes, the limit here."
        if _announced_length(scope) > self._max_bytes:
            await plain_problem(413, detail)(scope, receive, send)
            return
        received = 0

        async def counting() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                # FastAPI takes any other exception for a body that cannot be parsed.
                raise HTTPException(413, detail)
            return message

        await self._app(scope, counting, send)


def _announced_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0
