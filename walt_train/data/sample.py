"""One picture whose every layer is known: what compositing makes, COCO files hold, and training and judging read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask

Split = Literal["train", "validation", "all"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True, slots=True, eq=False)
class AmodalObject:
    """One object of a sample.

    Attributes:
        label: Its class.
        amodal: Its full extent, clipped to the frame; never empty.
        track_id: The physical object it shows.
        keypoints: (K, 3) float64 x, y in pixels of the picture and COCO visibility (2 seen, 1 hidden, 0 unknown), or
            None; points may leave the picture.
        cuboid: (8, 2) float64 corners of its 3D box in pixels of the picture, ground first, or None.
    """

    label: Label
    amodal: PatchMask
    track_id: int
    keypoints: NDArray[np.float64] | None = None
    cuboid: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class AmodalSample:
    """A picture and its objects.

    All other layers follow from the order: what lies nearer hides, what lies farther is hidden.

    Attributes:
        image_bgr: (H, W, 3) uint8.
        objects: Nearest first.
        static: Static occluders (poles, trees): how many of `objects` lie nearer than each, and its mask.
        name: The image's file name, or how it can be made again.
        frame: Number of the frame in its recording, or of the composite in its epoch.
        time: ISO 8601 UTC, or "" where it has none.
        camera: The camera's name.
        scene_bgr: (H, W, 3) uint8, the camera's empty scene, or None where nobody asked for it.
    """

    image_bgr: NDArray[np.uint8]
    objects: tuple[AmodalObject, ...]
    static: tuple[tuple[int, PatchMask], ...] = ()
    name: str = ""
    frame: int = 0
    time: str = ""
    camera: str = ""
    scene_bgr: NDArray[np.uint8] | None = None


class Samples(Protocol):
    """A data set: a pure function of (epoch, index)."""

    @property
    def sha256(self) -> str:
        """Names the data: of its manifest and settings, 64 hex digits."""

    @property
    def frame_wh(self) -> tuple[int, int]:
        """Size of the camera's frames, pixels."""

    @property
    def labels(self) -> Sequence[Label]:
        """The classes that occur, in the contract's order."""

    def __len__(self) -> int:
        """Samples in an epoch."""

    def sample(self, epoch: int, index: int) -> AmodalSample:
        """Sample `index` of `epoch`; the same arguments give the same pixels and layers, always."""


class SamplesAround:
    """A data set that is another one, but for what happens when a sample is asked for."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    @property
    def sha256(self) -> str:
        """As of the samples alone: who made or looked at them does not matter."""
        return self._samples.sha256

    @property
    def frame_wh(self) -> tuple[int, int]:
        """Size of the camera's frames, pixels."""
        return self._samples.frame_wh

    @property
    def labels(self) -> Sequence[Label]:
        """The classes that occur."""
        return self._samples.labels

    def __len__(self) -> int:
        """Samples in an epoch."""
        return len(self._samples)

    def sample(self, epoch: int, index: int) -> AmodalSample:
        """Sample `index` of `epoch`."""
        return self._samples.sample(epoch, index)
