"""Where a device gets its certificate: checks what it shows, and says why not."""

from __future__ import annotations

import datetime
import hmac
import secrets
from functools import partial
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from walt_edge.contract.enrolment import (
    NONCE_MINUTES,
    Credentials,
    EnrolRequest,
    Nonce,
    RenewRequest,
    Token,
    renewal_message,
)
from walt_train.loop.identity.authority import Authority, Clock, DeviceCertificate, read_request, utc_now
from walt_train.loop.identity.mosquitto import Address
from walt_train.loop.identity.registry import RefusedError, Registry, key_hash

_NONCE_S: Final = NONCE_MINUTES * 60


class Desk:
    """Enrols and renews; any number of them may serve one home.

    Args:
        authority: Signs.
        registry: Remembers.
        address: What devices are told of where home is.
        clock: What time it is.
    """

    def __init__(self, authority: Authority, registry: Registry, address: Address, clock: Clock = utc_now) -> None:
        self._authority = authority
        self._registry = registry
        self._address = address
        self._clock = clock
        self._secret = authority.derive("renewal nonce")

    def ca(self) -> bytes:
        """Home's certificate authority, PEM."""
        return self._authority.home_pem

    def crl(self) -> bytes:
        """Devices' certificates that no longer count, PEM."""
        return self._authority.revocation_list(self._registry.revocations().certificates)

    def nonce(self) -> Nonce:
        """What a renewal signs, and what time it is; nothing is kept of it."""
        now = self._clock()
        words = f"{int(now.timestamp()) + _NONCE_S:x}.{secrets.token_hex(16)}"
        return Nonce(nonce=f"{words}.{self._tag(words)}", utc_us=int(now.timestamp() * 1_000_000))

    def enrol(self, asked: EnrolRequest) -> Credentials:
        """The first certificate of a device.

        Raises:
            RequestError: The request is none, or its key is not one that we sign.
            RefusedError: The token does not let this device in.
            TopicError: The device's id is no name.
            StoreWriteError: Try again later; the token is as it was.
        """
        public = read_request(asked.request)
        issue = partial(self._authority.issue_device, public=public)
        given = self._registry.enrol(Token.parse(asked.token), asked.device, key_hash(public), issue)
        return self._credentials(given)

    def renew(self, asked: RenewRequest) -> Credentials:
        """The next certificate of a device that holds the key of one that it was given.

        Raises:
            RequestError: The certificate or the request is none of ours.
            RefusedError: It is revoked, too new or too old, or not proven.
            StoreWriteError: Try again later.
        """
        shown = self._authority.read_device(asked.certificate)
        public = read_request(asked.request)
        self._check_nonce(asked.nonce)
        current = shown.certificate.public_key()
        try:
            assert isinstance(current, ec.EllipticCurvePublicKey)  # we signed no other
            message = renewal_message(asked.nonce, asked.request)
            current.verify(bytes.fromhex(asked.signature), message, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature as error:
            raise RefusedError("the renewal is not signed by the key of the certificate that it shows") from error
        issue = partial(self._authority.issue_device, public=public)
        return self._credentials(self._registry.renew(shown, key_hash(public), issue))

    def _credentials(self, given: DeviceCertificate | str) -> Credentials:
        certificate = self._authority.read_device(given) if isinstance(given, str) else given
        return Credentials(
            site=certificate.names.site,
            device=certificate.names.device,
            certificate=certificate.pem.decode(),
            broker=self._address.broker,
        )

    def _check_nonce(self, nonce: str) -> None:
        words, _, tag = nonce.rpartition(".")
        if not hmac.compare_digest(tag, self._tag(words)):
            raise RefusedError("this nonce is none of ours: ask for one first")
        if datetime.datetime.fromtimestamp(int(words.partition(".")[0], 16), datetime.UTC) < self._clock():
            raise RefusedError("this nonce is too old: ask for another")

    def _tag(self, words: str) -> str:
        return hmac.digest(self._secret, words.encode(), "sha256").hex()
