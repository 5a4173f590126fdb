"""Sealed crops of any time, place, size and worth, for tests of what chooses between them."""

from __future__ import annotations

import msgspec
import numpy as np

from tests.envelopes import image, moment, sealed
from walt_edge.contract.masks import Mask, encode_rle
from walt_edge.contract.messages import Clock, CropHeader, Moment
from walt_edge.contract.topics import Kind
from walt_edge.privacy.anonymiser import SealedEnvelope, seal

SIDE_PX = 32
START_US = moment().utc_us


def moment_at(
    at_s: float, *, boot: str = "boot-test", clock: Clock = Clock.SYNCHRONISED, utc_s: float | None = None
) -> Moment:
    """A moment `at_s` after the boot; the wall clock says the same unless `utc_s` says otherwise."""
    return Moment(
        utc_us=START_US + round(1e6 * (at_s if utc_s is None else utc_s)),
        boot_id=boot,
        monotonic_ns=round(at_s * 1e9),
        clock=clock,
        media_time_s=max(0.0, at_s),
    )


def crop(
    number: int,
    captured: Moment,
    *,
    track: int | None = None,
    confidence: float = 0.9,
    side_px: int = SIDE_PX,
    corner_xy: tuple[int, int] = (100, 100),
    mask: Mask | None = None,
    holdout: bool = False,
) -> SealedEnvelope:
    """A crop of noise, so that its bytes grow with its side; a track of its own unless one is given."""
    x, y = corner_xy
    own = np.ones((side_px, side_px), bool) if mask is None else mask
    header = sealed(0, Kind.CROP, side_px=SIDE_PX).envelope.header
    assert isinstance(header, CropHeader)
    header = msgspec.structs.replace(
        header,
        captured=captured,
        box_xyxy=(float(x), float(y), float(x + side_px), float(y + side_px)),
        unoccluded_confidence=confidence,
        track_id=number if track is None else track,
        ground_xy=(x + side_px / 2, float(y + side_px)),
        crop_xy=corner_xy,
        mask=encode_rle(own),
        holdout=holdout,
    )
    noise = np.random.default_rng(number).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)
    return seal(header, image(noise))
