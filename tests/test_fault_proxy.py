"""The fault proxy does what it says, and nothing else."""

from __future__ import annotations

import random
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from benchmarks.fault_proxy import HOST, FaultProxy, Weather

ANSWER = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 5\r\n\r\nhello"


def _packet(content: bytes) -> bytes:
    return b"$\0" + len(content).to_bytes(2) + content


STREAM = ANSWER + b"".join(_packet(random.Random(size).randbytes(size)) for size in (1, 12, 1400, 60_000)) + ANSWER


class _Server(socketserver.BaseRequestHandler):
    """Sends the stream in odd pieces whenever it is asked."""

    def handle(self) -> None:
        with suppress(OSError):
            while self.request.recv(100):
                for start in range(0, len(STREAM), 777):
                    self.request.sendall(STREAM[start : start + 777])


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    with socketserver.ThreadingTCPServer((HOST, 0), _Server) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        with FaultProxy(server.server_address[1]) as one:
            yield one
        server.shutdown()
        thread.join()


def _ask(client: socket.socket, count: int = len(STREAM), timeout_s: float = 5.0) -> bytes:
    """What comes to a question: so many bytes, or as far as they come."""
    client.settimeout(timeout_s)
    client.sendall(b"DESCRIBE")
    heard = b""
    try:
        while len(heard) < count:
            if not (data := client.recv(65536)):
                break
            heard += data
    except TimeoutError:
        pass
    return heard


def _client(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection((HOST, proxy.port), timeout=5)


def test_bytes_pass_unharmed_and_late(proxy: FaultProxy) -> None:
    with _client(proxy) as client:
        assert _ask(client) == STREAM
        proxy.weather = Weather(delay_s=0.1, jitter_s=0.05)
        began = time.monotonic()
        assert _ask(client) == STREAM
        assert time.monotonic() - began > 0.2, "there and back"


def test_answers_pass_without_pictures_or_with_noise_for_them(proxy: FaultProxy) -> None:
    with _client(proxy) as client:
        proxy.weather = Weather(mute=True)
        assert _ask(client, 2 * len(ANSWER)) == 2 * ANSWER
        proxy.weather = Weather(garble=True)
        heard = _ask(client)
    assert len(heard) == len(STREAM)
    assert heard.startswith(ANSWER)
    assert heard.endswith(ANSWER)
    assert heard != STREAM


def test_a_frozen_connection_neither_passes_nor_ends_and_new_ones_pass(proxy: FaultProxy) -> None:
    with _client(proxy) as client:
        assert _ask(client) == STREAM
        proxy.freeze()
        assert _ask(client, timeout_s=0.3) == b""
        assert proxy.connections == 1
        with _client(proxy) as another:
            assert _ask(another) == STREAM


def test_noise_is_put_among_what_comes(proxy: FaultProxy) -> None:
    with _client(proxy) as client:
        assert _ask(client) == STREAM
        proxy.insert(10)
        client.settimeout(5)
        assert len(client.recv(100)) == 10


@pytest.mark.parametrize("reset", [True, False])
def test_a_cut_is_a_reset_or_an_end(proxy: FaultProxy, reset: bool) -> None:
    with _client(proxy) as client:
        assert _ask(client) == STREAM
        proxy.cut(reset=reset)
        if reset:
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        else:
            assert client.recv(1) == b""


def test_who_is_refused_is_taken_again_on_the_same_port(proxy: FaultProxy) -> None:
    port = proxy.port
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        _client(proxy)
    proxy.admit()
    assert proxy.port == port
    with _client(proxy) as client:
        assert _ask(client) == STREAM


@pytest.mark.parametrize(("weather", "heard"), [(Weather(silent=True), b""), (Weather(reply=b"no"), b"no")])
def test_new_connections_are_answered_otherwise_or_not_at_all(
    proxy: FaultProxy, weather: Weather, heard: bytes
) -> None:
    proxy.weather = weather
    with _client(proxy) as client:
        assert _ask(client, max(1, len(heard)), timeout_s=0.3 + 5 * len(heard)) == heard
