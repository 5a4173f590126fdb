"""One frame's detections, as the tracker of amodal boxes takes them: in arrays, with the noise that each has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.masks import PatchMask
from walt_edge.tracking.motion import HEIGHT, WIDTH, Floats, states_of

Box = tuple[float, float, float, float]

_NOISE_SHARES = np.array([0.7, 1.0, 5.0, 7.0])
"""Of the ground contact, width and height: each edge has noise of its own, and who walks has legs."""
_LEAST_NOISE_PX = 0.5
_BORDER_PX = 2.0
_ENTRANCE_SIDES = 0.3
"""Who is nearer to the border may have come in since the last frame."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """One frame's detections that count, in arrays of M.

    Attributes:
        indices: Which of the instances each is.
        states: (M, 4) ground contact, width, height, as the box tells them.
        noise: (M, 4) standard deviations of the states.
        newcomer: (M,) log density of its being somebody new.
    """

    indices: NDArray[np.int64]
    boxes: Floats
    labels: NDArray[np.int64]
    scores: Floats
    sure: NDArray[np.bool_]
    states: Floats
    noise: Floats
    newcomer: Floats
    occlusion: Floats
    masks: list[PatchMask]
    visible_boxes: list[Box | None]

    def __len__(self) -> int:
        return len(self.indices)

    @classmethod
    def of(
        cls,
        instances: AmodalInstances,
        *,
        least_score: float,
        sure_score: float,
        edge_noise: float,
        hidden_noise: float,
        newcomers: tuple[float, float],
    ) -> Found:
        """Those that score `least_score` or more.

        The noises are shares of the side of a square as large as a box, the newcomers' log densities those beside the
        border and inside.
        """
        indices = np.flatnonzero(instances.scores >= least_score)
        boxes = instances.boxes_xyxy[indices].astype(np.float64)
        scores = instances.scores[indices].astype(np.float64)
        masks = [instances.amodal[index] for index in indices]
        views = [_view(instances.amodal[index], instances.occluder[index]) for index in indices]
        occlusion = np.array([share for share, _ in views], float)
        states = states_of(boxes)
        sides = np.sqrt(states[:, WIDTH] * states[:, HEIGHT])
        edge = (edge_noise + hidden_noise * occlusion) * sides
        noise = np.maximum(edge[:, None] * _NOISE_SHARES, _LEAST_NOISE_PX)
        away = np.minimum(boxes[:, :2], np.array(instances.frame_wh) - boxes[:, 2:]).min(axis=1)
        newcomer = np.where(away < _ENTRANCE_SIDES * sides, *newcomers)
        labels, sure = instances.labels[indices], scores >= sure_score
        visible_boxes = [box for _, box in views]
        return cls(indices, boxes, labels, scores, sure, states, noise, newcomer, occlusion, masks, visible_boxes)

    def measured(
        self, columns: NDArray[np.int64], mean: Floats, cov: Floats, frame_wh: tuple[int, int]
    ) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """What P detections tell of the P objects whose (P, 4) states are expected.

        A side at the frame's border is not where the object ends: it is completed to the size that is expected, and
        tells nothing of it.

        Returns:
            (P, 4) states, (P, 4) variances, (P, 4) whether a number is told at all.
        """
        boxes = self.boxes[columns]
        at_low = boxes[:, :2] <= _BORDER_PX
        at_high = boxes[:, 2:] >= np.array(frame_wh) - _BORDER_PX
        missing = np.maximum(mean[:, WIDTH:] - (boxes[:, 2:] - boxes[:, :2]), 0)
        cut = (at_low ^ at_high) & (missing > 0)
        low = boxes[:, :2] - missing * (cut & at_low)
        high = boxes[:, 2:] + missing * (cut & at_high)
        variance = self.noise[columns] ** 2
        # Of the ground contact: x is the middle of two edges, y is the lower edge itself.
        variance[:, 0] += np.where(cut[:, 0], cov[:, WIDTH] / 4, 0)
        variance[:, 1] += np.where(cut[:, 1] & at_high[:, 1], cov[:, HEIGHT], 0)
        told = np.concatenate([np.ones_like(cut), ~cut], axis=1)
        return states_of(np.concatenate([low, high], axis=1)), variance, told


def _view(whole: PatchMask, front: PatchMask) -> tuple[float, Box | None]:
    """Hidden share of an object and the tight box of what is seen of it."""
    area = whole.area
    hidden = whole.intersection(front)
    if not area or hidden >= area:
        return (1.0 if area else 0.0), None
    seen = PatchMask(whole.x, whole.y, whole.mask & ~front.window(whole.box_xyxy)) if hidden else whole
    x0, y0, x1, y1 = seen.tight().box_xyxy
    return hidden / area, (float(x0), float(y0), float(x1), float(y1))
