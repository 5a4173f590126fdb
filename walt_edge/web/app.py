"""The routes: health, metrics, figures, live pictures, and the page's own files.

Every handler answers at once from memory and therefore runs in the event loop: there is no thread pool. Answers are
built by hand, so that no model of a response is validated at every request.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final
from urllib.parse import parse_qs

import msgspec
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp

from walt_edge.web.auth import COOKIE, SESSION_S, Doorkeeper, Verdict
from walt_edge.web.guard import Guard
from walt_edge.web.metrics import render
from walt_edge.web.settings import WebSettings, is_loopback
from walt_edge.web.status import AgentFigures, AgentView, Health
from walt_edge.web.views import MEDIA_TYPE, View, Views

_FORM_MAX_BYTES: Final = 4096
_MEDIA: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What `/api/figures` answers: the figures, and what `/readyz` says."""

    figures: AgentFigures
    is_ready: bool
    reasons: list[str]


def make_app(view: AgentView, settings: WebSettings) -> ASGIApp:
    """The page of one agent, guarded."""
    doorkeeper = Doorkeeper(settings.token)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    _add_health(app, view)
    _add_figures(app, view)
    _add_live(app, view)
    _add_files(app, has_login=not doorkeeper.is_open)
    _add_login(app, doorkeeper)
    return Guard(app, doorkeeper, is_local=is_loopback(settings.host))


def _add_health(app: FastAPI, view: AgentView) -> None:
    def told(request: Request, health: Health) -> Response:
        body: dict[str, object] = {"ok": health.is_well}
        if request.state.is_known:
            body["reasons"] = list(health.reasons)
        return JSONResponse(body, status_code=200 if health.is_well else 503)

    @app.get("/livez")
    async def livez(request: Request) -> Response:
        return told(request, view.is_alive())

    @app.get("/readyz")
    async def readyz(request: Request) -> Response:
        return told(request, view.is_ready())


def _add_figures(app: FastAPI, view: AgentView) -> None:
    @app.get("/api/figures")
    async def figures() -> Response:
        health = view.is_ready()
        told = Told(figures=view.figures(), is_ready=health.is_well, reasons=list(health.reasons))
        return Response(msgspec.json.encode(told), media_type="application/json")

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        body, content_type = render(view.figures, request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})


def _add_live(app: FastAPI, view: AgentView) -> None:
    views = Views(view)

    def newest(camera: str) -> View | None:
        if camera not in view.cameras():
            raise HTTPException(404, "no such camera")
        return views.newest(camera)

    @app.get("/live/{camera}.jpg")
    async def picture(camera: str) -> Response:
        found = newest(camera)
        if found is None:
            raise HTTPException(503, "no frame yet: ask again in a moment", {"Retry-After": "1"})
        return Response(found.jpeg, media_type="image/jpeg")

    @app.get("/live/{camera}")
    async def live(camera: str, after: int = 0) -> Response:
        """Picture and outlines of the newest frame; 204 if it is the one numbered `after`, or there is none."""
        found = newest(camera)
        if found is None or found.number == after:
            return Response(status_code=204)
        return Response(found.packed(), media_type=MEDIA_TYPE)


def _add_files(app: FastAPI, *, has_login: bool) -> None:
    # Read once: what is not among these files cannot be asked for, whatever the path says.
    folder = files("walt_edge.web") / "static"
    held = {one.name: one.read_bytes() for one in folder.iterdir() if one.name.rpartition(".")[2] in _MEDIA}
    if has_login:
        held["index.html"] = held["index.html"].replace(b" hidden data-with-login", b"")

    def answer(name: str) -> Response:
        return Response(held[name], media_type=_MEDIA[name.rpartition(".")[2]])

    @app.get("/")
    async def page() -> Response:
        return answer("index.html")

    @app.get("/login")
    async def login_page() -> Response:
        return answer("login.html")

    @app.get("/static/{name}")
    async def static(name: str) -> Response:
        if name not in held:
            raise HTTPException(404, "no such file")
        return answer(name)


def _add_login(app: FastAPI, doorkeeper: Doorkeeper) -> None:
    def with_cookie(request: Request, response: Response, value: str, age_s: int) -> Response:
        is_secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, value, max_age=age_s, httponly=True, samesite="strict", secure=is_secure)
        return response

    @app.post("/login")
    async def login(request: Request) -> Response:
        address = request.client.host if request.client else ""
        verdict = doorkeeper.login(address, await _token_in(request))
        if verdict is Verdict.ALLOWED:
            entered = RedirectResponse("/", status_code=303)
            return with_cookie(request, entered, doorkeeper.new_session(), SESSION_S)
        if verdict is Verdict.WAIT:
            seconds = doorkeeper.wait_s(address)
            return _login_failed(429, f"Too many wrong tokens: wait {seconds} s.", {"Retry-After": str(seconds)})
        return _login_failed(401, "That is not the token.", {})

    @app.post("/logout")
    async def logout(request: Request) -> Response:
        return with_cookie(request, RedirectResponse("/login", status_code=303), "", 0)


def _login_failed(status: int, reason: str, headers: dict[str, str]) -> Response:
    page = (files("walt_edge.web") / "static" / "login.html").read_text("utf-8")
    body = page.replace('<p class="wrong" role="alert"></p>', f'<p class="wrong" role="alert">{reason}</p>')
    return Response(body, status_code=status, headers=headers, media_type="text/html")


async def _token_in(request: Request) -> str:
    """The token in a form's body; "" where there is none. No more is read than a form can be."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _FORM_MAX_BYTES:
            raise HTTPException(413, "a token is short")
    try:
        fields = parse_qs(body.decode("ascii"), max_num_fields=8)
    except ValueError:
        return ""
    return fields.get("token", [""])[0]
