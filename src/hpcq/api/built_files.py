"""``/``, the page for people, and ``/help``, the documentation, as ``make`` builds them.

The page asks the routes of the API for all that it shows, as any client does.
"""

import os.path
from collections.abc import Mapping

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles

import hpcq
from hpcq.api.docs import own_scripts_only
from hpcq.api.problems import plain_problem

__all__ = ["add_help", "add_page"]

_PACKAGE = anyio.Path(hpcq.__file__).parent
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
# The names of assets hold a hash of what is in them.
_FOR_EVER = "public, max-age=31536000, immutable"
_PACKED = {"br": ".br", "gzip": ".gz"}


class _Built:
    """A folder of files that a target of ``make`` builds into the package."""

    def __init__(self, folder: str, what: str, target: str, *, instead: str = "") -> None:
        self.folder = _PACKAGE / folder
        self._not_built = (
            f"This installation has no {what}. `make {target}`, in a clone of the repository, "
            f"builds it into src/hpcq/{folder}; packages of the service hold it.{instead}"
        )
        self._files = StaticFiles(directory=self.folder, check_dir=False)

    async def refusal(self) -> Response | None:
        """Return the answer where the folder was not built; None where it was."""
        is_built = await (self.folder / "index.html").exists()
        return None if is_built else plain_problem(404, self._not_built)

    async def answer(self, path: str, request: Request, headers: Mapping[str, str]) -> Response:
        """Return a file as an answer with these headers."""
        answer = await self._files.get_response(path, request.scope)
        answer.headers.update(headers)
        return answer


def add_page(app: FastAPI) -> None:
    """Serve the page at ``/``, and the assets that it is made of."""
    built = _Built("page", "page", "page", instead=" /docs describes the API.")

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        if (refusal := await built.refusal()) is not None:
            return refusal
        if not request.scope["raw_path"].endswith(b"/"):
            # Its addresses are relative.
            return RedirectResponse(f"{request.scope.get('root_path', '')}/")
        headers = {"Content-Security-Policy": _PAGE_POLICY, "Cache-Control": "no-cache"}
        return await built.answer("index.html", request, headers)

    # A mount would not find its files where a proxy has taken the root path away.
    @app.get("/assets/{path:path}", include_in_schema=False)
    async def asset(path: str, request: Request) -> Response:
        headers = {"Cache-Control": _FOR_EVER, "Vary": "Accept-Encoding"}
        accepted = request.headers.get("accept-encoding", "")
        for coding, ending in _PACKED.items():
            name = f"assets/{path}{ending}"
            # Path.is_file raises OSError for a name that is too long; this returns False.
            if coding in accepted and await anyio.to_thread.run_sync(
                os.path.isfile, built.folder / name
            ):
                packed = {"Content-Encoding": coding}
                return await built.answer(name, request, headers | packed)
        return await built.answer(f"assets/{path}", request, headers)


def add_help(app: FastAPI) -> None:
    """Serve the documentation, in English at ``/help`` and in Portuguese at ``/help/pt``."""
    built = _Built("help", "documentation", "site")

    @app.get("/help", include_in_schema=False)
    @app.get("/help/pt", include_in_schema=False)
    async def front_page(request: Request) -> Response:
        # Pages name each other by relative addresses, and this path may lack its last slash.
        language = "/pt" if request.scope["path"].endswith("/pt") else ""
        there = f"{request.scope.get('root_path', '')}/help{language}/index.html"
        return await built.refusal() or RedirectResponse(there)

    @app.get("/help/{path:path}", include_in_schema=False)
    async def file(path: str, request: Request) -> Response:
        # Another release has other pages under the same names.
        answer = await built.answer(path, request, {"Cache-Control": "no-cache"})
        # The search is a worker, which loads more scripts under a policy of its own.
        page = await (built.folder / path).read_bytes() if path.endswith(".html") else b""
        answer.headers["Content-Security-Policy"] = own_scripts_only(page)
        return answer
