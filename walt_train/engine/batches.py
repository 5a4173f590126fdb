"""Batches as a pure function of the step: a training that goes on after a kill repeats and skips nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import cv2
import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from walt_edge.contract.masks import PatchMask
from walt_edge.runtimes.onnx_detector import letterbox
from walt_train.data.sample import AmodalSample, Samples
from walt_train.model.anchors import fit_anchors
from walt_train.model.mask_heads import CHANNELS, MAP_SIDE, Head
from walt_train.model.targets import IntBox, object_layers, soft_targets
from walt_train.recipes.recipe import Network, Recipe

VISIBLE_MIN_PX = 12
"""Pixels of the input; an object that shows less is not asked for."""
HIDDEN_MAX = 0.9
"""Nor one of which more than this share is hidden."""
PAD_LEVEL = 114
"""Of what lies outside a picture, as the letterbox has it."""
_SURVEYED = 64
"""Samples that anchors and the empty scene are taken from."""

Batch = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One picture as the network is taught it.

    Attributes:
        picture: (H, W, 3) uint8 BGR, letterboxed.
        scene: The same without its objects.
        boxes: (n, 4) float32 amodal xyxy, pixels of the input.
        labels: (n,) int64 Label values.
        rois: (r, 4) float32: boxes of objects, moved a little.
        targets: (r, 3, CHANNELS, 28, 28) float32 shares.
    """

    picture: NDArray[np.uint8]
    scene: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    rois: NDArray[np.float32]
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
    boxes = np.array([thing.amodal.box_xyxy for thing in sample.objects], np.float64).reshape(-1, 4)
    draws = max(1, recipe.training.rois // max(1, len(boxes)))
    inside = np.array([width, height, width, height]) / scale
    rois = np.minimum(np.maximum(_jitter(boxes, min(draws, 2), recipe.training.roi_jitter, random), 0), inside)
    layers = object_layers(sample, [_window(some, sample) for some in rois])
    areas = np.array([thing.amodal.area for thing in sample.objects], np.float64)
    visible = np.array([layer.visible_area for layer in layers], np.float64)
    shown = np.flatnonzero((visible * scale**2 >= VISIBLE_MIN_PX) & (visible >= (1 - HIDDEN_MAX) * areas))
    taught = random.permutation(shown)[: recipe.training.rois]
    targets = [soft_targets(layers[index], rois[index]) for index in taught]
    return Example(
        picture,
        letterbox(scene_bgr, (height, width))[0],
        (boxes[shown] * scale).astype(np.float32),
        np.array([int(sample.objects[index].label) for index in shown], np.int64),
        (rois[taught].reshape(-1, 4) * scale).astype(np.float32),
        np.concatenate([np.zeros((0, len(Head), CHANNELS, MAP_SIDE, MAP_SIDE), np.float32), *targets]),
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


class StepBatches(Dataset[Batch]):
    """Item k is the batch of step k of one process.

    Args:
        samples: The data set; its epochs follow one another, each in an order of its own.
        scene_bgr: The empty scene in the size of its pictures.
        recipe: Says how many pictures and RoIs.
        seed: Of orders and RoIs.
        rank: Of this process.
        world: How many processes share each step's pictures.
    """

    metainfo: dict[str, object] = {}  # noqa: RUF012 - mmengine asks for it

    def __init__(
        self,
        samples: Samples,
        scene_bgr: NDArray[np.uint8],
        recipe: Recipe,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._samples, self._scene, self._recipe, self._seed = samples, scene_bgr, recipe, seed
        self._rank, self._world = rank, world

    def __len__(self) -> int:
        """Steps of the training."""
        return self._recipe.training.steps

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step, as `AmodalDetector` takes it."""
        count = self._recipe.training.batch
        first = (step * self._world + self._rank) * count
        return collate([self._example(place) for place in range(first, first + count)])

    def _example(self, place: int) -> Example:
        epoch, index = divmod(place, len(self._samples))
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._samples))
        random = np.random.default_rng([self._seed, epoch, index, 1])
        return make_example(self._samples.sample(epoch, int(order[index])), self._scene, self._recipe, random)


def collate(examples: list[Example]) -> Batch:
    """Examples of equal picture size as tensors."""
    rois = [np.insert(example.rois, 0, index, axis=1) for index, example in enumerate(examples)]
    return {
        "pictures": torch.from_numpy(np.stack([example.picture for example in examples])),
        "scenes": torch.from_numpy(np.stack([example.scene for example in examples])),
        "boxes": [torch.from_numpy(example.boxes) for example in examples],
        "labels": [torch.from_numpy(example.labels) for example in examples],
        "mask_rois": torch.from_numpy(np.concatenate(rois)),
        "mask_targets": torch.from_numpy(np.concatenate([example.targets for example in examples])),
    }


class Steps(Sampler[int]):
    """Counts steps; `skip` is how mmengine's loop goes on where it stopped."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._first = 0

    def skip(self, steps: int) -> None:
        """Leaves the first steps out."""
        self._first += steps

    def __len__(self) -> int:
        """Steps that are left."""
        return self._steps - self._first

    def __iter__(self) -> Iterator[int]:
        """Step numbers."""
        return iter(range(self._first, self._steps))


def step_loader(batches: StepBatches, *, workers: int) -> DataLoader[Batch]:
    """One batch a step, made ahead of time by so many processes."""
    return DataLoader(
        batches,
        batch_size=1,
        sampler=Steps(len(batches)),
        collate_fn=_only,
        num_workers=workers,
        worker_init_fn=_quiet_worker,
    )


def _only(batches: list[Batch]) -> Batch:
    return batches[0]


def _quiet_worker(_: int) -> None:
    cv2.setNumThreads(0)  # OpenCV's pool of threads does not survive a fork


def survey(samples: Samples, network: Network) -> tuple[Network, NDArray[np.uint8]]:
    """What the data tells before training: anchors that fit its objects, and the empty scene.

    Returns:
        The network with anchors; the mean of what the objects leave free, (H, W, 3) uint8 BGR.
    """
    frame_w, frame_h = samples.frame_wh
    scale = min(network.input_wh[0] / frame_w, network.input_wh[1] / frame_h)
    levels = np.zeros((frame_h, frame_w, 3), np.float64)
    counts = np.zeros((frame_h, frame_w, 1), np.float64)
    sizes = []
    for index in np.unique(np.linspace(0, len(samples) - 1, _SURVEYED).astype(int)):
        sample = samples.sample(0, int(index))
        # Where objects always stand, what is seen of them has to do.
        free = np.full((frame_h, frame_w, 1), 1.0)
        for thing in sample.objects:
            x0, y0, x1, y1 = thing.amodal.box_xyxy
            free[y0:y1, x0:x1][thing.amodal.mask] = 1e-6
            sizes.append(((x1 - x0) * scale, (y1 - y0) * scale))
        levels += sample.image_bgr * free
        counts += free
    if not network.anchors_wh and sizes:
        network = msgspec.structs.replace(network, anchors_wh=fit_anchors(np.array(sizes), network.anchors))
    return network, (levels / counts).round().astype(np.uint8)
