"""Home's own certificate authorities: one for home itself, one for the devices.

The first signs the broker, home's HTTPS and home's workers; a device believes it alone, from its enrolment on. The
second signs devices and nothing else; the broker's door for devices believes it alone. So a device's certificate
opens none of home's doors and can never be shown as a broker's, whatever names stand in it.

A device's common name is SITE/DEVICE, which the broker's access list compares with the topic: both are held there,
and no worker's name can be a device's, since it has no slash. Only the public key of a request is used.
"""

from __future__ import annotations

import datetime
import fcntl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from walt_edge.contract.enrolment import DEVICE_DAYS, GRACE_DAYS, RENEW_FROM_DAY
from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.topics import DeviceTopics, TopicError, check_name
from walt_train.loop.identity.signer import ALWAYS, AuthorityError, Pair, Signer, alternative_name, leaf, pair

Clock: TypeAlias = Callable[[], datetime.datetime]

OWN_DAYS: Final = 730
CRL_DAYS: Final = 30
NAME_MAX: Final = 64
"""What X.509 allows a common name: SITE/DEVICE in characters."""

_SKEW = datetime.timedelta(minutes=5)
_MAX_PEM_BYTES = 8192


class RequestError(WaltError):
    """What somebody presents is no request or no certificate of ours; the text may be told to whoever asked."""


def utc_now() -> datetime.datetime:
    """The wall clock."""
    return datetime.datetime.now(datetime.UTC)


@dataclass(frozen=True, slots=True)
class Revoked:
    """A certificate that no longer counts: its serial number in hexadecimal, and since when."""

    serial: str
    since: datetime.datetime


@dataclass(frozen=True, slots=True)
class DeviceCertificate:
    """A certificate that the devices' authority signed.

    Attributes:
        names: Site and device.
        certificate: The whole.
    """

    names: DeviceTopics
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        """As text."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def serial(self) -> str:
        """The serial number, 40 hexadecimal digits."""
        return serial_text(self.certificate)

    @property
    def expires(self) -> datetime.datetime:
        """When it ends."""
        return self.certificate.not_valid_after_utc

    @property
    def renew_from(self) -> datetime.datetime:
        """Since when it may be renewed."""
        return self.expires - datetime.timedelta(days=DEVICE_DAYS - RENEW_FROM_DAY)

    @property
    def renew_until(self) -> datetime.datetime:
        """Until when it proves who may have a new one."""
        return self.expires + datetime.timedelta(days=GRACE_DAYS)


class Authority:
    """Both authorities, with their keys; a folder that nobody but its owner can read.

    Attributes:
        folder: Holds `home-ca.key`, `home-ca.pem`, `devices-ca.key`, `devices-ca.pem`.
        home_pem: What devices and workers believe.
        devices_pem: What the broker's door for devices believes.
        fingerprint: sha256 of `home_pem`'s certificate, hexadecimal; a token carries it to the device.
    """

    def __init__(self, folder: Path, clock: Clock = utc_now) -> None:
        """Reads the authorities.

        Args:
            folder: Where they lie; `make` makes them.
            clock: What time it is.

        Raises:
            AuthorityError: A file is missing, damaged, or a key is open to others.
        """
        self.folder = folder
        self._clock = clock
        self._home = Signer.load(folder, "home-ca")
        self._devices = Signer.load(folder, "devices-ca")
        self.home_pem = self._home.certificate.public_bytes(Encoding.PEM)
        self.devices_pem = self._devices.certificate.public_bytes(Encoding.PEM)
        self.fingerprint = self._home.certificate.fingerprint(hashes.SHA256()).hex()

    @classmethod
    def make(cls, folder: Path, clock: Clock = utc_now) -> Authority:
        """Reads the authorities; makes, whole or not at all, what is not there yet.

        Raises:
            AuthorityError: They cannot be written, or read.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with (folder / "lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                for name in ("home-ca", "devices-ca"):
                    if not (folder / f"{name}.pem").exists():
                        Signer.write_new(folder, name, clock())
        except OSError as error:
            raise AuthorityError(
                f"cannot write the authorities in {folder}: {error.strerror}; give another --home"
            ) from error
        return cls(folder, clock)

    def issue_device(self, names: DeviceTopics, public: ec.EllipticCurvePublicKey) -> DeviceCertificate:
        """A device's certificate, 90 days from now.

        Args:
            names: Site and device.
            public: The key that its request proved to hold.

        Raises:
            RequestError: The names together are too long for a common name.
        """
        common = common_name(names)
        uri = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"walt:{common}")])
        now = self._clock()
        end = now + datetime.timedelta(days=DEVICE_DAYS)
        builder = leaf(common, public, (now - _SKEW, end), ExtendedKeyUsageOID.CLIENT_AUTH)
        return DeviceCertificate(names, self._devices.sign(builder.add_extension(uri, critical=False)))

    def issue_server(self, hosts: Sequence[str]) -> Pair:
        """A certificate and key for the broker or home's HTTPS, for all names and addresses by which it is met.

        Raises:
            UsageError: One is no host name and no address.
        """
        if not hosts:
            raise UsageError("a server's certificate needs a name by which devices meet it: give --host NAME")
        names = x509.SubjectAlternativeName([alternative_name(host) for host in hosts])
        key, builder = self._own("walt-server", ExtendedKeyUsageOID.SERVER_AUTH)
        return pair(self._home.sign(builder.add_extension(names, critical=False)), key)

    def issue_worker(self, name: str) -> Pair:
        """A certificate and key for one of home's workers; the broker's access list knows it by `name`.

        Raises:
            TopicError: It is no name; above all, it has no slash.
        """
        key, builder = self._own(check_name(name, "worker"), ExtendedKeyUsageOID.CLIENT_AUTH)
        return pair(self._home.sign(builder), key)

    def revocation_list(self, revoked: Iterable[Revoked]) -> bytes:
        """The devices' certificates that no longer count, signed, PEM; to be written anew long before `CRL_DAYS`."""
        now = self._clock()
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._devices.certificate.subject)
            .last_update(now - _SKEW)
            .next_update(now + datetime.timedelta(days=CRL_DAYS))
            .add_extension(x509.CRLNumber(int(now.timestamp() * 1e6)), critical=False)
            .add_extension(self._devices.issuer_key_identifier(), critical=False)
        )
        for one in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(int(one.serial, 16)).revocation_date(one.since)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self._devices.key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def read_device(self, pem: str) -> DeviceCertificate:
        """A certificate that somebody presents; whether it still counts is another question.

        Raises:
            RequestError: It is none, or the devices' authority did not sign it.
        """
        try:
            certificate = x509.load_pem_x509_certificate(_bounded(pem))
            certificate.verify_directly_issued_by(self._devices.certificate)
            (common,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            return DeviceCertificate(DeviceTopics.parse(str(common.value)), certificate)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, TopicError) as error:
            raise RequestError("this is no certificate that home has given to a device") from error

    def derive(self, purpose: str) -> bytes:
        """32 secret bytes for a purpose, the same for everybody who has the authorities."""
        secret = self._devices.key.private_numbers().private_value.to_bytes(32, "big")
        digest = hashes.Hash(hashes.SHA256())
        digest.update(b"walt " + purpose.encode() + b"\0" + secret)
        return digest.finalize()

    def _own(
        self, common: str, usage: x509.ObjectIdentifier
    ) -> tuple[ec.EllipticCurvePrivateKey, x509.CertificateBuilder]:
        key = ec.generate_private_key(ec.SECP256R1())
        end = self._clock() + datetime.timedelta(days=OWN_DAYS)
        return key, leaf(common, key.public_key(), (ALWAYS, end), usage)


def common_name(names: DeviceTopics) -> str:
    """SITE/DEVICE, as it stands in a certificate and as the broker knows the device; raises RequestError."""
    name = f"{names.site}/{names.device}"
    if len(name) > NAME_MAX:
        raise RequestError(f"'{name}' has {len(name)} characters, a certificate holds {NAME_MAX}: shorten the site")
    return name


def read_request(pem: str) -> ec.EllipticCurvePublicKey:
    """The public key of a certificate request; all else in it is ignored.

    Raises:
        RequestError: It is no request, its signature is not by its own key, or the key is not ECDSA P-256.
    """
    try:
        request = x509.load_pem_x509_csr(_bounded(pem))
        public = request.public_key()
        proven = request.is_signature_valid
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise RequestError("this is no certificate request in PEM") from error
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise RequestError("a device's key must be ECDSA P-256")
    if not proven:
        raise RequestError("the request is not signed by the key that is in it")
    return public


def serial_text(certificate: x509.Certificate) -> str:
    """A serial number as 40 hexadecimal digits."""
    return f"{certificate.serial_number:040x}"


def _bounded(pem: str) -> bytes:
    data = pem.encode("ascii")
    if len(data) > _MAX_PEM_BYTES:
        raise ValueError(f"{len(data)} bytes")
    return data
