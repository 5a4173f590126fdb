"""Where the dashboard is served, by which names, and how much one client may ask of it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from walt_edge.contract.errors import UsageError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
LOOPBACK: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


@dataclass(frozen=True, slots=True)
class WebSettings:
    """Where the dashboard is served, and its bounds.

    Attributes:
        host: Address to listen on; without TLS or a proxy only a loopback address.
        port: Port; 0 takes a free one.
        tls_cert: PEM of the certificate chain; HTTPS if given.
        tls_key: PEM of its key; None where that lies in `tls_cert`.
        names: By which names people may ask for it, besides this machine's own (`localhost` and loopback addresses).
        proxies: Whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed; empty = there is no proxy.
        body_max_bytes: Of a request.
        body_s: In so long it must have come.
        rate_per_s: Requests a second of one address, in the long run.
        burst: And so many at once.

    Raises:
        UsageError: It would be open to the network, unencrypted.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    tls_cert: Path | None = None
    tls_key: Path | None = None
    names: tuple[str, ...] = ()
    proxies: tuple[Network, ...] = ()
    body_max_bytes: int = 1 << 20
    body_s: float = 15.0
    rate_per_s: float = 30.0
    burst: int = 300

    def __post_init__(self) -> None:
        if self.tls_key is not None and self.tls_cert is None:
            raise UsageError("--tls-key without --tls-cert: give both")
        if self.tls_cert is None and not self.proxies and not is_loopback(self.host):
            raise UsageError(
                f"the dashboard on {self.host} would be open to the network, and passwords would travel unencrypted: "
                "give --tls-cert and --tls-key, or --behind-proxy for a proxy that speaks HTTPS, or listen on "
                "127.0.0.1 and reach it through an SSH tunnel"
            )
        if self.proxies and not self.names:
            raise UsageError("--behind-proxy needs --name: the name by which people ask the proxy for the dashboard")

    def serves(self, host: str) -> bool:
        """Whether a request may ask for that host (without its port)."""
        return is_loopback(host) or host.lower().rstrip(".") in self.names

    def is_proxy(self, address: str) -> bool:
        """Whether an address is that of a proxy of ours."""
        return _within(address, self.proxies)


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this very machine, without asking a name server."""
    return host.lower().rstrip(".") == "localhost" or _within(host.strip("[]"), LOOPBACK)


def parse_proxies(words: list[str]) -> tuple[Network, ...]:
    """Addresses or networks of proxies; none named means one on this machine.

    Raises:
        UsageError: One is neither.
    """
    found: list[Network] = []
    for word in words:
        try:
            found.append(ipaddress.ip_network(word, strict=False))
        except ValueError as error:
            raise UsageError(f"--behind-proxy {word}: {error}; give an address or network, as 10.0.0.0/24") from error
    return tuple(found) or LOOPBACK


def _within(address: str, networks: tuple[Network, ...]) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in network for network in networks)
