"""From a network's boxes and 28x28 maps to masks in the frame: amodal suppression and pasting.

The same arithmetic serves torch and every runtime, so that a model gives the same masks wherever it runs. A map's
cells cover its amodal box exactly; a pixel takes the map's value at its centre, bilinear between the centres of
cells and constant beyond the outermost ones, and is set at 0.5.

Plain suppression removes neighbours that overlap, which is what amodal boxes do. Here two boxes of one class are one
object only if they also show the same (`amodal_ops.amodal_nms`): people who stand before each other survive,
duplicates do not, and the score of who may be either is believed less (`amodal_ops.trust`). A graph may have
suppressed already; to do it again changes nothing.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.instances import AmodalInstances, InstancesError
from walt_edge.contract.masks import PatchMask
from walt_edge.vision.amodal_ops import (
    AMODAL,
    OCCLUDED,
    OCCLUDER,
    STRICTLY_SAME,
    THRESHOLD,
    WEIGHED,
    suppress,
    trust,
    visible_ious,
)

_LAYERS = 3

_Floats = NDArray[np.float32]
_Indices = NDArray[np.int64]


def assemble(
    boxes_xyxy: _Floats,
    scores: _Floats,
    labels: NDArray[np.int64],
    maps: _Floats,
    *,
    scale: float,
    frame_wh: tuple[int, int],
    score_threshold: float,
    strictly: bool = False,
) -> AmodalInstances:
    """Amodal instances of a frame, best first.

    Args:
        boxes_xyxy: (N, 4) amodal boxes, pixels of the network's input; they may leave it.
        scores: (N,) 0..1.
        labels: (N,) `Label` values.
        maps: (N, 3, h, w) 0..1, cells of the box: amodal, occluder, occluded.
        scale: Input pixels per frame pixel, as the letterbox gave it.
        frame_wh: Size of the frame, pixels; boxes and masks are clipped to it.
        score_threshold: What scores less is left out; so is what does once its score is believed less.
        strictly: Whatever might be a double goes, and scores stay as they are: for who asks what is there at all, and
            for models whose graph suppressed so (`BundleManifest.suppresses_strictly`).

    Raises:
        InstancesError: Shapes disagree or a number is not finite.
    """
    instances, _ = choose(
        boxes_xyxy,
        scores,
        labels,
        maps,
        scale=scale,
        frame_wh=frame_wh,
        score_threshold=score_threshold,
        strictly=strictly,
    )
    return instances


def choose(
    boxes_xyxy: _Floats,
    scores: _Floats,
    labels: NDArray[np.int64],
    maps: _Floats,
    *,
    scale: float,
    frame_wh: tuple[int, int],
    score_threshold: float,
    strictly: bool = False,
) -> tuple[AmodalInstances, _Indices]:
    """As `assemble`; with the place of each instance among the candidates."""
    _check(boxes_xyxy, scores, labels, maps)
    # In double precision: a box's edge decides whether a pixel's centre lies inside.
    boxes = boxes_xyxy.astype(np.float64) / scale
    clipped = np.clip(boxes, 0, np.array(frame_wh * 2)).astype(np.float32)
    inside = (clipped[:, 2:] > clipped[:, :2]).all(axis=1) & (scores >= score_threshold)
    # Ties are broken by label and place, so that the order in which candidates come never matters.
    ranked = np.lexsort((*boxes.T[::-1], labels, -scores))
    order = ranked[inside[ranked]]
    # Suppressed before anything is pasted: a mask in the frame costs more than a map.
    same = STRICTLY_SAME if strictly else WEIGHED
    likeness = visible_ious(boxes_xyxy[order], labels[order], maps[order], box_iou=same.box_iou)
    kept = suppress(likeness, same.visible_iou)
    chosen = order[kept]
    if not strictly:
        scores = scores.copy()
        scores[chosen] *= trust(likeness[kept][:, kept])
        chosen = chosen[scores[chosen] >= score_threshold]
        chosen = chosen[np.argsort(-scores[chosen], kind="stable")]
    layers = [paste(boxes[index], maps[index], frame_wh) for index in chosen.tolist()]
    instances = AmodalInstances(
        frame_wh,
        clipped[chosen],
        labels[chosen].astype(np.int64),
        np.clip(scores[chosen], 0, 1).astype(np.float32),
        tuple(masks[AMODAL] for masks in layers),
        tuple(masks[OCCLUDER] for masks in layers),
        tuple(masks[OCCLUDED] for masks in layers),
    )
    return instances, chosen


def paste(box_xyxy: NDArray[np.float64], maps: _Floats, frame_wh: tuple[int, int]) -> list[PatchMask]:
    """Maps of one box as masks of the pixels whose centres lie in it and in the frame.

    Args:
        box_xyxy: (4,) pixels of the frame; it may leave the frame.
        maps: (L, h, w) 0..1, their cells cover the box.
        frame_wh: Size of the frame, pixels.
    """
    low_x, low_y, high_x, high_y = box_xyxy.tolist()
    x0, left, right, across = _neighbours(low_x, high_x, frame_wh[0], maps.shape[2])
    y0, top, bottom, down = _neighbours(low_y, high_y, frame_wh[1], maps.shape[1])
    # Along the rows first, where there are few values. Not as a product of matrices: those are shared out among
    # threads that wait for each other, which on a busy device takes longer than the work.
    wide = maps[:, :, left]
    wide += (maps[:, :, right] - wide) * across
    levels = wide[:, top]
    levels += (wide[:, bottom] - levels) * down[:, None]
    return [PatchMask(x0, y0, mask) for mask in levels >= THRESHOLD]


def amodal_paste(boxes_xyxy: _Floats, maps: _Floats, size_wh: tuple[int, int]) -> NDArray[np.bool_]:
    """All masks at once, (N, L, H, W) bool: what `paste` gives box by box.

    Args:
        boxes_xyxy: (N, 4) boxes of positive sides, pixels; they may leave the picture.
        maps: (N, L, h, w) 0..1.
        size_wh: Of the picture, pixels.
    """
    out = np.zeros((*maps.shape[:2], size_wh[1], size_wh[0]), bool)
    for planes, box, cells in zip(out, boxes_xyxy.astype(np.float64), maps, strict=True):
        for plane, mask in zip(planes, paste(box, cells, size_wh), strict=True):
            plane |= mask.full(size_wh[1], size_wh[0])
    return out


def _neighbours(low: float, high: float, side_px: int, cells: int) -> tuple[int, _Indices, _Indices, _Floats]:
    """Where the pixels of one side of a box lie among its cells.

    Returns:
        The first pixel whose centre lies in box and frame; then for each pixel the cells before and after its centre,
        and how far it is from the one to the other, 0..1.
    """
    first, last = (min(max(math.ceil(edge - 0.5), 0), side_px) for edge in (low, high))
    centres = np.arange(first, max(first, last), dtype=np.float64) + 0.5
    at_cell = ((centres - low) * (cells / (high - low)) - 0.5).clip(0, cells - 1)
    before = at_cell.astype(np.int64)
    return first, before, np.minimum(before + 1, cells - 1), (at_cell - before).astype(np.float32)


def _check(boxes: _Floats, scores: _Floats, labels: NDArray[np.int64], maps: _Floats) -> None:
    count = len(scores)
    shapes = boxes.shape, labels.shape, maps.shape[:2]
    if shapes != ((count, 4), (count,), (count, _LAYERS)) or maps.ndim != 4:
        raise InstancesError(f"{count} scores with boxes {boxes.shape}, labels {labels.shape} and maps {maps.shape}")
    if not all(np.isfinite(values).all() for values in (boxes, scores, maps)):
        raise InstancesError("the network gave a box, score or map that is not finite: the model is damaged")
