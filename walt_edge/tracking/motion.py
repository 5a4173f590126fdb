"""How boxes move: Kalman filters of many objects at once.

A box is told by its ground contact (the middle of its lower edge), its width and its height. For amodal boxes all
four change smoothly, also while something passes before them, so each has a filter of its own with a place and a
speed: an integrated Ornstein-Uhlenbeck process, whose speed is forgotten with a time constant and driven by white
noise. Nothing couples the four; predicting and correcting take a few array operations for all objects together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

LEAST_SIDE_PX = 2.0
X, BOTTOM, WIDTH, HEIGHT = range(4)


class Motion:
    """Filters of N objects; row i of every array is object i.

    Attributes:
        mean: (N, 4, 2) ground contact x and y, width, height; each with its speed, pixels and pixels a second.
        cov: (N, 4, 3) variance of the place, covariance with the speed, variance of the speed.
    """

    def __init__(self) -> None:
        self.mean: Floats = np.zeros((0, 4, 2))
        self.cov: Floats = np.zeros((0, 4, 3))

    def __len__(self) -> int:
        return len(self.mean)

    def add(self, measured: Floats, place_std: Floats, speed_std: Floats) -> None:
        """Appends objects that are seen for the first time; each argument is (M, 4)."""
        mean = np.stack([measured, np.zeros_like(measured)], axis=2)
        cov = np.stack([place_std**2, np.zeros_like(measured), speed_std**2], axis=2)
        self.mean = np.concatenate([self.mean, mean])
        self.cov = np.concatenate([self.cov, cov])

    def keep(self, rows: Rows) -> None:
        """Drops all others."""
        self.mean, self.cov = self.mean[rows], self.cov[rows]

    def predict(self, elapsed_s: float, noise: Floats, memory_s: Floats) -> None:
        """Moves everything on in time.

        Args:
            elapsed_s: Since the last call, 0 or more.
            noise: (N, 4) spectral density of the acceleration, px^2/s^3.
            memory_s: (4,) in which a speed is forgotten.
        """
        kept = np.exp(-elapsed_s / memory_s)
        reach = memory_s * (1 - kept)
        self.mean[:, :, 0] += reach * self.mean[:, :, 1]
        self.mean[:, :, 1] *= kept
        pp, pv, vv = np.moveaxis(self.cov, 2, 0)
        self.cov = np.stack(
            [
                pp + 2 * reach * pv + reach**2 * vv + noise * elapsed_s**3 / 3,
                kept * (pv + reach * vv) + noise * elapsed_s**2 / 2,
                kept**2 * vv + noise * elapsed_s,
            ],
            axis=2,
        )
        np.maximum(self.mean[:, WIDTH:, 0], LEAST_SIDE_PX, out=self.mean[:, WIDTH:, 0])

    def correct(self, rows: Rows, measured: Floats, variance: Floats) -> None:
        """Takes in what was measured of some rows; both (M, 4), the variance of infinite ones tells nothing."""
        pp, pv, vv = np.moveaxis(self.cov[rows], 2, 0)
        share = pp / (pp + variance)
        pull = pv / (pp + variance)
        innovation = measured - self.mean[rows, :, 0]
        self.mean[rows, :, 0] += share * innovation
        self.mean[rows, :, 1] += pull * innovation
        self.cov[rows] = np.stack([(1 - share) * pp, (1 - share) * pv, vv - pull * pv], axis=2)
        self.mean[rows, WIDTH:, 0] = np.maximum(self.mean[rows, WIDTH:, 0], LEAST_SIDE_PX)

    def restrict(self, row: int, place: Floats, variance: Floats) -> None:
        """Replaces the belief in a ground contact, (2,) each, by one whose moments are known; speeds follow.

        For a Gaussian of place and speed whose place is given another distribution, the speed's moments are those of
        the regression of speed on place.
        """
        pp, pv, vv = self.cov[row, :2].T
        slope = pv / pp
        self.mean[row, :2, 1] += slope * (place - self.mean[row, :2, 0])
        self.mean[row, :2, 0] = place
        self.cov[row, :2] = np.stack([variance, slope * variance, vv - slope * (pp - variance) * slope], axis=1)

    def boxes_xyxy(self) -> Floats:
        """(N, 4) boxes; they may leave the frame."""
        return boxes_of(self.mean[:, :, 0])


def boxes_of(states: Floats) -> Floats:
    """(..., 4) xyxy of (..., 4) ground contact x and y, width, height."""
    x, bottom, width, height = np.moveaxis(states, -1, 0)
    return np.stack([x - width / 2, bottom - height, x + width / 2, bottom], axis=-1)


def states_of(boxes_xyxy: Floats) -> Floats:
    """(..., 4) ground contact x and y, width, height of (..., 4) xyxy."""
    x0, y0, x1, y1 = np.moveaxis(boxes_xyxy, -1, 0)
    sides = np.maximum(np.stack([x1 - x0, y1 - y0], axis=-1), LEAST_SIDE_PX)
    return np.concatenate([np.stack([(x0 + x1) / 2, y1], axis=-1), sides], axis=-1)
