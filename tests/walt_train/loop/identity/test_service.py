"""The desk by HTTPS, as strangers meet it: hostile requests, wrong tokens, bodies without an end."""

from __future__ import annotations

import itertools
import json
import random
import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests
import schemathesis
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode

from tests.walt_train.loop.identity.home import JSON, Served, make_request, p256, serving
from walt_edge.contract.enrolment import MAX_BODY_BYTES, PREFIX, Problem, Token
from walt_train.loop.identity.service import Attempts


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("desk"), Attempts(most=10**9)) as served:
        yield served


# -- hostile requests -------------------------------------------------------------------------------------------


def _variants(served: Served, path: str, body: bytes, chance: random.Random) -> Iterator[bytes]:
    """A body, and what a stranger would try next: damaged, cut short, and half of it right."""
    yield body
    flipped = bytearray(body or b"{}")
    flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
    yield bytes(flipped)
    yield body[: chance.randrange(len(body) + 1)]
    right = served.good[path]
    try:
        drawn = json.loads(body)
    except ValueError:
        drawn = {}
    kept = [name for name in drawn if name in right] if isinstance(drawn, dict) else []
    # One field at least is the stranger's; the others are as they should be.
    wrong = chance.choice(kept or sorted(right))
    yield json.dumps(right | {wrong: drawn[wrong] if kept else "0"}).encode()


def _attack(served: Served, path: str, mode: GenerationMode, draws: int) -> Counter[int]:
    """Statuses of four requests for each one that is made up from the OpenAPI document, well-formed and not."""
    schema = schemathesis.openapi.from_dict(served.openapi)
    statuses: Counter[int] = Counter()
    chance = random.Random(1)

    @given(case=schema[PREFIX + path]["POST"].as_strategy(mode))
    @settings(max_examples=draws, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def attack(case: schemathesis.Case[Any]) -> None:
        prepared = requests.Request(**case.as_transport_kwargs(base_url=served.url)).prepare()
        headers = {name: str(value) for name, value in prepared.headers.items() if name != "Content-Length"}
        body = prepared.body.encode() if isinstance(prepared.body, str) else prepared.body or b""
        assert isinstance(body, bytes)
        for variant in _variants(served, path, body, chance):
            answer = served.post(path, variant, headers)
            statuses[answer.status_code] += 1
            assert 400 <= answer.status_code < 500, (answer.status_code, answer.text)
            assert msgspec.json.decode(answer.content, type=Problem).status == answer.status_code

    attack()
    return statuses


ATTACKS = pytest.mark.parametrize(
    ("path", "mode"),
    list(itertools.product(("/enroll", "/renew"), (GenerationMode.POSITIVE, GenerationMode.NEGATIVE))),
)


@ATTACKS
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_hostile_requests_are_refused(served: Served, path: str, mode: GenerationMode) -> None:
    statuses = _attack(served, path, mode, 125)
    assert sum(statuses.values()) >= 500
    # Some stumble at the form, some at what they say, some at the token or the signature.
    assert {400, 422} <= set(statuses)
    assert [device.device for device in served.registry.all()] == ["walt-known"]


@ATTACKS
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_very_many_hostile_requests_are_refused(served: Served, path: str, mode: GenerationMode) -> None:
    assert sum(_attack(served, path, mode, 3_125).values()) >= 12_500
    assert [device.device for device in served.registry.all()] == ["walt-known"]


# -- one by one -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (JSON, b"", 422),
        (JSON, b"[" * 8000, 422),
        (JSON, b'{"token": "\\ud800", "request": "x"}', 422),
        (JSON, b"\xff\xfe", 422),
        (JSON, b" " * (MAX_BODY_BYTES + 1), 413),
        ({}, b"{}", 415),
        ({"content-type": "text/plain"}, b"{}", 415),
        ({"content-type": "application/json; charset=utf-8"}, b"{}", 422),
    ],
    ids=["empty", "deep", "half a letter", "no text", "large", "of no kind", "of another kind", "with its charset"],
)
def test_bodies_that_are_none(served: Served, headers: dict[str, str], body: bytes, status: int) -> None:
    for path in ("/enroll", "/renew"):
        answer = served.post(path, body, headers)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/enroll", 405), ("POST", "/ca", 405), ("GET", "/absent", 404), ("GET", "/../..", 404)],
)
def test_other_addresses_tell_nothing(served: Served, method: str, path: str, status: int) -> None:
    answer = served.session.request(method, f"{served.url}{PREFIX}{path}", timeout=20)
    assert answer.status_code == status
    assert msgspec.json.decode(answer.content, type=Problem).status == status
    for hidden in ("/docs", "/openapi.json", "/redoc"):
        assert served.session.get(served.url + hidden, timeout=20).status_code == 404


def test_a_body_without_an_end_is_not_waited_for_nor_kept(served: Served) -> None:
    host, _, port = served.url.removeprefix("https://").rpartition(":")
    context = ssl.create_default_context(cafile=str(served.house.authority.folder / "home-ca.pem"))
    with (
        socket.create_connection((host, int(port)), 20) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        secured.sendall(
            f"POST {PREFIX}/enroll HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            "transfer-encoding: chunked\r\n\r\n".encode()
        )
        for _ in range(MAX_BODY_BYTES // 4096 + 1):
            secured.sendall(b"1000\r\n" + b" " * 4096 + b"\r\n")
        assert b" 413 " in secured.recv(4096)


def test_nothing_of_a_refused_request_is_repeated(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    token = Token.make(served.house.authority.fingerprint)
    for body in (
        {"token": str(token), "request": make_request(p256())},
        {"token": str(token), "request": make_request(p256()), "device": "a/b"},
        {"token": str(token) + "x", "request": "x"},
        {"token": str(token), "extra": token.secret},
    ):
        answer = served.post("/enroll", body)
        assert answer.status_code in (403, 422)
        assert token.secret not in answer.text + caplog.text


def test_what_anybody_may_have(served: Served) -> None:
    authority = served.house.authority
    assert served.session.get(f"{served.url}{PREFIX}/ca", timeout=20).content == authority.home_pem
    crl = served.session.get(f"{served.url}{PREFIX}/crl", timeout=20)
    assert x509.load_pem_x509_crl(crl.content).issuer == x509.load_pem_x509_certificate(authority.devices_pem).subject
    nonces = [served.session.get(f"{served.url}{PREFIX}/nonce", timeout=20) for _ in range(2)]
    assert nonces[0].json()["nonce"] != nonces[1].json()["nonce"]
    assert nonces[0].headers["cache-control"] == "no-store"


# -- who guesses ------------------------------------------------------------------------------------------------


def test_who_shows_wrong_tokens_is_slowed_down(tmp_path: Path) -> None:
    now_s = [100.0]
    with serving(tmp_path, Attempts(3, 60.0, lambda: now_s[0])) as served:
        good, fingerprint = served.token(), served.house.authority.fingerprint

        def show(token: Token) -> requests.Response:
            return served.post("/enroll", {"token": str(token), "request": make_request(p256())})

        assert [show(Token.make(fingerprint)).status_code for _ in range(5)] == [403, 403, 403, 429, 429]
        refused = show(good)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "61")
        now_s[0] += 61
        assert show(good).status_code == 200


def test_attempts_are_counted_by_address_and_not_for_ever() -> None:
    now_s = [0.0]
    attempts = Attempts(2, 60.0, lambda: now_s[0])
    for _ in range(2):
        attempts.failed("a")
    assert attempts.wait_s("a") == 60.0
    assert attempts.wait_s("b") == 0.0
    now_s[0] = 61.0
    assert attempts.wait_s("a") == 0.0
    attempts.failed("a")
    assert attempts.wait_s("a") == 0.0
    for number in range(20_000):
        attempts.failed(str(number))
    assert len(attempts._seen) == 10_000


def test_a_home_whose_database_is_gone_says_so_and_no_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving(tmp_path, Attempts()) as served:
        token = served.token()
        for path in tmp_path.glob("store.sqlite3*"):
            path.unlink()
        (tmp_path / "store.sqlite3").mkdir()
        served.registry._engine.dispose()
        answer = served.post("/enroll", {"token": str(token), "request": make_request(p256())})
        assert answer.status_code == 503
        assert served.session.get(f"{served.url}{PREFIX}/crl", timeout=20).status_code == 503
        assert "sqlite" not in answer.text
        assert "sqlite" in caplog.text
