"""Certificates of simulated devices: each has its own key, signed by home's own authority for devices.

A key of its own costs 0.4 ms more than a shared one (two thousand: 0.8 s), so none is shared. Keys are in memory; a
file holds each for the moment in which TLS reads it, since it reads nothing else.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from walt_edge.contract.closing import Closing
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.broker.arguments import HOME
from walt_train.loop.identity.authority import Authority
from walt_train.loop.identity.registry import Registry, key_hash

Credentials = Callable[[DeviceTopics], ssl.SSLContext | None]
"""Gives a device its certificate; None for plain TCP."""


class Issuer(Closing):
    """Has the authorities of a home sign simulated devices and their counting subscriber.

    Args:
        authority: Home's; the broker must believe it.
        registry: Where devices are enrolled as real ones are, each with a token of its own. None: they are not, and
            home takes nothing from them unless it takes from whoever the broker lets in.
    """

    def __init__(self, authority: Authority, registry: Registry | None = None) -> None:
        self._authority = authority
        self._registry = registry
        self._scratch = tempfile.TemporaryDirectory(prefix="walt-simulate-")

    def device(self, names: DeviceTopics) -> ssl.SSLContext:
        """A device's TLS, with a new key.

        Raises:
            StoreWriteError: It cannot be enrolled.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return self._context(self._certificate(names, key.public_key()) + secret)

    def home(self) -> ssl.SSLContext:
        """The counting subscriber's TLS: one of home's own, that may read what devices say."""
        pair = self._authority.issue_worker(HOME)
        return self._context(pair.certificate + pair.key)

    def close(self) -> None:
        """Removes the folder."""
        self._scratch.cleanup()

    def _certificate(self, names: DeviceTopics, public: ec.EllipticCurvePublicKey) -> bytes:
        issue = partial(self._authority.issue_device, public=public)
        if self._registry is None:
            return issue(names).pem
        token = self._registry.make_token(self._authority.fingerprint, names.site, names.device)
        given = self._registry.enrol(token, names.device, key_hash(public), issue)
        return given.encode() if isinstance(given, str) else given.pem

    def _context(self, pem: bytes) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self._authority.home_pem.decode())
        own = Path(self._scratch.name) / "own.pem"
        own.touch(mode=0o600)
        own.write_bytes(pem)
        try:
            context.load_cert_chain(own)
        finally:
            own.unlink()
        return context
