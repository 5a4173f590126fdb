"""Hostile input for every page of every part: no mistake of ours, and nothing that runs in a reader's browser."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp

from tests.walt_train.loop.web.client import Answer, Client, Clock, signed_in, site_on
from walt_train.loop.store.store import Store
from walt_train.loop.web.access.person import Role
from walt_train.loop.web.app import make_app
from walt_train.loop.web.routers import ROUTERS
from walt_train.loop.web.settings import WebSettings
from walt_train.loop.web.site import Site

MARK = "<script>alert(1)</script>"
HOSTILE = (
    "",
    "1",
    "0",
    "-1",
    str(2**31),
    str(2**63),
    "9" * 400,
    "1e400",
    "NaN",
    MARK,
    f'"{MARK}',
    "' OR 1=1 --",
    "../../../etc/passwd",
    "%2e%2e%2f",
    "\0",
    "\udcff",
    "ü" * 300,
    "x" * 5000,
    "{{7*7}}",
    "\r\nset-cookie: a=b",
    "javascript:alert(1)",
    "//evil.example",
    "true",
    "null",
    "[]",
    "a&b=c",
    "9999-99-99",
)
HEADERS = (
    "cookie",
    "authorization",
    "host",
    "origin",
    "x_forwarded_for",
    "x_csrf_token",
    "user_agent",
    "accept",
    "content_type",
    "sec_fetch_site",
)


@dataclass(frozen=True)
class Door:
    """One address and method, and what it takes."""

    method: str
    path: str
    query: tuple[str, ...]
    fields: tuple[str, ...]


def doors() -> list[Door]:
    """Every page of every part, as it describes itself."""
    app = FastAPI()
    for router in ROUTERS:
        app.include_router(router)
    told = app.openapi()
    found = []
    for path, methods in told["paths"].items():
        for method, about in methods.items():
            query = [one["name"] for one in about.get("parameters", ()) if one["in"] == "query"]
            found.append(Door(method.upper(), path, tuple(query), tuple(_fields(told, about))))
    return found


def _fields(told: dict[str, Any], about: dict[str, Any]) -> Iterator[str]:
    for media in about.get("requestBody", {}).get("content", {}).values():
        schema = media.get("schema", {})
        named = schema.get("$ref") or next((one["$ref"] for one in schema.get("allOf", ()) if "$ref" in one), "")
        yield from told["components"]["schemas"][named.rsplit("/", 1)[-1]].get("properties", {}) if named else ()


@pytest.fixture
def site(store: Store, clock: Clock) -> Site:
    return site_on(store, clock=clock, settings=WebSettings(burst=1_000_000))


@pytest.fixture
def app(site: Site) -> ASGIApp:
    return make_app(site)


def knocked(client: Client, door: Door, chance: random.Random) -> Answer:
    """One hostile request at a door."""

    def any_() -> str:
        return chance.choice(HOSTILE)

    path = re.sub(r"\{[^}]*\}", lambda _: quote(any_() or "x", safe="", errors="replace"), door.path)
    query = urlencode({name: any_() for name in door.query if chance.random() < 0.7}, errors="replace")
    path = f"{path}?{query}" if query else path
    if door.method == "GET":
        return client.get(path)
    return client.post(
        path, {name: any_().encode("utf-8", "replace") for name in door.fields if chance.random() < 0.9}
    )


def test_hostile_input_is_answered_and_never_shown_raw(site: Site, app: ASGIApp) -> None:
    chance, known = random.Random(7), doors()
    assert len(known) > 20
    refused = 0
    for turn in range(12):
        client = signed_in(site, Role.ADMIN, f"admin-{turn}", app=app)
        for door in known:
            if door.path in ("/sign-out", "/account/sessions/end"):
                continue
            answer = knocked(client, door, chance)
            assert answer.status < 500, (door, answer.text[:500])
            assert MARK.encode() not in answer.body, door
            assert "a=b" not in answer.cookies.values()
            assert "evil.example" not in answer.headers.get("location", ""), door
            refused += answer.status in (400, 404, 422)
    assert refused > 50, "most of it is refused"


def test_bodies_that_are_no_forms_are_refused(site: Site, app: ASGIApp) -> None:
    client = signed_in(site, Role.ADMIN, app=app)
    multipart = "multipart/form-data; boundary=x"
    bodies = (
        (b"\xff\xfe=%ff", "application/x-www-form-urlencoded"),
        (b"&".join(b"a=1" for _ in range(5000)), "application/x-www-form-urlencoded"),
        (b"", multipart),
        (b"--x\r\n\r\n", multipart),
        (b"--x\r\ncontent-disposition: form-data\r\n\r\n1\r\n--x--", multipart),
        (b'--x\r\ncontent-disposition: form-data; name="csrf"; filename="a"\r\n\r\n1\r\n--x--', multipart),
        (b"--x" * 1000, multipart),
        (b"a", "multipart/form-data"),
        (b"a", "multipart/form-data; boundary=" + "x" * 500),
        (b"{" * 100_000, "application/json"),
        (b"\0" * 100, ""),
    )
    for door in doors():
        if door.method == "GET":
            continue
        path = re.sub(r"\{[^}]*\}", "1", door.path)
        for body, kind in bodies:
            answer = client.ask(door.method, path, body, {"content_type": kind, "origin": "http://localhost"})
            assert 400 <= answer.status < 500, (door, kind, body[:60])


@given(
    body=st.binary(max_size=300),
    kind=st.sampled_from(["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_at_the_sign_in_are_answered(app: ASGIApp, body: bytes, kind: str) -> None:
    assert Client(app).ask("POST", "/sign-in", body, {"content_type": kind}).status < 500


@given(st.dictionaries(st.sampled_from(HEADERS), st.text(st.characters(max_codepoint=255), max_size=80)))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_headers_are_answered(app: ASGIApp, headers: dict[str, str]) -> None:
    for method, path in (("GET", "/account"), ("POST", "/sign-in")):
        assert Client(app).ask(method, path, b"name=a&password=b", headers).status < 500
