"""The server under peers that are slow, many or rude; and its beginning and end."""

from __future__ import annotations

import contextlib
import http.client
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.fakes.agent_view import FakeAgentView
from tests.waiting import wait_for
from tests.web_client import ask, raw, rest
from walt_edge.contract.errors import WaltError
from walt_edge.web import server as served
from walt_edge.web.server import CONNECTIONS_PER_ADDRESS, Patience, WebServer
from walt_edge.web.settings import WebSettings
from walt_edge.web.status import AgentFigures


@pytest.fixture
def hasty(view: FakeAgentView) -> Iterator[str]:
    """A server with little patience."""
    with WebServer(view, WebSettings(port=0), Patience(head_s=0.7, answer_s=0.7)) as server:
        yield server.url


def test_a_port_in_use_is_one_clear_line(view: FakeAgentView, local: str) -> None:
    port = int(local.rstrip("/").rpartition(":")[2])
    second = WebServer(view, WebSettings(port=port))
    with pytest.raises(WaltError, match=rf"127.0.0.1:{port}: Address already in use; give another port") as caught:
        second.start()
    assert "\n" not in str(caught.value)
    second.stop()


@pytest.mark.parametrize("host", ["203.0.113.9", "a" * 70 + ".example"])
def test_an_address_of_another_machine_is_one_clear_line(view: FakeAgentView, host: str) -> None:
    with pytest.raises(WaltError, match=f"cannot be served on {host}"):
        WebServer(view, WebSettings(host=host, port=0, token="a-token-of-good-length")).start()


def test_it_ends_within_a_second_with_its_thread_and_its_port(view: FakeAgentView) -> None:
    server = WebServer(view, WebSettings(port=0))
    server.stop()
    server.start()
    half, idle = raw(server.url, b"GET / HT"), raw(server.url)
    with half, idle:
        assert ask(server.url).status == 200
        started_s = time.monotonic()
        server.stop()
        took_s = time.monotonic() - started_s
    server.stop()
    assert took_s < 5  # A second on a machine that has nothing else to do.
    assert not server._thread.is_alive()
    with pytest.raises(ConnectionRefusedError):
        ask(server.url)


def test_who_sends_a_head_byte_by_byte_is_cut_off(hasty: str) -> None:
    with raw(hasty, b"GET / HTTP/1.1\r\nHost: localhost\r\n") as slow:
        ended = threading.Event()

        def drip() -> None:
            while not ended.wait(0.1):
                try:
                    slow.sendall(b"X-A: b\r\n")
                except OSError:
                    return

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            assert rest(slow) == b""
        finally:
            ended.set()
            dripping.join()


@pytest.mark.parametrize(
    "sent",
    [b"", b"\r\n", b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\ntoken="],
    ids=["nothing", "an empty line", "half a form"],
)
def test_who_sends_no_whole_request_is_cut_off(hasty: str, sent: bytes) -> None:
    with raw(hasty, sent) as quiet:
        assert b"200 OK" not in rest(quiet)


def test_who_asks_again_and_again_on_one_connection_is_not_cut_off(hasty: str) -> None:
    # On a machine so busy that we ourselves pause for longer than the server waits, again.
    assert any(is_served_for(hasty, 1.8) for _ in range(5))


def is_served_for(url: str, seconds: float) -> bool:
    """Whether one connection lives that long, asked at a steady pace."""
    deadline = time.monotonic() + seconds
    with contextlib.closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)) as steady:
        steady.connect()
        steady.auto_open = 0  # A connection that was cut off is not made again.
        while time.monotonic() < deadline:
            try:
                steady.request("GET", "/livez")
                assert b"ok" in steady.getresponse().read()
            except (OSError, http.client.HTTPException):
                return False
            time.sleep(0.05)  # Not a wait for anything: the pace.
    return True


def test_who_does_not_read_the_answers_is_cut_off_and_others_are_served(
    hasty: str,
) -> None:
    wait_for(lambda: ask(hasty, "/live/gate.jpg").status == 200)
    request = b"GET /live/gate.jpg HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with raw(hasty, receive_buffer=4096) as lazy:
        lazy.settimeout(0.2)
        with pytest.raises(OSError, match=r"timed out|reset|pipe"):
            flood(lazy, request)
        assert ask(hasty, "/livez").status in (200, 503)
        lazy.settimeout(30)
        wait_for(lambda: is_reset(lazy), 20, "a reset")


def flood(connection: socket.socket, request: bytes) -> None:
    """Until neither side's buffers take more, or it was cut off."""
    while True:
        connection.sendall(request * 50)


def is_reset(connection: socket.socket) -> bool:
    return connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0 or is_closed(connection)


def is_closed(connection: socket.socket) -> bool:
    try:
        connection.send(b"x", socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False


def test_one_address_has_a_bounded_number_of_connections(view: FakeAgentView) -> None:
    with WebServer(view, WebSettings(port=0)) as server:
        held = [raw(server.url) for _ in range(CONNECTIONS_PER_ADDRESS)]
        try:
            wait_for(lambda: len(server._server.server_state.connections) == CONNECTIONS_PER_ADDRESS)
            with raw(server.url) as late:
                assert rest(late) == b""
            held.pop().close()
            wait_for(lambda: len(server._server.server_state.connections) < CONNECTIONS_PER_ADDRESS)
            assert ask(server.url, "/livez").status in (200, 503)
        finally:
            for one in held:
                one.close()


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=[
        "long header",
        "long path",
        "many headers",
        "version",
        "TLS",
        "two hosts",
        "length",
        "url",
        "no host",
    ],
)
def test_rude_requests_are_refused_and_the_next_is_answered(local: str, request_: bytes) -> None:
    connection = raw(local)
    with connection:
        try:
            connection.sendall(request_)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # It had enough before the end.
        said = rest(connection)
    assert not said or said.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")), said[:100]
    assert ask(local, "/livez").status in (200, 503)


def test_a_web_socket_is_not_spoken(local: str) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "eA==",
    }
    assert ask(local, "/livez", headers=upgrade).status in (200, 503)


def test_a_view_that_fails_is_an_error_500_and_a_line_in_our_log(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(FakeAgentView):
        def figures(self) -> AgentFigures:
            raise RuntimeError("scripted")

    with WebServer(Failing(), WebSettings(port=0)) as server:
        answer = ask(server.url, "/api/figures")
    assert answer.status == 500
    assert b"scripted" not in answer.body
    assert "scripted" in caplog.text


def test_what_uvicorn_says_goes_through_our_logging(view: FakeAgentView, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), WebServer(view, WebSettings(port=0)) as server:
        raw(server.url, b"nonsense\r\n\r\n").close()
        wait_for(lambda: "Invalid HTTP request" in caplog.text)
    assert f"the page is at {server.url}" in caplog.text
    assert not logging.getLogger("uvicorn").handlers


def test_nothing_of_it_is_imported_by_the_agent_itself() -> None:
    script = (
        "import sys, walt_edge.agent.telemetry, walt_edge.watching.watcher;"
        "import walt_edge.web.board, walt_edge.web.settings;"
        "print([name for name in ('fastapi', 'uvicorn', 'starlette', 'prometheus_client') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_its_bounds_are_below_what_a_process_may_open() -> None:
    assert served.CONNECTIONS_PER_ADDRESS < served.CONNECTIONS_MAX < 256
