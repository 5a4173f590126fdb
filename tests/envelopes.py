"""Sealed envelopes for tests of what stores and sends them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import encode_rle
from walt_edge.contract.messages import Clock, CropHeader, FrameHeader, Header, Moment, Origin, PlateHeader
from walt_edge.contract.topics import Kind
from walt_edge.privacy.anonymiser import AnonymisedImage, Anonymiser, SealedEnvelope, seal

FRAME_WH = (640, 360)


def origin(site: str = "test", device: str = "walt-test") -> Origin:
    return Origin(site=site, device=device, camera="cam-1", model="motion-1", anonymiser="test", frame_wh=FRAME_WH)


def moment(number: int = 0) -> Moment:
    return Moment(
        utc_us=1_700_000_000_000_000 + number,
        boot_id="boot-test",
        monotonic_ns=number,
        clock=Clock.SYNCHRONISED,
        media_time_s=number / 10,
    )


def sealed(
    number: int,
    kind: Kind = Kind.CROP,
    *,
    confidence: float = 0.9,
    side_px: int = 32,
    device: str = "walt-test",
    site: str = "test",
) -> SealedEnvelope:
    """An envelope of its own for every `number`; `side_px` sets a crop's area and bytes."""
    width, height = (side_px, side_px) if kind is Kind.CROP else FRAME_WH
    noise = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    if kind is not Kind.CROP:
        noise[:] = noise[0, 0]
    return seal(_header(number, kind, confidence, side_px, origin(site, device)), image(noise))


def image(bgr: NDArray[np.uint8]) -> AnonymisedImage:
    """A picture without objects, passed by the real anonymiser."""
    return Anonymiser()(bgr, (), np.zeros(bgr.shape[:2], dtype=bool))


def _header(number: int, kind: Kind, confidence: float, side_px: int, where: Origin) -> Header:
    width, height = FRAME_WH
    captured = moment(number)
    if kind is Kind.FRAME:
        return FrameHeader(origin=where, captured=captured, holdout=False)
    if kind is Kind.PLATE:
        known = encode_rle(np.ones((height, width), dtype=bool))
        return PlateHeader(origin=where, captured=captured, hour=12, known=known, samples=9)
    return CropHeader(
        origin=where,
        captured=captured,
        box_xyxy=(0.0, 0.0, float(side_px), float(side_px)),
        label=Label.PERSON,
        score=0.9,
        unoccluded_confidence=confidence,
        confidence_parts={},
        track_id=number,
        stationary_us=None,
        ground_xy=(side_px / 2, float(side_px)),
        crop_xy=(0, 0),
        mask=encode_rle(np.ones((side_px, side_px), dtype=bool)),
        plate="",
        holdout=False,
    )
