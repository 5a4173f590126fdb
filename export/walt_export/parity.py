"""Does the exported graph answer as the trained network does? If not, there is no bundle.

Both look at the golden pictures and at noise, which reaches what pictures of a street do not; what they find is
compared one by one. The network's own candidates pass the reference of amodal suppression first, which the graph has
inside. A refusal names the picture and the object, and can be drawn (`walt_export.draw`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from walt_edge.contract.instances import AmodalInstances, InstancesError
from walt_edge.contract.labels import Label
from walt_edge.golden import difference, mask_iou, matched
from walt_edge.runtimes.network import Candidates, Network
from walt_edge.runtimes.onnx_detector import letterbox
from walt_edge.vision.amodal_ops import amodal_nms
from walt_export.errors import ExportError
from walt_train.model.waltnet import WaltNet

BOX_PX: Final = 0.1
SCORE: Final = 1e-3
LOGIT: Final = 1e-3
"""Of a map's cell. It moves a probability by a quarter of that at most: two maps lie on different sides of one half
only where they are that near to it, and so do pasted masks, which are means of them.
"""
_SURE = 0.05
"""Probabilities nearer to 0 or 1 count as that near: some methods' layers are quotients, of which rounding moves the
logit there, and the mask nowhere.
"""
_SAME_BOX_PX = 1.0
_LOST_SHARE = 0.1
_NOISE_PICTURES = 3

Picture = NDArray[np.uint8]


class ParityError(ExportError):
    """A graph differs from its network.

    Attributes:
        words: What differs, with the picture's name.
        picture: Its name.
        image: The picture, (H, W, 3) uint8 BGR.
        answers: What the network and what the graph found in it.
        box_xyxy: Of the object, pixels of the picture; None where it is not about one.
    """

    def __init__(self, words: str, picture: str, image: Picture, answers: Answers, box: Box | None = None) -> None:
        self.words = f"{picture}{words}"
        super().__init__(f"{self.words}: not exported; report it")
        self.picture = picture
        self.image = image
        self.answers = answers
        self.box_xyxy = box


Answers = tuple[AmodalInstances, AmodalInstances]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Parity:
    """The largest differences that were found.

    Attributes:
        box_px: Of a box's side, pixels of the input.
        score: 0..1.
        logit: Of a map's cell.
        mask_iou: The smallest IoU of two masks in the frame.
    """

    box_px: float = 0.0
    score: float = 0.0
    logit: float = 0.0
    mask_iou: float = 1.0

    def __or__(self, other: Parity) -> Parity:
        """The worse of both, figure by figure."""
        return Parity(
            max(self.box_px, other.box_px),
            max(self.score, other.score),
            max(self.logit, other.logit),
            min(self.mask_iou, other.mask_iou),
        )

    def figures(self) -> dict[str, float]:
        """For the manifest: rounded to the worse side, so that noise far below tolerance changes no bundle."""
        return {
            "box_px": _up(self.box_px, 3),
            "score": _up(self.score, 5),
            "logit": _up(self.logit, 5),
            "mask_iou": math.floor(self.mask_iou * 1000) / 1000,
        }


class TorchNetwork:
    """The trained network itself and the reference of amodal suppression, as a runtime."""

    def __init__(self, net: WaltNet) -> None:
        self._net = net

    def __call__(self, image: Picture) -> Candidates:
        """Looks at one (H, W, 3) uint8 BGR picture of the network's size."""
        boxes, scores, labels, maps = (
            value.numpy() for value in self._net.predict(torch.from_numpy(image[None]))[:4]
        )
        kept = amodal_nms(boxes, labels, maps)
        return Candidates(boxes[kept], scores[kept], labels[kept], maps[kept])


def check_parity(
    expected: Network,
    found: Network,
    pictures: Mapping[str, Picture],
    *,
    size_wh: tuple[int, int],
    score_threshold: float,
) -> Parity:
    """Compares two networks on pictures of any size, by name, and on noise.

    Raises:
        ParityError: A difference above tolerance, with the figure.
    """
    noise = np.random.default_rng(0)
    noises = {
        f"noise {index}": noise.integers(0, 256, (size_wh[1], size_wh[0], 3), dtype=np.uint8)
        for index in range(_NOISE_PICTURES)
    }
    worst = Parity()
    for name, picture in {**pictures, **noises}.items():
        worst = worst | _Comparison(name, picture, expected, found, size_wh, score_threshold).parity()
    return worst


class _Comparison:
    """Two networks before one picture."""

    def __init__(
        self,
        name: str,
        picture: Picture,
        expected: Network,
        found: Network,
        size_wh: tuple[int, int],
        threshold: float,
    ) -> None:
        image, self._scale = letterbox(picture, (size_wh[1], size_wh[0]))
        self._name, self._picture, self._threshold = name, picture, threshold
        self._expected, self._found = expected(image), found(image)

    def parity(self) -> Parity:
        """Raises ParityError."""
        worst = Parity()
        for one, other in self._pairs():
            worst = worst | self._compare(one, other)
        before, after = self._instances(self._expected), self._instances(self._found)
        words = difference(after, before, score_threshold=self._threshold)
        if words:
            raise self._refusal(f": the exported graph's masks differ from torch's: {words}")
        ious = [mask_iou(after.amodal[one], before.amodal[other]) for one, other in matched(after, before)]
        return worst | Parity(mask_iou=min(ious, default=1.0))

    def _pairs(self) -> list[tuple[int, int]]:
        expected, found = self._expected, self._found
        pairs, lost = _match(expected, found)
        # Two candidates whose scores or overlaps are equal but for rounding may change places at a limit. Where that
        # could show in an answer, or happens often, it is no rounding.
        most = max(1, int(_LOST_SHARE * max(len(expected.scores), len(found.scores))))
        if len(lost) > most or any(score >= self._threshold for score in lost):
            raise self._refusal(
                f": the exported graph gives {len(found.scores)} instances and torch {len(expected.scores)}, "
                f"{len(pairs)} of them the same"
            )
        return pairs

    def _compare(self, one: int, other: int) -> Parity:
        expected, found = self._expected, self._found
        parity = Parity(
            _largest(expected.boxes_xyxy[one], found.boxes_xyxy[other]),
            _largest(expected.scores[one], found.scores[other]),
            _largest(_logits(expected.maps[one]), _logits(found.maps[other])),
        )
        for name, limit in {"box_px": BOX_PX, "score": SCORE, "logit": LOGIT}.items():
            value = getattr(parity, name)
            if not value <= limit:
                x0, y0, x1, y1 = (expected.boxes_xyxy[one] / self._scale).tolist()
                title = Label(int(expected.labels[one])).title
                raise self._refusal(
                    f", object {one + 1} ({title} at {x0:.0f},{y0:.0f}): the exported graph differs from torch: "
                    f"{name} by {value:.2g}, allowed {limit:g}",
                    (x0, y0, x1, y1),
                )
        return parity

    def _refusal(self, words: str, box: Box | None = None) -> ParityError:
        answers = []
        for candidates in (self._expected, self._found):
            try:
                answers.append(self._instances(candidates))
            except InstancesError:  # numbers that are none cannot be drawn
                answers.append(AmodalInstances.empty(self._frame_wh))
        return ParityError(words, self._name, self._picture, (answers[0], answers[1]), box)

    def _instances(self, candidates: Candidates) -> AmodalInstances:
        return candidates.instances(
            scale=self._scale, frame_wh=self._frame_wh, score_threshold=self._threshold, strictly=True
        )

    @property
    def _frame_wh(self) -> tuple[int, int]:
        return self._picture.shape[1], self._picture.shape[0]


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


def _largest(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.abs(one - other).max(initial=0))


def _logits(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    shares = np.clip(maps.astype(np.float64), _SURE, 1 - _SURE)
    return np.asarray(np.log(shares / (1 - shares)), np.float32)


def _up(value: float, digits: int) -> float:
    scale = 10.0**digits
    return math.ceil(value * scale) / scale
