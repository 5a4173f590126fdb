"""Which objects stand where in a composite, and which is nearer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.labels import Label
from walt_train.clipart.chance import Chance
from walt_train.clipart.height import HeightLine
from walt_train.clipart.material import Material, Pool
from walt_train.clipart.pieces import Box, Cutout, Post
from walt_train.clipart.settings import ComposeSettings

_ATTEMPTS = 8
_MATCHING_CHANCE = 0.75
_CLASS_FIRST_CHANCE = 0.5
_CONFIDENCE_ATTEMPTS = 32
_ONE = 1 << 16
_SCALE_RANGE = (_ONE * 2 // 5, _ONE * 8 // 5)
_HEIGHT_MIN_PX = 12
_ROW_SHARE = 6  # of the height, which changes by a twentieth or so over that


@dataclass(frozen=True, slots=True, eq=False)
class Spot:
    """A place for an object.

    Attributes:
        cutout: The object.
        box_xyxy: Where its mask comes to lie in the frame, half-open pixels; may leave it.
        scale: Of its pixels, times 65,536.
        footprint: The part of the box in which it covers the ground; two objects cannot share it.
    """

    cutout: Cutout
    box_xyxy: Box
    scale: int
    footprint: Box


def stand(cutout: Cutout, box_xyxy: Box, scale: int = _ONE) -> Spot:
    """Puts an object into a box.

    How far up the box its contact with the ground reaches follows from how cameras look down on streets: a car that
    is seen from the side shows its width, one that is seen from the front its length, which is more than twice that.
    """
    x0, y0, x1, y1 = box_xyxy
    width, height = x1 - x0, y1 - y0
    if cutout.label is Label.VEHICLE:
        from_side = width * 5 >= height * 9
        deep, narrower = max(4, height // 4 if from_side else height // 3), width // 20
    else:
        deep, narrower = max(3, height // 12), width // 4
    return Spot(cutout, box_xyxy, scale, (x0 + narrower, y1 - deep, x1 - narrower, y1))


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
    if material.posts and chance.happens(settings.behind_chance):
        cutout = material.cutouts[_draw(material, pool, settings, None, chance)]
        line = material.height_lines.get(cutout.label)
        return None if line is None else _behind(cutout, line, chance.pick(material.posts), material.frame_wh, chance)
    moves = settings.placement == "spread" or (settings.placement == "mixed" and chance.happens(0.5))
    if not moves:
        near = anchor.box_xyxy if anchor else None
        cutout = material.cutouts[_draw(material, pool, settings, near, chance)]
        return stand(cutout, cutout.box_xyxy)
    cutout = material.cutouts[_draw(material, pool, settings, None, chance)]
    return _move(cutout, material.height_lines.get(cutout.label), anchor, material.frame_wh, chance)


def _is_possible(spot: Spot, spots: list[Spot], settings: ComposeSettings) -> bool:
    if any(spot.cutout.object_id == other.cutout.object_id for other in spots):
        return False
    if settings.order == "random":
        return True
    x0, y0, x1, y1 = spot.footprint
    for other in spots:
        left, top, right, bottom = other.footprint
        if x0 < right and left < x1 and y0 < bottom and top < y1:
            return False
    return True


def _draw(material: Material, pool: Pool, settings: ComposeSettings, near: Box | None, chance: Chance) -> int:
    """A clip, those near a box first; where confidence counts, as often as `sureness` has it."""
    beside = None if near is None else _places_near(material, pool, near)
    place = _any_place(pool, beside, chance)
    if settings.by_confidence:
        for _ in range(_CONFIDENCE_ATTEMPTS):
            weight = material.weights[place]
            # The surest needs no draw, so that clips without a confidence are drawn as if nobody had asked.
            if weight == material.weight_max or chance.below(material.weight_max) < weight:
                break
            place = _any_place(pool, beside, chance)
    return place


def _any_place(pool: Pool, beside: NDArray[np.intp] | None, chance: Chance) -> int:
    """A clip: its object first, so that one seen often counts once; half the time its class before it."""
    if beside is not None and beside.size:
        return int(beside[chance.below(beside.size)])
    groups = chance.pick(pool.by_label) if chance.happens(_CLASS_FIRST_CHANCE) else pool.objects
    return chance.pick(chance.pick(groups))


def _places_near(material: Material, pool: Pool, box: Box) -> NDArray[np.intp]:
    """Clips that overlap the box where they were seen."""
    x0, y0, x1, y1 = material.corners[:, pool.places]
    near: NDArray[np.intp] = pool.places[(x0 < box[2]) & (x1 > box[0]) & (y0 < box[3]) & (y1 > box[1])]
    return near


def _move(
    cutout: Cutout, line: HeightLine | None, anchor: Spot | None, frame_wh: tuple[int, int], chance: Chance
) -> Spot | None:
    """Somewhere on the ground, or beside and before or behind the anchor; None where it would not fit there."""
    row = _row(cutout.box_xyxy, line, anchor, chance)
    scale = _scale_at(cutout, line, row)
    if anchor is None:
        return _stand_at(cutout, chance.below(frame_wh[0]), row, scale, frame_wh)
    left, _, right, _ = anchor.box_xyxy
    width = _scaled(cutout.box_xyxy[2] - cutout.box_xyxy[0], scale)
    reach = (right - left + width) // 4
    return _stand_at(cutout, (left + right) // 2 + chance.between(-reach, reach), row, scale, frame_wh)


def _behind(cutout: Cutout, line: HeightLine, post: Post, frame_wh: tuple[int, int], chance: Chance) -> Spot | None:
    """Somewhere on the ground behind a static thing, at least touched by it; None where there is no such place."""
    left, top, right, bottom = post.mask.box_xyxy
    # Whose feet are this much lower than the thing's lower end still reaches up to it.
    tall = line.scaled_height(min(max(bottom, line.top), line.bottom)) // _ONE
    nearest = frame_wh[1] if math.isinf(post.ground_y) else math.ceil(post.ground_y)
    first, last = max(line.top, top + 1), min(line.bottom, nearest - 1, bottom + tall)
    if first > last:
        return None
    row = chance.between(first, last)
    scale = _scale_at(cutout, line, row)
    half = _scaled(cutout.box_xyxy[2] - cutout.box_xyxy[0], scale) // 2
    return _stand_at(cutout, chance.between(left - half, right + half), row, scale, frame_wh)


def _scale_at(cutout: Cutout, line: HeightLine | None, row: int) -> int:
    """Of an object's pixels where it touches the ground at a row, times 65,536."""
    if line is None:
        return _ONE
    return line.scaled_height(row) * _ONE // max(1, line.scaled_height(cutout.box_xyxy[3]))


def _stand_at(cutout: Cutout, centre: int, row: int, scale: int, frame_wh: tuple[int, int]) -> Spot | None:
    """The object there; None outside the frame, and where it would be scaled too far or too small."""
    x0, y0, x1, y1 = cutout.box_xyxy
    width, height = _scaled(x1 - x0, scale), _scaled(y1 - y0, scale)
    if not _SCALE_RANGE[0] <= scale <= _SCALE_RANGE[1] or height < _HEIGHT_MIN_PX or not 0 <= centre < frame_wh[0]:
        return None
    left = centre - width // 2
    return stand(cutout, (left, row - height, left + width, row), scale)


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
