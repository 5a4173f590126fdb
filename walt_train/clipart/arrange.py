"""Which objects stand where in a composite, and which is nearer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from walt_edge.contract.labels import Label
from walt_train.clipart.chance import Chance
from walt_train.clipart.height import HeightLine
from walt_train.clipart.material import Box, Cutout, Material, Pool
from walt_train.clipart.settings import ComposeSettings

_ATTEMPTS = 8
_MATCHING_CHANCE = 0.75
_CLASS_FIRST_CHANCE = 0.5
_ONE = 1 << 16
_SCALE_RANGE = (_ONE * 2 // 5, _ONE * 8 // 5)
_HEIGHT_MIN_PX = 12
_ROW_SHARE = 6  # of the height, which changes by a twentieth or so over that


@dataclass(frozen=True, slots=True)
class Spot:
    """A place for an object.

    Attributes:
        cutout: The object.
        box_xyxy: Where its mask comes to lie in the frame, half-open pixels; may leave it.
        scale: Of its pixels, times 65,536.
    """

    cutout: Cutout
    box_xyxy: Box
    scale: int = _ONE

    @property
    def footprint(self) -> Box:
        """The part of the box in which it covers the ground, roughly; two objects cannot share it."""
        x0, y0, x1, y1 = self.box_xyxy
        width, height = x1 - x0, y1 - y0
        if self.cutout.label is Label.VEHICLE:
            return x0 + width // 20, y1 - max(4, height // 4), x1 - width // 20, y1
        return x0 + width // 4, y1 - max(3, height // 16), x1 - width // 4, y1


def arrange(
    material: Material, settings: ComposeSettings, backdrop: int, chance: Chance, order_chance: Chance
) -> list[Spot]:
    """Draws objects and their places.

    Args:
        material: What there is.
        settings: How many, where, in which order.
        backdrop: Which plate they will stand before; clips of like hours are preferred.
        chance: For the objects and places.
        order_chance: For the order, if it is random.

    Returns:
        Nearest first; each physical object once.
    """
    spots: list[Spot] = []
    for _ in range(chance.between(*settings.objects)):
        for _ in range(_ATTEMPTS):
            spot = _propose(material, settings, backdrop, spots, chance)
            if spot is not None and _is_possible(spot, spots, settings):
                spots.append(spot)
                break
    if settings.order == "random":
        order_chance.shuffle(spots)
    else:
        spots.sort(key=lambda spot: -spot.box_xyxy[3])
    return spots


def _propose(
    material: Material, settings: ComposeSettings, backdrop: int, spots: list[Spot], chance: Chance
) -> Spot | None:
    anchor = chance.pick(spots) if spots and chance.happens(settings.cluster_chance) else None
    pool = material.pools[backdrop] if chance.happens(_MATCHING_CHANCE) else material.everything
    moves = settings.placement == "spread" or (settings.placement == "mixed" and chance.happens(0.5))
    if not moves:
        place = _place_near(material, pool, anchor.box_xyxy, chance) if anchor else _any_place(pool, chance)
        cutout = material.cutouts[place]
        return Spot(cutout, cutout.box_xyxy)
    cutout = material.cutouts[_any_place(pool, chance)]
    return _move(cutout, material.height_lines.get(cutout.label), anchor, material.frame_wh, chance)


def _is_possible(spot: Spot, spots: list[Spot], settings: ComposeSettings) -> bool:
    if any(spot.cutout.object_id == other.cutout.object_id for other in spots):
        return False
    if settings.order == "random":
        return True
    return not any(_overlap(spot.footprint, other.footprint) for other in spots)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _any_place(pool: Pool, chance: Chance) -> int:
    """A clip: its object first, so that one seen often counts once; half the time its class before it."""
    groups = chance.pick(pool.by_label) if chance.happens(_CLASS_FIRST_CHANCE) else pool.objects
    return chance.pick(chance.pick(groups))


def _place_near(material: Material, pool: Pool, box: Box, chance: Chance) -> int:
    """A clip that overlaps the box where it was seen, if there is one; else any."""
    x0, y0, x1, y1 = material.boxes_xyxy[pool.places].T
    near = np.flatnonzero((x0 < box[2]) & (x1 > box[0]) & (y0 < box[3]) & (y1 > box[1]))
    return int(pool.places[near[chance.below(near.size)]]) if near.size else _any_place(pool, chance)


def _move(
    cutout: Cutout, line: HeightLine | None, anchor: Spot | None, frame_wh: tuple[int, int], chance: Chance
) -> Spot | None:
    """Somewhere on the ground, or beside and before or behind the anchor; None where it would not fit there."""
    x0, y0, x1, y1 = cutout.box_xyxy
    row = _row(cutout.box_xyxy, line, anchor, chance)
    scale = _ONE if line is None else line.scaled_height(row) * _ONE // max(1, line.scaled_height(y1))
    width, height = _scaled(x1 - x0, scale), _scaled(y1 - y0, scale)
    if not _SCALE_RANGE[0] <= scale <= _SCALE_RANGE[1] or height < _HEIGHT_MIN_PX:
        return None
    if anchor is None:
        centre = chance.below(frame_wh[0])
    else:
        left, _, right, _ = anchor.box_xyxy
        reach = (right - left + width) // 4
        centre = (left + right) // 2 + chance.between(-reach, reach)
    if not 0 <= centre < frame_wh[0]:
        return None
    left = centre - width // 2
    return Spot(cutout, (left, row - height, left + width, row), scale)


def _row(own: Box, line: HeightLine | None, anchor: Spot | None, chance: Chance) -> int:
    """Ground row; without a height line it hardly changes, since nothing says how large it would be elsewhere."""
    if line is None:
        return own[3] + chance.between(-1, 1) * ((own[3] - own[1]) // _ROW_SHARE)
    if anchor is None:
        return chance.between(line.top, line.bottom)
    reach = max(4, (anchor.box_xyxy[3] - anchor.box_xyxy[1]) // 2)
    return min(max(anchor.box_xyxy[3] + chance.between(-reach, reach), line.top), line.bottom)


def _scaled(pixels: int, scale: int) -> int:
    return max(1, (pixels * scale + _ONE // 2) >> 16)
