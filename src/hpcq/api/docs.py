"""``/docs``: the interactive page with its assets, all served from here, and its schema.

Head nodes often have no internet. With ``COMPATIBILITY=original`` the schema says what changes.
"""

import json
import re
from base64 import b64encode
from hashlib import sha256
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from hpcq.api.access import OPEN, RULES
from hpcq.api.problems import MEDIA_TYPE, responses

__all__ = ["DocumentedApp", "add_docs", "own_scripts_only"]

_ASSETS = "/docs-assets"
_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.S)
_TOKEN = "token"  # noqa: S105
_TOKEN_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token of this service or of its OpenID Connect provider. On the machine of "
    "the service, its own account and root need none.",
}

_ABOUT = """
This service answers clients of the original implementation (`COMPATIBILITY=original`): times in
bodies are local times without a zone, the listing holds active jobs only, and what is not known
in a request, be it a field or a query parameter, is ignored.
"""
_LOCAL_TIME = {
    "type": "string",
    "format": "date-time-local",
    "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?$",
    "description": "The service's local time; microseconds where there are any.",
}
_MEANINGS = {
    ("Job", "startTime"): "When it started; when it was submitted, as long as it has not.",
    ("Job", "lastStatusUpdateTime"): "When the scheduler last confirmed the status.",
    ("JobSubmission", "clusterId"): "Accepted and ignored.",
}
_LISTING = "List the jobs that have not ended: the whole queue."
_TIME_IN_EXAMPLE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d{3}Z")


class DocumentedApp(FastAPI):
    """FastAPI with a schema that describes errors as problems, never as plain JSON.

    Args:
        is_original: whether the schema is to say what clients of the original implementation get.
    """

    def __init__(self, *, is_original: bool, **more: Any) -> None:
        super().__init__(**more)
        self._is_original = is_original

    def openapi(self) -> dict[str, Any]:
        """Return the schema; FastAPI adds plain JSON to each answer that has a model."""
        if self.openapi_schema is None:
            schema = super().openapi()
            operations = [o for path in schema["paths"].values() for o in path.values()]
            for operation in operations:
                _describe_parameters(operation)
            _describe_access(schema, operations)
            for answer in (a for o in operations for a in o["responses"].values()):
                if MEDIA_TYPE in answer.get("content", {}):
                    answer["content"].pop("application/json", None)
            self.openapi_schema = _as_original(schema) if self._is_original else schema
        return self.openapi_schema


def _describe_parameters(operation: dict[str, Any]) -> None:
    """Leave out null, which no path, query or header can hold."""
    for parameter in operation.get("parameters", ()):
        schema = parameter["schema"]
        if {"type": "null"} in schema.get("anyOf", ()):
            (value,) = (one for one in schema.pop("anyOf") if one != {"type": "null"})
            schema |= value


def _describe_access(schema: dict[str, Any], operations: list[dict[str, Any]]) -> None:
    """Add what `RULES` asks for: a token, and its scope as OpenAPI 3.1 names roles.

    The empty alternative stands for connections whose account the service knows.
    """
    schema["components"]["securitySchemes"] = {_TOKEN: _TOKEN_SCHEME}
    for operation in operations:
        refusals: tuple[int, ...] = (414, 431)
        if operation["operationId"] != OPEN:
            scope = RULES[operation["operationId"]]
            operation["security"] = [{_TOKEN: [] if scope is None else [scope.value]}, {}]
            refusals = (401, 403, *refusals, 421)
        answers = {str(status): answer for status, answer in responses(*refusals).items()}
        for answer in answers.values():
            answer.pop("model")
        operation["responses"] = dict(sorted({**answers, **operation["responses"]}.items()))


def add_docs(app: FastAPI) -> None:
    """Serve the page and its assets, which the package ``fastapi_swagger`` ships."""
    files = StaticFiles(packages=[("fastapi_swagger", "resources")])

    # A mount would not find its files where a proxy has taken the root path away.
    @app.get(f"{_ASSETS}/{{path:path}}", include_in_schema=False)
    async def asset(path: str, request: Request) -> Response:
        return await files.get_response(path, request.scope)

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "")
        page = get_swagger_ui_html(
            openapi_url=f"{root}/openapi.json",
            title=app.title,
            swagger_js_url=f"{root}{_ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{_ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{root}{_ASSETS}/favicon-32x32.png",
        )
        page.headers["Content-Security-Policy"] = own_scripts_only(bytes(page.body))
        return page


def own_scripts_only(page: bytes) -> str:
    """Return the Content-Security-Policy for a page: its scripts and this service's, no others."""
    scripts = _INLINE_SCRIPT.findall(page)
    hashes = " ".join(f"'sha256-{b64encode(sha256(s).digest()).decode()}'" for s in scripts)
    return (
        f"default-src 'none'; script-src 'self' {hashes}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'"
    )


def _as_original(schema: dict[str, Any]) -> dict[str, Any]:
    """Return an OpenAPI schema as it is for clients of the original implementation."""
    original: dict[str, Any] = json.loads(
        _TIME_IN_EXAMPLE.sub(r"\1", json.dumps(schema)), object_hook=_with_local_times
    )
    original["info"]["description"] += _ABOUT
    listing = original["paths"]["/jobs"]["get"]
    _, _, rest = listing["description"].partition("\n")
    listing["description"] = f"{_LISTING}\n{rest}"
    components = original["components"]["schemas"]
    for component in components.values():
        if component.get("additionalProperties") is False:
            component["additionalProperties"] = True
    for (name, field), meaning in _MEANINGS.items():
        components[name]["properties"][field]["description"] = meaning
    return original


def _with_local_times(part: dict[str, Any]) -> dict[str, Any]:
    if part.get("format") != "date-time":
        return part
    return {**_LOCAL_TIME, **part, "format": _LOCAL_TIME["format"]}
