"""A device becomes known at home: a token, a key that never leaves the device, a certificate."""

from __future__ import annotations

from walt_edge.config import Home
from walt_edge.contract.enrolment import EnrolRequest, Token
from walt_edge.identity.credentials import Credentials, Enrolled, make_request
from walt_edge.identity.office import Office, checked_url, fetch_ca


def enrol(home: Home, url: str, token: Token) -> Enrolled:
    """Enrols the agent of a folder; after a kill or a lost answer, the same token does it again.

    Args:
        home: The folder, held.
        url: https://HOST:PORT of `walt-loop identity`.
        token: As `walt-loop enroll` printed it.

    Returns:
        What home said.

    Raises:
        UsageError: The URL is none.
        IdentityError: Home cannot be reached, is not the token's, or said no.
        HomeError: `device.json` cannot be read or written.
    """
    credentials = Credentials(home.path)
    ca = fetch_ca(url, token.fingerprint)
    key = credentials.next_key()
    own = home.known()
    asked = EnrolRequest(token=str(token), request=make_request(key), device=own.device if own else None)
    given = Office(url, ca).enrol(asked)
    home.adopt(given.device, given.site)
    enrolled = Enrolled(
        url=checked_url(url), broker=given.broker, site=given.site, device=given.device, ca="-", certificate="-"
    )
    return credentials.keep(enrolled, ca, given.certificate, key)
