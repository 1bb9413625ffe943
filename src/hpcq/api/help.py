"""``/help``: the documentation, as ``make site`` builds it into the package."""

from pathlib import Path

import anyio
from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles

import hpcq
from hpcq.api.docs import own_scripts_only
from hpcq.api.problems import plain_problem

__all__ = ["add_help"]

_SITE = Path(hpcq.__file__).with_name("help")
_NOT_BUILT = (
    "This installation has no documentation. `make site`, in a clone of the repository, builds it "
    "into src/hpcq/help; packages of the service hold it."
)


def add_help(app: FastAPI) -> None:
    """Serve the documentation, in English at ``/help`` and in Portuguese at ``/help/pt``."""
    files = StaticFiles(directory=_SITE, check_dir=False)

    @app.get("/help", include_in_schema=False)
    @app.get("/help/pt", include_in_schema=False)
    async def front_page(request: Request) -> Response:
        # Pages name each other by relative addresses, and this path may lack its last slash.
        if not await anyio.Path(_SITE, "index.html").exists():
            return plain_problem(404, _NOT_BUILT)
        root = request.scope.get("root_path", "")
        language = "/pt" if request.scope["path"].endswith("/pt") else ""
        return RedirectResponse(f"{root}/help{language}/index.html")

    # A mount would not find its files where a proxy has taken the root path away.
    @app.get("/help/{path:path}", include_in_schema=False)
    async def file(path: str, request: Request) -> Response:
        answer = await files.get_response(path, request.scope)
        # The search is a worker, which loads more scripts under a policy of its own.
        page = await anyio.Path(_SITE, path).read_bytes() if path.endswith(".html") else b""
        answer.headers["Content-Security-Policy"] = own_scripts_only(page)
        # Another release has other pages under the same names.
        answer.headers["Cache-Control"] = "no-cache"
        return answer
