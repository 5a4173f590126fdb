"""On rendered streets the truth is known: how much of "seen whole" was whole, and how good the silhouettes are."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask, Rle, decode_rle
from walt_train.loop.report.evidence import Clip, ReportError

WHOLE_OCCLUSION = 0.02
"""An object counts as whole up to this occlusion fraction: a pole's edge is not worth a refusal."""
MATCH_IOU = 0.3
_Z95 = 1.959964


class TrueObject(msgspec.Struct, frozen=True):
    """What the report needs of an annotation."""

    image_id: int
    segmentation: Rle
    occlusion_fraction: float
    track_id: int
    category_id: int


class TrueImage(msgspec.Struct, frozen=True):
    """What the report needs of an image."""

    id: int
    file_name: str


class _Annotations(msgspec.Struct, frozen=True):
    images: list[TrueImage]
    annotations: list[TrueObject]


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """A stored crop beside the true object that it shows best.

    Attributes:
        clip: The crop.
        frame: Index of its frame in the street.
        truth: The object, or None if no object is where the crop is.
        true_mask: Its amodal mask within the crop's image, or None.
        iou: Of the silhouette and the amodal mask, over the whole frame.
    """

    clip: Clip
    frame: int
    truth: TrueObject | None
    true_mask: Mask | None
    iou: float

    @property
    def is_whole(self) -> bool:
        """Whether the object was indeed unoccluded."""
        return self.truth is not None and self.truth.occlusion_fraction <= WHOLE_OCCLUSION

    @property
    def is_label_right(self) -> bool:
        """Whether the class is right."""
        return self.truth is not None and self.truth.category_id == int(self.clip.header.label)


class ClassIou(msgspec.Struct, frozen=True):
    """Silhouettes against the amodal truth, of one class."""

    label: str
    crops: int
    mean_iou: float
    median_iou: float


class TruthReport(msgspec.Struct, frozen=True, kw_only=True):
    """The truth's verdict.

    Attributes:
        crops: How many stored crops were judged.
        whole: How many of them show an object that was indeed unoccluded.
        precision: whole / crops.
        precision_95: Wilson's interval of it.
        unmatched: How many show nothing that is in the truth; they count as not whole, with an IoU of 0.
        labels_right: How many have the right class.
        objects: Distinct true objects among them.
        true_objects: Distinct objects in the street.
        iou: By class, then all together.
    """

    crops: int
    whole: int
    precision: float
    precision_95: tuple[float, float]
    unmatched: int
    labels_right: int
    objects: int
    true_objects: int
    iou: list[ClassIou]


class Truth:
    """The annotations of a rendered street.

    Args:
        path: `annotations.json`.
        fps: Frames a second of the film that was played.

    Raises:
        ReportError: It cannot be read.
    """

    def __init__(self, path: Path, fps: float) -> None:
        try:
            whole = msgspec.json.decode(path.read_bytes(), type=_Annotations)
        except (OSError, msgspec.DecodeError) as error:
            raise ReportError(f"cannot read the street's truth {path}: {error}") from error
        self._fps = fps
        self._image_ids = [image.id for image in sorted(whole.images, key=lambda image: image.file_name)]
        self._by_image: dict[int, list[TrueObject]] = defaultdict(list)
        for annotation in whole.annotations:
            self._by_image[annotation.image_id].append(annotation)
        self.objects = len({annotation.track_id for annotation in whole.annotations})

    def match(self, clip: Clip) -> Match:
        """Finds the object that a crop shows."""
        frame = round(clip.header.captured.media_time_s * self._fps)
        own = PatchMask(*clip.header.crop_xy, clip.mask)
        best, best_mask, best_iou = None, None, MATCH_IOU
        for candidate in self._in_frame(frame):
            mask = PatchMask.from_full(decode_rle(candidate.segmentation))
            iou = own.iou(mask)
            if iou >= best_iou:
                best, best_mask, best_iou = candidate, mask, iou
        if best is None or best_mask is None:
            return Match(clip, frame, None, None, 0.0)
        return Match(clip, frame, best, best_mask.window(own.box_xyxy), best_iou)

    def _in_frame(self, frame: int) -> list[TrueObject]:
        return self._by_image[self._image_ids[frame]] if 0 <= frame < len(self._image_ids) else []


def judge(matches: Sequence[Match], true_objects: int) -> TruthReport:
    """Adds up the matches; a crop without a true object counts as not whole, with an IoU of 0."""
    whole = sum(match.is_whole for match in matches)
    by_label = {label: [m.iou for m in matches if m.clip.header.label is label] for label in Label}
    rows = [_class_iou(label.title, ious) for label, ious in by_label.items() if ious]
    return TruthReport(
        crops=len(matches),
        whole=whole,
        precision=whole / len(matches) if matches else 0.0,
        precision_95=wilson(whole, len(matches)),
        unmatched=sum(match.truth is None for match in matches),
        labels_right=sum(match.is_label_right for match in matches),
        objects=len({match.truth.track_id for match in matches if match.truth}),
        true_objects=true_objects,
        iou=[*rows, _class_iou("all", [match.iou for match in matches])] if matches else [],
    )


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Wilson's score interval of a proportion at 95% (E. B. Wilson, 1927); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    share, square = hits / trials, _Z95**2
    centre = share + square / (2 * trials)
    spread = _Z95 * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    scale = 1 + square / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def _class_iou(label: str, ious: list[float]) -> ClassIou:
    return ClassIou(label, len(ious), float(np.mean(ious)), float(np.median(ious)))
