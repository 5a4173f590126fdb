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
from walt_train.clipart.light import NO_GAIN, light_table, relit
from walt_train.clipart.material import Material, gain_at
from walt_train.clipart.paint import blend, shade
from walt_train.clipart.pieces import Backdrop, Box
from walt_train.clipart.settings import ComposeSettings
from walt_train.clipart.stack import Curtain, Layer, Sticker, described, shown, stack
from walt_train.data.sample import AmodalSample

_WHOLE, _WINDOW_MIN = 1000, 600  # thousandths of the frame's sides


def compose(material: Material, settings: ComposeSettings, seed: int, epoch: int, index: int) -> AmodalSample:
    """Makes composite `index` of `epoch`.

    Raises:
        UsageError: The seed is out of range.
    """
    place = draw_backdrop(material, settings, Chance(seed, epoch, index, Purpose.PLATE))
    arrangement, order = (Chance(seed, epoch, index, purpose) for purpose in (Purpose.ARRANGEMENT, Purpose.ORDER))
    spots = arrange(material, settings, place, arrangement, order)
    window = _window(material.frame_wh, spots, settings, Chance(seed, epoch, index, Purpose.WINDOW))
    layers = shown(stack(spots, material.posts, settings.order, window), window)
    objects, static = described(layers, window)
    backdrop = material.backdrops[place]
    scene = _with_something(backdrop, settings, Chance(seed, epoch, index, Purpose.HOLES))
    light = Chance(seed, epoch, index, Purpose.LIGHT)
    return AmodalSample(
        image_bgr=_paint(scene, backdrop, layers, window, settings, light),
        objects=objects,
        static=static,
        name=f"composite {index} of epoch {epoch}, seed {seed}",
        frame=index,
        time=dt.datetime.fromtimestamp(backdrop.utc_us / 1e6, tz=dt.UTC).isoformat(),
        camera=material.camera,
    )


def draw_backdrop(material: Material, settings: ComposeSettings, chance: Chance) -> int:
    """The place of a plate among the material's; of both kinds where there are both."""
    frames, medians = material.frames, material.medians
    if not frames or not medians:
        return chance.below(len(material.backdrops))
    return chance.pick(frames if chance.happens(settings.frame_chance) else medians)


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


def _with_something(backdrop: Backdrop, settings: ComposeSettings, chance: Chance) -> NDArray[np.uint8]:
    """The plate, or the plate with pieces of itself where nobody knows what the camera will show."""
    if backdrop.guessed is None or not backdrop.guessed.size or not chance.happens(settings.hole_chance):
        return backdrop.image_bgr
    scene = backdrop.image_bgr.copy()
    pixels = scene.reshape(-1, 3)
    away = chance.below(len(pixels))
    pixels[backdrop.guessed] = backdrop.image_bgr.reshape(-1, 3)[(backdrop.guessed + away) % len(pixels)]
    return scene


def _paint(
    plate: NDArray[np.uint8],
    backdrop: Backdrop,
    layers: Sequence[Layer],
    window: Box,
    settings: ComposeSettings,
    chance: Chance,
) -> NDArray[np.uint8]:
    """Farthest first; each object shades the ground before it stands on it, static things are the plate's own."""
    strength = chance.between(0, round(settings.shadow * 256))
    reach = round(settings.light_jitter * 256)
    light = light_table(NO_GAIN + chance.between(-reach, reach), chance.between(-reach, reach) // 2)
    own = round(settings.clip_jitter * 256)
    x0, y0, x1, y1 = window
    scene = plate[y0:y1, x0:x1]
    picture = scene.copy()
    for layer in reversed(layers):
        if isinstance(layer, Curtain):
            (x, y), (height, width) = layer.xy, layer.alpha.shape
            blend(picture, layer.xy, scene[y : y + height, x : x + width], layer.alpha)
        else:
            left, top, right, bottom = layer.spot.footprint
            shade(picture, (left - x0, top - y0, right - x0, bottom - y0), strength)
            gain = NO_GAIN + chance.between(-own, own)
            blend(picture, layer.xy, _relit(layer, backdrop, settings, gain), layer.alpha)
    return np.asarray(cv2.LUT(picture, light), np.uint8) if reach else picture


def _relit(layer: Sticker, backdrop: Backdrop, settings: ComposeSettings, own: int) -> NDArray[np.uint8]:
    """An object in the light of its place, and its own beside that."""
    if not settings.harmonise:
        return relit(layer.image_bgr, (own, own, own))
    blue, green, red = gain_at(layer.spot.cutout, backdrop, layer.spot.box_xyxy)
    return relit(layer.image_bgr, (blue * own >> 8, green * own >> 8, red * own >> 8))
