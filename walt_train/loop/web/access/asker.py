"""What the gate has found out about a request before a page sees it."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from walt_train.loop.web.access.person import Person


@dataclass(slots=True)
class Asker:
    """Who asks, and how.

    Attributes:
        address: Of the client, past our proxies.
        is_secure: Whether the browser speaks HTTPS with us or our proxy.
        person: Who it is; None = nobody known.
        secret: The session's secret; "" without a session.
    """

    address: str = ""
    is_secure: bool = False
    person: Person | None = None
    secret: str = ""


def asker_of(request: Request) -> Asker:
    """What the gate has found out."""
    found: Asker = request.scope["state"]["asker"]
    return found
