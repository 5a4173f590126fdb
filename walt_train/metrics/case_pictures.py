"""A few pictures of what is most hidden, with the true outline and what a model made of it.

Which cases are shown follows from the truth alone: the most hidden case of each object, the most hidden objects
first. So every model that is evaluated on the same data leaves the same cases under the same names, to be laid side
by side.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.files import write_whole
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_train.data.sample import AmodalSample
from walt_train.metrics.amodal_iou import MetricsError
from walt_train.metrics.matching import Truth, assign

FILE_NAME = "cases.json"
COUNT = 12
SIZE_WH = (360, 270)
_OCCLUSION_MIN = 0.1
_MARGIN = 0.4
_QUALITY = 85
_FOUND_BGR, _TRUE_BGR = (40, 140, 255), (255, 255, 255)
_FILL = 0.45

Key = tuple[float, int, str, int]


class ShownCase(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of `cases.json`.

    Attributes:
        file: The picture's name.
        image: The frame's.
        place: Of the object in the frame's depth order.
        object: The physical object.
        label: Title of its class.
        occlusion: Hidden part of its area, 0..1.
        mask_iou: Of the amodal masks, 0..1; 0 = missed.
    """

    file: str
    image: str
    place: int
    object: str
    label: str
    occlusion: float
    mask_iou: float


class CasePictures:
    """Collects while frames pass; holds at most `count` encoded pictures.

    Args:
        count: How many cases.
    """

    def __init__(self, count: int = COUNT) -> None:
        self._count = count
        self._kept: dict[str, tuple[Key, ShownCase, bytes]] = {}

    def add(self, found: AmodalInstances, sample: AmodalSample) -> None:
        """Looks at a frame; `found` are the predictions that count."""
        truth = Truth.of(sample)
        occlusions = truth.occlusions
        hidden = [place for place in np.flatnonzero(truth.counted).tolist() if occlusions[place] >= _OCCLUSION_MIN]
        pairing: dict[int, int] | None = None
        for place in hidden:
            key: Key = (-float(occlusions[place]), -int(truth.amodal_areas[place]), sample.name, place)
            if not self._is_wanted(truth.objects[place], key):
                continue
            pairing = assign(truth, found) if pairing is None else pairing
            mask = found.amodal[pairing[place]] if place in pairing else None
            self._keep(key, truth, place, mask, sample)

    def write(self, folder: Path) -> None:
        """Writes `01.jpg` ... and `cases.json`; what an earlier run left is replaced.

        Raises:
            MetricsError: The folder cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.glob("*.jpg"):
                old.unlink()
            shown = []
            for number, (_, case, data) in enumerate(sorted(self._kept.values(), key=lambda one: one[0]), 1):
                case = msgspec.structs.replace(case, file=f"{number:02d}.jpg")
                write_whole(folder / case.file, data)
                shown.append(case)
            write_whole(folder / FILE_NAME, msgspec.json.format(msgspec.json.encode(shown), indent=1))
        except OSError as error:
            raise MetricsError(f"cannot write {folder}: {error.strerror}; give another --pictures") from error

    def _is_wanted(self, thing: str, key: Key) -> bool:
        if thing in self._kept:
            return key < self._kept[thing][0]
        return len(self._kept) < self._count or key < max(kept[0] for kept in self._kept.values())

    def _keep(self, key: Key, truth: Truth, place: int, mask: PatchMask | None, sample: AmodalSample) -> None:
        case = ShownCase(
            file="",
            image=sample.name,
            place=place,
            object=truth.objects[place],
            label=Label(int(truth.labels[place])).title,
            occlusion=round(-key[0], 4),
            mask_iou=0.0 if mask is None else round(truth.amodal[place].iou(mask), 4),
        )
        self._kept[case.object] = (key, case, _drawn(sample.image_bgr, truth.amodal[place], mask))
        if len(self._kept) > self._count:
            del self._kept[max(self._kept, key=lambda thing: self._kept[thing][0])]


def _drawn(image_bgr: NDArray[np.uint8], true: PatchMask, found: PatchMask | None) -> bytes:
    """A JPEG of the object's surroundings: what was found filled, the truth outlined."""
    height, width = image_bgr.shape[:2]
    x0, y0, x1, y1 = _window(true.box_xyxy, (width, height))
    canvas = cv2.resize(image_bgr[y0:y1, x0:x1], SIZE_WH, interpolation=cv2.INTER_AREA)
    if found is not None:
        inside = _scaled(found, (x0, y0, x1, y1))
        canvas[inside] = ((1 - _FILL) * canvas[inside] + _FILL * np.array(_FOUND_BGR)).astype(np.uint8)
        _outline(canvas, inside, _FOUND_BGR, 1)
    _outline(canvas, _scaled(true, (x0, y0, x1, y1)), _TRUE_BGR, 2)
    done, data = cv2.imencode(".jpg", canvas, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    assert done
    return data.tobytes()


def _window(box_xyxy: tuple[int, int, int, int], frame_wh: tuple[int, int]) -> tuple[int, int, int, int]:
    """Around a box with a margin, of the pictures' shape as far as the frame allows."""
    x0, y0, x1, y1 = box_xyxy
    tall = max((y1 - y0) * (1 + 2 * _MARGIN), (x1 - x0) * (1 + 2 * _MARGIN) * SIZE_WH[1] / SIZE_WH[0])
    tall = min(tall, frame_wh[1], frame_wh[0] * SIZE_WH[1] / SIZE_WH[0])
    wide = tall * SIZE_WH[0] / SIZE_WH[1]
    left = round(min(max(0.0, (x0 + x1 - wide) / 2), frame_wh[0] - wide))
    top = round(min(max(0.0, (y0 + y1 - tall) / 2), frame_wh[1] - tall))
    return left, top, min(frame_wh[0], left + max(1, round(wide))), min(frame_wh[1], top + max(1, round(tall)))


def _scaled(mask: PatchMask, box_xyxy: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    window = mask.window(box_xyxy).astype(np.uint8)
    return np.asarray(cv2.resize(window, SIZE_WH, interpolation=cv2.INTER_NEAREST) > 0, bool)


def _outline(canvas: NDArray[np.uint8], mask: NDArray[np.bool_], bgr: tuple[int, int, int], width_px: int) -> None:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, contours, -1, bgr, width_px, cv2.LINE_AA)
