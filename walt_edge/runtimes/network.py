"""What a WALT-Net gives, whatever runs it, and the one way from a picture to its instances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.instances import AmodalInstances
from walt_edge.runtimes.onnx_detector import letterbox
from walt_edge.vision.amodal import assemble


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """A network's answer to one picture.

    Attributes:
        boxes_xyxy: (N, 4) float32 amodal boxes, pixels of the input.
        scores: (N,) float32, 0..1.
        labels: (N,) int64 `Label` values.
        maps: (N, 3, 28, 28) float32, 0..1: amodal, occluder, occluded; cells cover the box.
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    maps: NDArray[np.float32]

    def instances(
        self, *, scale: float, frame_wh: tuple[int, int], score_threshold: float, strictly: bool = False
    ) -> AmodalInstances:
        """What they come to in a frame that was letterboxed with `scale`: `walt_edge.vision.amodal.assemble`."""
        return assemble(
            self.boxes_xyxy,
            self.scores,
            self.labels,
            self.maps,
            scale=scale,
            frame_wh=frame_wh,
            score_threshold=score_threshold,
            strictly=strictly,
        )


class Network(Protocol):
    """A WALT-Net in torch or in a runtime."""

    def __call__(self, image: NDArray[np.uint8]) -> Candidates:
        """Looks at one (H, W, 3) uint8 BGR picture of the network's size."""


class Runtime(Network, Protocol):
    """A network opened on a device: ONNX Runtime on any provider, or a TensorRT engine."""

    @property
    def providers(self) -> tuple[str, ...]:
        """What runs it, first choice first."""

    @property
    def most_pictures(self) -> int:
        """How many pictures it is best given together; 0 for any number."""

    def many(self, images_NHWC: NDArray[np.uint8]) -> list[Candidates]:
        """Looks at (B, H, W, 3) uint8 BGR pictures of the network's size, `most_pictures` at most."""


def look(
    network: Network,
    image_bgr: NDArray[np.uint8],
    *,
    size_wh: tuple[int, int],
    score_threshold: float,
    strictly: bool = False,
) -> AmodalInstances:
    """Amodal instances of a picture of any size, best first.

    Args:
        network: What looks.
        image_bgr: (H, W, 3) uint8.
        size_wh: The network's input, pixels; the picture is letterboxed into its top left corner.
        score_threshold: What scores less is left out.
        strictly: As for `assemble`.

    Raises:
        InstancesError: The network's answer contradicts itself.
    """
    width, height = size_wh
    picture, scale = letterbox(image_bgr, (height, width))
    frame_wh = (image_bgr.shape[1], image_bgr.shape[0])
    return network(picture).instances(
        scale=scale, frame_wh=frame_wh, score_threshold=score_threshold, strictly=strictly
    )


def look_many(
    runtime: Runtime,
    images_bgr: Sequence[NDArray[np.uint8]],
    *,
    size_wh: tuple[int, int],
    score_threshold: float,
    strictly: bool = False,
) -> list[AmodalInstances]:
    """As `look`, for pictures of any sizes, as many together as the runtime takes.

    Args:
        runtime: What looks.
        images_bgr: Each (H, W, 3) uint8.
        size_wh: The network's input, pixels.
        score_threshold: What scores less is left out.
        strictly: As for `assemble`.

    Raises:
        InstancesError: The network's answer contradicts itself.
    """
    width, height = size_wh
    most = runtime.most_pictures or max(1, len(images_bgr))
    found: list[AmodalInstances] = []
    for start in range(0, len(images_bgr), most):
        together = images_bgr[start : start + most]
        boxed = [letterbox(image, (height, width)) for image in together]
        pictures = [picture for picture, _ in boxed]
        answers = [runtime(pictures[0])] if len(boxed) == 1 else runtime.many(np.stack(pictures))
        for image, (_, scale), answer in zip(together, boxed, answers, strict=True):
            frame_wh = (image.shape[1], image.shape[0])
            instances = answer.instances(
                scale=scale, frame_wh=frame_wh, score_threshold=score_threshold, strictly=strictly
            )
            found.append(instances)
    return found


def by_picture(values: Sequence[NDArray[Any]], pictures: NDArray[np.int64], count: int) -> list[Candidates]:
    """Splits what a network gave for several pictures.

    Args:
        values: Boxes, scores, labels and maps of all of them.
        pictures: (N,) whose each is, 0..count - 1.
        count: Of pictures.
    """
    return [Candidates(*(value[pictures == index] for value in values)) for index in range(count)]
