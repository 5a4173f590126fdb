"""Which pixels of a silhouette may show a head: geometry only, on the careful side.

A silhouette that is surely one upright person gives up its top, down to the shoulders. Where a second person may
stand out beside the first, everything along the upper contour is given up as deep as a head. What may
hold a head anywhere (groups, people cut off by the border, pieces too small to tell) is given up whole: such objects
are never clip art, so nothing is lost but their looks in sampled frames. Of a vehicle only what sticks out of it
like a person does is given up. A head wholly inside another person's outline is beyond geometry.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.vision.sightings import Reason, Sighting

SURE_VEHICLE_SCORE = 0.6
SMALLEST_PERSON_PX = 20  # high: below this a silhouette is filled whole
SMALL_PERSON_PX = 48  # high: below this a silhouette's edges are not to be trusted for a head
TOUCH_PX = 2
HEAD_DEPTH = 0.2  # of the height below where the head begins: head and neck; anatomy says 0.13 for the head alone
HEAD_DEPTH_BY_WIDTH = 0.65  # of the shoulders: for people whose legs are hidden; anatomy says 0.5
MAX_WIDTH = 0.75  # of the height: a wide stride
MAX_PIECE_WIDTH = 1.3  # of the height: a torso over something that hides the rest
GROUP = (0.2, 0.35)  # of the height: a column that far from the head's axis and that full is a second person
DOUBT = (0.15, 0.25)  # the same, where it may be an arm, a bag or a stride as well
COLUMN = 0.3  # of the height: a column less full than this is a hand or a foot, not a body with a head on top
HEADLESS = 0.65  # of the body's width: a head is narrower, seen from the front
GROW = 0.03  # of the height, beyond GROW_PX: silhouettes lose hair first
GROW_PX = 3
_UNSURE = {Reason.MERGED, Reason.FRAGMENT}


def may_be_person(sighting: Sighting) -> bool:
    """Whether a sighting has to be treated as a person: everything but a vehicle that is sure and shaped like one."""
    if sighting.label is not Label.VEHICLE or sighting.score < SURE_VEHICLE_SCORE:
        return True
    height, width = sighting.silhouette.mask.shape
    return height > 1.3 * width  # riders; a lorry that drives along the view is hardly higher than wide


def covers(sightings: Sequence[Sighting], frame_wh: tuple[int, int]) -> list[PatchMask]:
    """What to fill in a frame of `frame_wh` pixels so that no head of these sightings shows; may leave the frame."""
    seen = [s for s in sightings if s.silhouette.area]
    people = [s.silhouette for s in seen if may_be_person(s)]
    vehicles = [s.silhouette for s in seen if not may_be_person(s)]
    unsure = [bool(_UNSURE.intersection(s.reasons)) for s in seen if may_be_person(s)]
    found: list[PatchMask] = []
    for index, person in enumerate(people):
        others = people[:index] + people[index + 1 :]
        alone = not any(touch(person, other) for other in others)
        found += _of_person(person, frame_wh, surely_one=alone and not unsure[index])
        found += [_of_neighbour(vehicle, person) for vehicle in vehicles if touch(person, vehicle)]
    for vehicle in vehicles:
        found += _of_vehicle(vehicle)
    return found


def touch(one: PatchMask, other: PatchMask) -> bool:
    """Whether two masks overlap or come within `TOUCH_PX`."""
    x0, y0, x1, y1 = one.box_xyxy
    u0, v0, u1, v1 = other.box_xyxy
    if max(x0, u0) > min(x1, u1) + TOUCH_PX or max(y0, v0) > min(y1, v1) + TOUCH_PX:
        return False
    return grown(one, TOUCH_PX).intersection(other) > 0


def grown(patch: PatchMask, radius_px: int) -> PatchMask:
    """The patch dilated by a disc; it may leave the frame."""
    size = 2 * radius_px + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    wide = np.pad(patch.mask, radius_px).astype(np.uint8)
    return PatchMask(patch.x - radius_px, patch.y - radius_px, cv2.dilate(wide, disc).astype(bool))


def _of_person(silhouette: PatchMask, frame_wh: tuple[int, int], *, surely_one: bool) -> list[PatchMask]:
    tight = _tight(silhouette)
    grow = _grow_px(tight.mask.shape[0])
    whole = not surely_one or _cut_off(tight, frame_wh)
    part = tight.mask if whole else _head_part(tight.mask)
    cover = grown(PatchMask(tight.x, tight.y, part), grow)
    # Grown over what lies around, not over the rest of the body, which was judged to show no head.
    cover.mask[grow:-grow, grow:-grow] &= part | ~tight.mask
    return [cover, _above(tight)] if _may_lack_head(tight.mask) else [cover]


def _head_part(mask: Mask) -> Mask:
    """The part of a tight silhouette that may show a head; all of it unless it is one person."""
    height, width = mask.shape
    if height < SMALLEST_PERSON_PX or width > MAX_WIDTH * height:
        return mask
    widths = mask.sum(axis=1)
    torso = float(np.median(widths[int(0.3 * height) : int(0.6 * height) + 1]))
    # A raised arm or a pole is narrower than a head: the head begins where the silhouette becomes wide at the latest.
    begins = int(np.argmax(widths >= 0.45 * torso))
    axis = float(np.flatnonzero(mask[begins : begins + max(1, height // 8)].any(axis=0)).mean())
    if _has_beside(mask, axis, *GROUP):
        return mask
    shoulders = float(np.median(widths[: height // 2]))
    depth = int(np.ceil(max(HEAD_DEPTH * height, HEAD_DEPTH_BY_WIDTH * shoulders, 8)))
    part = np.zeros_like(mask)
    part[: begins + depth] = mask[: begins + depth]
    if _has_beside(mask, axis, *DOUBT):
        part |= _upper_band(mask, depth)
    return part


def _has_beside(mask: Mask, axis: float, distance: float, fullness: float) -> bool:
    """Whether a column further than `distance` from the axis is at least `fullness` full; both of the height."""
    height, width = mask.shape
    aside = np.abs(np.arange(width) - axis) > distance * height
    return bool((mask.sum(axis=0)[aside] >= fullness * height).any())


def _upper_band(mask: Mask, depth: int) -> Mask:
    """The pixels at most `depth` below the topmost one of their column, in columns that may be a body."""
    height = mask.shape[0]
    below_top = np.arange(height)[:, None] - mask.argmax(axis=0)
    return np.asarray(mask & (below_top < depth) & (mask.sum(axis=0) >= COLUMN * height), dtype=bool)


def _cut_off(tight: PatchMask, frame_wh: tuple[int, int]) -> bool:
    x0, y0, x1, y1 = tight.box_xyxy
    return x0 <= 1 or y0 <= 1 or x1 >= frame_wh[0] - 1 or y1 >= frame_wh[1] - 1


def _may_lack_head(mask: Mask) -> bool:
    """Whether a person's head may have looked like the background, so that the silhouette begins below it.

    That is so if the silhouette is small, so that a head is a few pixels, or begins about as wide as its body.
    """
    height, width = mask.shape
    if width > MAX_PIECE_WIDTH * height:
        return False
    widths = mask.sum(axis=1)
    head = float(np.median(widths[height // 30 : height // 8 + 1]))
    return height < SMALL_PERSON_PX or head >= HEADLESS * float(np.quantile(widths[: max(1, height // 2)], 0.75))


def _above(tight: PatchMask) -> PatchMask:
    """Where the lost head of a silhouette may be: above the columns that it begins with."""
    height = tight.mask.shape[0]
    rows = max(5, int(np.ceil(0.18 * height)))
    columns = tight.mask[: max(1, height // 12)].any(axis=0)
    return PatchMask(tight.x, tight.y - rows, np.tile(columns, (rows, 1)))


def _of_neighbour(vehicle: PatchMask, person: PatchMask) -> PatchMask:
    """The pixels of a vehicle near a person that touches it: a part of the person may have been counted to it."""
    x0, y0, x1, y1 = person.box_xyxy
    margin = max(4, (y1 - y0) // 4)
    near = (x0 - margin, y0 - margin, x1 + margin, y1)
    return grown(PatchMask(near[0], near[1], vehicle.window(near)), GROW_PX)


def _of_vehicle(silhouette: PatchMask) -> list[PatchMask]:
    """What sticks out of a vehicle and is narrow: a person beside it, on it, or half hidden by it."""
    tight = _tight(silhouette)
    height, width = tight.mask.shape
    body = np.ones((1, 2 * round(0.175 * width) + 1), dtype=np.uint8)
    mask = np.pad(tight.mask.astype(np.uint8), ((0, 0), (width, width)))
    narrow = (mask & ~cv2.morphologyEx(mask, cv2.MORPH_OPEN, body))[:, width:-width]
    count, labels, stats, _ = cv2.connectedComponentsWithStats(narrow, connectivity=8)
    # Wheels are narrow too, but they begin low.
    tall, low = max(4.0, 0.15 * height), 0.6 * height
    found = [n for n in range(1, count) if stats[n, cv2.CC_STAT_HEIGHT] >= tall and stats[n, cv2.CC_STAT_TOP] < low]
    parts = [labels == number for number in found]
    return [grown(PatchMask(tight.x, tight.y, part), _grow_px(height)) for part in parts]


def _tight(patch: PatchMask) -> PatchMask:
    inner = PatchMask.from_full(patch.mask)
    return PatchMask(patch.x + inner.x, patch.y + inner.y, inner.mask)


def _grow_px(height: int) -> int:
    return GROW_PX + round(GROW * min(height, 200))
