"""Does a quantised network still see the same objects with the same masks?

Integers lose more than rounding does, so `walt_edge.golden` would refuse what is good enough to be used. Two figures
are asked of whole pictures instead: the mean IoU of amodal masks of the instances that both find, and the F1 of
finding the same instances. An instance is found in both where the labels are the same and the masks overlap by half
at least (`walt_edge.golden.matched`). One that only one of them finds counts against F1, unless it scores within
`walt_edge.golden.SCORE` (0.02) of the threshold: a hair moves such an instance to the other side, in float32 too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.golden import SCORE, mask_iou, matched
from walt_edge.runtimes.network import Network, look
from walt_export.errors import ExportError

MASK_IOU: Final = 0.95
F1: Final = 0.98

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class QuantizedParity:
    """How far a quantised network agrees with the one it was made from.

    Attributes:
        ious: Of the amodal masks of each instance that both find.
        lost: How many only the float network finds.
        extra: How many only the quantised network finds.
        worst: The disagreement that costs most, in words with picture and object; "" where there is none.
    """

    ious: tuple[float, ...]
    lost: int
    extra: int
    worst: str

    @property
    def mask_iou(self) -> float:
        """The mean, 0..1; 0 where nothing is found in both."""
        return sum(self.ious) / len(self.ious) if self.ious else 0.0

    @property
    def f1(self) -> float:
        """Of finding what the float network finds, 0..1."""
        found = 2 * len(self.ious)
        return found / (found + self.lost + self.extra) if found else 0.0

    @property
    def passes(self) -> bool:
        """Whether both figures are good enough."""
        return self.mask_iou >= MASK_IOU and self.f1 >= F1

    def figures(self) -> dict[str, float]:
        """For the manifest: rounded to the worse side."""
        return {
            "int8_mask_iou": math.floor(self.mask_iou * 1000) / 1000,
            "int8_f1": math.floor(self.f1 * 1000) / 1000,
        }

    def __str__(self) -> str:
        return (
            f"mean amodal mask IoU {self.mask_iou:.3f} (at least {MASK_IOU}) and instance F1 {self.f1:.3f} "
            f"(at least {F1}) of {len(self.ious)} instances in both, {self.lost} lost, {self.extra} added"
        )


def check_quantized(
    expected: Network,
    found: Network,
    pictures: Mapping[str, Image],
    *,
    size_wh: tuple[int, int],
    score_threshold: float,
) -> QuantizedParity:
    """Compares two networks on whole pictures; see the module's story for what counts.

    Args:
        expected: In float.
        found: Quantised.
        pictures: By name, (H, W, 3) uint8 BGR of any size; none that calibrated.
        size_wh: The networks' input, pixels.
        score_threshold: What scores less is not an instance.

    Raises:
        ExportError: A figure is below its limit; it names the worst picture and object. Or the pictures show
            nothing, which proves nothing.
    """
    parity = compare(answers(expected, pictures, size_wh=size_wh, score_threshold=score_threshold), found, pictures)
    if not parity.passes:
        raise ExportError(f"INT8 loses too much: {parity}; worst: {parity.worst}: export without --int8")
    return parity


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a network sees in pictures, and how it was asked.

    Attributes:
        instances: By the pictures' names.
        size_wh: The network's input, pixels.
        score_threshold: Of the instances.
    """

    instances: dict[str, AmodalInstances]
    size_wh: tuple[int, int]
    score_threshold: float


def answers(
    network: Network, pictures: Mapping[str, Image], *, size_wh: tuple[int, int], score_threshold: float
) -> Answers:
    """Asks a float network once, for several quantised ones to be compared with.

    Raises:
        ExportError: It finds nothing.
    """
    seen = {
        name: look(network, picture, size_wh=size_wh, score_threshold=score_threshold, strictly=True)
        for name, picture in pictures.items()
    }
    if not any(len(instances) for instances in seen.values()):
        raise ExportError(
            f"the network finds nothing in the {len(pictures)} pictures that judge INT8: "
            "give pictures with people or vehicles (--calibrate FOLDER, --golden FOLDER)"
        )
    return Answers(seen, size_wh, score_threshold)


def compare(expected: Answers, found: Network, pictures: Mapping[str, Image]) -> QuantizedParity:
    """How far a quantised network agrees, without judging it."""
    ious: list[float] = []
    lost = extra = 0
    worst = (0.0, "")
    for name, picture in pictures.items():
        before = expected.instances[name]
        after = look(
            found, picture, size_wh=expected.size_wh, score_threshold=expected.score_threshold, strictly=True
        )
        pairs = matched(after, before)
        for new, old in pairs:
            ious.append(mask_iou(after.amodal[new], before.amodal[old]))
            worst = max(worst, (1 - ious[-1], f"{name}, {_named(before, old)}: IoU {ious[-1]:.2f}"))
        alone = _counted(before, (old for _, old in pairs), expected.score_threshold)
        new_alone = _counted(after, (new for new, _ in pairs), expected.score_threshold)
        lost, extra = lost + len(alone), extra + len(new_alone)
        worst = max([worst, *((1 + float(before.scores[i]), f"{name}, {_named(before, i)}: lost") for i in alone)])
        worst = max([worst, *((1 + float(after.scores[i]), f"{name}, {_named(after, i)}: added") for i in new_alone)])
    return QuantizedParity(tuple(ious), lost, extra, worst[1])


def _counted(instances: AmodalInstances, paired: Iterable[int], score_threshold: float) -> list[int]:
    """Those without a partner that lie more than a hair above the threshold."""
    alone = set(range(len(instances))).difference(paired)
    return [index for index in sorted(alone) if instances.scores[index] > score_threshold + SCORE]


def _named(instances: AmodalInstances, index: int) -> str:
    box = ", ".join(f"{side:.0f}" for side in instances.boxes_xyxy[index])
    title = Label(int(instances.labels[index])).title
    return f"{title} of score {instances.scores[index]:.2f} at ({box})"
