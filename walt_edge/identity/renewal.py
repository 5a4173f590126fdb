"""The next certificate in time: looked at once a day, with a new key each time.

Home says what time it is, so that a clock which is wrong neither renews too early nor misses it. A renewal that was
not answered is asked again with the same key.
"""

from __future__ import annotations

import datetime
import logging
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from walt_edge.contract.backoff import Backoff
from walt_edge.contract.closing import Closing
from walt_edge.contract.enrolment import RenewRequest, renewal_message
from walt_edge.contract.errors import WaltError
from walt_edge.contract.telemetry import Certificate as CertificateState
from walt_edge.identity.credentials import Credentials, Enrolled, IdentityError, make_request
from walt_edge.identity.office import Office, RefusedError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

LOG = logging.getLogger(__name__)

Clock = Callable[[], datetime.datetime]

_DAY_S: Final = 86_400.0
_RETRY_S: Final = (60.0, 6 * 3600.0)


def utc_now() -> datetime.datetime:
    """The wall clock."""
    return datetime.datetime.now(datetime.UTC)


def renew(credentials: Credentials, clock: Clock = utc_now) -> Enrolled | None:
    """Renews the certificate if it is time.

    Args:
        credentials: The agent's.
        clock: This device's, believed only as far as it can be.

    Returns:
        What counts now; None if nothing changed.

    Raises:
        IdentityError: This device is not enrolled, home cannot be reached, or said no.
        UsageError: What was kept of home's address is damaged.
    """
    enrolled = credentials.read()
    if enrolled is None:
        raise IdentityError("this device is not enrolled: walt-edge enroll")
    current = credentials.certificate(enrolled)
    if current.begins <= clock() < current.renew_from:
        return None
    ca = credentials.ca(enrolled)
    office = Office(enrolled.url, ca)
    nonce = office.nonce()
    now = datetime.datetime.fromtimestamp(nonce.utc_us / 1e6, datetime.UTC)
    if now < current.renew_from:
        return None
    if now >= current.renew_until:
        raise IdentityError(f"its certificate expired on {current.expires:%Y-%m-%d}: enrol anew (walt-edge enroll)")
    old = credentials.key(enrolled)
    new = credentials.next_key(old)
    request = make_request(new)
    signature = _signed(old, renewal_message(nonce.nonce, request))
    asked = RenewRequest(certificate=current.pem, request=request, nonce=nonce.nonce, signature=signature)
    try:
        given = office.renew(asked)
    except RefusedError:
        # Whatever it was that home did not like, this key shall not stand in the way of the next attempt.
        credentials.forget_next_key()
        raise
    # Where home is stays what the enrolment said: nothing from outside changes it.
    return credentials.keep(enrolled, ca, given.certificate, new)


def _signed(key: ec.EllipticCurvePrivateKey, message: bytes) -> str:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return key.sign(message, ec.ECDSA(hashes.SHA256())).hex()


class Renewal(Closing):
    """Looks after the certificate of an enrolled agent, in a thread of its own between `start` and `close`.

    Args:
        home: The agent's folder.
        on_renewed: Called, in this thread, when another certificate counts.
        clock: This device's.
        every_s: Between two looks; jittered.
        retry_s: First and longest pause after one that failed; doubled, jittered.
        chance: Source of jitter.
    """

    def __init__(
        self,
        home: Path,
        on_renewed: Callable[[], None],
        *,
        clock: Clock = utc_now,
        every_s: float = _DAY_S,
        retry_s: tuple[float, float] = _RETRY_S,
        chance: random.Random | None = None,
    ) -> None:
        self._credentials = Credentials(home)
        self._on_renewed = on_renewed
        self._clock = clock
        self._every_s = every_s
        self._chance = chance or random.Random()
        self._backoff = Backoff(*retry_s, self._chance)
        self._stopping = threading.Event()
        self._trouble = False
        self._expires: datetime.datetime | None = None
        self._thread = threading.Thread(target=self._main, name="renewal", daemon=True)

    def start(self) -> None:
        """Looks at once, and from then on daily."""
        self._thread.start()

    def close(self) -> None:
        """Ends the thread; one that is waiting for home is left to its own end."""
        self._stopping.set()
        self._thread.join(timeout=1.0)

    def state(self) -> CertificateState | None:
        """How long the certificate lasts; None before the first look."""
        expires = self._expires
        if expires is None:
            return None
        return CertificateState(
            days_left=(expires - self._clock()) / datetime.timedelta(days=1), trouble=self._trouble
        )

    def turn(self) -> float:
        """One look; returns how long to wait before the next, seconds. Never raises."""
        try:
            renewed = renew(self._credentials, self._clock)
            self._note()
            if renewed is not None:
                LOG.info("renewed this device's certificate: it lasts until %s", f"{self._expires:%Y-%m-%d}")
                self._on_renewed()
        except (WaltError, OSError) as error:
            self._trouble = True
            pause_s = self._backoff.next_s()
            LOG.error("cannot renew this device's certificate: %s; next attempt in %.0f s", error, pause_s)
            return pause_s
        self._trouble = False
        self._backoff.reset()
        return self._every_s * self._chance.uniform(0.75, 1.25)

    def _note(self) -> None:
        enrolled = self._credentials.read()
        if enrolled is not None:
            self._expires = self._credentials.certificate(enrolled).expires

    def _main(self) -> None:
        try:
            self._note()
        except IdentityError:
            LOG.debug("told by the first turn", exc_info=True)
        while not self._stopping.wait(self.turn()):
            pass
