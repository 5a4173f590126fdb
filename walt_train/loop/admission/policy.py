"""What is decided about a device's message, from what is known at this moment: pure, and without a query."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from walt_train.loop.admission.rates import Limits

NEW_DEVICE: Final = "new device"
OTHERS_NAME: Final = "another device's camera name"
CAMERA_HELD: Final = "camera: "
_HELD_LENGTH = 64


class Policy(enum.StrEnum):
    """Whom the ingest takes envelopes from."""

    OPEN = "open"
    """Whoever the broker lets in: a laptop, where nobody was enrolled. Nothing is limited and nothing is held."""

    ENROLLED = "enrolled"
    """Devices that were enrolled, at the site that they were enrolled at, until they are revoked."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a device.

    Attributes:
        site: Where it was enrolled.
        is_revoked: Whether it no longer counts.
        is_approved: Whether a person has looked at what it sends.
        limits: What it may send.
        held: Why a camera of it is held, by the camera's name.
    """

    site: str
    is_revoked: bool = False
    is_approved: bool = False
    limits: Limits = field(default_factory=Limits)
    held: Mapping[str, str] = field(default_factory=dict)


class Entry(enum.Enum):
    """What becomes of a message before anybody looks into it."""

    OPEN = "it is looked into"
    OVER_RATE = "its device sends too much: later"
    UNKNOWN = "its device is not known: later"
    REFUSED = "its device may not send: refused"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a device's messages are looked into, and if not, why."""

    entry: Entry
    reason: str = ""


def decide(standing: Standing | None, site: str, device: str) -> Decision:
    """Whether a device may send at all, under the policy `enrolled`.

    One that is not known is not refused, since a refusal has it forget what it holds: a home that was restored from
    an older copy would lose it. It keeps trying, ever more seldom, until it is enrolled again.
    """
    if standing is None:
        return Decision(Entry.UNKNOWN, f"{site}/{device} is not enrolled")
    if standing.is_revoked:
        return Decision(Entry.REFUSED, f"{site}/{device} was revoked")
    if standing.site != site:
        return Decision(Entry.REFUSED, f"{device} was enrolled at the site {standing.site}, not at {site}")
    return Decision(Entry.OPEN)


def hold_reason(standing: Standing, camera: str, *, is_own: bool = True) -> str | None:
    """Why a crop of a camera may not train yet, at most 64 characters; None if it may.

    Args:
        standing: The device's.
        camera: The camera's name.
        is_own: Whether that name is the device's. If not, this is what is said, so that an approval frees nothing.
    """
    if not is_own:
        return OTHERS_NAME
    if not standing.is_approved:
        return NEW_DEVICE
    reason = standing.held.get(camera)
    return None if reason is None else held_text(reason)


def held_text(reason: str) -> str:
    """What `envelopes.held` says of a crop whose camera is held."""
    return (CAMERA_HELD + reason)[:_HELD_LENGTH]
