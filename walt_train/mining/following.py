"""Which instance is which object, where a network tells instances apart: every one of them is one object.

`walt_edge.watching.tracking` follows silhouettes, which merge and fall to pieces; boxes of a network do neither. What
overlaps here are two, and the only question is who is who.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from walt_edge.contract.labels import Label
from walt_edge.watching.tracking import iou_matrix

_AFFINITY_MIN = 0.1
_REACH = 0.7
"""Of its longer side an object may be off where it was expected: a walker of unknown speed leaves its box."""
_LIKE_SIZE = 0.5
_LOST_S = 2.0
_NEW_SPEED = 0.5
"""Share of what was moved since the last look in the speed that is believed."""


@dataclass(slots=True)
class _Followed:
    """One object: its newest box, when that was, and how fast its centre moves, pixels a second."""

    number: int
    label: Label
    box: NDArray[np.float64]
    seen_s: float
    speed_xy: NDArray[np.float64]

    def expected(self, time_s: float) -> NDArray[np.float64]:
        return self.box + np.tile(self.speed_xy * (time_s - self.seen_s), 2)

    def move(self, box: NDArray[np.float64], time_s: float) -> None:
        way = (box[:2] + box[2:] - self.box[:2] - self.box[2:]) / 2
        speed = way / max(1e-3, time_s - self.seen_s)
        self.speed_xy = (1 - _NEW_SPEED) * self.speed_xy + _NEW_SPEED * speed
        self.box, self.seen_s = box, time_s


class Follower:
    """Follows boxes through one recording."""

    def __init__(self) -> None:
        self._there: list[_Followed] = []
        self._count = 0

    def update(self, boxes_xyxy: NDArray[np.float64], labels: Sequence[Label], time_s: float) -> list[int]:
        """The number of each box's object, from 1; paired with expectations so that all fit best.

        Args:
            boxes_xyxy: (N, 4) pixels.
            labels: Of each; an object keeps its class.
            time_s: Media time, later than before.
        """
        self._there = [one for one in self._there if time_s - one.seen_s <= _LOST_S]
        expected = np.array([one.expected(time_s) for one in self._there]).reshape(-1, 4)
        own = np.array([int(one.label) for one in self._there])
        affinity = _affinity(expected, boxes_xyxy) * (own[:, None] == np.array(labels, int)[None])
        pairs = zip(*linear_sum_assignment(affinity, maximize=True), strict=True)
        owner = {int(column): self._there[row] for row, column in pairs if affinity[row, column] >= _AFFINITY_MIN}
        return [self._number(owner.get(k), box, labels[k], time_s) for k, box in enumerate(boxes_xyxy)]

    def _number(self, known: _Followed | None, box: NDArray[np.float64], label: Label, time_s: float) -> int:
        if known is not None:
            known.move(box, time_s)
            return known.number
        self._count += 1
        self._there.append(_Followed(self._count, label, box, time_s, np.zeros(2)))
        return self._count


def _affinity(expected: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M, N) 0..1: IoU, and less than half of that for near boxes of like size."""
    sides, own = expected[:, None, 2:] - expected[:, None, :2], boxes[None, :, 2:] - boxes[None, :, :2]
    apart = (expected[:, None, :2] + expected[:, None, 2:] - boxes[None, :, :2] - boxes[None, :, 2:]) / 2
    near = 1 - np.hypot(*np.moveaxis(apart, 2, 0)) / (_REACH * sides.max(axis=2, initial=1.0))
    areas, others = sides.prod(axis=2), own.prod(axis=2)
    like = np.minimum(areas, others) >= _LIKE_SIZE * np.maximum(areas, others)
    found: NDArray[np.float64] = np.maximum(iou_matrix(expected, boxes), 0.5 * np.clip(near, 0, 1) * like)
    return found
