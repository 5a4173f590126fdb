"""What a WALT-Net gives, whatever runs it, and the one way from a picture to its instances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

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

    def instances(self, *, scale: float, frame_wh: tuple[int, int], score_threshold: float) -> AmodalInstances:
        """What they come to in a frame that was letterboxed with `scale`: `walt_edge.vision.amodal.assemble`."""
        return assemble(
            self.boxes_xyxy,
            self.scores,
            self.labels,
            self.maps,
            scale=scale,
            frame_wh=frame_wh,
            score_threshold=score_threshold,
        )


class Network(Protocol):
    """A WALT-Net in torch or in a runtime."""

    def __call__(self, image: NDArray[np.uint8]) -> Candidates:
        """Looks at one (H, W, 3) uint8 BGR picture of the network's size."""


def look(
    network: Network, image_bgr: NDArray[np.uint8], *, size_wh: tuple[int, int], score_threshold: float
) -> AmodalInstances:
    """Amodal instances of a picture of any size, best first.

    Args:
        network: What looks.
        image_bgr: (H, W, 3) uint8.
        size_wh: The network's input, pixels; the picture is letterboxed into its top left corner.
        score_threshold: What scores less is left out.

    Raises:
        InstancesError: The network's answer contradicts itself.
    """
    width, height = size_wh
    picture, scale = letterbox(image_bgr, (height, width))
    frame_wh = (image_bgr.shape[1], image_bgr.shape[0])
    return network(picture).instances(scale=scale, frame_wh=frame_wh, score_threshold=score_threshold)
