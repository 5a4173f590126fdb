"""How a device becomes known at home, and stays so: what it sends, what it gets, and the token that begins it.

```
GET  /identity/v1/ca      home's certificate authority, PEM
GET  /identity/v1/crl     certificates of devices that no longer count, PEM
GET  /identity/v1/nonce   what a renewal signs, and what time it is at home
POST /identity/v1/enroll  EnrolRequest -> Credentials
POST /identity/v1/renew   RenewRequest -> Credentials
```
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from walt_edge.contract.errors import UsageError

PREFIX: Final = "/identity/v1"
MAX_BODY_BYTES: Final = 16 * 1024
MAX_ANSWER_BYTES: Final = 64 * 1024
NONCE_MINUTES: Final = 5
"""So long a nonce may be signed."""
DEVICE_DAYS: Final = 90
"""So long a device's certificate counts."""
RENEW_FROM_DAY: Final = 30
"""Since when it may be renewed."""
GRACE_DAYS: Final = 180
"""An expired certificate proves for so long who may have a new one, and nothing else."""

_TOKEN = re.compile(r"walt1\.([0-9a-f]{16})\.([0-9a-f]{64})\.([0-9a-f]{64})", re.ASCII)

Pem = Annotated[str, Meta(min_length=1, max_length=4096, pattern=r"^[\n\r -~]*$")]
TokenText = Annotated[str, Meta(max_length=160, pattern=rf"^{_TOKEN.pattern}$")]
DeviceName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
NonceText = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[0-9a-f.]*$")]
Signature = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^(?:[0-9a-f]{2})*$")]


class EnrolRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device asks for its first certificate.

    Attributes:
        token: As `walt-loop enroll` printed it.
        request: Certificate request, PEM; its public key alone counts.
        device: The id that the device has already, if it has one.
    """

    token: TokenText
    request: Pem
    device: DeviceName | None = None


class RenewRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device asks for its next certificate, with a new key.

    Attributes:
        certificate: The one it has, PEM.
        request: Certificate request of the new key, PEM.
        nonce: As home gave it.
        signature: ECDSA with SHA-256 by the key of `certificate` over `renewal_message`, DER in hexadecimal.
    """

    certificate: Pem
    request: Pem
    nonce: NonceText
    signature: Signature


class Nonce(msgspec.Struct, frozen=True, kw_only=True):
    """What a renewal signs.

    Attributes:
        nonce: Good for `NONCE_MINUTES`.
        utc_us: The time at home, for devices whose clock cannot be believed.
    """

    nonce: str
    utc_us: int


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What a device gets.

    Attributes:
        site: Where it belongs.
        device: Its id.
        certificate: PEM.
        broker: HOST:PORT of the broker, by TLS. A renewal does not change where a device goes.
    """

    site: str
    device: str
    certificate: str
    broker: str


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why home said no (RFC 9457).

    Attributes:
        title: Of the status.
        status: Of HTTP.
        detail: What to do about it.
    """

    title: str = ""
    status: int = 0
    detail: str = ""


def renewal_message(nonce: str, request: str) -> bytes:
    """What the current key signs: it wants the next certificate for this request, now."""
    return b"walt renewal 1\0" + nonce.encode() + b"\0" + request.encode()


@dataclass(frozen=True, slots=True, repr=False)
class Token:
    """Lets one device in, once; the text is a secret.

    Attributes:
        id: Finds it at home; tells nothing.
        secret: 256 random bits, hexadecimal.
        fingerprint: sha256 of home's certificate authority, which the device believes from its first contact on.
    """

    id: str
    secret: str
    fingerprint: str

    @classmethod
    def make(cls, fingerprint: str) -> Token:
        """A new one, kept nowhere."""
        return cls(secrets.token_hex(8), secrets.token_hex(32), fingerprint)

    @classmethod
    def parse(cls, text: str) -> Token:
        """Parses what `str` gave; raises UsageError, which does not repeat it."""
        found = _TOKEN.fullmatch(text.strip())
        if found is None:
            raise UsageError("this is no token: give it whole, as walt-loop enroll printed it (walt1....)")
        return cls(*found.groups())

    def __str__(self) -> str:
        return f"walt1.{self.id}.{self.secret}.{self.fingerprint}"

    def __repr__(self) -> str:
        return f"Token({self.id})"
