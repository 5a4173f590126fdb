"""The OpenAPI document of the API, and a page that shows it without anything from elsewhere."""

from __future__ import annotations

import functools
from importlib.metadata import version
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response

from walt_train.loop.web.access.guard import Viewer
from walt_train.loop.web.api import fleet, work
from walt_train.loop.web.render import render

PREFIX: Final = "/api/v1"
_ABOUT: Final = (
    "How a WALT home is doing, for programs. Ask with `Authorization: Bearer TOKEN`; a token is made under Account, "
    "and reads, operates or administers, never more than its owner may. Lists come in pages: `next` of one is "
    "`cursor` of the following. Errors are `application/problem+json`, whose `detail` names cause and remedy."
)

api = APIRouter(prefix=PREFIX)
api.include_router(fleet.router)
api.include_router(work.router)

router = APIRouter()
router.include_router(api)


@router.get(f"{PREFIX}/openapi.json", include_in_schema=False)
def openapi(request: Request, person: Viewer) -> Response:
    """The document."""
    return Response(msgspec.json.encode(document()), media_type="application/json")


@router.get("/api", include_in_schema=False)
def page(request: Request, person: Viewer) -> Response:
    """The document, for people."""
    return render(request, "api.html", operations=_operations(), about=_ABOUT)


@functools.cache
def document() -> dict[str, Any]:
    """The OpenAPI document."""
    made = get_openapi(title="WALT home", version=version("walt-amodal"), description=_ABOUT, routes=api.routes)
    for path in made["paths"].values():
        for operation in path.values():
            # What the framework would say of a wrong parameter, we say as a problem, with 400.
            operation["responses"].pop("422", None)
            for code, answered in operation["responses"].items():
                if code.startswith(("4", "5")):
                    answered["content"].pop("application/json", None)
    for name in ("HTTPValidationError", "ValidationError"):
        made["components"]["schemas"].pop(name, None)
    made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    made["security"] = [{"token": []}]
    return made


def _operations() -> list[dict[str, Any]]:
    return [
        {"path": path, "method": method.upper(), **operation}
        for path, methods in document()["paths"].items()
        for method, operation in methods.items()
    ]
