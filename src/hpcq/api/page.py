"""``/``: the page for people, as ``make page`` builds it from ``web/`` into the package.

It asks the routes of the API for all that it shows, as any client does.
"""

from pathlib import Path

import anyio
from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles

import hpcq
from hpcq.api.problems import plain_problem

__all__ = ["add_page"]

_PAGE = Path(hpcq.__file__).with_name("page")
_NOT_BUILT = (
    "This installation has no page. `make page`, in a clone of the repository, builds it into "
    "src/hpcq/page; packages of the service hold it. /docs describes the API."
)
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
# The names of assets hold a hash of what is in them.
_FOR_EVER = "public, max-age=31536000, immutable"
_PACKED = {"br": ".br", "gzip": ".gz"}


def add_page(app: FastAPI) -> None:
    """Serve the page, and what it is made of."""
    files = StaticFiles(directory=_PAGE, check_dir=False)

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        if not await anyio.Path(_PAGE, "index.html").exists():
            return plain_problem(404, _NOT_BUILT)
        root = request.scope.get("root_path", "")
        if not request.scope["raw_path"].endswith(b"/"):
            # Its addresses are relative.
            return RedirectResponse(f"{root}/")
        answer = await files.get_response("index.html", request.scope)
        answer.headers["Content-Security-Policy"] = _POLICY
        answer.headers["Cache-Control"] = "no-cache"
        return answer

    # A mount would not find its files where a proxy has taken the root path away.
    @app.get("/assets/{path:path}", include_in_schema=False)
    async def asset(path: str, request: Request) -> Response:
        accepted = request.headers.get("accept-encoding", "")
        for coding, ending in _PACKED.items():
            packed = anyio.Path(_PAGE, "assets", f"{path}{ending}")
            if coding in accepted and await packed.is_file():
                break
        else:
            ending = ""
        answer = await files.get_response(f"assets/{path}{ending}", request.scope)
        if ending:
            answer.headers["Content-Encoding"] = coding
        answer.headers["Cache-Control"] = _FOR_EVER
        answer.headers["Vary"] = "Accept-Encoding"
        return answer
