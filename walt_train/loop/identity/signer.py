"""One certificate authority: a key, a certificate that signs itself, and the two kinds of certificates made here."""

from __future__ import annotations

import datetime
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.files import write_private, write_whole

# A device without a battery for its clock wakes up in 1970, and shall believe home all the same. Nobody gains by it:
# before the key was made, nothing was signed with it.
ALWAYS: Final = datetime.datetime(1970, 1, 2, tzinfo=datetime.UTC)

_AUTHORITY_DAYS = 30 * 365
_OTHERS = 0o077


class AuthorityError(WaltError):
    """The authorities' files are missing, damaged, or open to others."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, as PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Signer:
    """One authority: its certificate signs itself."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def load(cls, folder: Path, name: str) -> Signer:
        """Reads `NAME.key` and `NAME.pem`; raises AuthorityError."""
        try:
            with (folder / f"{name}.key").open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode & 0o777
                key = load_pem_private_key(file.read(), None)
            certificate = x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes())
        except OSError as error:
            raise AuthorityError(
                f"cannot read the authority in {folder}: {error.strerror}; walt-loop broker makes one"
            ) from error
        except (ValueError, TypeError) as error:
            raise AuthorityError(f"the authority {folder}/{name} is damaged: restore it from its copy") from error
        if mode & _OTHERS:
            raise AuthorityError(f"{folder}/{name}.key can be read by others (mode {mode:04o}): chmod 600 it")
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise AuthorityError(f"{folder}/{name}.key and .pem do not belong together: restore both from their copy")
        return cls(key, certificate)

    @staticmethod
    def write_new(folder: Path, name: str, now: datetime.datetime) -> None:
        """Makes an authority; the key first, since a key alone is replaced by the next attempt."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"WALT {name}")])
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(ALWAYS)
            .not_valid_after(now + datetime.timedelta(days=_AUTHORITY_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        write_private(folder / f"{name}.key", _key_pem(key))
        write_whole(folder / f"{name}.pem", builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def issuer_key_identifier(self) -> x509.AuthorityKeyIdentifier:
        """Names this authority in what it signs."""
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())

    def sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        """The certificate that `leaf` began, by this authority."""
        named = builder.issuer_name(self.certificate.subject)
        return named.add_extension(self.issuer_key_identifier(), critical=False).sign(self.key, hashes.SHA256())


def leaf(
    common: str,
    public: ec.EllipticCurvePublicKey,
    valid: tuple[datetime.datetime, datetime.datetime],
    usage: x509.ObjectIdentifier,
) -> x509.CertificateBuilder:
    """A certificate that may sign handshakes for one purpose, and no certificates."""
    signs = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)]))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(signs, critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def alternative_name(host: str) -> x509.GeneralName:
    """A host name or an address as it stands in a server's certificate; raises UsageError."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
    except ValueError:
        pass
    labels = host.split(".")
    if len(host) > 253 or not all(0 < len(one) < 64 and one.isascii() and _is_label(one) for one in labels):
        raise UsageError(f"'{host[:80]}' is no host name and no address, as in home.local or 192.168.1.10")
    return x509.DNSName(host)


def _is_label(text: str) -> bool:
    return text.replace("-", "a").isalnum() and not text.startswith("-") and not text.endswith("-")


def pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    """Both as PEM."""
    return Pair(certificate.public_bytes(Encoding.PEM), _key_pem(key))


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
