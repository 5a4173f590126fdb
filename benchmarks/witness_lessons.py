"""What a witness learns from: objects as a WALT-Net sees them, and whether they are whole.

Rendered streets, whose truth is exact and which the network that looks has not seen, and composites of real cameras'
clip art, which look as cameras do and whose every layer is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.candidates import WHOLE_FRACTION, is_whole
from benchmarks.streets import true_mask
from walt_edge.contract.masks import PatchMask
from walt_edge.vision.motion import light_gain, scaled
from walt_train.clipart.settings import TRAINING
from walt_train.data import open_samples
from walt_train.data.sample import AmodalSample
from walt_train.engine.scenes import Scene
from walt_train.metrics.matching import Truth
from walt_train.mining.instances import InstanceTeacher
from walt_train.mining.lots import SAMPLES, learn_plate
from walt_train.mining.stills import STILLS
from walt_train.mining.witness import show
from walt_train.rwalt.dataset import render
from walt_train.rwalt.street import Street, StreetConfig

AREA_MIN_PX = 700
"""A little less than what counts: who is small is told apart from who is cut."""
_MATCH_IOU = 0.5
_EMPTY_FROM = 48
_EVERY = 2
"""Of a street's frames one in so many is learned from: the next shows the same people a step further."""

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Known:
    """An object of a frame.

    Attributes:
        mask: Its whole extent.
        whole: Whether at most 2% of it is hidden, and nothing of it outside the frame.
        hidden: The share that is, 0..1.
        name: The physical object.
    """

    mask: PatchMask
    whole: bool
    hidden: float
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Lessons:
    """Views of objects.

    Attributes:
        shown: (N, CHANNELS, SIDE, SIDE) uint8, `walt_train.mining.witness.show`.
        whole: (N,) bool.
        hidden: (N,) float32: the hidden share; 1 where the view shows nothing true.
        objects: (N,) names of the physical objects.
    """

    shown: Image
    whole: NDArray[np.bool_]
    hidden: NDArray[np.float32]
    objects: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.whole)

    @classmethod
    def joined(cls, parts: Sequence[Lessons]) -> Lessons:
        """All of several."""
        return cls(
            np.concatenate([part.shown for part in parts]),
            np.concatenate([part.whole for part in parts]),
            np.concatenate([part.hidden for part in parts]),
            np.concatenate([part.objects for part in parts]),
        )

    def write(self, path: Path) -> None:
        """Keeps them whole in a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, shown=self.shown, whole=self.whole, hidden=self.hidden, objects=self.objects)
        partial.rename(path)

    @classmethod
    def read(cls, path: Path) -> Lessons:
        """What `write` kept."""
        with np.load(path) as kept:
            return cls(kept["shown"], kept["whole"], kept["hidden"], kept["objects"])


def of_street(config: StreetConfig, teacher: InstanceTeacher, cache: Path | None) -> Lessons:
    """Renders a street and looks at it; what `cache` holds already is read instead."""
    path = None if cache is None else cache / f"{config.seed}-{config.preset}-{config.frames}.npz"
    if path is not None and path.is_file():
        return Lessons.read(path)
    street = Street(config)
    frames = [
        (frame.bgr, [_rendered(one, street.camera_name) for one in frame.annotations]) for frame in render(street)
    ]
    lessons = looked_at(frames[::_EVERY], learned_plate([bgr for bgr, _ in frames]), teacher)
    if path is not None:
        lessons.write(path)
    return lessons


def _rendered(annotation: dict[str, object], camera: str) -> Known:
    mask = true_mask(annotation)
    hidden = float(annotation["occlusion_fraction"])  # type: ignore[arg-type]
    return Known(mask, is_whole(annotation), hidden, f"{camera}/{annotation['track_id']}")


def learned_plate(stills: Sequence[Image]) -> Image:
    """The empty scene behind stills."""
    chosen = np.unique(np.linspace(0, len(stills) - 1, SAMPLES).astype(int))
    return learn_plate([stills[index] for index in chosen], STILLS).bgr


def of_composites(folder: Path, teacher: InstanceTeacher, count: int) -> Lessons:
    """Looks at composites of a camera's clip art."""
    whole_frames = replace(TRAINING, crop_chance=0.0)
    samples = open_samples(folder, split="train", per_epoch=max(count, _EMPTY_FROM), settings=whole_frames)
    scene = Scene(samples.frame_wh)
    for index in range(_EMPTY_FROM):
        scene.add(samples.sample(0, index))
    frames = ((one.image_bgr, _composed(one)) for one in (samples.sample(1, index) for index in range(count)))
    return looked_at(frames, scene.mean(), teacher)


def _composed(sample: AmodalSample) -> list[Known]:
    truth = Truth.of(sample)
    height, width = sample.image_bgr.shape[:2]
    return [
        Known(mask, hidden <= WHOLE_FRACTION and _is_inside(mask, width, height), hidden, name)
        for mask, hidden, name in zip(truth.amodal, truth.occlusions.tolist(), truth.objects, strict=True)
    ]


def _is_inside(mask: PatchMask, width: int, height: int) -> bool:
    x0, y0, x1, y1 = mask.box_xyxy
    return min(x0, y0) > 0 and x1 < width and y1 < height


def looked_at(frames: Iterable[tuple[Image, Sequence[Known]]], empty_bgr: Image, teacher: InstanceTeacher) -> Lessons:
    """Every object that a teacher sees in frames, beside the truth."""
    shown, told = [], []
    for bgr, truth in frames:
        found = teacher.look(bgr)
        empty = scaled(empty_bgr, light_gain(bgr, empty_bgr))
        for one in found:
            best, iou = _best(one.amodal, truth)
            if (best.mask.area if best else one.amodal.area) < AREA_MIN_PX:
                continue
            shown.append(show(one, found, bgr, empty))
            told.append((best, iou))
    matched = [best if best is not None and iou >= _MATCH_IOU else None for best, iou in told]
    return Lessons(
        np.stack(shown),
        np.array([best is not None and best.whole for best in matched], bool),
        np.array([1.0 if best is None else best.hidden for best in matched], np.float32),
        np.array(["nothing" if best is None else best.name for best, _ in told]),
    )


def _best(mask: PatchMask, truth: Sequence[Known]) -> tuple[Known | None, float]:
    ious = [mask.iou(one.mask) for one in truth]
    place = int(np.argmax(ious)) if ious else -1
    return (truth[place], ious[place]) if place >= 0 and ious[place] > 0 else (None, 0.0)
