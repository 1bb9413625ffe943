"""The kind of route below ``/firecrest``, and the one system that it has."""

import json
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from hpcq.api.context import Context
from hpcq.api.problems import plain_problem, problem_of, wrong_shape
from hpcq.api.requests import BodyRoute
from hpcq.domain.errors import HpcqError, JobNotFound, NoSuchFile

__all__ = ["VERSION", "FirecrestRoute", "SystemName", "check_system"]

VERSION = "2.6.0"
"""The version of FirecREST whose routes and fields these are."""

# Clients look for these words.
_WORDS: tuple[tuple[type[HpcqError], str], ...] = (
    (JobNotFound, "Job not found. "),
    (NoSuchFile, "No such file or directory: "),
)


class FirecrestRoute(BodyRoute):
    """A route whose answers and errors also have what FirecREST's clients look at."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_as_firecrest(request: Request) -> Response:
            words = ""
            try:
                answer = await handle(request)
            except HpcqError as error:
                words = next((words for kind, words in _WORDS if isinstance(error, kind)), "")
                answer = problem_of(error)
            except RequestValidationError as error:
                answer = await wrong_shape(request, error)
            except HTTPException as error:
                answer = plain_problem(error.status_code, str(error.detail))
            if answer.status_code >= 400:
                problem = json.loads(bytes(answer.body))
                problem |= {"errorType": "error", "message": words + problem["detail"]}
                headers = dict(answer.headers)
                headers.pop("content-length")
                answer = JSONResponse(problem, answer.status_code, headers)
            answer.headers["f7t-appversion"] = VERSION
            return answer

        return handle_as_firecrest


SystemName = Annotated[str, Path(alias="systemName", description="The deployment's `CLUSTER_ID`.")]


def check_system(context: Context, name: str) -> None:
    """Raise unless this is the name of the one system."""
    if name != context.wire.cluster_id:
        raise HTTPException(
            404, f"There is no system {name!r}; this service has {context.wire.cluster_id!r}."
        )
