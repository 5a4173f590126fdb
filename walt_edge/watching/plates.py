"""Plates to send: the masked median of anonymised frames, by hour."""

from __future__ import annotations

import datetime

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import Mask, PatchMask, encode_rle
from walt_edge.contract.messages import Moment, Origin, PlateHeader
from walt_edge.privacy.anonymiser import AnonymisedImage, Anonymiser, SealedEnvelope, seal
from walt_edge.vision.plate import SampleBuffer, masked_median
from walt_edge.vision.settings import WatchSettings

_SPACING_S = 2.0
_SAMPLES = 24
_SAMPLES_MIN = 5


class PlatePublisher:
    """Collects anonymised frames of the present hour and seals their median when it is time."""

    def __init__(self, origin: Origin, anonymiser: Anonymiser, settings: WatchSettings) -> None:
        self._origin = origin
        self._anonymiser = anonymiser
        self._settings = settings
        self._sent: NDArray[np.uint8] | None = None
        self._sent_s = -np.inf
        self._sent_known = 0.0
        self._healed = False
        self._hour: int | None = None
        self.newest_id = ""
        self.restart()

    def restart(self) -> None:
        """Forgets the frames: a new hour has begun."""
        width, height = self._origin.frame_wh
        capacity = min(_SAMPLES, max(_SAMPLES_MIN, self._settings.plate_memory_bytes // (4 * width * height)))
        self._capacity = capacity
        self._buffer = SampleBuffer(_SPACING_S, capacity)

    def picked(self, frames: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        """As many of the frames, evenly, as a first plate needs."""
        return frames[:: max(1, -(-len(frames) // self._capacity))]

    def add(self, image: AnonymisedImage) -> None:
        """Notes an anonymised frame of the warm-up, whatever its time."""
        self._buffer.add(image.bgr, image.moving | image.filled)

    def offer(self, image: AnonymisedImage, captured: Moment) -> None:
        """Notes an anonymised frame; what moves in it will not enter the plate."""
        if self._hour is not None and hour_of(captured) != self._hour:
            self.restart()
        self._hour = hour_of(captured)
        self._buffer.offer(image.bgr, captured.media_time_s, lambda: image.moving | image.filled)

    def forget(self, left: PatchMask) -> None:
        """Somebody who had been part of the plate has left it: the frames until now do not show what is there."""
        width, height = self._origin.frame_wh
        window = left.full(height, width)
        for mask in self._buffer.masks:
            assert mask is not None, "every frame comes with its mask"
            mask |= window
        self._healed = True

    def better(self, known: Mask) -> bool:
        """Whether a plate sent now would show more than the last one, or something truer."""
        if len(self._buffer) < _SAMPLES_MIN:
            return False
        # As `masked_median` counts, on every fourth pixel of every fourth row: this is asked with every frame.
        hidden = sum(np.zeros(1, np.uint8) if m is None else m[::4, ::4].astype(np.uint8) for m in self._buffer.masks)
        seen = len(self._buffer) - hidden >= max(2, len(self._buffer) // 4)
        gained = float((known[::4, ::4] & seen).mean()) - self._sent_known
        return self._healed or gained > self._settings.publish_better_fraction

    def due(self, plate_bgr: NDArray[np.uint8], known: Mask, captured: Moment) -> bool:
        """Whether a plate should go now: an hourly one, or because it has become better or changed visibly."""
        since_s = captured.media_time_s - self._sent_s
        if len(self._buffer) < _SAMPLES_MIN or since_s < self._settings.publish_s / 60:
            return False
        if since_s >= self._settings.publish_s or self._sent is None or self.better(known):
            return True
        change = np.abs(plate_bgr[::4, ::4].astype(np.int16) - self._sent[::4, ::4]).max(axis=2)
        visible = change > self._settings.publish_change_level
        return float(visible.mean()) > self._settings.publish_change_fraction

    def publish(self, plate_bgr: NDArray[np.uint8], known: Mask, heads: Mask, captured: Moment) -> SealedEnvelope:
        """Seals the median of the frames collected.

        Args:
            plate_bgr: The working plate, to compare later ones with.
            known: (H, W) where it is known.
            heads: (H, W) of people who stand in it, to be filled even if most frames collected show them.
            captured: Now.

        Raises:
            PrivacyError: The anonymiser failed.
        """
        median, _, seen = masked_median(self._buffer.frames, self._buffer.masks)
        known = known & seen
        shown = known & ~heads
        image = self._anonymiser.plate(median, ~shown)
        header = PlateHeader(
            origin=self._origin,
            captured=captured,
            hour=hour_of(captured),
            known=encode_rle(shown),
            samples=len(self._buffer),
        )
        sealed = seal(header, image)
        self._sent_known, self._healed = float(known[::4, ::4].mean()), False
        self.newest_id, self._sent, self._sent_s = sealed.id, plate_bgr.copy(), captured.media_time_s
        return sealed


def hour_of(captured: Moment) -> int:
    """Hour of the day, UTC, 0..23."""
    return datetime.datetime.fromtimestamp(captured.utc_us / 1e6, tz=datetime.UTC).hour
