"""Peers that trackers are held against: SORT's rule on boxes, written from its description.

SORT (Bewley et al. 2016): a Kalman filter with constant velocity on centre, area and aspect ratio; the assignment
maximises IoU, pairs below 0.3 are refused; a track ends when it has not been found for `patience_s`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from walt_edge.contract.instances import AmodalInstances
from walt_edge.watching.tracking import iou_matrix

Floats = NDArray[np.float64]

_LEAST_IOU = 0.3
_SEE = np.eye(4, 7)
_SEE_NOISE = np.diag([1.0, 1.0, 10.0, 10.0])
_MOVE = np.eye(7) + np.eye(7, k=4)
_MOVE_NOISE = np.diag([1.0, 1.0, 1.0, 1.0, 0.01, 0.01, 0.0001])
_BORN = np.diag([10.0, 10.0, 10.0, 10.0, 1e4, 1e4, 1e4])


class _Box:
    """One track: x, y, area, aspect ratio, and the speeds of the first three, a frame."""

    def __init__(self, number: int, box: Floats, time_s: float) -> None:
        self.number, self.seen_s, self.hits = number, time_s, 1
        self.mean, self.cov = np.concatenate([_measured(box), np.zeros(3)]), _BORN.copy()

    def predict(self) -> Floats:
        if self.mean[2] + self.mean[6] <= 0:
            self.mean[6] = 0.0
        self.mean = _MOVE @ self.mean
        self.cov = _MOVE @ self.cov @ _MOVE.T + _MOVE_NOISE
        return self.box()

    def correct(self, box: Floats, time_s: float) -> None:
        gain = self.cov @ _SEE.T @ np.linalg.inv(_SEE @ self.cov @ _SEE.T + _SEE_NOISE)
        self.mean = self.mean + gain @ (_measured(box) - _SEE @ self.mean)
        self.cov = (np.eye(7) - gain @ _SEE) @ self.cov
        self.seen_s, self.hits = time_s, self.hits + 1

    def box(self) -> Floats:
        x, y, area, ratio = self.mean[:4]
        width = np.sqrt(max(area, 1.0) * max(ratio, 0.01))
        height = max(area, 1.0) / width
        return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


class Sort:
    """Follows boxes by IoU alone.

    Args:
        patience_s: How long a track waits to be found again.
        sure_score: Detections below it are left out.
    """

    def __init__(self, patience_s: float, sure_score: float) -> None:
        self._patience_s, self._sure = patience_s, sure_score
        self._boxes: list[_Box] = []
        self._next = 1

    def update(self, instances: AmodalInstances, time_s: float) -> dict[int, int]:
        """The track of each detection that has one: {instance: track}; only those that were found twice."""
        columns = np.flatnonzero(instances.scores >= self._sure)
        boxes = instances.boxes_xyxy[columns].astype(np.float64)
        expected = np.array([box.predict() for box in self._boxes]).reshape(-1, 4)
        ious = iou_matrix(expected, boxes)
        answer, taken = {}, set()
        for row, column in zip(*linear_sum_assignment(ious, maximize=True), strict=True):
            if ious[row, column] >= _LEAST_IOU:
                self._boxes[row].correct(boxes[column], time_s)
                taken.add(int(column))
                answer[int(columns[column])] = self._boxes[row].number
        for column in set(range(len(boxes))) - taken:
            self._boxes.append(_Box(self._next, boxes[column], time_s))
            self._next += 1
        self._boxes = [box for box in self._boxes if time_s - box.seen_s <= self._patience_s]
        return answer


def _measured(box: Floats) -> Floats:
    x0, y0, x1, y1 = box
    width, height = max(x1 - x0, 1.0), max(y1 - y0, 1.0)
    return np.array([(x0 + x1) / 2, (y0 + y1) / 2, width * height, width / height])
