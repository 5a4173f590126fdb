"""The page over TLS, asked by a real client: who it is, what it refuses, how it is renewed, and who may dawdle."""

from __future__ import annotations

import contextlib
import http.client
import logging
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives import serialization

from tests.fakes.agent_view import FakeAgentView
from tests.waiting import wait_for
from tests.walt_edge.doctor.certificates import Authority, Pair
from tests.web_client import ask, raw, rest
from walt_edge.web import server as served
from walt_edge.web.server import CONNECTIONS_PER_ADDRESS, Patience, WebServer
from walt_edge.web.settings import WebError, WebSettings

TOKEN = "a-token-of-good-length"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue("page", days=30)


@pytest.fixture(scope="module")
def trusted(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.pem))


def settings_for(pair: Pair) -> WebSettings:
    return WebSettings("0.0.0.0", 0, TOKEN, pair.cert, pair.key)


def local(server: WebServer) -> str:
    return server.url.replace("0.0.0.0", "127.0.0.1")


@pytest.fixture(scope="module")
def page(view: FakeAgentView, pair: Pair) -> Iterator[str]:
    """Where the page is, by loopback, as it is served to a network."""
    with WebServer(view, settings_for(pair)) as server:
        yield local(server)


def test_who_knows_the_authority_and_the_token_is_served(page: str, trusted: ssl.SSLContext) -> None:
    assert page.startswith("https://")
    assert ask(page, "/api/figures", trusted=trusted).status == 401
    assert ask(page, "/api/figures", headers=BEARER, trusted=trusted).status == 200
    assert b"walt_edge_spool_bytes" in ask(page, "/metrics", headers=BEARER, trusted=trusted).body
    wait_for(lambda: ask(page, "/live/gate.jpg", headers=BEARER, trusted=trusted).body[:2] == b"\xff\xd8")


def test_the_sessions_cookie_never_travels_in_the_clear(page: str, trusted: ssl.SSLContext) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = ask(page, "/login", method="POST", headers=form, body=f"token={TOKEN}".encode(), trusted=trusted)
    assert answer.status == 303
    assert "Secure" in answer.headers["set-cookie"]


def test_who_does_not_know_the_authority_does_not_talk_to_it(page: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(page, trusted=ssl.create_default_context())


@pytest.mark.parametrize(
    "sent", [b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\x00\x05hello", bytes(100)]
)
def test_what_is_no_tls_gets_no_answer_and_the_next_is_served(
    page: str, trusted: ssl.SSLContext, sent: bytes
) -> None:
    with raw(page, sent) as connection:
        assert b"HTTP" not in rest(connection)
    assert ask(page, "/livez", trusted=trusted).status == 200


def test_an_old_version_is_not_spoken(page: str, trusted: ssl.SSLContext) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(page, trusted=old)


def test_a_request_that_comes_with_the_handshake_is_answered(page: str, trusted: ssl.SSLContext) -> None:
    """The last message of the handshake and the request in one piece, as browsers mostly send them."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    spoken = trusted.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with raw(page) as connection:
        while True:
            try:
                spoken.do_handshake()
                break
            except ssl.SSLWantReadError:
                connection.sendall(outgoing.read())
                incoming.write(connection.recv(1 << 16))
        spoken.write(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        connection.sendall(outgoing.read())
        answer = b""
        while b'{"ok":true}' not in answer:
            incoming.write(connection.recv(1 << 16) or pytest.fail("cut off"))
            with contextlib.suppress(ssl.SSLWantReadError):
                answer += spoken.read()
    assert answer.startswith(b"HTTP/1.1 200")


def test_many_requests_on_one_connection(page: str, trusted: ssl.SSLContext) -> None:
    where = urlsplit(page).netloc
    with contextlib.closing(http.client.HTTPSConnection(where, timeout=30, context=trusted)) as connection:
        connection.connect()
        connection.auto_open = 0  # One that was cut off is not made again.
        for _ in range(20):
            connection.request("GET", "/livez")
            assert connection.getresponse().read() == b'{"ok":true}'


def test_who_never_shakes_hands_is_cut_off_and_forgotten(view: FakeAgentView, pair: Pair) -> None:
    with WebServer(view, settings_for(pair), Patience(head_s=0.7, answer_s=0.7)) as server:
        held = [raw(local(server)) for _ in range(CONNECTIONS_PER_ADDRESS)]
        try:
            with raw(local(server)) as late:
                assert rest(late) == b""
            assert all(rest(one) == b"" for one in held)
            wait_for(lambda: not server._server.server_state.connections)
        finally:
            for one in held:
                one.close()


def test_it_ends_in_the_middle_of_a_handshake(view: FakeAgentView, pair: Pair) -> None:
    server = WebServer(view, settings_for(pair))
    server.start()
    with raw(local(server)):
        wait_for(lambda: bool(server._server.server_state.connections))
        server.stop()
    assert not server._thread.is_alive()


def serial(url: str, trusted: ssl.SSLContext) -> object:
    """Of the certificate that the page shows."""
    with raw(url) as plain, trusted.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
        shown = connection.getpeercert()
    assert shown is not None
    return shown["serialNumber"]


def test_a_renewed_certificate_is_taken_over_and_a_broken_one_is_not(
    tmp_path: Path,
    view: FakeAgentView,
    authority: Authority,
    trusted: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(served, "_RENEW_TICKS", 1)
    files = Pair(tmp_path / "page.pem", tmp_path / "page.key")

    def install(pair: Pair) -> None:
        for source, target in ((pair.cert, files.cert), (pair.key, files.key)):
            shutil.copyfile(source, target)

    install(authority.issue("first", days=2))
    with WebServer(view, settings_for(files)) as server:
        first = serial(local(server), trusted)
        install(authority.issue("second", days=300))
        wait_for(lambda: serial(local(server), trusted) != first, 20, "the renewed certificate")
        second = serial(local(server), trusted)
        files.key.write_text("half of a key")
        wait_for(lambda: "the page keeps its former certificate: " in caplog.text, 20)
        assert serial(local(server), trusted) == second
        files.cert.unlink()
        wait_for(lambda: "No such file" in caplog.text, 20)
        assert serial(local(server), trusted) == second


def encrypted(pair: Pair, path: Path) -> Path:
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"secret-word")))
    return path


def test_files_that_cannot_be_used_are_one_line_with_the_remedy(
    tmp_path: Path, view: FakeAgentView, authority: Authority, pair: Pair
) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_bytes(bytes(range(256)))
    other = authority.issue("other", days=2)
    for cert, key, words in (
        (pair.cert, tmp_path / "absent.key", "No such file or directory; give PEM files"),
        (garbage, pair.key, "not a certificate and its private key; give both as PEM"),
        (pair.cert, garbage, "not a certificate and its private key; give both as PEM"),
        (pair.cert, None, "not a certificate and its private key; give both as PEM"),
        (pair.cert, other.key, "the key is not the certificate's; give the key"),
        (pair.cert, encrypted(pair, tmp_path / "locked.key"), "the key is encrypted, .*; write it out with"),
    ):
        with pytest.raises(WebError, match=words) as caught:
            WebServer(view, WebSettings(port=0, tls_cert=cert, tls_key=key))
        assert str(caught.value).startswith(f"web.tls_cert {cert}")
        assert "\n" not in str(caught.value)


def test_certificate_and_key_may_lie_in_one_file(
    tmp_path: Path, view: FakeAgentView, pair: Pair, trusted: ssl.SSLContext
) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(pair.cert.read_bytes() + pair.key.read_bytes())
    with WebServer(view, WebSettings(port=0, tls_cert=both)) as server:
        assert ask(server.url, "/livez", trusted=trusted).status in (200, 503)


def test_only_without_a_certificate_is_the_network_warned_of(
    view: FakeAgentView, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    for settings, is_warned in ((settings_for(pair), False), (WebSettings("0.0.0.0", 0, TOKEN), True)):
        caplog.clear()
        with caplog.at_level(logging.WARNING), WebServer(view, settings):
            pass
        assert ("travels unencrypted: give web.tls_cert" in caplog.text) is is_warned
