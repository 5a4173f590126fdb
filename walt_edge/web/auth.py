"""Who may look: everybody on a loopback address without a token, else those who know it.

A program sends the token as a Bearer header; a person types it once and gets a session cookie, which holds no token
but an expiry and its signature, under a key of this process. Comparisons take the same time wherever they fail, and
an address that guesses has to wait.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

LOG = logging.getLogger(__name__)

COOKIE: Final = "walt_session"
SESSION_S: Final = 12 * 3600
_FREE_FAILURES: Final = 5
_PAUSE_MIN_S: Final = 2.0
_PAUSE_MAX_S: Final = 300.0
_ADDRESSES_MAX: Final = 512


class Verdict(enum.Enum):
    """What becomes of a request."""

    ALLOWED = enum.auto()
    NO_LOGIN = enum.auto()
    WRONG_TOKEN = enum.auto()
    WAIT = enum.auto()


class Throttle:
    """Makes an address wait after some failures, twice as long each time; bounded in memory.

    Args:
        clock: Seconds since some beginning.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """How long the address still has to wait; 0 for not at all."""
        _, until_s = self._failures.get(address, (0, 0.0))
        return max(0.0, until_s - self._clock())

    def note_failure(self, address: str) -> None:
        """One more wrong token."""
        count = self._failures.pop(address, (0, 0.0))[0] + 1
        excess = count - _FREE_FAILURES
        pause_s = min(_PAUSE_MIN_S * 2.0 ** min(excess, 16), _PAUSE_MAX_S) if excess >= 0 else 0.0
        self._failures[address] = (count, self._clock() + pause_s)
        while len(self._failures) > _ADDRESSES_MAX:
            self._failures.popitem(last=False)
        if excess >= 0:
            LOG.warning("%d wrong tokens from %s; it has to wait %.0f s", count, address, pause_s)

    def note_success(self, address: str) -> None:
        """The right one."""
        self._failures.pop(address, None)


class Doorkeeper:
    """Checks tokens and sessions.

    Args:
        token: The token, or None where everybody may look.
        clock: Seconds since some beginning.
    """

    def __init__(self, token: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._token = None if token is None else _digest(token)
        self._key = secrets.token_bytes(32)
        self._throttle = Throttle(clock)

    @property
    def is_open(self) -> bool:
        """Whether no token is asked for."""
        return self._token is None

    def check(self, address: str, authorization: str | None, cookie: str | None) -> Verdict:
        """Judges a request by its headers.

        Args:
            address: Of the peer.
            authorization: The `Authorization` header.
            cookie: The `Cookie` header.
        """
        if self._token is None or (cookie is not None and self._is_session(cookie)):
            return Verdict.ALLOWED
        if authorization is None:
            return Verdict.NO_LOGIN
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return Verdict.NO_LOGIN
        return self.login(address, token.strip())

    def login(self, address: str, token: str) -> Verdict:
        """Judges a token; while an address has to wait, not even the right one is looked at."""
        if self._token is None:
            return Verdict.ALLOWED
        if self._throttle.wait_s(address):
            return Verdict.WAIT
        if hmac.compare_digest(_digest(token), self._token):
            self._throttle.note_success(address)
            return Verdict.ALLOWED
        self._throttle.note_failure(address)
        return Verdict.WRONG_TOKEN

    def wait_s(self, address: str) -> int:
        """Whole seconds that an address still has to wait."""
        return int(self._throttle.wait_s(address)) + 1

    def new_session(self) -> str:
        """A cookie's value, good for `SESSION_S` and until this process ends."""
        expires = str(int(self._clock()) + SESSION_S)
        return f"{expires}.{self._sign(expires)}"

    def _is_session(self, header: str) -> bool:
        pairs = (pair.strip().partition("=") for pair in header.split(";"))
        value = next((value for name, _, value in pairs if name == COOKIE), "")
        expires, _, signature = value.partition(".")
        if not hmac.compare_digest(self._sign(expires).encode(), signature.encode("utf-8", "replace")):
            return False
        return self._clock() < int(expires)  # Signed by us, so it is a number.

    def _sign(self, text: str) -> str:
        return hmac.new(self._key, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _digest(token: str) -> bytes:
    """Of one length whatever the token's: comparing takes the same time."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
