"""A sheet to look at: pictures, and beside each its objects in colours of their own, hidden parts hatched."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import Mask, PatchMask
from walt_train.data.layers import sample_layers
from walt_train.data.sample import AmodalSample

_COLUMN_WIDTH = 480
_HATCH_PX = 6
_GOLDEN = 111  # of 180 hues: neighbours in the order get colours far apart


def contact_sheet(samples: Sequence[AmodalSample], across: int = 2) -> NDArray[np.uint8]:
    """Draws samples.

    Args:
        samples: At least one; all of a camera.
        across: How many beside each other.

    Returns:
        (H, W, 3) uint8 BGR: each sample's picture and its layers, side by side.
    """
    tiles = [np.hstack([_fit(sample.image_bgr), _fit(draw_layers(sample))]) for sample in samples]
    tall = max(tile.shape[0] for tile in tiles)
    padded = [cv2.copyMakeBorder(tile, 2, 2 + tall - tile.shape[0], 2, 2, cv2.BORDER_CONSTANT) for tile in tiles]
    padded += [np.zeros_like(padded[0])] * (-len(padded) % across)
    rows = [np.hstack(padded[start : start + across]) for start in range(0, len(padded), across)]
    return np.vstack(rows)


def draw_layers(sample: AmodalSample) -> NDArray[np.uint8]:
    """The picture with each object tinted where it shows, hatched where it is hidden, and outlined as a whole."""
    canvas = cv2.cvtColor(cv2.cvtColor(sample.image_bgr, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    for order, layers in reversed(list(enumerate(sample_layers(sample)))):
        colour = _colour(order)
        _tint(canvas, layers.visible, layers.visible.mask, colour)
        x0, y0, _, _ = layers.amodal.box_xyxy
        outlines, _ = cv2.findContours(
            layers.amodal.mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(x0, y0)
        )
        cv2.drawContours(canvas, outlines, -1, colour.tolist(), 1)
    for order, layers in reversed(list(enumerate(sample_layers(sample)))):
        hidden = layers.amodal.mask & ~layers.visible.mask
        rows, columns = np.indices(hidden.shape)
        stripes = (rows + layers.amodal.y + columns + layers.amodal.x) % _HATCH_PX < 2
        _tint(canvas, layers.amodal, hidden & stripes, _colour(order))
    return np.asarray(canvas, dtype=np.uint8)


def _tint(canvas: NDArray[np.uint8], patch: PatchMask, mask: Mask, colour: NDArray[np.uint8]) -> None:
    x0, y0, x1, y1 = patch.box_xyxy
    part = canvas[y0:y1, x0:x1]
    part[mask] = part[mask] // 2 + colour // 2


def _colour(order: int) -> NDArray[np.uint8]:
    hsv = np.array([[[order * _GOLDEN % 180, 200, 255]]], dtype=np.uint8)
    colour: NDArray[np.uint8] = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0]
    return colour


def _fit(bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scaled down to a column's width; never up, so that a cut-out stays recognisable as one."""
    height, width = bgr.shape[:2]
    if width > _COLUMN_WIDTH:
        size = (_COLUMN_WIDTH, max(1, height * _COLUMN_WIDTH // width))
        return np.asarray(cv2.resize(bgr, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return np.asarray(cv2.copyMakeBorder(bgr, 0, 0, 0, _COLUMN_WIDTH - width, cv2.BORDER_CONSTANT), dtype=np.uint8)
