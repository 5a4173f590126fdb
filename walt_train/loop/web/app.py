"""The application: pages, the files that they use, and what is answered where there is neither."""

from __future__ import annotations

import logging

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp

from walt_edge.contract.errors import WaltError
from walt_train.loop.store.database import UNAVAILABLE
from walt_train.loop.store.errors import StoreError
from walt_train.loop.web.access.gate import Gate
from walt_train.loop.web.access.passwords import BusyError
from walt_train.loop.web.pages.errors import error_page, told, unavailable
from walt_train.loop.web.render import static_files
from walt_train.loop.web.routers import ROUTERS
from walt_train.loop.web.site import Site

LOGGER = logging.getLogger(__name__)


def make_app(site: Site) -> ASGIApp:
    """The dashboard of one home, behind its gate."""
    app = FastAPI(title="walt-loop web", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    for router in ROUTERS:
        app.include_router(router)
    app.add_api_route("/", _front, include_in_schema=False)
    app.add_api_route("/healthz", _health, include_in_schema=False)
    app.add_api_route("/static/{name}", _static, include_in_schema=False)
    _add_errors(app)
    return Gate(app, site)


def _add_errors(app: FastAPI) -> None:
    app.add_exception_handler(StarletteHTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(StoreError, _unavailable)
    for kind in UNAVAILABLE:
        app.add_exception_handler(kind, _unavailable)
    app.add_exception_handler(DataError, _cannot_be_kept)
    app.add_exception_handler(BusyError, _busy)
    app.add_exception_handler(WaltError, _our_error)
    app.add_exception_handler(Exception, _bug)


def _front() -> Response:
    return RedirectResponse("/fleet", 303)


def _health() -> Response:
    return Response("ok\n", media_type="text/plain")


def _static(request: Request, name: str, v: str = "") -> Response:
    found = static_files().get(name)
    if found is None:
        raise HTTPException(404, "there is no such file")
    data, media, version = found
    keeps = "public, max-age=31536000, immutable" if v == version else "no-cache"
    return Response(data, media_type=media, headers={"cache-control": keeps})


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    return error_page(request, error)


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # Only which field, and what is wrong with it: what was sent may be a secret.
    problems = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors()[:5]]
    return told(request, 400, "; ".join(problems))


def _our_error(request: Request, error: Exception) -> Response:
    return told(request, 400, str(error))


def _busy(request: Request, error: Exception) -> Response:
    return told(request, 503, str(error), {"retry-after": "2"})


def _cannot_be_kept(request: Request, error: Exception) -> Response:
    return told(request, 400, "something in the request is more than the store can hold")


def _unavailable(request: Request, error: Exception) -> Response:
    return unavailable(request, error)


def _bug(request: Request, error: Exception) -> Response:
    LOGGER.error("a mistake of ours at %s %s", request.method, request.url.path, exc_info=error)
    return told(request, 500, "this is a mistake of the dashboard, not yours")
