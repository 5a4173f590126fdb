"""What every request passes before the application: its host, size and rate, who asks, and whose form it is.

It stands around the application rather than in it, so that no page, no error page and no mistake in either is without
it. A body is read whole, bounded in size and time, before anything else sees it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final
from urllib.parse import urlsplit

from fastapi import HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.formparsers import MultiPartException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from walt_train.loop.store.database import UNAVAILABLE
from walt_train.loop.store.errors import StoreError
from walt_train.loop.web.access.asker import Asker, asker_of
from walt_train.loop.web.access.cookies import SESSION, cookie
from walt_train.loop.web.access.guard import audit
from walt_train.loop.web.access.proxy import seen_through
from walt_train.loop.web.access.rates import Rates
from walt_train.loop.web.access.secret import derived, is_same
from walt_train.loop.web.pages.errors import error_page, unavailable
from walt_train.loop.web.settings import is_loopback
from walt_train.loop.web.site import Site

LOGGER = logging.getLogger(__name__)

HEAD_BYTES_MAX: Final = 16 * 1024
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# Answered to everybody without a look into the database.
_PLAIN: Final = ("/static/", "/healthz")
_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data")
_FIELDS_MAX: Final = 1000

_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    # Not `no-referrer`: with that a browser sends `Origin: null` with our own forms.
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
_TLS_ONLY: Final = {"strict-transport-security": "max-age=31536000"}


class Gate:
    """An ASGI application around another.

    Args:
        app: Answers what may pass; it finds the site and the asker in the request's state.
        site: What the pages work on.
    """

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app = app
        self._site = site
        self._rates = Rates(site.settings.rate_per_s, site.settings.burst)
        # A program with an old token goes on for months: one line a minute is enough.
        self._noted = Rates(1 / 60, 1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"the dashboard speaks HTTP alone, not {scope['type']}")
        scope = seen_through(scope, self._site.settings)
        asker = Asker(address=scope["client"][0], is_secure=scope["scheme"] == "https")
        scope["state"] = {"site": self._site, "asker": asker}

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add_headers(MutableHeaders(scope=message), is_secure=asker.is_secure)
            await send(message)

        answer, body = self._app, b""
        try:
            self._check_head(scope, asker)
            if scope["method"] not in SAFE:
                body = await self._read(scope, receive)
            if not scope["path"].startswith(_PLAIN):
                await self._check_asker(Request(scope, _replay(body, receive)))
        except HTTPException as error:
            answer = await run_in_threadpool(error_page, Request(scope), error)
        except (StoreError, *UNAVAILABLE) as error:
            answer = await run_in_threadpool(unavailable, Request(scope), error)
        await answer(scope, _replay(body, receive), send_guarded)

    def _check_head(self, scope: Scope, asker: Asker) -> None:
        headers = Headers(scope=scope)
        wait_s = self._rates.wait_s(asker.address)
        if wait_s > 0:
            raise HTTPException(429, "too many requests at once", {"retry-after": f"{int(wait_s) + 1}"})
        # The server bounds what it reads before it parses; what came in one piece it has not weighed.
        if sum(len(name) + len(value) for name, value in headers.raw) + len(scope["path"]) > HEAD_BYTES_MAX:
            raise HTTPException(431, f"a request's head is at most {HEAD_BYTES_MAX} bytes")
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            raise HTTPException(400, "an address holds no zero byte")
        # Or a page from elsewhere could reach us in a browser by a name of its own (DNS rebinding).
        if not self._site.settings.serves(_host_of(headers.get("host", ""))):
            raise HTTPException(421, "the dashboard is not served by this name: --name adds one")
        if not asker.is_secure and not is_loopback(asker.address) and self._site.settings.proxies:
            raise HTTPException(403, "the dashboard is served by HTTPS alone: ask the proxy, by https://")

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        """A body of bounded size that comes within bounded time."""
        settings, body = self._site.settings, bytearray()
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdecimal() or int(declared) > settings.body_max_bytes:
            raise HTTPException(413, f"at most {settings.body_max_bytes} bytes")
        try:
            async with asyncio.timeout(settings.body_s):
                async for chunk in Request(scope, receive).stream():
                    body += chunk
                    if len(body) > settings.body_max_bytes:
                        raise HTTPException(413, f"at most {settings.body_max_bytes} bytes")
        except TimeoutError as error:
            raise HTTPException(408, "the request did not come whole") from error
        kind = Headers(scope=scope).get("content-type", "").lower()
        # What no database takes as text, refused here once for every field of every form.
        if kind.startswith(_FORMS[0]) and (b"%00" in body or b"\0" in body):
            raise HTTPException(400, "a form's field holds no zero byte")
        return bytes(body)

    async def _check_asker(self, request: Request) -> None:
        """Finds out who asks; what a browser sends by itself must come from a form of ours."""
        asker = asker_of(request)
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            # No cookie counts beside a token, so that no other site can add to what it asks.
            asker.person = await run_in_threadpool(self._site.access.tokens.person, shown.strip())
            if asker.person is None:
                if self._noted.wait_s(asker.address) == 0:
                    await run_in_threadpool(audit, request, None, "token.show", request.url.path, "", "refused")
                raise HTTPException(401, "this token is wrong, expired or revoked", {"WWW-Authenticate": "Bearer"})
            return
        if request.method not in SAFE and not _is_our_page(request):
            raise HTTPException(403, "this was sent from another site's page")
        secret = cookie(request, SESSION)
        if secret:
            asker.person = await run_in_threadpool(self._site.access.sessions.person, secret)
        if asker.person is None:
            return
        asker.secret = secret
        if request.method not in SAFE and not is_same(await _csrf(request), derived(secret, "csrf")):
            await run_in_threadpool(audit, request, asker.person, "csrf", request.url.path, "", "refused")
            raise HTTPException(
                403, "this form is from before you signed in, or not ours: go back, reload, try again"
            )


def _add_headers(headers: MutableHeaders, *, is_secure: bool) -> None:
    headers.update(_HEADERS | (_TLS_ONLY if is_secure else {}))
    # A picture that never changes may say otherwise.
    headers.setdefault("cache-control", "no-store")


def _replay(body: bytes, receive: Receive) -> Receive:
    """Gives a body that was read already, then what the server goes on to say."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


async def _csrf(request: Request) -> str:
    """What a form or a script shows of the session: a header, or a form's field."""
    shown = request.headers.get("x-csrf-token")
    if shown is not None:
        return shown
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in _FORMS:
        return ""
    try:
        async with request.form(max_files=_FIELDS_MAX, max_fields=_FIELDS_MAX) as form:
            field = form.get("csrf")
    except (MultiPartException, ValueError) as error:
        raise HTTPException(400, "this is no form that can be read") from error
    return field if isinstance(field, str) else ""


def _is_our_page(request: Request) -> bool:
    """Whether a request that changes something was sent from a page of ours; programs say nothing of it."""
    headers = request.headers
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or origin.lower() == f"{request.scope['scheme']}://{headers.get('host', '')}".lower()


def _host_of(header: str) -> str:
    """The host without its port; "" of what is none."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""
