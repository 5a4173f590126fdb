"""Home's enrolment as a device speaks with it: HTTPS that believes one authority, with an end to every answer."""

from __future__ import annotations

import hashlib
import ssl
import warnings
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import msgspec
import urllib3

from walt_edge.contract.enrolment import (
    MAX_ANSWER_BYTES,
    PREFIX,
    Credentials,
    EnrolRequest,
    Nonce,
    Problem,
    RenewRequest,
)
from walt_edge.contract.errors import UsageError
from walt_edge.identity.credentials import IdentityError

_TIMEOUT: Final = urllib3.Timeout(connect=10.0, read=20.0)
_SHOWN: Final = 300

_T = TypeVar("_T", bound=msgspec.Struct)


class RefusedError(IdentityError):
    """Home said no; asking again will not help, a person may."""


class Office:
    """Home's enrolment.

    Args:
        url: https://HOST:PORT.
        ca: Home's certificate authority, PEM, the only one that is believed.

    Raises:
        UsageError: The URL is none.
    """

    def __init__(self, url: str, ca: str) -> None:
        self._url = checked_url(url)
        try:
            # Nothing of the system's authorities: `cadata` is taken alone.
            self._context = ssl.create_default_context(cadata=ca)
        except (ssl.SSLError, ValueError) as error:
            raise IdentityError(f"home's certificate authority cannot be used: {error}") from error

    def nonce(self) -> Nonce:
        """What a renewal signs, and the time at home; raises IdentityError."""
        return _decoded(_ask(self._url, self._context, "GET", "/nonce"), Nonce)

    def enrol(self, asked: EnrolRequest) -> Credentials:
        """The first certificate; raises IdentityError, of it RefusedError if home said no."""
        return self._post("/enroll", asked)

    def renew(self, asked: RenewRequest) -> Credentials:
        """The next certificate; raises as `enrol`."""
        return self._post("/renew", asked)

    def _post(self, path: str, asked: msgspec.Struct) -> Credentials:
        return _decoded(_ask(self._url, self._context, "POST", path, msgspec.json.encode(asked)), Credentials)


def fetch_ca(url: str, fingerprint: str) -> str:
    """Home's certificate authority, PEM: whoever answers, only the one whose fingerprint the token carries is taken.

    Raises:
        UsageError: The URL is none.
        IdentityError: No answer, or another authority's.
    """
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    # Nothing is said on this connection, and what is heard is compared with the fingerprint.
    unverified.verify_mode = ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
        data = _ask(checked_url(url), unverified, "GET", "/ca")
    try:
        text = data.decode("ascii")
        found = hashlib.sha256(ssl.PEM_cert_to_DER_cert(text.strip())).hexdigest()
    except (ValueError, UnicodeDecodeError) as error:
        raise IdentityError(f"{url} gives no certificate authority: is this walt-loop identity?") from error
    if found != fingerprint:
        raise IdentityError(
            f"{url} shows another certificate authority than the token names: somebody is between, or the token is "
            "of another home"
        )
    return ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(text.strip()))


def checked_url(url: str) -> str:
    """The URL without a slash at its end; raises UsageError if it is not https://HOST:PORT."""
    try:
        parts = urlsplit(url)
        is_good = parts.scheme == "https" and parts.hostname and parts.path in ("", "/") and parts.port != 0
        is_good = is_good and not parts.username and not parts.query and not parts.fragment
    except ValueError:
        is_good = False
    if not is_good:
        raise UsageError("home's address is not https://HOST:PORT, as walt-loop enroll printed it")
    return url.rstrip("/")


def _ask(url: str, context: ssl.SSLContext, method: str, path: str, body: bytes | None = None) -> bytes:
    host = urlsplit(url).hostname or ""
    options: dict[str, Any] = {"ssl_context": context, "timeout": _TIMEOUT, "retries": False}
    headers = {"User-Agent": "walt-edge", "Accept": "application/json"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    proxies = {} if proxy_bypass(host) else getproxies()
    proxy = proxies.get("https") or proxies.get("all")
    try:
        with urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options) as pool:
            response = pool.request(
                method, url + PREFIX + path, body=body, headers=headers, preload_content=False, redirect=False
            )
            data: bytes = response.read(MAX_ANSWER_BYTES + 1, decode_content=False)
            response.close()
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise IdentityError(f"{url} cannot be reached ({_words(error)}): is walt-loop identity running?") from error
    if len(data) > MAX_ANSWER_BYTES:
        raise IdentityError(f"{url} answers with more than {MAX_ANSWER_BYTES} bytes: is this walt-loop identity?")
    if response.status != 200:
        raise _refusal(url, response.status, data)
    return data


def _refusal(url: str, status: int, data: bytes) -> IdentityError:
    try:
        detail = msgspec.json.decode(data, type=Problem).detail
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        detail = ""
    shown = "".join(letter if letter.isprintable() else " " for letter in detail[:_SHOWN]) or f"status {status}"
    kind = RefusedError if 400 <= status < 500 and status not in (408, 429) else IdentityError
    return kind(f"{url} says: {shown}")


def _decoded(data: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise IdentityError("home gives an answer that is none: is this walt-loop identity, and as new?") from error


def _words(error: Exception) -> str:
    """The cause, without the objects that urllib3 writes around it."""
    reason: Any = getattr(error, "reason", None) or error
    cause = reason.__cause__ or reason.__context__ or reason
    return getattr(cause, "verify_message", None) or getattr(cause, "strerror", None) or type(cause).__name__
