"""MQTT topics. One place writes them and one place reads them.

```
walt/v1/{site}/{device}/status|info|telemetry|desired|reported|resend
walt/v1/{site}/{device}/crop|plate|frame/{sha256}
walt/v1/{site}/{device}/ack/{sha256}
```
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from walt_edge.contract.errors import WaltError

ROOT = "walt/v1"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class TopicError(WaltError):
    """A topic or a name in it is malformed."""


class Kind(enum.StrEnum):
    """What an envelope carries, as written in its topic."""

    CROP = "crop"
    PLATE = "plate"
    FRAME = "frame"


def check_name(name: str, what: str) -> str:
    """Returns `name` if it may stand in a topic and in a path; raises TopicError otherwise."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise TopicError(
            f"{what} '{name[:80]}' is not a name: 1-64 of A-Z a-z 0-9 _ . -, beginning with a letter or digit"
        )
    return name


@dataclass(frozen=True, slots=True)
class DeviceTopics:
    """The topics of one device.

    Attributes:
        site: The site's name.
        device: The globally unique device id.
    """

    site: str
    device: str

    def __post_init__(self) -> None:
        check_name(self.site, "site")
        check_name(self.device, "device")

    @classmethod
    def parse(cls, text: str) -> DeviceTopics:
        """Parses SITE/DEVICE, as the agent logs it at its start; raises TopicError."""
        site, slash, device = text.partition("/")
        if not slash:
            raise TopicError(f"'{text[:200]}' is not SITE/DEVICE, as the agent logs it at its start")
        return cls(site, device)

    def _under(self, leaf: str) -> str:
        return f"{ROOT}/{self.site}/{self.device}/{leaf}"

    @property
    def status(self) -> str:
        """Retained; also the last will."""
        return self._under("status")

    @property
    def info(self) -> str:
        """Retained: hardware, versions, camera."""
        return self._under("info")

    @property
    def telemetry(self) -> str:
        """QoS 0, with message expiry."""
        return self._under("telemetry")

    @property
    def desired(self) -> str:
        """Retained: the model that home wants here."""
        return self._under("desired")

    @property
    def reported(self) -> str:
        """Retained: the model that runs here."""
        return self._under("reported")

    @property
    def resend(self) -> str:
        """Retained: since when home wants again what it had acknowledged. Written by home alone."""
        return self._under("resend")

    def envelope(self, kind: Kind, sha256: str) -> str:
        """QoS 1: where the envelope with this hash is published."""
        return self._under(f"{kind.value}/{sha256}")

    def ack(self, sha256: str) -> str:
        """QoS 1: the ingest's own acknowledgement."""
        return self._under(f"ack/{sha256}")

    @property
    def acks(self) -> str:
        """Subscription to all acknowledgements of this device."""
        return self._under("ack/+")


@dataclass(frozen=True, slots=True)
class EnvelopeTopic:
    """A parsed `.../{kind}/{sha256}` topic."""

    site: str
    device: str
    kind: Kind
    sha256: str

    @classmethod
    def parse(cls, topic: str) -> EnvelopeTopic:
        """Parses an envelope's topic; raises TopicError if it is not one."""
        parts = topic.split("/")
        if len(parts) != 6 or "/".join(parts[:2]) != ROOT:
            raise TopicError(f"'{topic[:200]}' is not {ROOT}/SITE/DEVICE/KIND/SHA256")
        site, device, kind, sha256 = parts[2:]
        if kind not in {k.value for k in Kind} or not _SHA256.fullmatch(sha256):
            raise TopicError(f"'{topic[:200]}' does not end in crop|plate|frame and a sha256")
        return cls(check_name(site, "site"), check_name(device, "device"), Kind(kind), sha256)


STATUSES = f"{ROOT}/+/+/status"
"""Subscription to the status of every device."""

TOLD = tuple(f"{ROOT}/+/+/{leaf}" for leaf in ("status", "info", "reported", "telemetry"))
"""Subscriptions to all that devices tell of themselves."""


def device_of(topic: str) -> DeviceTopics:
    """The device that a topic is of; raises TopicError if it is of none."""
    parts = topic.split("/")
    if len(parts) < 5 or "/".join(parts[:2]) != ROOT:
        raise TopicError(f"'{topic[:200]}' does not begin with {ROOT}/SITE/DEVICE/")
    return DeviceTopics(parts[2], parts[3])


def subscriptions(group: str) -> list[str]:
    """Shared subscriptions that bring every envelope to a group of ingest workers."""
    return [f"$share/{group}/{ROOT}/+/+/{kind.value}/+" for kind in Kind]
