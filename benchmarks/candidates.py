"""Watches rendered streets and notes every view that the eyes would hand on, doubtful ones too, beside the truth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.streets import true_mask
from walt_edge.camera import Frame
from walt_edge.contract.files import write_whole
from walt_edge.contract.masks import PatchMask, decode_rle
from walt_edge.contract.messages import Clock, CropHeader, Moment
from walt_edge.privacy.anonymiser import Anonymiser
from walt_edge.vision.settings import WatchSettings
from walt_edge.watching.watcher import Watcher
from walt_train.mining.confidence import evidence
from walt_train.mining.crowds import mine_crowd
from walt_train.mining.instances import InstanceTeacher
from walt_train.rwalt.dataset import render
from walt_train.rwalt.street import Street, StreetConfig

FPS = 10.0
WHOLE_FRACTION = 0.02
AREA_MIN_PX = 1024
MATCH_IOU = 0.5
WHOLE_FRAMES_MIN = 5

Truth = list[dict[str, Any]]


class Picture(NamedTuple):
    """A rendered frame: (H, W, 3) uint8 and its annotations."""

    bgr: NDArray[np.uint8]
    truth: Truth


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One view that the eyes kept.

    Attributes:
        object: True track, or minus the device's track where the view shows nothing true.
        parts: What its confidence is made of: `walt_train.mining.confidence.evidence`.
        product: The confidence as the device computes it.
        taken: The device's own gates would have let it pass.
        whole: It shows one object of which at most 2% is hidden, inside the frame, with an IoU of at least 0.5.
        hidden: The true occlusion fraction.
        area: The true amodal area, pixels; the outline's where it shows nothing true.
        iou: With the true amodal mask.
        frame: Its number.
        box_xyxy: Pixels.
    """

    object: int
    parts: dict[str, float]
    product: float
    taken: bool
    whole: bool
    hidden: float
    area: int
    iou: float
    frame: int
    box_xyxy: tuple[float, float, float, float]


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """One camera's outcome.

    Attributes:
        camera: Its name.
        ever_whole: True tracks that moved and were whole in at least five of the frames watched.
        candidates: What the eyes kept.
    """

    camera: str
    ever_whole: list[int]
    candidates: list[Candidate]


def collect(config: StreetConfig, cache: Path | None, teacher: InstanceTeacher | None = None) -> Watched:
    """Renders and watches a street in memory; what `cache` holds already is read instead.

    Args:
        config: The street.
        cache: A folder.
        teacher: A network that watches; None lets the eyes that need no weights watch.
    """
    eyes = "" if teacher is None else f"-{teacher.name}"
    name = f"{config.seed}-{config.preset}-{config.frames}-{config.shapes}{eyes}.json"
    path = None if cache is None else cache / name
    if path is not None and path.is_file():
        return msgspec.json.decode(path.read_bytes(), type=Watched)
    street = Street(config)
    pictures = (Picture(frame.bgr, frame.annotations) for frame in render(street))
    watched = watch(street.camera_name, pictures) if teacher is None else look(street, list(pictures), teacher)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, msgspec.json.encode(watched))
    return watched


def watch(camera: str, pictures: Iterable[Picture]) -> Watched:
    """Watches as a live camera would be watched, but for the gates."""
    settings = WatchSettings(keep_doubtful=True)
    watcher = Watcher(site="bench", device="bench", camera=camera, anonymiser=Anonymiser(), settings=settings)
    truths: list[Truth] = []
    headers: list[CropHeader] = []
    began = -1
    for frame in _frames(pictures, truths):
        step = watcher.step(frame)
        if step.frame is None:
            began = -1
        elif began < 0:
            began = step.frame.index
        headers += [one.envelope.header for one in step.sealed if isinstance(one.envelope.header, CropHeader)]
    last = watcher.finish()
    headers += [one.envelope.header for one in last if isinstance(one.envelope.header, CropHeader)]
    candidates = [_candidate(header, frame_of(header), truths, settings) for header in headers]
    return Watched(camera=camera, ever_whole=sorted(_ever_whole(truths, max(0, began))), candidates=candidates)


@dataclass(frozen=True, slots=True)
class _Rendered:
    """A street as a source of mining."""

    pictures: list[Picture]
    fps: float

    @property
    def frame_wh(self) -> tuple[int, int]:
        height, width = self.pictures[0].bgr.shape[:2]
        return width, height

    def frames(self) -> Iterator[Frame]:
        """All of them."""
        return _frames(self.pictures, [], self.fps)


def look(street: Street, pictures: list[Picture], teacher: InstanceTeacher) -> Watched:
    """Mines as `walt-train mine --teacher FILE.walt` does, but for the threshold."""
    source = _Rendered(pictures, street.config.fps)
    mined = mine_crowd(
        source,
        camera=street.camera_name,
        anonymiser=Anonymiser(),
        detector=teacher,
        progress=lambda: None,
        keep_doubtful=True,
    )
    truths = [picture.truth for picture in pictures]
    headers = [one.envelope.header for one in mined.sealed]
    crops = [header for header in headers if isinstance(header, CropHeader)]
    settings = WatchSettings()
    found = [_candidate(header, frame_of(header, source.fps), truths, settings) for header in crops]
    # What never moves is no object for whom it is a part of the empty scene, and counts for neither side.
    moved = {int(a["track_id"]) for truth in truths for a in truth if not a["stationary"]}
    parked = {int(a["track_id"]) for truth in truths for a in truth} - moved
    return Watched(
        camera=street.camera_name,
        ever_whole=sorted(_ever_whole(truths, 0, round(WHOLE_FRAMES_MIN * source.fps / FPS))),
        candidates=[one for one in found if one.object not in parked],
    )


def frame_of(header: CropHeader, fps: float = FPS) -> int:
    """The number of the frame that a crop was taken from."""
    return round(header.captured.media_time_s * fps)


def _frames(pictures: Iterable[Picture], truths: list[Truth], fps: float = FPS) -> Iterator[Frame]:
    for index, picture in enumerate(pictures):
        truths.append(picture.truth)
        time_s = index / fps
        moment = Moment(
            utc_us=round(time_s * 1e6),
            boot_id="bench",
            monotonic_ns=round(time_s * 1e9),
            clock=Clock.SYNCHRONISED,
            media_time_s=time_s,
        )
        yield Frame(picture.bgr, index, moment)


def _candidate(header: CropHeader, frame: int, truths: list[Truth], settings: WatchSettings) -> Candidate:
    best, iou = match(header, truths[frame])
    parts = header.confidence_parts
    product = header.unoccluded_confidence
    passed = bool(parts) and min(parts.values()) >= settings.whole_confidence and product >= settings.confidence_min
    return Candidate(
        object=-header.track_id if best is None else int(best["track_id"]),
        parts=evidence(header),
        product=product,
        taken=passed,
        whole=best is not None and is_whole(best) and iou >= MATCH_IOU,
        hidden=1.0 if best is None else float(best["occlusion_fraction"]),
        area=int(decode_rle(header.mask).sum()) if best is None else int(best["area"]),
        iou=iou,
        frame=frame,
        box_xyxy=header.box_xyxy,
    )


def match(header: CropHeader, truth: Truth) -> tuple[dict[str, Any] | None, float]:
    """The true object whose amodal mask a crop's mask fits best, and the IoU."""
    own = PatchMask(header.crop_xy[0], header.crop_xy[1], decode_rle(header.mask))
    best, best_iou = None, 0.0
    for annotation in truth:
        if not _boxes_touch(annotation["bbox"], header.box_xyxy):
            continue
        iou = own.iou(true_mask(annotation))
        if iou > best_iou:
            best, best_iou = annotation, iou
    return best, best_iou


def is_whole(annotation: dict[str, Any]) -> bool:
    """Whether an object is seen whole, inside the frame."""
    return bool(annotation["occlusion_fraction"] <= WHOLE_FRACTION and not annotation["truncated"])


def _boxes_touch(xywh: list[float], xyxy: tuple[float, ...]) -> bool:
    x, y, width, height = xywh
    return x < xyxy[2] and y < xyxy[3] and x + width > xyxy[0] and y + height > xyxy[1]


def _ever_whole(truths: list[Truth], began: int, frames_min: int = WHOLE_FRAMES_MIN) -> set[int]:
    frames: dict[int, int] = defaultdict(int)
    for truth in truths[began:]:
        for annotation in truth:
            if not annotation["stationary"] and annotation["area"] >= AREA_MIN_PX and is_whole(annotation):
                frames[int(annotation["track_id"])] += 1
    return {track for track, count in frames.items() if count >= max(1, frames_min)}
