"""How an agent uses its enrolment: what the configuration says explicitly goes before what home said."""

from __future__ import annotations

import hashlib

from walt_edge.config import DEFAULT_CAMERA, Device, Endpoint, Home
from walt_edge.contract.errors import UsageError
from walt_edge.identity.credentials import Credentials
from walt_edge.settings.tree import AgentConfig

_NAME_LENGTH = 64
_TLS = {"tls", "ca", "cert", "key"}


def endpoint_of(config: AgentConfig) -> Endpoint:
    """The broker, how to trust it and what to show it.

    An explicit address keeps the enrolled certificate, so that nobody loses encryption by it; only an explicit option
    of TLS replaces that, `broker.tls: false` too.

    Raises:
        UsageError: A file is missing.
        IdentityError: What the enrolment left is damaged.
    """
    broker, credentials = config.broker, Credentials(config.home)
    enrolled = credentials.read()
    if enrolled is None:
        return broker.endpoint()
    given = broker.model_fields_set
    if "address" not in given:
        broker = broker.model_copy(update={"address": enrolled.broker})
    return broker.endpoint() if given & _TLS else Endpoint.parse(broker.address, credentials.tls(enrolled))


def uses_enrolment(config: AgentConfig) -> bool:
    """Whether the agent shows its enrolled certificate at the broker; raises IdentityError."""
    return not config.broker.model_fields_set & _TLS and Credentials(config.home).read() is not None


def device_of(home: Home, config: AgentConfig, camera: str | None) -> Device:
    """Who this agent is: what its certificate says, where it has one.

    A camera that nobody named is called after an enrolled device, since home knows cameras by their names alone. One
    that was called `cam-1` until then begins anew: what it had learnt belongs to the home that it was without.

    Args:
        home: The agent's folder, held.
        config: May name the site.
        camera: Name of the only camera, to be kept.

    Raises:
        UsageError: The configuration names another site than the certificate.
        HomeError: `device.json` cannot be read or written, or is another device's.
        IdentityError: What the enrolment left is damaged.
    """
    enrolled = Credentials(config.home).read()
    if enrolled is not None:
        if config.site not in (None, enrolled.site):
            raise UsageError(
                f"this device is enrolled for the site {enrolled.site}, not {config.site}: drop --site, "
                "or enrol it anew"
            )
        home.adopt(enrolled.device, enrolled.site)
    return home.device(config.site, camera, unnamed_camera(enrolled.device) if enrolled else DEFAULT_CAMERA)


def unnamed_camera(device: str) -> str:
    """What an enrolled device's camera is called that nobody named: the same at every start, no other device's."""
    name = f"{device}-1"
    if len(name) <= _NAME_LENGTH:
        return name
    digest = hashlib.sha256(device.encode()).hexdigest()[:16]
    return f"{device[: _NAME_LENGTH - len(digest) - 3]}-{digest}-1"
