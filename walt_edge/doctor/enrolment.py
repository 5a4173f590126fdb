"""The certificate by which home knows this device."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Final

from walt_edge.doctor import Check, Finding, fail, ok, told, warn
from walt_edge.identity.credentials import Credentials, IdentityError
from walt_edge.settings.tree import AgentConfig

_LATE_DAYS: Final = 30


def check_certificate(config: AgentConfig) -> Iterator[Finding]:
    """How long it lasts, and whether it is renewed in time."""
    credentials = Credentials(config.home)
    try:
        enrolled = credentials.read()
        if enrolled is None:
            yield ok("certificate", "none: this device was not enrolled (walt-edge enroll)")
            return
        certificate = credentials.certificate(enrolled)
    except IdentityError as error:
        yield told("certificate", error)
        return
    now = datetime.datetime.now(datetime.UTC)
    left = (certificate.expires - now) // datetime.timedelta(days=1)
    text = f"{enrolled.site}/{enrolled.device}, until {certificate.expires:%Y-%m-%d} ({left} days left)"
    if now >= certificate.renew_until:
        again = f"walt-loop enroll --site {enrolled.site} --device {enrolled.device}"
        yield fail("certificate", f"{text}: expired too long ago", f"enrol anew: {again}, then walt-edge enroll")
    elif left < 0:
        remedy = (
            f"the agent renews it by itself until {certificate.renew_until:%Y-%m-%d}: is {enrolled.url} reachable?"
        )
        yield fail("certificate", f"{text}: expired", remedy)
    elif left < _LATE_DAYS:
        remedy = f"is an agent running, and {enrolled.url} reachable from here?"
        yield warn("certificate", f"{text}: could have been renewed since {certificate.renew_from:%Y-%m-%d}", remedy)
    else:
        yield ok("certificate", text)


CHECKS: Final[tuple[Check, ...]] = (check_certificate,)
