"""What the authorities sign, what they do not, and what of them is on the disk after a kill."""

from __future__ import annotations

import base64
import datetime
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.killing import kill_at_every_step
from tests.walt_train.loop.identity.home import BEGIN, Hand, make_request
from walt_edge.contract.topics import DeviceTopics, TopicError
from walt_train.loop.identity.authority import Authority, RequestError, Revoked, read_request
from walt_train.loop.identity.signer import AuthorityError

A = DeviceTopics("north", "walt-a")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"), Hand())


def p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def test_a_devices_certificate_says_who_it_is_and_nothing_else(authority: Authority) -> None:
    found = authority.issue_device(A, p256().public_key()).certificate
    extensions = found.extensions
    assert found.subject.rfc4514_string() == "CN=north/walt-a"
    assert found.not_valid_after_utc == BEGIN + datetime.timedelta(days=90)
    assert BEGIN - datetime.timedelta(hours=1) < found.not_valid_before_utc < BEGIN
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert (list(usage.value), usage.critical) == ([ExtendedKeyUsageOID.CLIENT_AUTH], True)
    assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier("walt:north/walt-a")]
    serials = {authority.issue_device(A, p256().public_key()).serial for _ in range(20)}
    assert len(serials) == 20
    assert all(len(serial) == 40 for serial in serials)


def test_nothing_of_a_request_but_its_key_is_taken(authority: Authority) -> None:
    key = p256()
    request = make_request(
        key,
        "north/walt-b",
        ca=x509.BasicConstraints(ca=True, path_length=None),
        names=x509.SubjectAlternativeName([x509.DNSName("home.local")]),
        usage=x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
    )
    found = authority.issue_device(A, read_request(request)).certificate
    assert found.public_key() == key.public_key()
    assert found.subject.rfc4514_string() == "CN=north/walt-a"
    assert found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert b"home.local" not in found.public_bytes(Encoding.DER)


def _resigned() -> str:
    """A request whose signature is another's."""
    pem = make_request(p256())
    der = bytearray(x509.load_pem_x509_csr(pem.encode()).public_bytes(Encoding.DER))
    der[-3] ^= 1
    body = base64.encodebytes(bytes(der)).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n"


HOSTILE: dict[str, Callable[[], str]] = {
    "empty": lambda: "",
    "not ASCII": lambda: "\u00fc",
    "no PEM": lambda: "hello",
    "a certificate": lambda: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    "too large": lambda: make_request(p256()) + " " * 9000,
    "RSA": lambda: make_request(rsa.generate_private_key(65537, 2048)),
    "another curve": lambda: make_request(ec.generate_private_key(ec.SECP384R1())),
    "a small curve": lambda: make_request(ec.generate_private_key(ec.SECP224R1())),
    "Ed25519": lambda: make_request(ed25519.Ed25519PrivateKey.generate()),
    "not its own signature": _resigned,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_requests_are_refused(kind: str) -> None:
    with pytest.raises(RequestError):
        read_request(HOSTILE[kind]())


# What cryptography warns of, it will refuse one day; we refuse it for its signature.
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@given(st.binary(max_size=600), st.integers(0, 400))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(b"", 0)
def test_damaged_requests_and_certificates_are_refused_and_nothing_else_happens(
    authority: Authority, junk: bytes, at: int
) -> None:
    for pem, read in (
        (make_request(_KEY), read_request),
        (_CERTIFICATE(authority), authority.read_device),
    ):
        lines = pem.strip().splitlines()
        der = bytearray(base64.b64decode("".join(lines[1:-1])))
        der[at : at + len(junk)] = junk
        damaged = "\n".join([lines[0], base64.b64encode(bytes(der)).decode(), lines[-1]])
        try:
            read(damaged)
        except RequestError:
            continue
        assert not junk or bytes(der) == base64.b64decode("".join(lines[1:-1]))


_KEY = p256()


def _CERTIFICATE(authority: Authority) -> str:
    return authority.issue_device(A, _KEY.public_key()).pem.decode()


def test_a_certificate_is_read_only_if_it_is_a_devices_of_ours(authority: Authority, tmp_path: Path) -> None:
    assert authority.read_device(_CERTIFICATE(authority)).names == A
    others = Authority.make(tmp_path)
    for pem in (
        _CERTIFICATE(others),
        authority.issue_worker("walt-ingest").certificate.decode(),
        authority.issue_server(["home.local"]).certificate.decode(),
        authority.home_pem.decode(),
        authority.devices_pem.decode(),
        _forged(authority),
    ):
        with pytest.raises(RequestError):
            authority.read_device(pem)


def _forged(authority: Authority) -> str:
    """Names our authority, signed by somebody else."""
    key = p256()
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "north/walt-a")]))
        .issuer_name(x509.load_pem_x509_certificate(authority.devices_pem).subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(BEGIN)
        .not_valid_after(BEGIN + datetime.timedelta(days=1))
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize("name", ["north/walt-a", "a b", "", "#", "+"])
def test_a_worker_cannot_have_a_devices_name(authority: Authority, name: str) -> None:
    with pytest.raises(TopicError):
        authority.issue_worker(name)


def test_names_that_no_certificate_holds_are_refused(authority: Authority) -> None:
    with pytest.raises(RequestError, match="64"):
        authority.issue_device(DeviceTopics("s" * 40, "d" * 40), p256().public_key())
    assert authority.issue_device(DeviceTopics("s" * 31, "d" * 32), p256().public_key())


def test_revocations_are_signed_and_end(authority: Authority) -> None:
    data = authority.revocation_list([Revoked("0a" * 20, BEGIN)])
    found = x509.load_pem_x509_crl(data)
    public = x509.load_pem_x509_certificate(authority.devices_pem).public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert found.is_signature_valid(public)
    assert [one.serial_number for one in found] == [int("0a" * 20, 16)]
    assert found.next_update_utc == BEGIN + datetime.timedelta(days=30)


# -- on the disk ------------------------------------------------------------------------------------------------


def test_keys_are_closed_to_others_and_open_ones_are_refused(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path / "ca")
    for key in (tmp_path / "ca").glob("*.key"):
        assert key.stat().st_mode & 0o777 == 0o600
        key.chmod(0o640)
        with pytest.raises(AuthorityError, match="chmod 600"):
            Authority(authority.folder)
        key.chmod(0o600)
    assert Authority(authority.folder).fingerprint == authority.fingerprint


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("home-ca.key", b"", "damaged"),
        ("devices-ca.pem", b"-----BEGIN CERTIFICATE-----\n", "damaged"),
        ("devices-ca.pem", None, "walt-loop broker makes one"),
        ("home-ca.pem", "devices-ca.pem", "do not belong together"),
    ],
)
def test_damaged_authorities_are_told(tmp_path: Path, name: str, content: bytes | str | None, said: str) -> None:
    folder = Authority.make(tmp_path).folder
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes((folder / content).read_bytes() if isinstance(content, str) else content)
    with pytest.raises(AuthorityError, match=said):
        Authority(folder)


def test_a_kill_leaves_authorities_that_are_whole_or_not_there(tmp_path: Path) -> None:
    steps = 0

    def prepare() -> Callable[[], object]:
        folder = tmp_path / str(steps)
        return lambda: Authority.make(folder)

    for step in kill_at_every_step(prepare):
        folder = tmp_path / str(steps)
        again = Authority.make(folder)
        assert Authority(folder).fingerprint == again.fingerprint
        steps = step
    assert steps > 5


def _fingerprint(folder: Path) -> str:
    return Authority.make(folder).fingerprint


def test_several_that_begin_at_once_have_the_same_authorities(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert len(set(pool.map(_fingerprint, [tmp_path / "ca"] * 4))) == 1
