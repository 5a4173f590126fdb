"""The one value that every model gives and everybody reads: amodal instances of one frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.errors import WaltError
from walt_edge.contract.masks import PatchMask


class InstancesError(WaltError):
    """Instances that contradict themselves."""


@dataclass(frozen=True, slots=True, eq=False)
class AmodalInstances:
    """Objects of one frame with their layers. Masks are kept as patches; the (N, H, W) views are made when asked for.

    Attributes:
        frame_wh: Size of the frame, pixels.
        boxes_xyxy: (N, 4) float32 amodal boxes, half-open pixels, clipped to the frame.
        labels: (N,) int64, `Label` values.
        scores: (N,) float32, 0..1.
        amodal: Full extent of each object.
        occluder: What lies in front of it, inside its amodal box; static things included.
        occluded: The objects behind it, inside its amodal box.

    Raises:
        InstancesError: Lengths differ, a number is not finite, or a box or score is out of range.
    """

    frame_wh: tuple[int, int]
    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    amodal: tuple[PatchMask, ...]
    occluder: tuple[PatchMask, ...]
    occluded: tuple[PatchMask, ...]

    def __post_init__(self) -> None:
        count = len(self.scores)
        lengths = [len(self.labels), len(self.amodal), len(self.occluder), len(self.occluded)]
        if self.boxes_xyxy.shape != (count, 4) or any(length != count for length in lengths):
            raise InstancesError(f"{count} scores with boxes {self.boxes_xyxy.shape} and {lengths} labels and layers")
        if not (np.isfinite(self.boxes_xyxy).all() and np.isfinite(self.scores).all()):
            raise InstancesError("a box or score is not finite")
        if count and not (self.scores.min() >= 0 and self.scores.max() <= 1):
            raise InstancesError(f"scores from {self.scores.min()} to {self.scores.max()}, expected 0..1")
        limit = np.array(self.frame_wh * 2, np.float32)
        if count and ((self.boxes_xyxy < 0).any() or (self.boxes_xyxy > limit).any()):
            raise InstancesError(f"a box leaves the frame {self.frame_wh}")

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls, frame_wh: tuple[int, int]) -> AmodalInstances:
        """No instances."""
        boxes, scores = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        return cls(frame_wh, boxes, np.zeros(0, np.int64), scores, (), (), ())

    @classmethod
    def of_masks(
        cls, frame_wh: tuple[int, int], labels: Sequence[int], scores: Sequence[float], masks: Sequence[PatchMask]
    ) -> AmodalInstances:
        """Outlines alone, of eyes that tell nothing of what lies before or behind; boxes are those of the patches."""
        nothing = tuple(PatchMask(mask.x, mask.y, np.zeros_like(mask.mask)) for mask in masks)
        boxes = np.array([mask.box_xyxy for mask in masks], np.float32).reshape(-1, 4)
        numbers = np.array(labels, np.int64), np.array(scores, np.float32)
        return cls(frame_wh, boxes, *numbers, tuple(masks), nothing, nothing)

    @property
    def visible(self) -> tuple[PatchMask, ...]:
        """What the camera sees of each: amodal minus occluder."""
        return tuple(
            PatchMask(whole.x, whole.y, whole.mask & ~front.window(whole.box_xyxy))
            for whole, front in zip(self.amodal, self.occluder, strict=True)
        )

    @property
    def visible_boxes_xyxy(self) -> NDArray[np.float32]:
        """(N, 4) float32 tight boxes of what is seen, half-open pixels; all zeros where nothing is."""
        boxes = [mask.tight().box_xyxy for mask in self.visible]
        return np.array(boxes, np.float32).reshape(-1, 4)

    @property
    def amodal_masks(self) -> NDArray[np.bool_]:
        """(N, H, W) bool."""
        return self._stack(self.amodal)

    @property
    def occluder_masks(self) -> NDArray[np.bool_]:
        """(N, H, W) bool."""
        return self._stack(self.occluder)

    @property
    def occluded_masks(self) -> NDArray[np.bool_]:
        """(N, H, W) bool."""
        return self._stack(self.occluded)

    @property
    def visible_masks(self) -> NDArray[np.bool_]:
        """(N, H, W) bool: amodal and not occluder, exactly."""
        return self._stack(self.visible)

    @property
    def occlusion_fractions(self) -> NDArray[np.float32]:
        """(N,) float32: hidden area over amodal area, 0..1; 0 where the amodal mask is empty."""
        whole = np.array([mask.area for mask in self.amodal], np.float32)
        seen = np.array([mask.area for mask in self.visible], np.float32)
        return np.asarray((whole - seen) / np.maximum(whole, 1), np.float32)

    def select(self, indices: Sequence[int]) -> AmodalInstances:
        """Some of them, in the order given."""
        chosen = list(indices)
        return AmodalInstances(
            self.frame_wh,
            self.boxes_xyxy[chosen],
            self.labels[chosen],
            self.scores[chosen],
            tuple(self.amodal[i] for i in chosen),
            tuple(self.occluder[i] for i in chosen),
            tuple(self.occluded[i] for i in chosen),
        )

    def _stack(self, masks: tuple[PatchMask, ...]) -> NDArray[np.bool_]:
        width, height = self.frame_wh
        out = np.zeros((len(masks), height, width), bool)
        for plane, mask in zip(out, masks, strict=True):
            plane |= mask.full(height, width)
        return out
