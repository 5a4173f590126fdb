"""A composite: a pure function of (clip art, settings, seed, epoch, index).

Whole numbers and tables only, so that pixels and layers are the same on every machine and for any number of workers.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_train.clipart.arrange import Spot, arrange
from walt_train.clipart.chance import Chance, Purpose
from walt_train.clipart.material import Box, Material
from walt_train.clipart.paint import Sticker, blend, cut_sticker, light_table, shade
from walt_train.clipart.settings import ComposeSettings
from walt_train.data.sample import AmodalObject, AmodalSample

VISIBLE_MIN_PX = 16
"""What shows less, or is hidden by more than nine tenths, is left out of the picture: nobody could learn it."""

_WHOLE, _WINDOW_MIN = 1000, 600  # thousandths of the frame's sides


def compose(material: Material, settings: ComposeSettings, seed: int, epoch: int, index: int) -> AmodalSample:
    """Makes composite `index` of `epoch`.

    Raises:
        UsageError: The seed is out of range.
    """
    backdrop = Chance(seed, epoch, index, Purpose.PLATE).below(len(material.backdrops))
    arrangement, order = (Chance(seed, epoch, index, purpose) for purpose in (Purpose.ARRANGEMENT, Purpose.ORDER))
    spots = arrange(material, settings, backdrop, arrangement, order)
    window = _window(material.frame_wh, spots, settings, Chance(seed, epoch, index, Purpose.WINDOW))
    cut = (cut_sticker(spot, window) for spot in spots)
    stickers = _shown([sticker for sticker in cut if sticker is not None], window)
    plate = material.backdrops[backdrop]
    x0, y0, x1, y1 = window
    picture = plate.image_bgr[y0:y1, x0:x1].copy()
    return AmodalSample(
        image_bgr=_paint(picture, stickers, window, settings, Chance(seed, epoch, index, Purpose.LIGHT)),
        objects=tuple(
            AmodalObject(sticker.spot.cutout.label, sticker.mask, sticker.spot.cutout.object_id)
            for sticker in stickers
        ),
        name=f"composite {index} of epoch {epoch}, seed {seed}",
        frame=index,
        time=dt.datetime.fromtimestamp(plate.utc_us / 1e6, tz=dt.UTC).isoformat(),
        camera=material.camera,
    )


def _window(frame_wh: tuple[int, int], spots: Sequence[Spot], settings: ComposeSettings, chance: Chance) -> Box:
    """All of the frame, or a part of the same shape with sides of 0.6 to 1 of it, whose borders cut objects."""
    width, height = frame_wh
    if not chance.happens(settings.crop_chance) or not spots:
        return 0, 0, width, height
    across, down = chance.pick(spots).box_xyxy, chance.pick(spots).box_xyxy
    x_cut = _cut((across[0], across[2]), width, chance)
    y_cut = _cut((down[1], down[3]), height, chance)
    part = chance.between(_WINDOW_MIN, min(x_cut.part_max, y_cut.part_max))
    x0, x1 = x_cut.window(width * part // _WHOLE, width, chance)
    y0, y1 = y_cut.window(height * part // _WHOLE, height, chance)
    return x0, y0, x1, y1


class _Cut(NamedTuple):
    """A border of the window along one side of the frame.

    Attributes:
        border: Where it is, pixels; None where none can cut the object.
        first: The window begins there; otherwise it ends there.
        part_max: The window's largest size, thousandths of the side.
    """

    border: int | None
    first: bool
    part_max: int

    def window(self, size: int, side: int, chance: Chance) -> tuple[int, int]:
        if self.border is None:
            start = chance.between(0, side - size)
        else:
            start = self.border if self.first else self.border - size
        return start, start + size


def _cut(extent: tuple[int, int], side: int, chance: Chance) -> _Cut:
    """A border that leaves an eighth of the extent or more on both of its sides."""
    eighth = (extent[1] - extent[0]) // 8
    border = min(max(chance.between(extent[0] + eighth, extent[1] - eighth), 0), side)
    ways = [_Cut(border, True, (side - border) * _WHOLE // side), _Cut(border, False, border * _WHOLE // side)]
    possible = [cut for cut in ways if cut.part_max >= _WINDOW_MIN]
    return chance.pick(possible) if possible else _Cut(None, True, _WHOLE)


def _shown(stickers: list[Sticker], window: Box) -> list[Sticker]:
    """Those of which enough shows, nearest first; the others are not painted, so that the layers stay exact."""
    covered = np.zeros((window[3] - window[1], window[2] - window[0]), dtype=bool)
    shown = []
    for sticker in stickers:
        x0, y0, x1, y1 = sticker.mask.box_xyxy
        under = covered[y0:y1, x0:x1]
        area = sticker.mask.area
        visible = area - int(np.count_nonzero(under & sticker.mask.mask))
        if visible >= VISIBLE_MIN_PX and visible * 10 >= area:
            under |= sticker.mask.mask
            shown.append(sticker)
    return shown


def _paint(
    picture: NDArray[np.uint8], stickers: list[Sticker], window: Box, settings: ComposeSettings, chance: Chance
) -> NDArray[np.uint8]:
    """Farthest first; each shades the ground before it stands on it."""
    strength = chance.between(0, round(settings.shadow * 256))
    reach = round(settings.light_jitter * 256)
    light = light_table(256 + chance.between(-reach, reach), chance.between(-reach, reach) // 2)
    own = round(settings.clip_jitter * 256)
    for sticker in reversed(stickers):
        x0, y0, x1, y1 = sticker.spot.footprint
        shade(picture, (x0 - window[0], y0 - window[1], x1 - window[0], y1 - window[1]), strength)
        blend(picture, sticker, light_table(256 + chance.between(-own, own)))
    lit: NDArray[np.uint8] = cv2.LUT(picture, light) if reach else picture
    return lit
