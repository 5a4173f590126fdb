"""All devices that are heard, in memory: bounded in number, in cameras, and in how often they may speak."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from walt_edge.contract.messages import Info, Reported, Status
from walt_edge.contract.telemetry import Telemetry
from walt_train.loop.fleet.heard import MAX_CAMERAS, HeardError, hear
from walt_train.loop.fleet.keeping import Batch
from walt_train.loop.fleet.state import CameraState, DeviceState, note_camera, note_telemetry

_SECOND: Final = 1_000_000
# Telemetry of one camera that comes more often than this is not looked at.
_OFTEN_US: Final = _SECOND


class Outcome(enum.StrEnum):
    """What became of a message."""

    TAKEN = "taken"
    MALFORMED = "malformed"
    STRANGER = "stranger"
    TOO_MANY = "too many"
    TOO_OFTEN = "too often"
    LOST = "lost"


def anybody(site: str, device: str) -> bool:
    """The policy of a home that enrols nobody: whoever the broker lets in is heard."""
    return True


@dataclass(slots=True)
class Fleet:
    """Who is heard, and what they said last.

    Attributes:
        is_known: Whether a device of that site and name belongs to the fleet.
        most: Devices at most; those that come after that are not heard.
        devices: By site and device.
        cameras: By site, device and camera.
        batch: What has changed since it was last written.
        outcomes: How many messages, by what became of them.
        last: Why the newest message was malformed, "" if none was.
    """

    is_known: Callable[[str, str], bool] = anybody
    most: int = 20_000
    devices: dict[tuple[str, str], DeviceState] = field(default_factory=dict)
    cameras: dict[tuple[str, str, str], CameraState] = field(default_factory=dict)
    batch: Batch = field(default_factory=Batch)
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    last: str = ""
    _camera_counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def restore(
        self, devices: dict[tuple[str, str], DeviceState], cameras: dict[tuple[str, str, str], CameraState]
    ) -> None:
        """Goes on from what was written; what had been heard and not written is forgotten."""
        self.devices, self.cameras, self.batch = devices, cameras, Batch()
        self._camera_counts = Counter((site, device) for site, device, _ in cameras)

    def take(self, topic: str, payload: bytes, received_us: int) -> Outcome:
        """Takes one message into account; whatever it holds, this raises nothing.

        Args:
            topic: Where it was published.
            payload: Its bytes.
            received_us: Home's clock as it came.
        """
        outcome = self._take(topic, payload, received_us)
        self.outcomes[outcome] += 1
        return outcome

    def next_batch(self) -> None:
        """The batch so far was written; begins another."""
        self.batch = Batch()

    def forget(self, before_us: int) -> None:
        """Drops who was not heard since then, or is not known any more."""
        for who, device in list(self.devices.items()):
            if device.newest_us < before_us or not self.is_known(*who):
                del self.devices[who]
                self.batch.devices.pop(who, None)
        for key, camera in list(self.cameras.items()):
            if key[:2] not in self.devices or camera.heard_us < before_us:
                del self.cameras[key]
                self.batch.cameras.pop(key, None)
        self._camera_counts = Counter((site, device) for site, device, _ in self.cameras)

    def _take(self, topic: str, payload: bytes, received_us: int) -> Outcome:
        try:
            heard = hear(topic, payload)
        except HeardError as error:
            self.last = "".join(letter if letter.isprintable() else "?" for letter in f"{topic}: {error}")[:300]
            return Outcome.MALFORMED
        who = (heard.who.site, heard.who.device)
        if not self.is_known(*who):
            return Outcome.STRANGER
        device = self.devices.get(who)
        if device is None:
            if len(self.devices) >= self.most:
                return Outcome.TOO_MANY
            device = DeviceState(site=who[0], device=who[1])
        if isinstance(heard.told, Telemetry):
            outcome = self._take_telemetry(device, heard.told, received_us)
            if outcome is not Outcome.TAKEN:
                return outcome
        else:
            _note(device, heard.told, received_us)
        self.devices[who] = self.batch.devices[who] = device
        return Outcome.TAKEN

    def _take_telemetry(self, device: DeviceState, told: Telemetry, received_us: int) -> Outcome:
        who = (device.site, device.device)
        key = (*who, told.camera)
        known = self.cameras.get(key)
        if known is None and self._camera_counts[who] >= MAX_CAMERAS:
            return Outcome.TOO_MANY
        if known is not None and 0 <= received_us - known.heard_us < _OFTEN_US:
            return Outcome.TOO_OFTEN
        if known is None:
            self._camera_counts[who] += 1
        note_telemetry(device, told, received_us)
        camera, sample = note_camera(known, who, told, received_us)
        self.cameras[key] = camera
        self.batch.add(camera, sample, received_us)
        return Outcome.TAKEN


def _note(device: DeviceState, told: Status | Info | Reported, received_us: int) -> None:
    """Takes over a retained message; the broker gives it again at every connection, so times are of the first."""
    if isinstance(told, Status):
        if told.state != device.status:
            device.status, device.status_us = told.state, received_us
    elif isinstance(told, Info):
        device.info = told
    elif told != device.reported:
        device.reported, device.reported_us = told, received_us
