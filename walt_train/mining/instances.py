"""What a WALT-Net tells of every object in a frame, and how far each thing that it tells speaks for "seen whole".

The network looks twice, the second time at the mirrored picture: what it makes up it makes up otherwise there. What
it cannot see, that a post of the colour of the street cuts a leg off, the empty scene tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.bundle import MODEL, Bundle
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_edge.runtimes import Detections
from walt_edge.runtimes.network import Network
from walt_edge.runtimes.onnx_detector import letterbox
from walt_edge.runtimes.walt_onnx import WaltOnnx
from walt_edge.vision.amodal import choose
from walt_edge.vision.amodal_ops import AMODAL, OCCLUDER, THRESHOLD
from walt_train.mining.witness import Witness, show

Image = NDArray[np.uint8]

SCORE_MIN = 0.1
"""Who is seen less surely is nobody: not even a neighbour."""
_AGREE_MIN = 0.3
_NOTHING_CHANGED = 10  # grey levels from the empty scene
_RIM = 2
_CLEAR_PX = 8.0
_CROSS = np.ones((3, 3), np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One object in one frame as a network sees it.

    Attributes:
        label: Its class.
        score: 0..1.
        box_xyxy: Its amodal box, pixels of the frame.
        amodal: Its full extent.
        visible: What is seen of it.
        hidden: How likely anything hides the cell of it that is likeliest hidden, 0..1.
        second: The same object in the mirrored picture, mirrored back; None where it is not seen there.
        hidden_map: (h, w) how likely anything hides each cell of the box, 0..1.
    """

    label: Label
    score: float
    box_xyxy: tuple[float, float, float, float]
    amodal: PatchMask
    visible: PatchMask
    hidden: float
    second: Seen | None = None
    hidden_map: NDArray[np.float32] = field(default_factory=lambda: np.zeros((1, 1), np.float32))


class InstanceTeacher:
    """A WALT-Net as a teacher: of names, as any other, and of every object's layers.

    Args:
        bundle: The model.
        network: What runs it; None is ONNX Runtime on the CPU.
        witness: Who looks at each object by itself; None where nobody does.
    """

    def __init__(self, bundle: Bundle, network: Network | None = None, witness: Witness | None = None) -> None:
        self._size_wh = bundle.manifest.size_wh
        self._threshold = bundle.manifest.score_threshold
        self._name = bundle.manifest.name
        self._witness = witness
        self._network = network or WaltOnnx(bundle.files[MODEL], size_wh=self._size_wh, device="cpu", threads=1)

    @classmethod
    def read(cls, path: Path) -> InstanceTeacher:
        """Opens a bundle; the package's witness looks at what it sees.

        Raises:
            BundleError: It is missing or damaged.
            SessionError: Its model cannot be run.
        """
        return cls(Bundle.read(path), witness=Witness.packaged())

    @property
    def name(self) -> str:
        """The model's."""
        return self._name

    def __call__(self, bgr: Image) -> Detections:
        """Looks at one (H, W, 3) uint8 frame and tells boxes, as all teachers do."""
        seen = self._once(bgr)
        boxes = np.array([one.box_xyxy for one in seen], np.float64).reshape(-1, 4)
        return Detections(boxes, np.array([one.score for one in seen]), tuple(one.label for one in seen))

    def look(self, bgr: Image) -> list[Seen]:
        """All objects of an (H, W, 3) uint8 frame, surest first, each with its second look."""
        first = self._once(bgr)
        if not first:
            return []
        width = bgr.shape[1]
        mirrored = [_mirrored(one, width) for one in self._once(np.ascontiguousarray(bgr[:, ::-1]))]
        return [_with_second(one, mirrored) for one in first]

    def testify(self, found: Sequence[Seen], bgr: Image, empty_bgr: Image) -> list[float]:
        """How sure somebody who looks at each object alone is that it is whole, 0..1; 1 where nobody looks.

        Args:
            found: What `look` saw.
            bgr: (H, W, 3) the frame.
            empty_bgr: The empty scene in the frame's light, of the same shape.
        """
        if self._witness is None or not found:
            return [1.0] * len(found)
        return self._witness(np.stack([show(one, found, bgr, empty_bgr) for one in found]))

    def _once(self, bgr: Image) -> list[Seen]:
        width, height = self._size_wh
        picture, scale = letterbox(bgr, (height, width))
        found = self._network(picture)
        instances, chosen = choose(
            found.boxes_xyxy,
            found.scores,
            found.labels,
            found.maps,
            scale=scale,
            frame_wh=(bgr.shape[1], bgr.shape[0]),
            score_threshold=SCORE_MIN,
            strictly=True,  # a double would be somebody who hides whom it doubles
        )
        return _seen(instances, found.maps[chosen])


def _seen(instances: AmodalInstances, maps: NDArray[np.float32]) -> list[Seen]:
    hidden = (maps[:, OCCLUDER] * (maps[:, AMODAL] >= THRESHOLD)).max(axis=(1, 2), initial=0.0)
    x0, y0, x1, y1 = instances.boxes_xyxy.astype(float).T.tolist() if len(instances) else ([], [], [], [])
    return [
        Seen(Label(int(label)), float(score), box, amodal, visible, float(most), hidden_map=cells)
        for label, score, box, amodal, visible, most, cells in zip(
            instances.labels,
            instances.scores,
            zip(x0, y0, x1, y1, strict=True),
            instances.amodal,
            instances.visible,
            hidden,
            maps[:, OCCLUDER],
            strict=True,
        )
        if visible.area
    ]


def _mirrored(seen: Seen, width: int) -> Seen:
    x0, y0, x1, y1 = seen.box_xyxy
    box = (width - x1, y0, width - x0, y1)
    return replace(seen, box_xyxy=box, amodal=seen.amodal.mirrored(width), visible=seen.visible.mirrored(width))


def _with_second(seen: Seen, others: Sequence[Seen]) -> Seen:
    ious = [seen.amodal.iou(other.amodal) * (other.label is seen.label) for other in others]
    best = int(np.argmax(ious)) if ious else -1
    second = others[best] if best >= 0 and ious[best] >= _AGREE_MIN else None
    return replace(seen, second=second)


def evidence(
    one: Seen, all_seen: Sequence[Seen], difference: NDArray[np.uint8], frame_wh: tuple[int, int]
) -> dict[str, float]:
    """All that speaks for an object being seen whole, each 0..1, as `CropHeader.confidence_parts` are.

    Args:
        one: The object.
        all_seen: It and all others of the frame.
        difference: (H, W) grey levels from the empty scene.
        frame_wh: Size of the frame, pixels.
    """
    second = one.second
    inside, patch = _unchanged(one.amodal, difference)
    return {
        "network": one.score,
        "second look": second.score if second else 0.0,
        "agreement": one.amodal.iou(second.amodal) if second else 0.0,
        "occluder": 1.0 - one.hidden,
        "second occluder": 1.0 - second.hidden if second else 0.0,
        "changed": 1.0 - inside,
        "unbroken": 1.0 - min(1.0, 2.0 * patch),
        "behind nobody": 1.0 - min(1.0, 2.0 * _before(one, all_seen)),
        "border": clear_of_border(one.box_xyxy, frame_wh),
    }


def clear_of_border(box_xyxy: tuple[float, float, float, float], frame_wh: tuple[int, int]) -> float:
    """0 for a box that touches the frame's border, 1 from some pixels on."""
    x0, y0, x1, y1 = box_xyxy
    gap = min(x0, y0, frame_wh[0] - x1, frame_wh[1] - y1)
    return min(1.0, max(0.0, (gap - 1.0) / _CLEAR_PX))


def _unchanged(amodal: PatchMask, difference: NDArray[np.uint8]) -> tuple[float, float]:
    """Shares of the object's inside that show the empty scene: altogether, and the largest piece."""
    inner = cv2.erode(np.pad(amodal.mask, _RIM).astype(np.uint8), _CROSS, iterations=_RIM)[_RIM:-_RIM, _RIM:-_RIM] > 0
    area = int(np.count_nonzero(inner))
    if not area:
        return 0.0, 0.0
    x0, y0, x1, y1 = amodal.box_xyxy
    still = inner & (difference[y0:y1, x0:x1] < _NOTHING_CHANGED)
    pieces = cv2.connectedComponentsWithStats(cv2.morphologyEx(still.astype(np.uint8), cv2.MORPH_OPEN, _CROSS))[2]
    largest = int(pieces[1:, cv2.CC_STAT_AREA].max()) if len(pieces) > 1 else 0
    return np.count_nonzero(still) / area, largest / area


def _before(one: Seen, all_seen: Sequence[Seen]) -> float:
    """The largest share of the object where somebody else would be who stands nearer."""
    foot, area = one.box_xyxy[3], max(1, one.amodal.area)
    return max(
        (one.amodal.intersection(other.amodal) / area for other in all_seen if other.box_xyxy[3] > foot), default=0.0
    )
