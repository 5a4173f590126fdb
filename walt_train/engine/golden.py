"""Pictures that a checkpoint takes along for its export: golden ones prove it, others calibrate its integers.

All are of the validation split. A golden picture is there for each way in which an export can go wrong: many objects
at once, one that is nearly all hidden, a tiny one, objects that the border cuts, and none at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.files import write_whole
from walt_train.data.sample import AmodalSample, Samples
from walt_train.engine.scenes import Scene
from walt_train.model.targets import visible_masks

GOLDEN = "golden"
CALIBRATION = "calibration"
_LOOKED_AT = 60
_LEAST_SEEN_PX = 64
_HIDDEN_MOST = 0.9
_PAINT_PX = 5
_CALIBRATION_COUNT = 32
_CALIBRATION_QUALITY = 95

Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """A sample and what of each object is seen, pixels."""

    sample: AmodalSample
    visible_px: NDArray[np.float64]
    whole_px: NDArray[np.float64]

    @property
    def shown(self) -> NDArray[np.bool_]:
        return np.asarray(
            (self.visible_px >= _LEAST_SEEN_PX) & (self.visible_px >= (1 - _HIDDEN_MOST) * self.whole_px)
        )

    def most_hidden(self) -> float:
        """The largest hidden share of an object that still shows enough."""
        return float((1 - self.visible_px / self.whole_px)[self.shown].max(initial=0.0))

    def smallest_px(self) -> float:
        """Area of the smallest object that shows enough."""
        return float(self.whole_px[self.shown].min(initial=np.inf))


def golden_pictures(samples: Samples) -> tuple[dict[str, Picture], set[str]]:
    """The golden pictures by kind, and the names of the samples that they were taken from.

    A data set of few pictures may give the same one for several kinds; one without objects gives it as `many`.
    """
    seen = list(_seen(samples))
    ranked: dict[str, Callable[[_Seen], float]] = {
        "many": lambda one: float(one.shown.sum()),
        "hidden": _Seen.most_hidden,
        "tiny": lambda one: -one.smallest_px(),
    }
    chosen: dict[str, _Seen] = {}
    for kind, rank in ranked.items():
        taken = {id(one) for one in chosen.values()}
        free = [one for one in seen if id(one) not in taken]
        chosen[kind] = max(free or seen, key=rank)
    pictures = {kind: one.sample.image_bgr for kind, one in chosen.items()}
    pictures["border"] = _cut_through(chosen["many"].sample)
    pictures["none"] = _empty([one.sample for one in seen])
    return pictures, {one.sample.name for one in chosen.values()}


def write_golden(samples: Samples, folder: Path) -> set[str]:
    """Writes the golden pictures of the validation split; returns the names of the samples that they show."""
    pictures, names = golden_pictures(samples)
    encoded = {f"{kind}.png": cv2.imencode(".png", picture)[1].tobytes() for kind, picture in pictures.items()}
    _write(folder / GOLDEN, encoded)
    return names


def write_calibration(samples: Samples, folder: Path, size_wh: tuple[int, int], *, without: set[str]) -> None:
    """Writes pictures on which export measures activations for INT8: 32 at most, spread over the split.

    Args:
        samples: The validation split.
        folder: The checkpoint's.
        size_wh: The network's input, pixels; larger pictures are made to fit it, as the network sees them.
        without: Names of samples that are not to be among them.
    """
    places = np.unique(np.linspace(0, len(samples) - 1, min(len(samples), 2 * _CALIBRATION_COUNT)).astype(int))
    found: dict[str, bytes] = {}
    known = set(without)
    for index in places.tolist():
        sample = samples.sample(0, index)
        if sample.name not in known:  # a folder of few frames shows them again
            known.add(sample.name)
            found[f"{index:04d}.jpg"] = _fitting(sample.image_bgr, size_wh)
    every = max(1, len(found) // _CALIBRATION_COUNT)
    _write(folder / CALIBRATION, dict(list(found.items())[::every][:_CALIBRATION_COUNT]))


def _seen(samples: Samples) -> Iterator[_Seen]:
    for index in range(min(_LOOKED_AT, len(samples))):
        sample = samples.sample(0, index)
        visible = [mask.area for mask in visible_masks(sample)]
        whole = [thing.amodal.area for thing in sample.objects]
        yield _Seen(sample, np.array(visible, np.float64), np.array(whole, np.float64))


def _cut_through(sample: AmodalSample) -> Picture:
    """The part of a picture whose left side runs through its middlemost object."""
    width = sample.image_bgr.shape[1]
    centres = [(thing.amodal.box_xyxy[0] + thing.amodal.box_xyxy[2]) // 2 for thing in sample.objects]
    left = min(centres, key=lambda x: abs(2 * x - width), default=width // 2)
    inner = sample.image_bgr[:, left:] if left < width * 3 // 4 else sample.image_bgr[:, :left]
    return np.ascontiguousarray(inner)


def _empty(samples: Sequence[AmodalSample]) -> Picture:
    """The mean of what objects leave free, of the samples that show the first one's camera.

    What stands in the same place in all of them is painted over from around it.
    """
    first = samples[0]
    scene = Scene((first.image_bgr.shape[1], first.image_bgr.shape[0]))
    covered = np.ones(first.image_bgr.shape[:2], bool)
    for sample in samples:
        if sample.camera == first.camera and sample.image_bgr.shape == first.image_bgr.shape:
            scene.add(sample)
            own = np.zeros_like(covered)
            for thing in sample.objects:
                own |= thing.amodal.full(*own.shape)
            covered &= own
    return np.asarray(cv2.inpaint(scene.mean(), covered.astype(np.uint8), _PAINT_PX, cv2.INPAINT_TELEA), np.uint8)


def _fitting(picture: Picture, size_wh: tuple[int, int]) -> bytes:
    height, width = picture.shape[:2]
    scale = min(1.0, size_wh[0] / width, size_wh[1] / height)
    fitting = cv2.resize(picture, (max(1, round(width * scale)), max(1, round(height * scale))))
    encoded: bytes = cv2.imencode(".jpg", fitting, [cv2.IMWRITE_JPEG_QUALITY, _CALIBRATION_QUALITY])[1].tobytes()
    return encoded


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes files whole, and removes what an earlier training left there."""
    folder.mkdir(parents=True, exist_ok=True)
    for older in (*folder.glob("*.png"), *folder.glob("*.jpg")):
        if older.name not in files:
            older.unlink()
    for name, data in files.items():
        write_whole(folder / name, data)
