"""What stands before what in a window of the frame: objects and static things, nearest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import Mask, PatchMask
from walt_train.clipart.arrange import Spot
from walt_train.clipart.pieces import ALPHA_HALF, POINT_ONE, Box, Points, Post
from walt_train.clipart.settings import Order
from walt_train.data.sample import AmodalObject

VISIBLE_MIN_PX = 16
"""What shows less, or is hidden by more than nine tenths, is left out of the picture: nobody could learn it."""

_ONE = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Sticker:
    """An object as it will be painted, clipped to the picture.

    Attributes:
        spot: Where it stands in the frame.
        xy: Top left corner of the patch in the picture.
        image_bgr: (h, w, 3) uint8.
        alpha: (h, w) uint8.
        mask: Where alpha is 128 and more, tight, in the picture.
    """

    spot: Spot
    xy: tuple[int, int]
    image_bgr: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    mask: PatchMask


@dataclass(frozen=True, slots=True, eq=False)
class Curtain:
    """A static thing, clipped to the picture.

    Attributes:
        xy: Top left corner of the patch in the picture.
        alpha: (h, w) uint8.
        mask: Where alpha is 128 and more, tight, in the picture.
    """

    xy: tuple[int, int]
    alpha: NDArray[np.uint8]
    mask: PatchMask


Layer = Sticker | Curtain


def stack(spots: Sequence[Spot], posts: Sequence[Post], order: Order, window: Box) -> Iterator[Layer]:
    """Everything in the window, nearest first.

    By depth a static thing stands before what touches the ground above its own ground row; in random order, before
    everything.

    Args:
        spots: Nearest first.
        posts: Static things.
        order: By which the spots are ordered.
        window: Half-open pixels of the frame.
    """
    waiting = sorted(posts, key=lambda post: -post.ground_y)
    for spot in spots:
        while waiting and (order == "random" or waiting[0].ground_y >= spot.box_xyxy[3]):
            yield from _cut_curtain(waiting.pop(0), window)
        sticker = cut_sticker(spot, window)
        if sticker is not None:
            yield sticker
    for post in waiting:
        yield from _cut_curtain(post, window)


def cut_sticker(spot: Spot, window: Box) -> Sticker | None:
    """Scales an object and clips it to a window of the frame; None if nothing of its mask is left."""
    image, alpha = spot.cutout.image_bgr, spot.cutout.alpha
    if spot.scale != _ONE:
        # INTER_LINEAR_EXACT is OpenCV's fixed-point bilinear: bit-exact on every processor, unlike INTER_AREA.
        size = _size_wh(spot)
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR_EXACT)
        alpha = cv2.resize(alpha, size, interpolation=cv2.INTER_LINEAR_EXACT)
    part = _clip(_corner(spot), alpha, window)
    if part is None:
        return None
    rows, columns, xy = part
    image, alpha = image[rows, columns], alpha[rows, columns]
    mask = _tight(alpha, xy)
    return None if mask is None else Sticker(spot, xy, image, alpha, mask)


def _cut_curtain(post: Post, window: Box) -> Iterator[Curtain]:
    part = _clip((post.mask.x - 1, post.mask.y - 1), post.alpha, window)
    if part is not None:
        rows, columns, xy = part
        mask = _tight(post.alpha[rows, columns], xy)
        if mask is not None:
            yield Curtain(xy, post.alpha[rows, columns], mask)


def _clip(
    corner: tuple[int, int], patch: NDArray[np.uint8], window: Box
) -> tuple[slice, slice, tuple[int, int]] | None:
    """The part of a patch that lies in the window, and where that part begins in the picture."""
    (x, y), (height, width) = corner, patch.shape
    left, top = max(0, window[0] - x), max(0, window[1] - y)
    right, bottom = min(width, window[2] - x), min(height, window[3] - y)
    if left >= right or top >= bottom:
        return None
    return slice(top, bottom), slice(left, right), (x + left - window[0], y + top - window[1])


def _tight(alpha: NDArray[np.uint8], xy: tuple[int, int]) -> PatchMask | None:
    tight = PatchMask.from_full(alpha >= ALPHA_HALF)
    return PatchMask(xy[0] + tight.x, xy[1] + tight.y, tight.mask) if tight.mask.size else None


def _size_wh(spot: Spot) -> tuple[int, int]:
    """Of the scaled patch."""
    height, width = spot.cutout.alpha.shape
    return max(3, width * spot.scale >> 16), max(3, height * spot.scale >> 16)


def _corner(spot: Spot) -> tuple[int, int]:
    """Top left of the patch: it has a pixel of context, which scales with it."""
    context = spot.scale >> 16
    return spot.box_xyxy[0] - context, spot.box_xyxy[1] - context


def shown(layers: Iterator[Layer], window: Box) -> list[Layer]:
    """Static things, and the objects of which enough shows; the others are not painted, so that layers stay exact."""
    covered = _empty(window)
    kept = []
    for layer in layers:
        under = _under(covered, layer.mask)
        if isinstance(layer, Sticker):
            area = layer.mask.area
            visible = area - int(np.count_nonzero(under & layer.mask.mask))
            if visible < VISIBLE_MIN_PX or visible * 10 < area:
                continue
        under |= layer.mask.mask
        kept.append(layer)
    return kept


def described(
    layers: Sequence[Layer], window: Box
) -> tuple[tuple[AmodalObject, ...], tuple[tuple[int, PatchMask], ...]]:
    """The objects of the picture, and for each static thing how many of them are nearer."""
    objects: list[AmodalObject] = []
    static: list[tuple[int, PatchMask]] = []
    covered = _empty(window) if any(map(_has_keypoints, layers)) else None
    for layer in layers:
        if isinstance(layer, Curtain):
            static.append((len(objects), layer.mask))
        else:
            objects.append(_object(layer, window, covered))
        if covered is not None:
            under = _under(covered, layer.mask)
            under |= layer.mask.mask
    return tuple(objects), tuple(static)


def _has_keypoints(layer: Layer) -> bool:
    return isinstance(layer, Sticker) and layer.spot.cutout.keypoints is not None


def _object(sticker: Sticker, window: Box, covered: Mask | None) -> AmodalObject:
    cutout = sticker.spot.cutout
    keypoints = cuboid = None
    if cutout.keypoints is not None and cutout.seen is not None and covered is not None:
        points = _moved(cutout.keypoints, sticker.spot, window)
        seen = np.where((cutout.seen == 2) & _is_hidden(points, covered), 1, cutout.seen)
        keypoints = np.column_stack([points / POINT_ONE, seen])
    if cutout.cuboid is not None:
        cuboid = _moved(cutout.cuboid, sticker.spot, window) / POINT_ONE
    return AmodalObject(cutout.label, sticker.mask, cutout.object_id, keypoints, cuboid)


def _moved(points: Points, spot: Spot, window: Box) -> Points:
    """Points of the frame where the object was seen, to points of the picture."""
    local = points - POINT_ONE * np.array(spot.cutout.xy)
    if spot.scale != _ONE:
        height, width = spot.cutout.alpha.shape
        local = local * np.array(_size_wh(spot)) // np.array([width, height])
    x, y = _corner(spot)
    return np.asarray(local + POINT_ONE * np.array([x - window[0], y - window[1]]))


def _is_hidden(points: Points, covered: Mask) -> NDArray[np.bool_]:
    """(K,) whether something nearer lies over a point, or it is outside the picture."""
    columns, rows = (points // POINT_ONE).T
    height, width = covered.shape
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    hidden = covered[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)]
    return np.asarray(~inside | hidden)


def _empty(window: Box) -> Mask:
    return np.zeros((window[3] - window[1], window[2] - window[0]), dtype=bool)


def _under(canvas: Mask, mask: PatchMask) -> Mask:
    x0, y0, x1, y1 = mask.box_xyxy
    return canvas[y0:y1, x0:x1]
