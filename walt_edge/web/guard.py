"""What every request passes before the app: its Host, its method, who asks; and the headers of every answer.

It stands around the app rather than in it, so that no route, no error page and no mistake in a handler is without it.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from walt_edge.web.auth import Doorkeeper, Verdict
from walt_edge.web.settings import is_loopback

# Without a login: health, which then says nothing but yes or no, and what the login page needs.
PUBLIC: Final = frozenset({"/livez", "/readyz", "/login", "/static/style.css", "/static/icon.svg"})
POSTS: Final = frozenset({"/login", "/logout"})
HEAD_BYTES_MAX: Final = 16 * 1024

_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    # Not `no-referrer`: with that a browser sends `Origin: null` with our own login form.
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """An ASGI app around another.

    Args:
        app: What answers requests that may pass; it finds in `scope["state"]["is_known"]` whether the asker is let
            in (public paths are answered to everybody).
        doorkeeper: Who may look.
        is_local: Served on a loopback address: only requests that name one as their host are answered, or a page
            from elsewhere could reach us in a browser on this device by a name of its own (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, doorkeeper: Doorkeeper, *, is_local: bool) -> None:
        self._app = app
        self._doorkeeper = doorkeeper
        self._is_local = is_local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"the page speaks HTTP alone, not {scope['type']}")
        answer = self._refusal(scope, Headers(scope=scope)) or self._app

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await answer(scope, receive, send_guarded)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        path: str = scope["path"]
        # The server bounds what it reads before it parses; what came in one piece it has not weighed.
        if sum(len(name) + len(value) for name, value in headers.raw) + len(path) > HEAD_BYTES_MAX:
            return _refuse(431, f"a request's head is at most {HEAD_BYTES_MAX} bytes")
        if self._is_local and not is_loopback(_host_of(headers.get("host", ""))):
            return _refuse(421, "this page is served to this device alone: ask for localhost")
        if scope["method"] not in (("GET", "POST") if path in POSTS else ("GET",)):
            return _refuse(405, "GET only", {"Allow": "GET, POST" if path in POSTS else "GET"})
        if scope["method"] == "POST" and not _is_own_origin(headers):
            return _refuse(403, "sent from another site's page")
        address = _address(scope)
        verdict = self._doorkeeper.check(address, headers.get("authorization"), headers.get("cookie"))
        scope.setdefault("state", {})["is_known"] = verdict is Verdict.ALLOWED
        if verdict is Verdict.ALLOWED or path in PUBLIC:
            return None
        if verdict is Verdict.WAIT:
            seconds = self._doorkeeper.wait_s(address)
            return _refuse(429, f"too many wrong tokens: wait {seconds} s", {"Retry-After": str(seconds)})
        if verdict is Verdict.NO_LOGIN and path == "/" and "text/html" in headers.get("accept", ""):
            return RedirectResponse("/login", status_code=303)
        wrong = verdict is Verdict.WRONG_TOKEN
        return _refuse(401, "wrong token" if wrong else "a token is needed", {"WWW-Authenticate": "Bearer"})


def _refuse(status: int, reason: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": reason}, status_code=status, headers=headers)


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _host_of(header: str) -> str:
    """The host without its port."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _is_own_origin(headers: Headers) -> bool:
    """Whether a form was sent from our own page; programs send no Origin."""
    origin = headers.get("origin")
    return origin is None or _netloc(origin) == headers.get("host", "").lower()


def _netloc(url: str) -> str:
    """Host and port of a URL; "" of what is none."""
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""
