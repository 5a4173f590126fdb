"""Who asks, and by which scheme, where a proxy stands before us; only our own proxies are believed."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import Scope

from walt_train.loop.web.settings import WebSettings


def seen_through(scope: Scope, settings: WebSettings) -> Scope:
    """The request as the proxy got it; as it is where there is none.

    The right-most address of `X-Forwarded-For` that is no proxy of ours is the client: what stands left of it may
    have been written by whoever asked.
    """
    client = scope.get("client") or ("", 0)
    found = dict(scope) | {"client": client}
    if not settings.is_proxy(client[0]):
        return found
    headers = Headers(scope=scope)
    hops = [hop.strip() for line in headers.getlist("x-forwarded-for") for hop in line.split(",") if hop.strip()]
    while hops and settings.is_proxy(hops[-1]):
        hops.pop()
    if hops:
        found["client"] = (hops[-1][:64], 0)
    proto = headers.get("x-forwarded-proto", "").strip().lower()
    if proto in ("http", "https"):
        found["scheme"] = proto
    return found
