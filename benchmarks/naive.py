"""Clip art as it would be without tracking: what random frames show, each silhouette by one look.

The eyes, the empty scene, the sizes and the anonymiser are those of `walt-edge mine`, and so is the number of clips:
only the sampling differs. A silhouette counts as seen whole where its box overlaps no other's, it is large enough and
clear of the border; its class comes from its outline there; whether two clips show the same thing nobody knows.
"""

from __future__ import annotations

import itertools
import shutil
from bisect import insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.candidates import FPS, MATCH_IOU, frame_of, is_whole, match
from walt_edge.camera import Frame, open_camera
from walt_edge.clip_folder import write_images
from walt_edge.contract.clipart import Clip, read_clipart, write_clipart
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask, encode_rle
from walt_edge.contract.messages import CropHeader, Origin
from walt_edge.privacy.anonymiser import AnonymisedImage, Anonymiser, seal
from walt_edge.privacy.faces import find_faces
from walt_edge.vision.settings import WatchSettings
from walt_edge.vision.shape import ground_contact
from walt_edge.vision.sightings import Sighting
from walt_edge.vision.silhouettes import is_upright
from walt_edge.vision.unoccluded import border_part, small_part
from walt_edge.watching.watcher import Watcher

_PREPARE_S = 120.0  # as `walt-edge mine` learns its first plate
_TIMEOUT_S = 30.0

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One silhouette that seems whole, anonymised.

    Attributes:
        header: Without a track.
        image: The crop with its margin.
    """

    header: CropHeader
    image: AnonymisedImage


def sample_naively(ground: Path, folder: Path) -> None:
    """Writes clip art of random frames: as many clips as the ground's own has, over its plates.

    Args:
        ground: Holds `clips`, and `first/images` of which they were mined.
        folder: Where to put it.
    """
    tracked = read_clipart(ground / "clips")
    looks = _looks(ground / "first" / "images", tracked.clips[0].header.origin)
    chosen = draw(looks, len(tracked.clips), np.random.default_rng(0))
    shutil.copytree(ground / "clips", folder, ignore=shutil.ignore_patterns("crops", "overview.jpg"))
    sealed = [
        seal(msgspec.structs.replace(look.header, track_id=number), look.image) for number, look in enumerate(chosen)
    ]
    clips, _ = write_images(folder, sealed)
    clips = [msgspec.structs.replace(clip, object=number) for number, clip in enumerate(clips)]
    write_clipart(folder, msgspec.structs.replace(tracked, clips=clips, rejected_by_reason={}))


def draw(frames: Iterable[Sequence[Look]], count: int, rng: np.random.Generator) -> list[Look]:
    """All that frames in random order show, until there are `count`; held is only what may still be taken."""
    held: list[tuple[float, Sequence[Look]]] = []
    for looks in frames:
        insort(held, (float(rng.random()), looks), key=lambda one: one[0])
        while sum(len(looks) for _, looks in held[:-1]) >= count:
            held.pop()
    return [look for _, looks in held for look in looks][:count]


def _looks(images: Path, origin: Origin) -> Iterator[list[Look]]:
    """What each frame shows to somebody who looks once."""
    settings = WatchSettings()
    # Rendered people: each frame is judged by itself, at once.
    watcher = Watcher(
        site=origin.site,
        device=origin.device,
        camera=origin.camera,
        anonymiser=Anonymiser(find_faces()),
        delay_s=0,
    )
    watcher.prepare(itertools.takewhile(lambda frame: frame.captured.media_time_s <= _PREPARE_S, _frames(images)))
    for frame in _frames(images):
        step = watcher.step(frame)
        if step.image is not None:
            yield _whole_by_box(frame, step.image, step.sightings, origin, settings)


def _frames(images: Path) -> Iterator[Frame]:
    with open_camera(str(images), fps=FPS) as camera:
        while (frame := camera.read(_TIMEOUT_S)) is not None:
            yield frame


def _whole_by_box(
    frame: Frame, image: AnonymisedImage, sightings: Sequence[Sighting], origin: Origin, settings: WatchSettings
) -> list[Look]:
    """The silhouettes of a frame whose boxes overlap no other's."""
    patches = [sighting.silhouette for sighting in sightings]
    found = []
    for place, patch in enumerate(patches):
        others = patches[:place] + patches[place + 1 :]
        if any(overlap(patch.box_xyxy, other.box_xyxy) for other in others):
            continue
        if (
            min(border_part(patch, origin.frame_wh, settings), small_part(patch, settings))
            < settings.whole_confidence
        ):
            continue
        label = Label.PERSON if is_upright(patch.mask) else Label.VEHICLE
        if image.filled_fraction(patch) <= _filled_max(label, settings):
            found.append(_look(frame, image, patch, label, origin, settings))
    return found


def overlap(one: Box, other: Box) -> bool:
    """Whether two half-open boxes share a pixel."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _filled_max(label: Label, settings: WatchSettings) -> float:
    """What the anonymiser took too much of teaches nothing, tracked or not."""
    return settings.filled_max_vehicle if label is Label.VEHICLE else settings.filled_max


def _look(
    frame: Frame, image: AnonymisedImage, patch: PatchMask, label: Label, origin: Origin, settings: WatchSettings
) -> Look:
    box = _with_margin(patch.box_xyxy, origin.frame_wh, settings)
    x0, y0, x1, y1 = patch.box_xyxy
    header = CropHeader(
        origin=origin,
        captured=frame.captured,
        box_xyxy=(float(x0), float(y0), float(x1), float(y1)),
        label=label,
        score=1.0,
        unoccluded_confidence=1.0,
        confidence_parts={},
        track_id=0,
        stationary_us=None,
        ground_xy=ground_contact(patch),
        crop_xy=(box[0], box[1]),
        mask=encode_rle(patch.window(box)),
        plate="",
        holdout=False,
    )
    return Look(header, image.crop(box, patch))


def _with_margin(box: Box, frame_wh: tuple[int, int], settings: WatchSettings) -> Box:
    """As much context as a mined crop has."""
    x0, y0, x1, y1 = box
    margin = max(settings.margin_min_px, round(settings.margin_fraction * max(x1 - x0, y1 - y0)))
    return max(0, x0 - margin), max(0, y0 - margin), min(frame_wh[0], x1 + margin), min(frame_wh[1], y1 + margin)


# -- what it is worth -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Quality:
    """Clip art against the rendered truth of the frames that it was taken from.

    Attributes:
        clips: How many.
        objects: How many true objects they show.
        whole: Clips that show one object, inside the frame, of which at most 2 % is hidden.
        right_class: Clips of a true object that bear its class.
    """

    clips: int
    objects: int
    whole: int
    right_class: int


def quality(clips: Sequence[Clip], truth: dict[int, list[dict[str, Any]]]) -> Quality:
    """Judges clips; `truth` holds the annotations by frame number."""
    pairs = [(clip.header, *match(clip.header, truth.get(frame_of(clip.header), []))) for clip in clips]
    shown = [(header, thing) for header, thing, iou in pairs if thing is not None and iou >= MATCH_IOU]
    return Quality(
        clips=len(clips),
        objects=len({thing["track_id"] for _, thing in shown}),
        whole=sum(is_whole(thing) for _, thing in shown),
        right_class=sum(thing["category_id"] == int(header.label) for header, thing in shown),
    )
