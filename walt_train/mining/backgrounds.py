"""Backgrounds from real frames: everything that moves is erased by the plate, the rest stays as it was.

A median is cleaner than any frame that the camera will ever send. A real frame has its grain, its light and its wind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import Mask, encode_rle
from walt_edge.contract.messages import Moment, Origin, PlateHeader
from walt_edge.privacy.anonymiser import AnonymisedImage, Anonymiser, SealedEnvelope, seal
from walt_edge.vision.motion import light_gain, scaled
from walt_edge.vision.sightings import Sighting
from walt_edge.watching.plates import hour_of

Image = NDArray[np.uint8]

_EVERY_S = 20.0
_MOST = 8
_ERASED_MAX = 0.35
_GROW_SHARE = 0.015  # of the frame's height, beyond what differs: soft shadows, motion blur, a head against the sky
_SEAM_PX = 7


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """One frame kept as a background.

    Attributes:
        image: Anonymised.
        erased: (H, W) what moves in it, generously.
        captured: When.
        plate_id: The newest plate then.
    """

    image: AnonymisedImage
    erased: Mask
    captured: Moment
    plate_id: str


class FrameSampler:
    """Keeps a few frames of a source, spread over its time, and among neighbours the emptiest."""

    def __init__(self) -> None:
        self.kept: list[Kept] = []
        self._every_s = _EVERY_S

    def offer(self, image: AnonymisedImage, sightings: Sequence[Sighting], captured: Moment, plate_id: str) -> None:
        """Notes a frame if its moment has come, or if it is emptier than the newest kept one of its moment."""
        last = self.kept[-1] if self.kept else None
        near = last is not None and captured.media_time_s - last.captured.media_time_s < self._every_s
        share = float((image.moving | image.filled)[::4, ::4].mean())
        if share > _ERASED_MAX or (near and last is not None and share >= float(last.erased[::4, ::4].mean()) / 2):
            return
        if near:
            self.kept.pop()
        elif len(self.kept) >= _MOST:
            del self.kept[1::2]
            self._every_s *= 2
        self.kept.append(Kept(image, _erased(image, sightings), captured, plate_id))


def _erased(image: AnonymisedImage, sightings: Sequence[Sighting]) -> Mask:
    gone = image.moving | image.filled
    for sighting in sightings:
        x0, y0, x1, y1 = sighting.silhouette.box_xyxy
        gone[max(0, y0) : y1, max(0, x0) : x1] |= sighting.silhouette.window((max(0, x0), max(0, y0), x1, y1))[
            : gone.shape[0] - max(0, y0), : gone.shape[1] - max(0, x0)
        ]
    return grown(gone)


def grown(gone: Mask) -> Mask:
    """Generously: soft shadows and blur reach beyond what differs clearly."""
    side = 2 * max(4, round(_GROW_SHARE * len(gone))) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    wide: Mask = cv2.dilate(gone.astype(np.uint8), disc) > 0
    return wide


def background(
    kept: Kept, plate_bgr: Image, plate_known: Mask, origin: Origin, anonymiser: Anonymiser
) -> SealedEnvelope:
    """Seals a frame whose moving things are erased.

    Args:
        kept: The frame.
        plate_bgr: (H, W, 3) the nearest plate, as published.
        plate_known: (H, W) where it is known.
        origin: Of the source.
        anonymiser: Passes the result once more, so that what the erasing left is looked at too.
    """
    plate = scaled(plate_bgr, light_gain(kept.image.bgr, plate_bgr))
    # Inside the erased part the seam is soft: there both show the same ground.
    inner = cv2.distanceTransform(kept.erased.astype(np.uint8), cv2.DIST_L2, 3)
    share = np.clip(inner / _SEAM_PX, 0.0, 1.0)[..., None]
    share[kept.image.moving | kept.image.filled] = 1.0
    mixed = kept.image.bgr * (1 - share) + plate * share
    known = ~kept.erased | plate_known
    image = anonymiser(np.asarray(np.round(mixed), np.uint8), (), ~known)
    header = PlateHeader(
        origin=origin,
        captured=kept.captured,
        hour=hour_of(kept.captured),
        known=encode_rle(known & ~image.filled),
        samples=1,
    )
    return seal(header, image)
