"""Does the exported graph answer as the trained network does?

Both look at the golden pictures and at noise, which reaches what pictures of a street do not; their candidates are
compared one by one, and so are the masks that come of them. A graph that differs by more than rounding is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from walt_edge.contract.instances import AmodalInstances
from walt_edge.golden import difference, mask_iou, matched
from walt_edge.runtimes.network import Candidates, Network
from walt_edge.runtimes.onnx_detector import letterbox
from walt_export.errors import ExportError
from walt_train.model.waltnet import WaltNet

BOX_PX: Final = 0.05
SCORE: Final = 1e-3
MAP: Final = 1e-3
_SAME_BOX_PX = 1.0
_LOST_SHARE = 0.1
_NOISE_PICTURES = 3


@dataclass(frozen=True, slots=True)
class Parity:
    """The largest differences that were found.

    Attributes:
        box_px: Of a box's side, pixels of the input.
        score: 0..1.
        map: Of a map's cell, 0..1.
        mask_iou: The smallest IoU of two masks in the frame.
    """

    box_px: float = 0.0
    score: float = 0.0
    map: float = 0.0
    mask_iou: float = 1.0

    def __or__(self, other: Parity) -> Parity:
        """The worse of both, figure by figure."""
        return Parity(
            max(self.box_px, other.box_px),
            max(self.score, other.score),
            max(self.map, other.map),
            min(self.mask_iou, other.mask_iou),
        )

    def figures(self) -> dict[str, float]:
        """For the manifest: rounded to the worse side, so that noise far below tolerance changes no bundle."""
        return {
            "box_px": _up(self.box_px, 3),
            "score": _up(self.score, 5),
            "map": _up(self.map, 5),
            "mask_iou": math.floor(self.mask_iou * 1000) / 1000,
        }


class TorchNetwork:
    """The trained network itself, as a runtime."""

    def __init__(self, net: WaltNet) -> None:
        self._net = net

    def __call__(self, image: NDArray[np.uint8]) -> Candidates:
        """Looks at one (H, W, 3) uint8 BGR picture of the network's size."""
        boxes, scores, labels, maps = self._net.predict(torch.from_numpy(image[None]))[:4]
        return Candidates(boxes.numpy(), scores.numpy(), labels.numpy(), maps.numpy())


def check_parity(
    expected: Network,
    found: Network,
    pictures: Sequence[NDArray[np.uint8]],
    *,
    size_wh: tuple[int, int],
    score_threshold: float,
) -> Parity:
    """Compares two networks on pictures of any size and on noise.

    Raises:
        ExportError: A difference above tolerance, with the figure.
    """
    noise = np.random.default_rng(0)
    noises = [noise.integers(0, 256, (size_wh[1], size_wh[0], 3), dtype=np.uint8) for _ in range(_NOISE_PICTURES)]
    worst = Parity()
    for picture in [*pictures, *noises]:
        image, scale = letterbox(picture, (size_wh[1], size_wh[0]))
        one, other = expected(image), found(image)
        worst = worst | _compare_candidates(one, other, score_threshold)
        wh = (picture.shape[1], picture.shape[0])
        before, after = (c.instances(scale=scale, frame_wh=wh, score_threshold=score_threshold) for c in (one, other))
        worst = worst | _compare_masks(before, after, score_threshold)
    return worst


def _compare_candidates(expected: Candidates, found: Candidates, score_threshold: float) -> Parity:
    pairs, lost = _match(expected, found)
    # Two candidates whose scores or overlaps are equal but for rounding may change places at a limit. Where that
    # could show in an answer, or happens often, it is no rounding.
    most = max(1, int(_LOST_SHARE * max(len(expected.scores), len(found.scores))))
    if len(lost) > most or any(score >= score_threshold for score in lost):
        raise ExportError(
            f"the exported graph gives {len(found.scores)} candidates and torch {len(expected.scores)}, "
            f"{len(pairs)} of them the same: not exported; report it"
        )
    if not pairs:
        return Parity()
    one, other = (list(side) for side in zip(*pairs, strict=True))
    parity = Parity(
        _largest(expected.boxes_xyxy[one], found.boxes_xyxy[other]),
        _largest(expected.scores[one], found.scores[other]),
        _largest(expected.maps[one], found.maps[other]),
    )
    _check(parity)
    return parity


def _match(expected: Candidates, found: Candidates) -> tuple[list[tuple[int, int]], list[float]]:
    """Pairs of the same label and place, and the scores of what has no partner."""
    pairs: list[tuple[int, int]] = []
    free = np.ones(len(found.scores), bool)
    for index, box in enumerate(expected.boxes_xyxy):
        apart = np.abs(found.boxes_xyxy - box).max(axis=1, initial=0)
        apart[~free | (found.labels != expected.labels[index])] = np.inf
        best = int(apart.argmin()) if apart.size else -1
        if best >= 0 and apart[best] <= _SAME_BOX_PX:
            pairs.append((index, best))
            free[best] = False
    alone = set(range(len(expected.scores))) - {one for one, _ in pairs}
    return pairs, [float(expected.scores[index]) for index in sorted(alone)] + found.scores[free].tolist()


def _check(parity: Parity) -> None:
    limits = {"box_px": BOX_PX, "score": SCORE, "map": MAP}
    for name, limit in limits.items():
        value = getattr(parity, name)
        if not value <= limit:
            raise ExportError(
                f"the exported graph differs from torch: {name} by {value:.2g}, allowed {limit:g}: "
                "not exported; report it"
            )


def _compare_masks(expected: AmodalInstances, found: AmodalInstances, score_threshold: float) -> Parity:
    words = difference(found, expected, score_threshold=score_threshold)
    if words:
        raise ExportError(f"the exported graph's masks differ from torch's: {words}: not exported; report it")
    ious = [mask_iou(found.amodal[one], expected.amodal[other]) for one, other in matched(found, expected)]
    return Parity(mask_iou=min(ious, default=1.0))


def _largest(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.abs(one - other).max(initial=0))


def _up(value: float, digits: int) -> float:
    scale = 10.0**digits
    return math.ceil(value * scale) / scale
