"""The cookies: a session's secret, a known browser's, a word for the next page, and light or dark."""

from __future__ import annotations

from typing import Final

from fastapi import Request, Response

from walt_train.loop.web.access.asker import Asker, asker_of
from walt_train.loop.web.access.sessions import BROWSER_S, LIFE_S

SESSION: Final = "walt_home"
BROWSER: Final = "walt_browser"
SAID: Final = "walt_said"
THEME: Final = "walt_theme"
THEMES: Final = ("", "light", "dark")
_AGES_S: Final = {SESSION: LIFE_S, BROWSER: BROWSER_S, SAID: 60, THEME: 400 * 86_400}


def cookie(request: Request, name: str) -> str:
    """A cookie's value, or ""."""
    return request.cookies.get(_full(asker_of(request), name), "")


def set_cookie(request: Request, response: Response, name: str, value: str) -> None:
    """Sets one for this host alone, out of reach of scripts; "" takes it away.

    With HTTPS its name says `__Host-`, so that no neighbour under the same domain can set it for us. SameSite is Lax,
    not Strict: an alert that somebody follows from a mail shall not end at the sign-in.
    """
    asker = asker_of(request)
    response.set_cookie(
        _full(asker, name),
        value,
        max_age=_AGES_S[name] if value else 0,
        path="/",
        secure=asker.is_secure,
        httponly=True,
        samesite="lax",
    )


def _full(asker: Asker, name: str) -> str:
    return f"__Host-{name}" if asker.is_secure else name
