"""Asking the agent's page over HTTP, well and badly."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    """What came back; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    url: str,
    path: str = "/",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    trusted: ssl.SSLContext | None = None,
) -> Answer:
    """One request on a connection of its own; `path` goes out as it is; with `trusted`, over TLS."""
    where = urlsplit(url).netloc
    connection = (
        http.client.HTTPConnection(where, timeout=30)
        if trusted is None
        else http.client.HTTPSConnection(where, timeout=30, context=trusted)
    )
    try:
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        told = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, told, answer.read())
    finally:
        connection.close()


def raw(url: str, data: bytes = b"", timeout_s: float = 30.0, receive_buffer: int = 0) -> socket.socket:
    """A connection on which some bytes were sent."""
    where = urlsplit(url)
    assert where.hostname is not None
    assert where.port is not None
    connection = socket.socket()
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(timeout_s)
    connection.connect((where.hostname, where.port))
    connection.sendall(data)
    return connection


def rest(connection: socket.socket) -> bytes:
    """Everything until the peer ends the connection; a reset is an end as well."""
    got = b""
    try:
        while data := connection.recv(1 << 16):
            got += data
    except ConnectionError:
        pass
    return got
