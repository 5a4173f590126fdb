"""From a sample to what the network is taught of it: a view of the frame, letterboxed, with targets of its RoIs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import PatchMask
from walt_edge.runtimes.onnx_detector import letterbox
from walt_train.data.sample import AmodalSample
from walt_train.engine.views import View, draw_move, draw_window
from walt_train.model.branches.branch import CHANNELS, MAP_SIDE, Layer
from walt_train.model.targets import IntBox, object_layers, soft_targets, visible_masks
from walt_train.recipes.recipe import Recipe, Training

VISIBLE_MIN_PX = 12
"""Pixels of the input; an object that shows less is not asked for."""
HIDDEN_MAX = 0.9
"""Nor one of which more than this share is hidden."""
_LEAST_ROI_PX = 1.0

_Floats = NDArray[np.float64]
_Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One picture as the network is taught it.

    Attributes:
        picture: (H, W, 3) uint8 BGR, letterboxed.
        scene: The same without its objects.
        window: (4,) float32 xyxy: where the input's corners lie in the whole frame's input, in parts of its sides.
        boxes: (n, 4) float32 xyxy, pixels of the input: amodal, or visible where the recipe says so.
        labels: (n,) int64 Label values.
        ignored: (m, 4) float32 boxes of objects too hidden to be asked for, which to find is no mistake.
        rois: (r, 4) float32: boxes of objects, moved a little.
        roi_labels: (r,) int64 Label values.
        roi_visible: (r, 4) float32 xyxy of what is seen of each.
        targets: (r, 4, CHANNELS, 28, 28) float32 shares, in the order of `Layer`.
    """

    picture: NDArray[np.uint8]
    scene: NDArray[np.uint8]
    window: NDArray[np.float32]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignored: NDArray[np.float32]
    rois: NDArray[np.float32]
    roi_labels: NDArray[np.int64]
    roi_visible: NDArray[np.float32]
    targets: NDArray[np.float32]


def make_example(
    sample: AmodalSample, scene_bgr: NDArray[np.uint8], recipe: Recipe, random: np.random.Generator
) -> Example:
    """Takes a view, letterboxes it, drops what cannot be seen, and draws mask RoIs with their targets.

    Args:
        sample: Of a fixed camera.
        scene_bgr: The empty scene in the sample's size.
        recipe: Says how.
        random: All chance comes from it.
    """
    width, height = recipe.network.input_wh
    view = _draw_view(View.whole(sample, scene_bgr), recipe.training, random)
    picture, scale = letterbox(view.sample.image_bgr, (height, width))
    seen = visible_masks(view.sample)
    asked = [thing.amodal for thing in view.sample.objects] if recipe.network.box_target == "amodal" else seen
    boxes, seen_boxes = _boxes(asked), _boxes(seen)
    shown = _shown(view.sample, seen, scale)
    hidden = [index for index, mask in enumerate(asked) if mask.area > 0 and index not in shown]
    taught = random.permutation(shown)[: recipe.training.rois]
    rois, targets = _rois(view.sample, boxes, taught, recipe, random)
    labels = np.array([int(thing.label) for thing in view.sample.objects], np.int64)
    draws = rois.shape[1]
    return Example(
        picture,
        letterbox(view.scene_bgr, (height, width))[0],
        _window_of_input(view, sample, (width, height), scale),
        _scaled(boxes[shown], scale),
        labels[shown],
        _scaled(boxes[hidden], scale),
        _scaled(rois.reshape(-1, 4), scale),
        labels[taught].repeat(draws),
        _scaled(seen_boxes[taught].repeat(draws, axis=0), scale),
        targets,
    )


def shown_sizes(sample: AmodalSample, recipe: Recipe, random: np.random.Generator) -> NDArray[np.float64]:
    """(n, 2) widths and heights, pixels of the input, of the objects of one view that is drawn as in training."""
    view = _draw_view(View.whole(sample, sample.image_bgr), recipe.training, random).sample
    input_wh, view_wh = np.array(recipe.network.input_wh), np.array(view.image_bgr.shape[1::-1])
    scale = float((input_wh / view_wh).min())
    boxes = _boxes([thing.amodal for thing in view.objects])
    return (boxes[:, 2:] - boxes[:, :2])[_shown(view, visible_masks(view), scale)] * scale


def _draw_view(view: View, training: Training, random: np.random.Generator) -> View:
    if random.random() < training.window_chance:
        view = view.cut(draw_window(view.sample, training.window, random))
    elif random.random() < training.shift_chance:
        view = view.moved(*draw_move(view.sample, training.shift, random))
    return view.mirrored() if random.random() < training.mirror_chance else view


def _shown(sample: AmodalSample, seen: Sequence[PatchMask], scale: float) -> _Indices:
    """Indices of the objects of which enough is seen to ask for them."""
    areas = np.array([thing.amodal.area for thing in sample.objects], np.float64)
    visible = np.array([mask.area for mask in seen], np.float64)
    return np.flatnonzero((visible * scale**2 >= VISIBLE_MIN_PX) & (visible >= (1 - HIDDEN_MAX) * areas))


def _rois(
    sample: AmodalSample, boxes: _Floats, taught: _Indices, recipe: Recipe, random: np.random.Generator
) -> tuple[_Floats, NDArray[np.float32]]:
    """RoIs (T, draws, 4) of the objects that are taught, pixels of the view, and the targets of all of them."""
    draws = min(2, max(1, recipe.training.rois // max(1, len(boxes))))
    height, width = sample.image_bgr.shape[:2]
    jittered = _jitter(boxes, draws, recipe.training.roi_jitter, random)
    limit = np.array([width, height], np.float64)
    low = np.clip(jittered[..., :2], 0, limit - _LEAST_ROI_PX)
    rois = np.concatenate([low, np.clip(jittered[..., 2:], low + _LEAST_ROI_PX, limit)], axis=2)
    layers = object_layers(sample, [_window(some, sample) for some in rois])
    targets = [soft_targets(layers[index], rois[index]) for index in taught]
    return rois[taught], np.concatenate(
        [np.zeros((0, len(Layer), CHANNELS, MAP_SIDE, MAP_SIDE), np.float32), *targets]
    )


def _window_of_input(view: View, frame: AmodalSample, input_wh: tuple[int, int], scale: float) -> NDArray[np.float32]:
    """Where the corners of a view's input lie in the input of its whole frame, in parts of its sides."""
    low, high = np.array(view.window_xyxy[:2]), np.array(view.window_xyxy[2:])
    view_wh, frame_wh = (np.array(part.image_bgr.shape[1::-1]) for part in (view.sample, frame))
    sides = np.array(input_wh)
    # The letterbox pads a view otherwise than its frame.
    far = low + (high - low) * sides / scale / view_wh
    return np.asarray(np.concatenate([low, far]) * np.tile((sides / frame_wh).min() / sides, 2), np.float32)


def _scaled(boxes: _Floats, scale: float) -> NDArray[np.float32]:
    return (boxes * scale).astype(np.float32)


def _boxes(masks: Sequence[PatchMask]) -> _Floats:
    """(N, 4) tight boxes; an empty mask's is that of its window, and is taught to nobody."""
    tight = [mask.tight() if mask.area else mask for mask in masks]
    return np.array([mask.box_xyxy for mask in tight], np.float64).reshape(-1, 4)


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
