"""Certificates and keys of home itself, one file each: certificate, then key, so that one rename changes both."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from walt_edge.contract.files import write_private
from walt_train.loop.identity.authority import OWN_DAYS, Authority
from walt_train.loop.identity.signer import Pair, alternative_name

_RENEW_LEFT: Final = datetime.timedelta(days=OWN_DAYS / 3)


def keep_server(authority: Authority, path: Path, hosts: tuple[str, ...], now: datetime.datetime) -> bool:
    """Has a server's file be there, for these names, with a third of its time left; returns whether it was written.

    Raises:
        OSError: It cannot be written.
        UsageError: A name is no host name and no address.
    """
    wanted = {alternative_name(host) for host in hosts}
    found = _good(authority, path, now)
    if found is not None and wanted == set(_names(found)):
        return False
    _write(path, authority.issue_server(hosts))
    return True


def keep_worker(authority: Authority, path: Path, name: str, now: datetime.datetime) -> bool:
    """As `keep_server`, for one of home's workers."""
    if _good(authority, path, now) is not None:
        return False
    _write(path, authority.issue_worker(name))
    return True


def _write(path: Path, pair: Pair) -> None:
    write_private(path, pair.certificate + pair.key)


def _good(authority: Authority, path: Path, now: datetime.datetime) -> x509.Certificate | None:
    """The certificate, if its key is there, home signed it and it lasts."""
    try:
        data = path.read_bytes()
        certificate = x509.load_pem_x509_certificate(data)
        key = load_pem_private_key(data, None)
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.home_pem))
    except (OSError, ValueError, TypeError, InvalidSignature):
        return None
    lasts = certificate.not_valid_after_utc - now > _RENEW_LEFT
    return certificate if lasts and key.public_key() == certificate.public_key() else None


def _names(certificate: x509.Certificate) -> Iterable[x509.GeneralName]:
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
