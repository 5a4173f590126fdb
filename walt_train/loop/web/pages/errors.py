"""What is told when there is no page: in words for people, as a problem (RFC 9457) for programs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import msgspec
from fastapi import HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from walt_edge.contract.enrolment import Problem
from walt_train.loop.web.render import render

LOGGER = logging.getLogger(__name__)

# What is said where nobody said more than the status.
_SAID: Final = {404: "there is no such page", 405: "this page cannot be asked like this"}

# What a person can do about it.
_REMEDIES: Final = {
    400: "Something in the request could not be read. Go back and try again.",
    401: "Your session may have ended. Sign in, go back, and do it again.",
    403: "Ask an admin for what you need; the menu shows what you may see.",
    404: "It may have been deleted, or the address is not quite right. The menu leads to what there is.",
    405: "Go back, and use the page's own links and buttons.",
    408: "The connection is slow or broke off. Try again.",
    413: "Send less at once.",
    421: "Ask for the dashboard by the name that it is served by.",
    429: "Wait a moment, then reload the page.",
    500: "It has been written to the log of walt-loop web. Try again; if it stays, show the log to who runs home.",
    503: "Try again in half a minute. If it stays, show the log of walt-loop web to who runs home.",
}


def wants_page(request: Request) -> bool:
    """Whether a browser asks for something to read, rather than a program for an answer."""
    return not request.url.path.startswith("/api/") and "text/html" in request.headers.get("accept", "")


def error_page(request: Request, error: HTTPException | StarletteHTTPException) -> Response:
    """The answer to what cannot be answered; who is not signed in is sent there."""
    headers = error.headers
    if error.status_code == HTTPStatus.UNAUTHORIZED and wants_page(request) and request.method == "GET":
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/sign-in?next={quote(wanted, safe='')}", 303)
    return told(request, error.status_code, str(error.detail), headers)


def unavailable(request: Request, error: Exception) -> Response:
    """The database or a disk does not answer; where and why is told to the log alone."""
    LOGGER.error("cannot answer %s: %s", request.url.path, error)
    return told(request, 503, "the store does not answer now", {"retry-after": "30"})


def told(request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error of that status, as a page or as a problem."""
    title = HTTPStatus(status).phrase
    detail = _SAID.get(status, detail) if detail == title else detail
    if wants_page(request):
        answer: Response = render(
            request, "error.html", status, code=status, heading=title, detail=detail, remedy=_REMEDIES.get(status, "")
        )
        answer.headers.update(headers or {})
        return answer
    problem = Problem(title=title, status=status, detail=detail)
    return Response(msgspec.json.encode(problem), status, dict(headers or {}), media_type="application/problem+json")
