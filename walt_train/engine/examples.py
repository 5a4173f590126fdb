"""From a sample to what the network is taught of it: moved, letterboxed, with the targets of its mask RoIs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import PatchMask
from walt_edge.runtimes.onnx_detector import letterbox
from walt_train.data.sample import AmodalSample
from walt_train.model.branches.branch import CHANNELS, MAP_SIDE, Layer
from walt_train.model.targets import IntBox, object_layers, soft_targets, visible_masks
from walt_train.recipes.recipe import Recipe

VISIBLE_MIN_PX = 12
"""Pixels of the input; an object that shows less is not asked for."""
HIDDEN_MAX = 0.9
"""Nor one of which more than this share is hidden."""
PAD_LEVEL = 114
"""Of what lies outside a picture, as the letterbox has it."""


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One picture as the network is taught it.

    Attributes:
        picture: (H, W, 3) uint8 BGR, letterboxed.
        scene: The same without its objects.
        boxes: (n, 4) float32 xyxy, pixels of the input: amodal, or visible where the recipe says so.
        labels: (n,) int64 Label values.
        rois: (r, 4) float32: boxes of objects, moved a little.
        roi_labels: (r,) int64 Label values.
        targets: (r, 4, CHANNELS, 28, 28) float32 shares, in the order of `Layer`.
    """

    picture: NDArray[np.uint8]
    scene: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    rois: NDArray[np.float32]
    roi_labels: NDArray[np.int64]
    targets: NDArray[np.float32]


def make_example(
    sample: AmodalSample, scene_bgr: NDArray[np.uint8], recipe: Recipe, random: np.random.Generator
) -> Example:
    """Moves and letterboxes a sample, drops what cannot be seen, and draws mask RoIs with their targets.

    Args:
        sample: Of a fixed camera.
        scene_bgr: The empty scene in the sample's size.
        recipe: Says how.
        random: All chance comes from it.
    """
    width, height = recipe.network.input_wh
    if random.random() < recipe.training.shift_chance:
        sample, scene_bgr = _shifted(sample, scene_bgr, recipe.training.shift, random)
    picture, scale = letterbox(sample.image_bgr, (height, width))
    seen = visible_masks(sample)
    boxes = _boxes([thing.amodal for thing in sample.objects] if recipe.network.box_target == "amodal" else seen)
    draws = max(1, recipe.training.rois // max(1, len(boxes)))
    inside = np.array([width, height, width, height]) / scale
    rois = np.minimum(np.maximum(_jitter(boxes, min(draws, 2), recipe.training.roi_jitter, random), 0), inside)
    layers = object_layers(sample, [_window(some, sample) for some in rois])
    areas = np.array([thing.amodal.area for thing in sample.objects], np.float64)
    visible = np.array([mask.area for mask in seen], np.float64)
    shown = np.flatnonzero((visible * scale**2 >= VISIBLE_MIN_PX) & (visible >= (1 - HIDDEN_MAX) * areas))
    taught = random.permutation(shown)[: recipe.training.rois]
    targets = [soft_targets(layers[index], rois[index]) for index in taught]
    labels = np.array([int(thing.label) for thing in sample.objects], np.int64)
    return Example(
        picture,
        letterbox(scene_bgr, (height, width))[0],
        (boxes[shown] * scale).astype(np.float32),
        labels[shown],
        (rois[taught].reshape(-1, 4) * scale).astype(np.float32),
        labels[taught].repeat(rois.shape[1]),
        np.concatenate([np.zeros((0, len(Layer), CHANNELS, MAP_SIDE, MAP_SIDE), np.float32), *targets]),
    )


def _boxes(masks: Sequence[PatchMask]) -> NDArray[np.float64]:
    """(N, 4) tight boxes; an empty mask's is that of its window, and is taught to nobody."""
    return np.array([mask.tight().box_xyxy if mask.area else mask.box_xyxy for mask in masks], np.float64).reshape(
        -1, 4
    )


def _shifted(
    sample: AmodalSample, scene_bgr: NDArray[np.uint8], most: float, random: np.random.Generator
) -> tuple[AmodalSample, NDArray[np.uint8]]:
    """Both moved by the same number of whole pixels; what comes in is grey, what leaves is cut off."""
    height, width = sample.image_bgr.shape[:2]
    right, down = (np.array([width, height]) * random.uniform(-most, most, 2)).astype(int).tolist()

    def moved(patch: PatchMask) -> PatchMask:
        inside = PatchMask(patch.x + right, patch.y + down, patch.mask).full(height, width)
        return PatchMask.from_full(inside)

    whole = [replace(thing, amodal=moved(thing.amodal)) for thing in sample.objects]
    kept = [order for order, thing in enumerate(whole) if thing.amodal.area > 0]
    static = tuple((sum(order < nearer for order in kept), moved(patch)) for nearer, patch in sample.static)
    picture, scene = (_moved_picture(image, right, down) for image in (sample.image_bgr, scene_bgr))
    return replace(sample, image_bgr=picture, objects=tuple(whole[order] for order in kept), static=static), scene


def _moved_picture(image_bgr: NDArray[np.uint8], right: int, down: int) -> NDArray[np.uint8]:
    move = np.array([[1, 0, right], [0, 1, down]], np.float64)
    size_wh = image_bgr.shape[1::-1]
    grey = (PAD_LEVEL,) * 3
    moved: NDArray[np.uint8] = cv2.warpAffine(image_bgr, move, size_wh, flags=cv2.INTER_NEAREST, borderValue=grey)
    return moved


def _jitter(
    boxes: NDArray[np.float64], draws: int, spread: float, random: np.random.Generator
) -> NDArray[np.float64]:
    """(N, draws, 4) boxes moved and grown at random, in parts of their sides."""
    sides = np.repeat((boxes[:, 2:] - boxes[:, :2])[:, None], draws, axis=1)
    centres = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2 + random.normal(0, spread, sides.shape) * sides
    half = sides * np.exp(random.normal(0, spread, sides.shape)) / 2
    return np.concatenate([centres - half, centres + half], axis=2)


def _window(rois: NDArray[np.float64], sample: AmodalSample) -> IntBox:
    """The frame's pixels that any of the RoIs touches."""
    height, width = sample.image_bgr.shape[:2]
    x0, y0 = np.floor(rois[:, :2].min(axis=0)).astype(int)
    x1, y1 = np.ceil(rois[:, 2:].max(axis=0)).astype(int)
    return max(0, int(x0)), max(0, int(y0)), min(width, int(x1)), min(height, int(y1))
