"""What it says of an object that it is not seen: it left, or it is where nobody can see it.

The place of an unseen object is a Gaussian. At the nodes of a Gauss-Hermite rule its amodal box is laid over the
masks of everything nearer, and the share of it that would be seen gives the chance that the detector had found it
there. Bayes' rule then tells two things: how much less likely it is that the object is still here at all, and where
it must be if it is: behind the bus, and slower than it was, once the place where it should have come out is empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray

from walt_edge.contract.masks import PatchMask
from walt_edge.tracking.motion import boxes_of

Floats = NDArray[np.float64]


def _nodes() -> tuple[Floats, Floats]:
    """(K, 2) offsets in standard deviations and their (K,) weights: finer along x, where things move most."""
    (across, of_across), (down, of_down) = hermegauss(7), hermegauss(3)
    offsets = np.stack(np.meshgrid(across, down, indexing="ij"), axis=-1).reshape(-1, 2)
    weights = np.outer(of_across, of_down).ravel()
    return offsets, weights / weights.sum()


_OFFSETS, _WEIGHTS = _nodes()
_ACROSS, _DOWN = np.meshgrid(np.linspace(0.2, 0.8, 4), np.linspace(0.08, 0.92, 6))
_BODY = np.stack([_ACROSS.ravel(), _DOWN.ravel()], axis=-1)
"""(P, 2) points of an object by shares of its box."""
_SAME_DEPTH = 0.05
_SEEN_FROM, _SEEN_AT = 0.15, 0.5
"""Of an object: below the first share nobody finds it, above the second everybody."""


@dataclass(frozen=True, slots=True)
class Cover:
    """Something that can hide what is behind it.

    Attributes:
        mask: Where it is.
        bottom: y of its ground contact, pixels: it hides what stands farther up in the frame.
        owner: Id of its track; None for a static thing.
    """

    mask: PatchMask
    bottom: float
    owner: int | None

    def moved(self, dx: float, dy: float) -> Cover:
        """The same elsewhere."""
        mask = PatchMask(self.mask.x + round(dx), self.mask.y + round(dy), self.mask.mask)
        return Cover(mask, self.bottom + dy, self.owner)


@dataclass(frozen=True, slots=True, eq=False)
class Unseen:
    """What follows from not having seen an object.

    Attributes:
        likelihood: Chance of not seeing it if it is here, 0..1.
        place: (2,) ground contact that is expected now.
        variance: (2,) of it.
        hidden_share: How much of the object is expected to be covered, 0..1.
        owner: Id of the track that covers most of it, None where that is a static thing or nothing.
    """

    likelihood: float
    place: Floats
    variance: Floats
    hidden_share: float
    owner: int | None


def not_seen(state: Floats, variance: Floats, covers: Sequence[Cover], found: float) -> Unseen:
    """Weighs where an object can be that was looked for and not found.

    Args:
        state: (4,) its ground contact, width and height as predicted.
        variance: (2,) of the ground contact.
        covers: All that may hide it.
        found: Chance that the detector finds it where it is seen whole, 0..1.
    """
    states = np.tile(state, (len(_OFFSETS), 1))
    states[:, :2] += _OFFSETS * np.sqrt(variance)
    hidden, by = _hidden(states, covers)
    clear = np.clip((1 - hidden - _SEEN_FROM) / (_SEEN_AT - _SEEN_FROM), 0, 1)
    joint = _WEIGHTS * (1 - found * clear)
    likelihood = float(joint.sum())
    posterior = joint / likelihood
    place = posterior @ states[:, :2]
    spread = posterior @ (states[:, :2] - place) ** 2
    owner = max(by, key=lambda one: float(posterior @ by[one]), default=None)
    return Unseen(likelihood, place, spread, float(posterior @ hidden), owner)


def _hidden(states: Floats, covers: Sequence[Cover]) -> tuple[Floats, dict[int | None, Floats]]:
    """(K,) how much of the object each hypothesis has hidden, and by whom."""
    boxes = boxes_of(states)
    points = boxes[:, None, :2] + _BODY * (boxes[:, None, 2:] - boxes[:, None, :2])
    columns, rows = np.floor(points).astype(np.int64).transpose(2, 0, 1)
    covered = np.zeros(columns.shape, bool)
    by: dict[int | None, Floats] = {}
    low, high = points.min(axis=(0, 1)), points.max(axis=(0, 1))
    farthest = float((states[:, 1] - _SAME_DEPTH * states[:, 3]).min())
    for cover in covers:
        x0, y0, x1, y1 = cover.mask.box_xyxy
        if x1 <= low[0] or x0 > high[0] or y1 <= low[1] or y0 > high[1] or cover.bottom < farthest:
            continue
        nearer = cover.bottom >= states[:, 1] - _SAME_DEPTH * states[:, 3]
        inside = (columns >= x0) & (columns < x1) & (rows >= y0) & (rows < y1) & nearer[:, None]
        inside[inside] = cover.mask.mask[rows[inside] - y0, columns[inside] - x0]
        by[cover.owner] = np.maximum(by.get(cover.owner, 0.0), inside.mean(axis=1))
        covered |= inside
    return covered.mean(axis=1), {owner: share for owner, share in by.items() if share.any()}
