"""What an enrolled device keeps: its certificate and key, home's authority, and where home is.

`HOME/credentials/`, readable by its owner alone. `enrolled.json` names the files that count, so that one rename
changes from one certificate to the next. A certificate and its key lie in one file. A key that was sent to home and
not answered yet waits as `next.key`: asked again with it, home gives the same certificate.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from walt_edge.config import Endpoint, Tls
from walt_edge.contract.enrolment import DEVICE_DAYS, GRACE_DAYS, RENEW_FROM_DAY
from walt_edge.contract.errors import WaltError
from walt_edge.contract.files import flush, remove_partial, write_private
from walt_edge.contract.topics import DeviceTopics, TopicError

if TYPE_CHECKING:  # takes its time to import: only who renews or is asked how long it lasts shall pay
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

FOLDER: Final = "credentials"
_POINTER: Final = "enrolled.json"
_NEXT_KEY: Final = "next.key"


class IdentityError(WaltError):
    """This device cannot become, or stay, known at home."""


class Enrolled(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What home said at the enrolment, and which files count; the content of `enrolled.json`.

    Attributes:
        url: https://HOST:PORT of home's enrolment.
        broker: HOST:PORT of the broker.
        site: Where this device belongs.
        device: Its id.
        ca: Name of the file with home's certificate authority.
        certificate: Name of the file with the certificate and its key.
    """

    url: str
    broker: str
    site: str
    device: str
    ca: str
    certificate: str

    def __post_init__(self) -> None:
        DeviceTopics(self.site, self.device)
        Endpoint.parse(self.broker)
        if any(Path(name).name != name or name in ("", "..") for name in (self.ca, self.certificate)):
            raise IdentityError("a file's name is a path")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A device's certificate, read.

    Attributes:
        whole: All of it.
        pem: As text, without the key.
    """

    whole: x509.Certificate
    pem: str

    @property
    def expires(self) -> datetime.datetime:
        """When it ends."""
        return self.whole.not_valid_after_utc

    @property
    def begins(self) -> datetime.datetime:
        """When it was made."""
        return self.whole.not_valid_before_utc

    @property
    def renew_from(self) -> datetime.datetime:
        """Since when home renews it."""
        return self.expires - datetime.timedelta(days=DEVICE_DAYS - RENEW_FROM_DAY)

    @property
    def renew_until(self) -> datetime.datetime:
        """Until when it does."""
        return self.expires + datetime.timedelta(days=GRACE_DAYS)


class Credentials:
    """The folder of an agent's credentials.

    Args:
        home: The agent's folder.
    """

    def __init__(self, home: Path) -> None:
        self.folder = home / FOLDER

    def read(self) -> Enrolled | None:
        """What counts now; None where this device was never enrolled.

        Raises:
            IdentityError: The file is damaged.
        """
        path = self.folder / _POINTER
        try:
            return msgspec.json.decode(path.read_bytes(), type=Enrolled)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, WaltError) as error:
            raise IdentityError(
                f"{path} cannot be read ({error}): restore it, or enrol anew (walt-edge enroll)"
            ) from error

    def tls(self, enrolled: Enrolled) -> Tls:
        """Home's authority, and this device's certificate; raises UsageError if a file is missing."""
        pem = self.folder / enrolled.certificate
        return Tls(self.folder / enrolled.ca, pem, pem)

    def ca(self, enrolled: Enrolled) -> str:
        """Home's certificate authority, PEM; raises IdentityError."""
        return self._text(enrolled.ca)

    def certificate(self, enrolled: Enrolled) -> Certificate:
        """This device's certificate; raises IdentityError if it cannot be read."""
        return self._parsed(enrolled)[0]

    def key(self, enrolled: Enrolled) -> ec.EllipticCurvePrivateKey:
        """The certificate's key; raises IdentityError if it cannot be read."""
        return self._parsed(enrolled)[1]

    def next_key(self, current: ec.EllipticCurvePrivateKey | None = None) -> ec.EllipticCurvePrivateKey:
        """The key of the next certificate, on the disk before anybody is told of it.

        Args:
            current: The key that counts now; it is not taken again, though a kill may have left it here.

        Raises:
            IdentityError: It cannot be written.
        """
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        path = self.folder / _NEXT_KEY
        try:
            self._make_folder()
            with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
                waiting = load_pem_private_key(path.read_bytes(), None)
                is_new = current is None or waiting.public_key() != current.public_key()
                if isinstance(waiting, ec.EllipticCurvePrivateKey) and is_new:
                    return waiting
            key = ec.generate_private_key(ec.SECP256R1())
            write_private(path, _key_pem(key))
        except OSError as error:
            raise IdentityError(
                f"cannot write {path}: {error.strerror}; free disk or give a folder of yours with --home"
            ) from error
        return key

    def keep(self, enrolled: Enrolled, ca: str, certificate: str, key: ec.EllipticCurvePrivateKey) -> Enrolled:
        """Has a certificate count from now on, whole or not at all.

        Args:
            enrolled: What else there is to know; the names of the files are set here.
            ca: Home's certificate authority, PEM.
            certificate: The certificate, PEM.
            key: Its key.

        Returns:
            What counts now.

        Raises:
            IdentityError: The certificate is not for this key and device, or cannot be written.
        """
        _check(enrolled, certificate, key)
        named = msgspec.structs.replace(
            enrolled, ca=f"home-ca-{_short(ca)}.pem", certificate=f"device-{_short(certificate)}.pem"
        )
        try:
            self._make_folder()
            write_private(self.folder / named.ca, ca.encode())
            write_private(self.folder / named.certificate, certificate.encode() + _key_pem(key))
            write_private(self.folder / _POINTER, msgspec.json.format(msgspec.json.encode(named)) + b"\n")
            self._tidy(named)
        except OSError as error:
            raise IdentityError(f"cannot write in {self.folder}: {error.strerror}; free disk") from error
        return named

    def forget_next_key(self) -> None:
        """The key that waits is of no use: home will not answer for it any more; raises OSError."""
        (self.folder / _NEXT_KEY).unlink(missing_ok=True)

    def _make_folder(self) -> None:
        if not self.folder.is_dir():
            self.folder.mkdir(mode=0o700, parents=True)
            flush(self.folder.parent)

    def _tidy(self, enrolled: Enrolled) -> None:
        """What no longer counts goes, after what counts is on the disk."""
        self.forget_next_key()
        remove_partial(self.folder)
        for path in [*self.folder.glob("home-ca-*.pem"), *self.folder.glob("device-*.pem")]:
            if path.name not in (enrolled.ca, enrolled.certificate):
                path.unlink(missing_ok=True)

    def _parsed(self, enrolled: Enrolled) -> tuple[Certificate, ec.EllipticCurvePrivateKey]:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

        data = self._text(enrolled.certificate).encode()
        try:
            whole = x509.load_pem_x509_certificate(data)
            key = load_pem_private_key(data, None)
        except (ValueError, TypeError) as error:
            raise IdentityError(
                f"{self.folder / enrolled.certificate} is damaged: restore it, or enrol anew (walt-edge enroll)"
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise IdentityError(f"{self.folder / enrolled.certificate} holds a key of another kind: enrol anew")
        return Certificate(whole, whole.public_bytes(Encoding.PEM).decode()), key

    def _text(self, name: str) -> str:
        try:
            return (self.folder / name).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise IdentityError(
                f"{self.folder / name} cannot be read ({error}): restore it, or enrol anew (walt-edge enroll)"
            ) from error


def make_request(key: ec.EllipticCurvePrivateKey) -> str:
    """A certificate request, PEM; home looks at its key alone."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def _check(enrolled: Enrolled, pem: str, key: ec.EllipticCurvePrivateKey) -> None:
    """What home gave is what was asked for."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        (common,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        names = DeviceTopics.parse(str(common.value))
    except (ValueError, TopicError) as error:
        raise IdentityError(f"home gave something that is no certificate ({error}): look into its log") from error
    if certificate.public_key() != key.public_key() or names != DeviceTopics(enrolled.site, enrolled.device):
        raise IdentityError(f"home gave a certificate of {names.site}/{names.device} for another key: ask again")


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
