"""Batches as a pure function of the step: a training that goes on after a kill repeats and skips nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from walt_train.data.sample import AmodalSample, Samples
from walt_train.engine.examples import Example, make_example, shown_sizes
from walt_train.engine.scenes import Scene
from walt_train.engine.segments import Segment, pictures_before
from walt_train.model.anchors import fit_anchors
from walt_train.recipes.recipe import Network, Recipe

_SURVEYED = 64
"""Samples that anchors and the empty scene are taken from."""

Batch = dict[str, Any]


class StepBatches(Dataset[Batch]):
    """Item k is the batch of step k of one process.

    Args:
        samples: The data set; its epochs follow one another, each in an order of its own.
        scene_bgr: The empty scene in the size of its pictures; None for a network that is not told it, or where
            each sample brings its own.
        recipe: Says how many pictures and RoIs.
        seed: Of orders and RoIs.
        rank: Of this process.
        segments: How many processes share each step's pictures, now and before.
    """

    metainfo: dict[str, object] = {}  # noqa: RUF012 - mmengine asks for it

    def __init__(
        self,
        samples: Samples,
        scene_bgr: NDArray[np.uint8] | None,
        recipe: Recipe,
        *,
        seed: int,
        rank: int = 0,
        segments: Sequence[Segment] = (Segment(0, 1),),
    ) -> None:
        self._samples, self._scene, self._recipe, self._seed = samples, scene_bgr, recipe, seed
        self._rank, self._segments = rank, segments

    def __len__(self) -> int:
        """Steps of the training."""
        return self._recipe.training.steps

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step, as `AmodalDetector` takes it."""
        return collate([self._example(place) for place in self._places(step)])

    def names(self, step: int) -> list[str]:
        """Which pictures a step of this process sees, for people."""
        return [self._sample(place).name for place in self._places(step)]

    def _places(self, step: int) -> range:
        count = self._recipe.training.batch
        first = pictures_before(self._segments, step, count) + self._rank * count
        return range(first, first + count)

    def _sample(self, place: int) -> AmodalSample:
        epoch, index = divmod(place, len(self._samples))
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._samples))
        return self._samples.sample(epoch, int(order[index]))

    def _example(self, place: int) -> Example:
        random = np.random.default_rng([self._seed, *divmod(place, len(self._samples)), 1])
        sample = self._sample(place)
        scene = self._scene if sample.scene_bgr is None else sample.scene_bgr
        return make_example(sample, sample.image_bgr if scene is None else scene, self._recipe, random)


def collate(examples: list[Example]) -> Batch:
    """Examples of equal picture size as tensors."""
    rois = [np.insert(example.rois, 0, index, axis=1) for index, example in enumerate(examples)]
    return {
        "pictures": torch.from_numpy(np.stack([example.picture for example in examples])),
        "scenes": torch.from_numpy(np.stack([example.scene for example in examples])),
        "windows": torch.from_numpy(np.stack([example.window for example in examples])),
        "boxes": [torch.from_numpy(example.boxes) for example in examples],
        "labels": [torch.from_numpy(example.labels) for example in examples],
        "ignored": [torch.from_numpy(example.ignored) for example in examples],
        "mask_rois": torch.from_numpy(np.concatenate(rois)),
        "mask_labels": torch.from_numpy(np.concatenate([example.roi_labels for example in examples])),
        "mask_targets": torch.from_numpy(np.concatenate([example.targets for example in examples])),
        "visible_boxes": torch.from_numpy(np.concatenate([example.roi_visible for example in examples])),
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


def survey(samples: Samples, recipe: Recipe) -> tuple[Network, NDArray[np.uint8] | None]:
    """What the data tells before training: anchors that fit its objects, and the empty scene.

    Anchors are fitted to what the training shows: a window that is cut out fills the input, its objects grow with it.

    Returns:
        The network with anchors; the mean of what the objects leave free, (H, W, 3) uint8 BGR, or None for a network
        that is not told it, or where each sample brings its own.
    """
    network = recipe.network
    scene = None
    sizes = []
    for index in np.unique(np.linspace(0, len(samples) - 1, _SURVEYED).astype(int)):
        sample = samples.sample(0, int(index))
        sizes.append(shown_sizes(sample, recipe, np.random.default_rng(int(index))))
        if network.background and sample.scene_bgr is None:
            scene = scene or Scene(samples.frame_wh)
            scene.add(sample)
    shown = np.concatenate(sizes)
    if not network.anchors_wh and len(shown):
        network = msgspec.structs.replace(network, anchors_wh=fit_anchors(shown, network.anchors))
    return network, None if scene is None else scene.mean()
