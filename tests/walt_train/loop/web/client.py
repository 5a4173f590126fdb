"""A browser without a screen: asks the application in this process, keeps its cookies, and finds a form's secret."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec
from starlette.types import ASGIApp, Message

from walt_train.loop.store.store import Store
from walt_train.loop.web.access.cookies import SESSION
from walt_train.loop.web.access.passwords import Passwords
from walt_train.loop.web.access.person import Role
from walt_train.loop.web.access.secret import derived
from walt_train.loop.web.app import make_app
from walt_train.loop.web.site import Site

PASSWORD = "correct horse battery staple"
QUICK = Passwords(time_cost=1, memory_kib=64)
"""Hashes that cost nothing, for tests alone."""


def site_on(store: Store, **options: Any) -> Site:
    """A site for tests; options as of `Site.of`."""
    return Site.of(store, **({"passwords": QUICK} | options))


@dataclass
class Clock:
    """A clock that a test moves; calling it tells microseconds UTC."""

    now_us: int = 1_795_000_000_000_000

    def __call__(self) -> int:
        return self.now_us

    def pass_(self, seconds: float) -> None:
        self.now_us += round(seconds * 1e6)


@dataclass(frozen=True)
class Answer:
    """What came back; header names are in lower case, of several of one name `headers` has the last."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cookies: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Client:
    """Asks one application.

    Args:
        app: It.
        host: The `Host` that is asked for, and where the requests say they come from.
        address: Where the client sits.
        scheme: `http` or `https`.
    """

    def __init__(
        self, app: ASGIApp, *, host: str = "localhost", address: str = "127.0.0.1", scheme: str = "http"
    ) -> None:
        self._app = app
        self.host, self.address, self.scheme = host, address, scheme
        self.cookies: dict[str, str] = {}

    @property
    def csrf(self) -> str:
        """What this session's forms hold."""
        name = f"__Host-{SESSION}" if self.scheme == "https" else SESSION
        return derived(self.cookies.get(name, ""), "csrf")

    def get(self, path: str, **headers: str) -> Answer:
        """Asks as a browser does; header names with `_` for `-`."""
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, form: Mapping[str, Any] | None = None, **headers: str) -> Answer:
        """Sends a form, with its secret unless it names one, as a browser does from a page of ours."""
        fields = ({"csrf": self.csrf} if self.cookies else {}) | dict(form or {})
        body = urlencode(fields, doseq=True).encode()
        own = {"origin": f"{self.scheme}://{self.host}", "sec_fetch_site": "same-origin"}
        own["content_type"] = "application/x-www-form-urlencoded"
        return self.ask("POST", path, body, own | headers)

    def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """One request."""
        where = urlsplit(path)
        sent = {"host": self.host, "accept": "text/html", "content-length": str(len(body))}
        if self.cookies:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent |= {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": where.path,
            "raw_path": where.path.encode(),
            "root_path": "",
            "query_string": where.query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent.items()],
            "client": (self.address, 50_000),
            "server": (self.host, 80),
            "scheme": self.scheme,
        }
        answer = asyncio.run(_asked(self._app, scope, body))
        self._keep(answer)
        return answer

    def _keep(self, answer: Answer) -> None:
        for name, value in answer.cookies.items():
            self.cookies[name] = value
            if not value:
                del self.cookies[name]


async def _asked(app: ASGIApp, scope: dict[str, Any], body: bytes) -> Answer:
    sent: list[Message] = []
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if not pending:
            await asyncio.Event().wait()  # The client stays until it has the whole answer.
        return pending.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start = sent[0]
    headers = [(name.decode().lower(), value.decode("latin-1")) for name, value in start["headers"]]
    cookies: dict[str, str] = {}
    for name, value in headers:
        if name == "set-cookie":
            cookies |= {one.key: "" if one["max-age"] == "0" else one.value for one in SimpleCookie(value).values()}
    data = b"".join(message.get("body", b"") for message in sent[1:])
    return Answer(start["status"], dict(headers), data, cookies)


def signed_in(site: Site, role: Role, name: str = "", app: ASGIApp | None = None) -> Client:
    """A client in which somebody of that role is signed in; the person is made if need be."""
    name = name or f"some-{role.word}"
    if name not in {one.name for one in site.access.people.all()}:
        site.access.people.add(name, role, PASSWORD)
    client = Client(app or make_app(site))
    client.cookies[SESSION] = site.access.sessions.begin(name, client.address, "a test")
    return client


def hidden(page: str, field_name: str) -> str:
    """The value of a hidden field in a page."""
    found = re.search(rf'name="{field_name}" value="([^"]*)"', page)
    assert found, f"no hidden {field_name} in {page[:2000]}"
    return found.group(1)
