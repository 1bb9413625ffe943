"""``/docs``: the interactive page with its assets, all served from here, and its schema.

Head nodes often have no internet.
"""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from hpcq.api.original import as_original
from hpcq.api.problems import MEDIA_TYPE

__all__ = ["DocumentedApp", "add_docs"]

_ASSETS = "/docs-assets"


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
            operations = (o for path in schema["paths"].values() for o in path.values())
            for answer in (a for o in operations for a in o["responses"].values()):
                if MEDIA_TYPE in answer.get("content", {}):
                    answer["content"].pop("application/json", None)
            self.openapi_schema = as_original(schema) if self._is_original else schema
        return self.openapi_schema


def add_docs(app: FastAPI) -> None:
    """Serve the page and its assets, which the package ``fastapi_swagger`` ships."""
    app.mount(_ASSETS, StaticFiles(packages=[("fastapi_swagger", "resources")]), name="docs-assets")

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "")
        return get_swagger_ui_html(
            openapi_url=f"{root}/openapi.json",
            title=app.title,
            swagger_js_url=f"{root}{_ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{_ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{root}{_ASSETS}/favicon-32x32.png",
        )
