"""The real server: TLS, renewed certificates, clients that are slow or many."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.waiting import wait_for
from tests.walt_edge.doctor.certificates import Authority, Pair
from tests.walt_train.loop.web.client import PASSWORD, Clock, site_on
from tests.web_client import ask, raw, rest
from walt_edge.contract.errors import UsageError
from walt_train.loop.store.store import Store
from walt_train.loop.web.access.person import Role
from walt_train.loop.web.app import make_app
from walt_train.loop.web.server import Bounds, WebServer
from walt_train.loop.web.settings import LOOPBACK, WebSettings
from walt_train.loop.web.site import Site

FORM = {"content-type": "application/x-www-form-urlencoded", "accept": "text/html"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue("dashboard", days=30)


@pytest.fixture(scope="module")
def trusted(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.pem))


@contextlib.contextmanager
def serving(app: ASGIApp, settings: WebSettings | None = None, bounds: Bounds | None = None) -> Iterator[WebServer]:
    with WebServer(app, settings or WebSettings(port=0), bounds) as server:
        yield server


def local(server: WebServer) -> str:
    return server.url.replace("0.0.0.0", "127.0.0.1")


def secured(pair: Pair) -> WebSettings:
    return WebSettings(host="0.0.0.0", port=0, tls_cert=pair.cert, tls_key=pair.key)


def test_by_https_cookies_are_secure_and_this_host_s_alone(
    site: Site, store: Store, clock: Clock, pair: Pair, trusted: ssl.SSLContext
) -> None:
    site = site_on(store, clock=clock, settings=secured(pair))
    site.access.people.add("ann", Role.VIEWER, PASSWORD)
    with serving(make_app(site), site.settings) as server:
        url = local(server)
        assert url.startswith("https://127.0.0.1:")
        body = urlencode({"name": "ann", "password": PASSWORD}).encode()
        origin = {"origin": url.rstrip("/")}
        answer = ask(url, "/sign-in", method="POST", headers=FORM | origin, body=body, trusted=trusted)
        assert answer.status == 303
        assert "strict-transport-security" in answer.headers
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-walt_")
        assert "Secure" in cookie
        assert "Domain" not in cookie
        plain = origin["origin"].replace("https", "http")
        assert (
            ask(url, "/sign-in", method="POST", headers=FORM | {"origin": plain}, body=body, trusted=trusted).status
            == 403
        )


def test_only_tls_of_today_is_spoken(site: Site, pair: Pair, trusted: ssl.SSLContext) -> None:
    with serving(make_app(site), secured(pair)) as server:
        where = urlsplit(local(server))
        with socket.create_connection((where.hostname or "", where.port or 0), 30) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert not rest(plain).startswith(b"HTTP")
        assert ask(local(server), "/healthz", trusted=trusted).body == b"ok\n"


def test_a_renewed_certificate_is_taken_over(
    site: Site,
    authority: Authority,
    tmp_path: Path,
    trusted: ssl.SSLContext,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("walt_train.loop.web.server._RENEW_TICKS", 2)
    first, second = authority.issue("first", 10), authority.issue("second", 20)
    shown = Pair(tmp_path / "cert.pem", tmp_path / "key.pem")

    def put(pair: Pair) -> None:
        shutil.copy(pair.cert, shown.cert)
        shutil.copy(pair.key, shown.key)

    def serial(server: WebServer) -> object:
        where = urlsplit(local(server))
        with (
            socket.create_connection((where.hostname or "", where.port or 0), 30) as plain,
            trusted.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            found = connection.getpeercert()
            assert found is not None
            return found["serialNumber"]

    put(first)
    with serving(make_app(site), secured(shown)) as server:
        before = serial(server)
        put(second)
        wait_for(lambda: serial(server) != before)
        after = serial(server)
        shown.cert.write_text("half writ")
        wait_for(lambda: "keeps its former certificate" in caplog.text)
        assert serial(server) == after


def test_certificates_and_addresses_that_cannot_be_used_are_told(site: Site, pair: Pair, tmp_path: Path) -> None:
    other = Authority(tmp_path).issue("other", 3)
    for cert, key in ((pair.cert, other.key), (tmp_path / "absent.pem", None), (pair.cert, None)):
        with pytest.raises(
            UsageError, match=f"cannot use the certificate {cert}.*give PEM files that belong together"
        ):
            WebServer(make_app(site), WebSettings(port=0, tls_cert=cert, tls_key=key))
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(UsageError, match=r"cannot listen on 127\.0\.0\.1:.*give another --http"),
    ):
        WebServer(make_app(site), WebSettings(port=taken.getsockname()[1]))


# Who dawdles, and who comes too often


def test_who_dawdles_is_dropped_and_others_are_served_meanwhile(store: Store, clock: Clock) -> None:
    site = site_on(store, clock=clock, settings=WebSettings(port=0, body_s=0.5))
    with serving(make_app(site), site.settings, Bounds(request_s=0.5)) as server:
        slow = [
            raw(server.url),
            raw(server.url, b"GET / HTTP/1.1\r\nhost: loc"),
            raw(server.url, b"POST /sign-in HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n\r\nname="),
        ]
        assert ask(server.url, "/healthz").status == 200
        for connection in slow:
            rest(connection)
            connection.close()


def test_a_body_that_does_not_come_is_told_in_time(store: Store, clock: Clock) -> None:
    site = site_on(store, clock=clock, settings=WebSettings(port=0, body_s=0.3))
    with serving(make_app(site), site.settings) as server:
        half = b"POST /sign-in HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n\r\nname="
        with contextlib.closing(raw(server.url, half)) as connection:
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 408")


def test_a_slow_handshake_is_dropped(site: Site, pair: Pair) -> None:
    with (
        serving(make_app(site), secured(pair), Bounds(request_s=0.5)) as server,
        contextlib.closing(raw(local(server).replace("https", "http"), b"\x16\x03\x01")) as connection,
    ):
        assert rest(connection) == b""


def test_whoever_does_not_take_an_answer_is_dropped(site: Site) -> None:
    dropped: list[str] = []

    async def long(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        # More than the system's buffers hold; `send` waits for the client, and ends when that is gone.
        for _ in range(400):
            await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
        dropped.append((await receive())["type"])

    with (
        serving(long, bounds=Bounds(answer_s=0.5)) as server,
        contextlib.closing(raw(server.url, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", receive_buffer=4096)),
    ):
        wait_for(lambda: "http.disconnect" in dropped)


def test_connections_are_bounded_in_all_and_from_one_address(site: Site) -> None:
    with serving(make_app(site), bounds=Bounds(connections=6, an_address=4)) as server:
        held = [raw(server.url) for _ in range(4)]
        with contextlib.closing(raw(server.url)) as one_more:
            assert rest(one_more) == b"", "the fifth of one address"
        held[0].close()
        wait_for(lambda: answers(server.url))
        for connection in held:
            connection.close()
    proxied = WebSettings(port=0, names=("home.example",), proxies=LOOPBACK)
    with serving(make_app(site), proxied, Bounds(connections=6, an_address=4)) as server:
        held = [raw(server.url) for _ in range(5)]
        assert answers(server.url), "a proxy's connections are everybody's"
        for connection in held:
            connection.close()


def answers(url: str) -> bool:
    try:
        return ask(url, "/healthz").status == 200
    except OSError:
        return False


def test_a_mistake_of_ours_is_a_page_with_all_its_headers(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(*_: object) -> None:
        raise RuntimeError("the secret of secrets")

    monkeypatch.setattr("walt_train.loop.web.access.first.FirstAdmin.is_open", break_off)
    with serving(make_app(site)) as server:
        answer = ask(server.url, "/setup", headers={"accept": "text/html"})
        told = ask(server.url, "/setup", headers={"accept": "application/json"})
    assert answer.status == told.status == 500
    assert b"a mistake of the dashboard" in answer.body
    assert b"secret" not in answer.body + told.body
    assert "content-security-policy" in answer.headers
    assert json.loads(told.body)["status"] == 500
