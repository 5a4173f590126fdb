"""Where the page is served, and to whom.

Without a certificate it speaks plain HTTP: on a network that is not trusted it needs one, or a TLS proxy or an SSH
tunnel before it.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from walt_edge.contract.errors import UsageError, WaltError

TOKEN_MIN: Final = 16


class WebError(WaltError):
    """The page cannot be served."""


@dataclass(frozen=True, slots=True)
class WebSettings:
    """Where the page is served, and to whom.

    Attributes:
        host: Address to listen on. On a loopback address everybody on the device may look without a token.
        port: Port; 0 takes a free one.
        token: Asked of everybody, at least 16 characters; without one only a loopback address is served.
        tls_cert: PEM file of the page's certificate, which makes it HTTPS; None: plain HTTP.
        tls_key: PEM file of its private key; None where that lies in `tls_cert`.

    Raises:
        UsageError: The page would be open to the network, or a setting cannot be.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = field(default=None, repr=False)
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UsageError(f"the page's port is {self.port}, expected 0..65535")
        if self.token is not None and (len(self.token) < TOKEN_MIN or not self.token.isascii()):
            raise UsageError(
                f"the page's token has {len(self.token)} characters, expected at least {TOKEN_MIN} of plain ASCII: "
                'make one with `python -c "import secrets; print(secrets.token_urlsafe())"`'
            )
        if self.tls_key is not None and self.tls_cert is None:
            raise UsageError("the page has a key (web.tls_key) and no certificate: give web.tls_cert too")
        if self.token is None and not is_loopback(self.host):
            raise UsageError(
                f"the page on {self.host} would be open to the network: give it a token, or serve it on 127.0.0.1 "
                "and reach it through an SSH tunnel"
            )


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this very machine, without asking a name server."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
