"""People who have always stood there: who sways, or is seen by a detector, is filled."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.fakes.scenes import Scene, Thing, sway, walk
from tests.walt_edge.watching.test_watcher import SETTINGS, WH, watch, watcher_of
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, decode_rle
from walt_edge.contract.messages import CropHeader, PlateHeader
from walt_edge.overview import decode_image
from walt_edge.privacy.anonymiser import SealedEnvelope
from walt_edge.runtimes import Detections


class _SeesPeople:
    """Sees the walker of `onlooked` always, and who stands there in one of so many looks."""

    name = "keen"

    def __init__(self, one_in: int = 1) -> None:
        self._one_in = one_in
        self.looks = 0

    def __call__(self, bgr: NDArray[np.uint8]) -> Detections:
        self.looks += 1
        boxes = []
        ys, xs = np.nonzero((bgr[..., 0] > 135) & (bgr[..., 2] < 65))
        if ys.size > 200:
            boxes.append([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        if self.looks % self._one_in == 0:
            boxes.append([STANDS[0] - 18, STANDS[1] - 110, STANDS[0] + 18, STANDS[1]])
        found = np.array(boxes, np.float64).reshape(-1, 4)
        return Detections(found, np.full(len(found), 0.5), (Label.PERSON,) * len(found))


STANDS = (240.0, 250.0)


def onlooked(by_px: float) -> Scene:
    """Somebody who has always stood there, and a walker who passes beside them."""
    things = [
        Thing(sway(STANDS, by_px), "stander", height=110),
        Thing(walk((198, 340), (0, -15), 5.0), height=110, colour=(160, 40, 40)),
    ]
    return Scene(wh=WH, things=things)


def standing_head() -> Mask:
    y, x = np.mgrid[: WH[1], : WH[0]]
    disc: Mask = (x - STANDS[0]) ** 2 + (y - (STANDS[1] - 0.92 * 110)) ** 2 <= (0.08 * 110) ** 2
    return disc


@pytest.mark.parametrize(
    ("by_px", "detector", "filled"),
    [
        pytest.param(2.0, None, True, id="sways"),
        pytest.param(0.0, _SeesPeople(), True, id="seen by a detector"),
        pytest.param(0.0, None, False, id="a statue that nobody sees"),
    ],
)
def test_heads_of_who_has_always_stood_there(by_px: float, detector: _SeesPeople | None, filled: bool) -> None:
    """On frames, where nobody passes before them, on plates, and on crops that show them beside a walker."""
    watcher, scene, head = watcher_of(detector=detector), onlooked(by_px), standing_head()
    shown: list[bool] = []
    sealed: list[SealedEnvelope] = []
    for frame in scene.frames(13):
        step = watcher.step(frame)
        sealed += step.sealed
        if step.image is not None:
            free = head & ~scene.things[1].mask(frame.captured.media_time_s, (WH[1], WH[0]))
            shown.append(bool(step.image.filled[free].mean() >= 0.95))
    sealed += watcher.finish()
    assert np.mean(shown) > 0.95 if filled else not any(shown)
    plates = [one for one in sealed if isinstance(one.envelope.header, PlateHeader)]
    for plate in plates:
        far = np.abs(decode_image(plate)[head].astype(int) - 128).max(axis=1)
        assert bool((far < 12).mean() > 0.95) == filled
    assert plates
    beside = [one for one in sealed if isinstance(one.envelope.header, CropHeader)]
    parts = []
    for one in beside:
        assert isinstance(one.envelope.header, CropHeader)
        height, width = decode_image(one).shape[:2]
        x, y = one.envelope.header.crop_xy
        part = head[y : y + height, x : x + width] & ~decode_rle(one.envelope.header.mask)
        if part.any():
            far = np.abs(decode_image(one)[part].astype(int) - 128).max(axis=1)
            parts.append(float((far < 30).mean()))
    assert parts, "a crop shows the head beside the walker"
    assert min(parts) > 0.95 if filled else max(parts) < 0.1


def test_a_head_that_a_detector_sees_in_the_plate_alone_is_filled_there() -> None:
    counting = _SeesPeople(one_in=1000)
    frames = list(onlooked(0.0).frames(4))
    (unseen,) = watcher_of(detector=counting).prepare(frames)
    (seen,) = watcher_of(detector=_SeesPeople(one_in=counting.looks)).prepare(frames)
    for plate, shows in ((unseen, True), (seen, False)):
        assert isinstance(plate.envelope.header, PlateHeader)
        known = decode_rle(plate.envelope.header.known)
        assert known[standing_head()].mean() > 0.95 if shows else not known[standing_head()].any()
        assert known.mean() > 0.95


def test_whom_the_plate_takes_in_has_no_head_in_any_plate() -> None:
    """Who walks in and stands like a statue longer than `parked_s` is background; leaves; the ground shows again."""
    walks_s, leaves_s = 5.0, 30.0

    def path(time_s: float) -> tuple[float, float] | None:
        if not walks_s <= time_s < leaves_s + 5:
            return None
        return STANDS[0] - 60 * max(0.0, walks_s + 4 - time_s) + 60 * max(0.0, time_s - leaves_s), STANDS[1]

    scene = Scene(wh=WH, things=[Thing(path, "stander", height=110)])
    watcher = watcher_of(dataclasses.replace(SETTINGS, parked_s=6.0, publish_s=3.0))
    frames = list(scene.frames(55))
    before, _ = watch(watcher, (frame for frame in frames if frame.captured.media_time_s < leaves_s))
    after, _ = watch(watcher, (frame for frame in frames if frame.captured.media_time_s >= leaves_s))
    head = standing_head()
    background, body = scene.background().astype(int), scene.things[0].mask(leaves_s - 1, (WH[1], WH[0]))
    shows_body = False
    for one in before:
        if not isinstance(one.envelope.header, PlateHeader):
            continue
        picture, known = decode_image(one).astype(int), decode_rle(one.envelope.header.known)
        off = np.abs(picture - background).max(axis=2) > 60
        filled = np.abs(picture - 128).max(axis=2) < 12
        assert not (off & ~filled)[head].any(), one.envelope.header.captured.media_time_s
        assert not (off & known)[head].any()
        shows_body |= bool((off & known)[body].mean() > 0.3)
    assert shows_body, "the body is background in time"
    header = next(one.envelope.header for one in reversed(after) if isinstance(one.envelope.header, PlateHeader))
    picture = next(decode_image(one) for one in reversed(after) if one.envelope.header is header)
    known = decode_rle(header.known)
    assert known[body].mean() > 0.95
    assert np.abs(picture.astype(int) - background)[known & body].mean() < 4
