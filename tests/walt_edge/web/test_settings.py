"""Where the page may be served: never open to a network."""

from __future__ import annotations

import pytest

from walt_edge.contract.errors import UsageError
from walt_edge.web.settings import WebSettings, is_loopback

TOKEN = "a-token-of-good-length"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("LOCALHOST.", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.4", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
        ("::ffff:8.8.8.8", False),
    ],
)
def test_loopback_is_this_machine_alone(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": "0.0.0.0"}, "0.0.0.0 would be open to the network: give it a token"),
        ({"host": "192.168.1.4", "token": None}, "open to the network"),
        ({"token": "short"}, "5 characters, expected at least 16"),
        ({"token": "ü" * 20}, "plain ASCII"),
        ({"token": ""}, "0 characters"),
        ({"port": 70000}, "port is 70000"),
        ({"tls_key": "page.key"}, "no certificate: give web.tls_cert too"),
        ({"host": "0.0.0.0", "tls_cert": "page.pem"}, "open to the network: give it a token"),
    ],
)
def test_what_would_be_open_is_refused_with_the_remedy(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        WebSettings(**options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_token_is_in_no_log_line() -> None:
    assert TOKEN not in repr(WebSettings(host="0.0.0.0", token=TOKEN))
