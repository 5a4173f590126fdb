"""Exact soft targets of an object's layers.

A class map says for each pixel what lies there: nothing, person, vehicle or static. A cell's target is the share of
its area that each class covers: cells and pixels are both rectangles, so that the share is a product of how they
overlap down and across, exact for any real-valued box. Hard targets would lose the boundary, and with it 3% of a car.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import PatchMask
from walt_train.data.sample import AmodalSample
from walt_train.model.branches.branch import CHANNELS, MAP_SIDE, STATIC_CHANNEL

IntBox = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class ObjectLayers:
    """What lies at, before and behind one object, inside a window of the frame.

    Attributes:
        window_xyxy: Half-open, pixels of the frame.
        class_maps: (4, h, w) uint8 channels, in the order of `Layer`: the object's own class, that of the nearest
            thing before it, that of the nearest object behind it, its own where nothing is before it; 0 where
            there is none.
    """

    window_xyxy: IntBox
    class_maps: NDArray[np.uint8]


def visible_masks(sample: AmodalSample) -> list[PatchMask]:
    """What the camera sees of every object, each in the window of its amodal mask."""
    hidden = _sweep_from_front(sample, [thing.amodal.box_xyxy for thing in sample.objects])
    return [
        PatchMask(thing.amodal.x, thing.amodal.y, thing.amodal.mask & (before == 0))
        for thing, before in zip(sample.objects, hidden, strict=True)
    ]


def object_layers(sample: AmodalSample, windows: Sequence[IntBox]) -> list[ObjectLayers]:
    """The layers of every object inside its window, by one sweep from the front and one from the back.

    Args:
        sample: Objects nearest first.
        windows: One for each object, half-open xyxy inside the frame.
    """
    layers = []
    before, behind = _sweep_from_front(sample, windows), _sweep_from_back(sample, windows)
    for thing, window, front, back in zip(sample.objects, windows, before, behind, strict=True):
        whole = _crop_mask(thing.amodal, int(thing.label), window)
        layers.append(ObjectLayers(window, np.stack([whole, front, back, whole * (front == 0)])))
    return layers


def _sweep_from_front(sample: AmodalSample, windows: Sequence[IntBox]) -> list[NDArray[np.uint8]]:
    """Channel of the nearest thing before each object, in its window."""
    canvas = np.zeros(sample.image_bgr.shape[:2], np.uint8)
    waiting = sorted(sample.static, key=lambda pair: pair[0])
    before = []
    for order, (thing, window) in enumerate(zip(sample.objects, windows, strict=True)):
        while waiting and waiting[0][0] <= order:
            _paint_free(canvas, waiting.pop(0)[1], STATIC_CHANNEL)
        before.append(_crop(canvas, window).copy())
        _paint_free(canvas, thing.amodal, int(thing.label))
    return before


def _sweep_from_back(sample: AmodalSample, windows: Sequence[IntBox]) -> list[NDArray[np.uint8]]:
    canvas = np.zeros(sample.image_bgr.shape[:2], np.uint8)
    behind = []
    for thing, window in zip(reversed(sample.objects), reversed(windows), strict=True):
        behind.append(_crop(canvas, window).copy())
        _crop(canvas, thing.amodal.box_xyxy)[thing.amodal.mask] = int(thing.label)
    return behind[::-1]


def _paint_free(canvas: NDArray[np.uint8], patch: PatchMask, channel: int) -> None:
    """What is nearer stays."""
    area = _crop(canvas, patch.box_xyxy)
    area[patch.mask & (area == 0)] = channel


def _crop(canvas: NDArray[np.uint8], box: IntBox) -> NDArray[np.uint8]:
    x0, y0, x1, y1 = box
    return canvas[y0:y1, x0:x1]


def _crop_mask(patch: PatchMask, channel: int, window: IntBox) -> NDArray[np.uint8]:
    return patch.window(window).astype(np.uint8) * np.uint8(channel)


def soft_targets(layers: ObjectLayers, rois_xyxy: NDArray[np.float64]) -> NDArray[np.float32]:
    """Targets of all layers for boxes of the frame.

    Args:
        layers: Its window holds every RoI, as far as the RoI lies in the frame.
        rois_xyxy: (R, 4), pixels of the frame; what lies outside the frame counts as background.

    Returns:
        (R, 4, CHANNELS, MAP_SIDE, MAP_SIDE) shares, in the order of `Layer`, that add up to 1 over the channels.
    """
    x0, y0 = layers.window_xyxy[:2]
    return area_shares(layers.class_maps, rois_xyxy - np.array([x0, y0, x0, y0]))


def area_shares(class_maps: NDArray[np.uint8], boxes_xyxy: NDArray[np.float64]) -> NDArray[np.float32]:
    """The share of each cell's area that each channel covers.

    Args:
        class_maps: (L, h, w) uint8 channels.
        boxes_xyxy: (R, 4) in pixels of the maps, of any real position and positive size.

    Returns:
        (R, L, CHANNELS, MAP_SIDE, MAP_SIDE) float32, 0..1; background is what the others leave.
    """
    height, width = class_maps.shape[1:]
    down = _overlaps(boxes_xyxy[:, 1], boxes_xyxy[:, 3], height)
    across = _overlaps(boxes_xyxy[:, 0], boxes_xyxy[:, 2], width)
    shares = np.zeros((len(boxes_xyxy), len(class_maps), CHANNELS, MAP_SIDE, MAP_SIDE), np.float32)
    for layer, class_map in enumerate(class_maps):
        for channel in np.flatnonzero(np.bincount(class_map.ravel(), minlength=CHANNELS)[1:]) + 1:
            shares[:, layer, channel] = down @ (class_map == channel).astype(np.float32) @ across.transpose(0, 2, 1)
    shares[:, :, 0] = np.clip(1 - shares[:, :, 1:].sum(axis=2), 0, 1)
    return shares


def _overlaps(begins: NDArray[np.float64], ends: NDArray[np.float64], pixels: int) -> NDArray[np.float32]:
    """(R, MAP_SIDE, pixels): which share of each cell between a begin and an end each pixel covers."""
    corners = begins[:, None] + (ends - begins)[:, None] * (np.arange(MAP_SIDE + 1) / MAP_SIDE)
    # How far each corner has come through each pixel, 0..1.
    passed = np.clip(corners[:, :, None] - np.arange(pixels), 0, 1)
    cell = (ends - begins)[:, None, None] / MAP_SIDE
    return np.asarray(np.diff(passed, axis=1) / cell, np.float32)
