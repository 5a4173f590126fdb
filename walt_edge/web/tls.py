"""The page's certificate, and what a connection that speaks TLS is held with; renewed files are taken over."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from walt_edge.web.settings import WebError

LOG = logging.getLogger(__name__)

_Stamp = tuple[tuple[int, int, int] | None, ...]


class Certificate:
    """The page's certificate, as its files have it now.

    Args:
        cert: PEM: the certificate, and those between it and its authority.
        key: PEM: its private key; None where it lies in `cert`.

    Attributes:
        context: For connections from now on.

    Raises:
        WebError: A file cannot be read or used.
    """

    def __init__(self, cert: Path, key: Path | None = None) -> None:
        self._files = (cert,) if key is None else (cert, key)
        self._stamp = self._stamped()
        self.context = _context(cert, key)

    def renew(self) -> None:
        """Takes over files that have changed; those that cannot be used leave everything as it was, and are told."""
        stamp = self._stamped()
        if stamp == self._stamp:
            return
        # Noted first: what is wrong is told once, and what is only half written yet changes again.
        self._stamp = stamp
        try:
            self.context = _context(*self._files)
        except WebError as error:
            LOG.error("the page keeps its former certificate: %s", error)
        else:
            LOG.info("the page has taken over its renewed certificate")

    def _stamped(self) -> _Stamp:
        return tuple(_stamp(path) for path in self._files)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def _context(cert: Path, key: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    asked: list[bool] = []

    def password() -> str:
        asked.append(True)  # Without this function OpenSSL would ask at the terminal, and wait.
        return ""

    try:
        context.load_cert_chain(cert, key, password)
    except OSError as error:
        # An ssl.SSLError is one; what it says of the cause stands in its `reason`.
        named = f"web.tls_cert {cert}" + (f" with web.tls_key {key}" if key else "")
        raise WebError(f"{named} cannot be used: {_why(error, is_encrypted=bool(asked))}") from error
    return context


def _why(error: OSError, *, is_encrypted: bool) -> str:
    """What is wrong, and the remedy."""
    if is_encrypted:
        return "the key is encrypted, and nobody is there to type its password; write it out with `openssl pkey`"
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return "the key is not the certificate's; give the key that it was made with"
    if isinstance(error, ssl.SSLError):
        return "not a certificate and its private key; give both as PEM, in two files or in one"
    return f"{error.strerror}; give PEM files that the agent's user may read"
