"""What is covered stays covered: no more than a few colours are left of a head, however it is covered."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from walt_edge.contract.errors import UsageError
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask, decode_rle, encode_rle
from walt_edge.contract.messages import Clock, CropHeader, Moment, Origin
from walt_edge.privacy.anonymiser import AnonymisedImage, Anonymiser, seal
from walt_edge.privacy.fills import FILL_BGR, MOST_BLOCKS, Fill, Style, cover
from walt_edge.vision.sightings import Sighting

SOFT = [Style.PIXELATE, Style.BLUR]


def _noise(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (200, 240, 3), dtype=np.uint8)


def _face(side: int, x: int = 60, y: int = 50) -> PatchMask:
    return PatchMask(x, y, np.ones((side, side), bool))


@pytest.mark.parametrize("blocks", [0, -1, MOST_BLOCKS + 1, 100])
def test_too_weak_a_cover_is_refused(blocks: int) -> None:
    with pytest.raises(UsageError, match="1 to 6"):
        Fill(Style.PIXELATE, blocks)


@pytest.mark.parametrize("side", [8, 16, 33, 64, 120])
@pytest.mark.parametrize("blocks", [1, 3, MOST_BLOCKS])
def test_no_more_blocks_than_asked_for_lie_across_a_face(side: int, blocks: int) -> None:
    bgr = _noise()
    covered = cover(bgr, [_face(side)], Fill(Style.PIXELATE, blocks))
    assert covered.sum() == side * side
    left = bgr[50 : 50 + side, 60 : 60 + side]
    across = 1 + (np.abs(np.diff(left.astype(int), axis=1)).sum(axis=2) > 0).any(axis=0).sum()
    down = 1 + (np.abs(np.diff(left.astype(int), axis=0)).sum(axis=2) > 0).any(axis=1).sum()
    assert max(across, down) <= blocks
    assert (bgr[~covered] == _noise()[~covered]).all()


@pytest.mark.parametrize("side", [24, 48, 100])
def test_a_blur_tells_no_more_than_its_blocks(side: int) -> None:
    """It is made from them alone: pictures with the same blocks have the same blur."""
    one = _noise(1)
    other = one.copy()
    blocks = MOST_BLOCKS
    step = -(-side // blocks)
    few = side // step
    window = (slice(50, 50 + side), slice(60, 60 + side))
    grid = np.linspace(0, side, few + 1)
    # The same means, other pixels: each block of a picture turned upside down.
    assert side % few == 0
    for top, bottom in itertools.pairwise(grid.astype(int)):
        for left, right in itertools.pairwise(grid.astype(int)):
            part = other[window][top:bottom, left:right]
            part[:] = part[::-1, ::-1].copy()
    assert (one != other).any()
    fill = Fill(Style.BLUR, blocks)
    cover(one, [_face(side)], fill)
    cover(other, [_face(side)], fill)
    assert (one == other).all()
    detail = np.abs(np.diff(one[window].astype(int), axis=1)).mean()
    assert detail < 100 / step, "soft"


@pytest.mark.parametrize("style", SOFT)
def test_covers_that_touch_share_one_grid_as_coarse_as_the_larger_needs(style: Style) -> None:
    bgr = _noise()
    patches = [_face(60), _face(8, 70, 60), _face(9, 118, 60)]
    cover(bgr, patches, Fill(style, 4))
    alone = _noise()
    wide = PatchMask(60, 50, np.zeros((60, 67), bool))
    for patch in patches:
        wide.mask[:] |= patch.window(wide.box_xyxy)
    cover(alone, [wide], Fill(style, 4))
    block = 15
    inner = bgr[50 : 50 + block // 2, 60 : 60 + block // 2].reshape(-1, 3).astype(int)
    assert np.ptp(inner, axis=0).max() <= (0 if style is Style.PIXELATE else 60)
    assert np.abs(bgr[75:95, 90:110].astype(int) - alone[75:95, 90:110]).mean() < 12


@pytest.mark.parametrize("style", list(Style))
def test_what_was_filled_is_known_in_every_style(style: Style) -> None:
    body = np.zeros((200, 240), bool)
    body[40:160, 100:130] = True
    sighting = Sighting(PatchMask.from_full(body), Label.PERSON, 0.9, (0, 0))
    image = Anonymiser(fill=Fill(style))(_noise(), [sighting], body)
    solid = Anonymiser()(_noise(), [sighting], body)
    assert (image.filled == solid.filled).all()
    assert image.filled[40:60, 100:130].all()
    assert (image.bgr[~image.filled] == _noise()[~image.filled]).all()
    assert (image.bgr[image.filled] != _noise()[image.filled]).any(axis=1).mean() > 0.99
    assert ((image.bgr[image.filled] == FILL_BGR).all(axis=1).mean() == 1) == (style is Style.SOLID)
    assert image.filled_fraction(sighting.silhouette) > 0.15
    assert image.anonymiser.endswith("head-only" if style is Style.SOLID else f"fill={style.value}")


@pytest.mark.parametrize("style", list(Style))
def test_a_sealed_crop_tells_what_was_filled_in_every_style(style: Style) -> None:
    body = np.zeros((200, 240), bool)
    body[40:160, 100:130] = True
    sighting = Sighting(PatchMask.from_full(body), Label.PERSON, 0.9, (0, 0))
    crop = Anonymiser(fill=Fill(style))(_noise(), [sighting], body).crop((80, 20, 150, 180), sighting.silhouette)
    told = seal(crop_header(crop, (80, 20)), crop).envelope.header
    assert isinstance(told, CropHeader)
    assert told.filled is not None
    assert (decode_rle(told.filled) == crop.filled).all()
    assert told.origin.anonymiser == crop.anonymiser


def test_a_crop_of_which_nothing_is_filled_tells_nothing() -> None:
    crop = Anonymiser()(_noise(), [], np.zeros((200, 240), bool))
    told = seal(crop_header(crop, (0, 0)), crop).envelope.header
    assert isinstance(told, CropHeader)
    assert told.filled is None


def crop_header(crop: AnonymisedImage, at: tuple[int, int]) -> CropHeader:
    """A header of a crop that is an object's from edge to edge."""
    height, width = crop.bgr.shape[:2]
    origin = Origin(site="s", device="d", camera="c", model="motion-1", anonymiser="-", frame_wh=(240, 200))
    captured = Moment(utc_us=1, boot_id="b", monotonic_ns=1, clock=Clock.SYNCHRONISED, media_time_s=0.0)
    return CropHeader(
        origin=origin,
        captured=captured,
        box_xyxy=(at[0], at[1], at[0] + width, at[1] + height),
        label=Label.PERSON,
        score=1.0,
        unoccluded_confidence=1.0,
        confidence_parts={},
        track_id=1,
        stationary_us=None,
        ground_xy=(at[0], at[1]),
        crop_xy=at,
        mask=encode_rle(np.ones((height, width), bool)),
        plate="",
        holdout=False,
    )


@pytest.mark.parametrize("style", SOFT)
def test_what_is_nobodys_and_plates_are_solid_in_every_style(style: Style) -> None:
    anonymiser = Anonymiser(_Face(), fill=Fill(style))
    stray = np.zeros((200, 240), bool)
    stray[150:160, 20:40] = True
    frame, plate = anonymiser(_noise(), [], stray), anonymiser.plate(_noise(), stray)
    for image in (frame, plate):
        assert (image.bgr[stray] == FILL_BGR).all()
    assert _is_solid(plate, (60, 50, 100, 90))
    assert not _is_solid(frame, (60, 50, 100, 90))


class _Face:
    name = "test"

    def __call__(self, bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.array([[60, 50, 100, 90]], np.float32)


def _is_solid(image: AnonymisedImage, box: tuple[int, int, int, int]) -> bool:
    x0, y0, x1, y1 = box
    assert image.filled[y0:y1, x0:x1].all()
    return bool((image.bgr[y0:y1, x0:x1] == FILL_BGR).all())
