"""How well two people agree who drew on the same frames, neither seeing what the other drew."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Final

import msgspec
import numpy as np

from walt_edge.contract.masks import Mask
from walt_train.data.depth import Region
from walt_train.loop.labels.drawing import Drawing, read_drawing, regions_of
from walt_train.loop.labels.drawn import Drawn

MATCH_IOU: Final = 0.5
"""Two outlines that share less are not meant for the same object."""


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """How two people's truth differs; of what a model is measured against, nothing can be better.

    Attributes:
        frames: Drawn on by two people or more.
        matched: Objects that both outlined.
        unmatched: Objects that one of two outlined alone.
        amodal_iou: Mean of the matched, whole outlines; 0..1.
        visible_iou: Mean of the matched, what is seen of them.
        same_label: Part of the matched that have the same class.
    """

    frames: int = 0
    matched: int = 0
    unmatched: int = 0
    amodal_iou: float | None = None
    visible_iou: float | None = None
    same_label: float | None = None

    @property
    def line(self) -> str:
        """For people."""
        if not self.frames:
            return "no frame was drawn on by two people: how well they agree is not known"
        if self.amodal_iou is None or self.visible_iou is None or self.same_label is None:
            return f"{self.frames} frames drawn on by two people, who outlined nothing alike"
        return (
            f"{self.frames} frames drawn on by two people: IoU {self.amodal_iou:.3f} of whole outlines, "
            f"{self.visible_iou:.3f} of what is seen, {100 * self.same_label:.0f} % of the same class; "
            f"{self.unmatched} of {self.matched + self.unmatched} objects drawn by one alone"
        )


def agreement_of(drawn: Iterable[Drawn]) -> Agreement:
    """Compares what people finished on the same frames; takes the newest version of each person."""
    groups: dict[str, list[Drawing]] = {}
    for one in drawn:
        if one.state == "done":
            size_wh = msgspec.json.decode(one.drawing, type=_Size).size_wh
            groups.setdefault(one.frame, []).append(read_drawing(one.drawing, size_wh))
    pairs = [pair for group in groups.values() for pair in combinations(group, 2)]
    rows: list[tuple[float, float, bool]] = []
    unmatched = 0
    for first, second in pairs:
        found, alone = _compared(_objects(first), _objects(second))
        rows += found
        unmatched += alone
    frames = sum(len(group) > 1 for group in groups.values())
    if not rows:
        return Agreement(frames=frames, unmatched=unmatched)
    amodal, visible, same = (float(value) for value in np.mean(np.array(rows, dtype=np.float64), axis=0))
    return Agreement(
        frames=frames,
        matched=len(rows),
        unmatched=unmatched,
        amodal_iou=amodal,
        visible_iou=visible,
        same_label=same,
    )


class _Size(msgspec.Struct, frozen=True):
    size_wh: tuple[int, int]


def _objects(drawing: Drawing) -> list[Region]:
    return [region for region in regions_of(drawing) if region.label is not None]


def _compared(first: Sequence[Region], second: Sequence[Region]) -> tuple[list[tuple[float, float, bool]], int]:
    """(amodal IoU, visible IoU, same class) of each pair, the best first; and how many have no other."""
    ious = {(i, j): iou(a.amodal, b.amodal) for i, a in enumerate(first) for j, b in enumerate(second)}
    rows: list[tuple[float, float, bool]] = []
    left, right = set(range(len(first))), set(range(len(second)))
    for (i, j), value in sorted(ious.items(), key=lambda one: -one[1]):
        if value >= MATCH_IOU and i in left and j in right:
            left.remove(i)
            right.remove(j)
            a, b = first[i], second[j]
            rows.append((value, iou(a.visible, b.visible), a.label == b.label))
    return rows, len(left) + len(right)


def iou(first: Mask, second: Mask) -> float:
    """Of two masks of one size; 1 of two empty ones."""
    union = np.count_nonzero(first | second)
    return float(np.count_nonzero(first & second) / union) if union else 1.0
