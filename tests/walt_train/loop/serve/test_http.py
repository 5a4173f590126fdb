"""What home serves, asked for by real requests over a real socket."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
import subprocess
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import PATIENCE_S
from tests.walt_train.loop.serve.loop import Loop
from walt_edge.contract.errors import UsageError
from walt_train.loop.serve.http import HttpConfig, HttpServer, make_app, parse_listen
from walt_train.loop.serve.jobs import Order, StepName

DATA = bytes(range(256)) * 40


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    loop = Loop(tmp_path_factory.mktemp("served"))
    repository = loop.home / "repository"
    (repository / "targets").mkdir(parents=True)
    (repository / "targets" / "a.walt").write_bytes(DATA)
    (repository / "targets" / ".a.partial").write_bytes(b"half")
    (repository / ".lock").write_bytes(b"")
    (repository / "root.json").write_bytes(b"{}")
    (loop.home / "keys").mkdir()
    (loop.home / "keys" / "root.pem").write_bytes(b"secret")
    (repository / "link").symlink_to(loop.home / "keys")
    with loop, HttpServer(make_app(repository, loop.jobs("reader").all), HttpConfig()) as server:
        yield server


def ask(server: HttpServer, path: str, method: str = "GET", **headers: str) -> Answer:
    host, _, port = server.url.removeprefix("http://").rstrip("/").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE_S)
    connection.putrequest(method, path, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    response = connection.getresponse()
    answer = Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    connection.close()
    return answer


def test_files_are_served_whole(server: HttpServer) -> None:
    answer = ask(server, "/targets/a.walt")
    assert (answer.status, answer.body) == (200, DATA)
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["accept-ranges"] == "bytes"
    head = ask(server, "/targets/a.walt", "HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(DATA)))
    again = ask(server, "/targets/a.walt", If_None_Match=answer.headers["etag"])
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    ("asked", "status", "body"),
    [
        ("bytes=0-99", 206, DATA[:100]),
        ("bytes=1000-", 206, DATA[1000:]),
        ("bytes=-10", 206, DATA[-10:]),
        (f"bytes={len(DATA)}-", 416, None),
        ("furlongs=1-2", 400, None),
    ],
)
def test_a_download_goes_on_where_it_stopped(server: HttpServer, asked: str, status: int, body: bytes | None) -> None:
    answer = ask(server, "/targets/a.walt", Range=asked)
    assert answer.status == status
    if body is not None:
        assert answer.body == body
        assert answer.headers["content-range"].endswith(f"/{len(DATA)}")


def test_a_file_that_changed_meanwhile_is_served_whole(server: HttpServer) -> None:
    etag = ask(server, "/targets/a.walt").headers["etag"]
    same = ask(server, "/targets/a.walt", Range="bytes=1000-", If_Range=etag)
    assert (same.status, same.body) == (206, DATA[1000:])
    changed = ask(server, "/targets/a.walt", Range="bytes=1000-", If_Range='"of-another-day"')
    assert (changed.status, changed.body) == (200, DATA)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/targets",
        "/targets/",
        "/nothing",
        "/../keys/root.pem",
        "/targets/../../keys/root.pem",
        "/%2e%2e/keys/root.pem",
        "/..%2fkeys%2froot.pem",
        "/targets/..%5c..%5ckeys%5croot.pem",
        "//keys/root.pem",
        "/link/root.pem",
        "/.lock",
        "/targets/.a.partial",
        "/targets/%00",
        "/docs",
        "/openapi.json",
        "/" + "x" * 300,
    ],
)
def test_nothing_else_is_served(server: HttpServer, path: str) -> None:
    answer = ask(server, path)
    assert answer.status == 404
    assert b"secret" not in answer.body
    assert b"a.walt" not in answer.body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ["/targets/a.walt", "/healthz", "/api/v1/generations"])
def test_nothing_is_changed_from_outside(server: HttpServer, path: str, method: str) -> None:
    assert ask(server, path, method).status == 405


def test_health(server: HttpServer) -> None:
    assert ask(server, "/healthz").body == b"ok\n"
    assert ask(server, "/healthz", "HEAD").status == 200


def test_the_table_is_told(loop: Loop) -> None:
    jobs = loop.jobs("a")
    with HttpServer(make_app(loop.home / "repository", jobs.all), HttpConfig()) as server:
        assert json.loads(ask(server, "/api/v1/generations").body) == {"cameras": [], "generations": []}
        generation = jobs.create(Order(camera="cam-1", recipe="demo", seed=1, training_steps=9, crops=6, tracks=6))
        assert generation is not None
        jobs.refuse(generation, StepName.PUBLISH, "refused: too weak")
        answer = ask(server, "/api/v1/generations")
    told = json.loads(answer.body)
    assert answer.headers["content-type"] == "application/json"
    assert told["cameras"] == ["cam-1"]
    [one] = told["generations"]
    assert (one["number"], one["state"], one["reason"]) == (1, "refused", "refused: too weak")
    assert [step["name"] for step in one["steps"]] == list(StepName)


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1", 200), ("::1", 200), ("192.0.2.9", 403), ("", 403)])
@pytest.mark.parametrize("path", ["/api/v1/generations", "/api/v1/waiting"])
def test_tables_are_for_this_machine(loop: Loop, path: str, host: str, status: int) -> None:
    app = make_app(loop.home / "repository", list)
    told: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        told.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [], "client": (host, 1)}
    asyncio.run(app(scope, receive, send))
    assert told[0]["status"] == status
    assert (b"walt-loop web" in told[1]["body"]) == (status == 403)


def test_https(loop: Loop, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    words += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*words, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    config = HttpConfig(tls_cert=cert, tls_key=key)
    with HttpServer(make_app(loop.home / "repository", list), config) as server:
        assert server.url.startswith("https://127.0.0.1:")
        host, _, port = server.url.removeprefix("https://").rstrip("/").partition(":")
        context = ssl.create_default_context(cafile=str(cert))
        connection = http.client.HTTPSConnection(host, int(port), timeout=PATIENCE_S, context=context)
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b"ok\n"
        connection.close()


def test_a_certificate_that_is_none(loop: Loop, tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("no")
    config = HttpConfig(tls_cert=tmp_path / "cert.pem", tls_key=tmp_path / "cert.pem")
    with pytest.raises(UsageError, match="cannot use the certificate"):
        HttpServer(make_app(loop.home / "repository", list), config)


def test_a_port_that_is_taken(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = HttpConfig(port=taken.getsockname()[1])
        with pytest.raises(UsageError, match=r"cannot listen on 127\.0\.0\.1:.*Address already in use"):
            HttpServer(make_app(loop.home / "repository", list), config)


@pytest.mark.parametrize(
    ("text", "address"), [("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:80", ("::1", 80)), ("home:8443", ("home", 8443))]
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_listen(text) == address


@pytest.mark.parametrize("text", ["8080", ":80", "home:", "home:x", "home:65536"])
def test_no_addresses(text: str) -> None:
    with pytest.raises(UsageError, match="is not HOST:PORT"):
        parse_listen(text)
