"""Clip art as compositing needs it: decoded once, trimmed, with soft edges, grouped by physical object.

Everything here is integer arithmetic on decoded pixels, and the hash is of decoded pixels, so that two machines whose
decoders differ by a grey level notice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.clipart import FILE_NAME, ClipArtError, read_clipart
from walt_edge.contract.labels import Label
from walt_train.clipart.height import HeightLine, fit_height_line
from walt_train.clipart.light import NO_GAIN, Light, gains, steps_apart
from walt_train.clipart.objects import physical_objects
from walt_train.clipart.pieces import Backdrop, Box, Cutout, Post
from walt_train.clipart.read import backdrops, hours_apart, read_cutout, read_plates, read_posts
from walt_train.clipart.sureness import drawing_weights
from walt_train.clipart.when import believed_times

_POOL_OBJECTS_MIN = 24


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Some of the cutouts, grouped to draw from.

    Attributes:
        places: (N,) places in the material's cutouts.
        objects: Places of each physical object.
        by_label: `objects` of each class that occurs.
    """

    places: NDArray[np.intp]
    objects: list[list[int]]
    by_label: list[list[list[int]]]


@dataclass(frozen=True, eq=False)
class Material:
    """All that composites of one camera are made of.

    Attributes:
        camera: The camera's name.
        frame_wh: Size of its frames, pixels.
        cutouts: Objects seen whole, in the order of the clip art.
        backdrops: Plates, in the order of the clip art.
        posts: Static things that hide what passes behind them.
    """

    camera: str
    frame_wh: tuple[int, int]
    cutouts: tuple[Cutout, ...]
    backdrops: tuple[Backdrop, ...]
    posts: tuple[Post, ...] = ()

    @cached_property
    def labels(self) -> tuple[Label, ...]:
        """The classes that occur, in the contract's order."""
        present = {cutout.label for cutout in self.cutouts}
        return tuple(label for label in Label if label in present)

    @cached_property
    def everything(self) -> Pool:
        """All cutouts."""
        return self._pool(range(len(self.cutouts)))

    @cached_property
    def pools(self) -> tuple[Pool, ...]:
        """For each backdrop the cutouts of its time of day and its light, or more where those are few."""
        return tuple(self._matching(backdrop) for backdrop in self.backdrops)

    def _matching(self, backdrop: Backdrop) -> Pool:
        """An hour counts as much as an eighth of the light."""
        apart = [
            max(hours_apart(cutout.hour, backdrop.hour), steps_apart(gain_at(cutout, backdrop, cutout.box_xyxy)))
            for cutout in self.cutouts
        ]
        for reach in range(1, 12):
            pool = self._pool([place for place, steps in enumerate(apart) if steps <= reach])
            if len(pool.objects) >= _POOL_OBJECTS_MIN:
                return pool
        return self.everything

    @cached_property
    def frames(self) -> tuple[int, ...]:
        """Places of the backdrops that are real frames."""
        return tuple(place for place, backdrop in enumerate(self.backdrops) if backdrop.source == "frame")

    @cached_property
    def medians(self) -> tuple[int, ...]:
        """Places of the others."""
        return tuple(place for place, backdrop in enumerate(self.backdrops) if backdrop.source != "frame")

    @cached_property
    def weights(self) -> tuple[int, ...]:
        """How often each cutout is drawn against the others, by how sure it is."""
        return drawing_weights([one.confidence for one in self.cutouts], [one.object_id for one in self.cutouts])

    @cached_property
    def weight_max(self) -> int:
        """Of the cutouts; at least 1."""
        return max(self.weights, default=1)

    def _pool(self, places: Iterable[int]) -> Pool:
        groups: dict[int, list[int]] = {}
        for place in places:
            groups.setdefault(self.cutouts[place].object_id, []).append(place)
        objects = [groups[object_id] for object_id in sorted(groups)]
        by_label = [[group for group in objects if self.cutouts[group[0]].label is label] for label in self.labels]
        chosen = np.array([place for group in objects for place in group], dtype=np.intp)
        return Pool(chosen, objects, [group for group in by_label if group])

    @cached_property
    def corners(self) -> NDArray[np.int32]:
        """(4, N) x0, y0, x1, y1 of the cutouts."""
        boxes = np.array([cutout.box_xyxy for cutout in self.cutouts], dtype=np.int32).reshape(-1, 4)
        return np.ascontiguousarray(boxes.T)

    @cached_property
    def height_lines(self) -> dict[Label, HeightLine]:
        """Per class, how tall an object is where it stands; only where enough of them were seen."""
        lines = {}
        for label in self.labels:
            groups = [group for group in self.everything.objects if self.cutouts[group[0]].label is label]
            tall = [_middle([self.cutouts[place].box_xyxy for place in group]) for group in groups]
            line = fit_height_line(tall)
            if line is not None:
                lines[label] = line
        return lines

    @cached_property
    def sha256(self) -> str:
        """Names the decoded pixels, masks, points, positions and classes, 64 hex digits."""
        digest = hashlib.sha256(repr((self.camera, self.frame_wh)).encode())
        for cutout, weight in zip(self.cutouts, self.weights, strict=True):
            facts = (cutout.xy, cutout.box_xyxy, int(cutout.label), cutout.object_id, cutout.plate_id, cutout.hour)
            digest.update(repr((facts, cutout.alpha.shape)).encode())
            digest.update(repr((cutout.light, weight)).encode())
            for array in (cutout.image_bgr, cutout.alpha, cutout.keypoints, cutout.seen, cutout.cuboid):
                digest.update(b"-" if array is None else array.tobytes())
        for backdrop in self.backdrops:
            digest.update(repr((backdrop.plate_id, backdrop.hour, backdrop.source)).encode())
            digest.update(backdrop.image_bgr.tobytes())
            digest.update(b"-" if backdrop.guessed is None else backdrop.guessed.astype("<i8").tobytes())
            digest.update(b"-" if backdrop.light is None else backdrop.light.sums.tobytes())
            digest.update(b"-" if backdrop.light is None else backdrop.light.brightest.tobytes())
        for post in self.posts:
            digest.update(repr((post.mask.box_xyxy, post.ground_y)).encode() + post.alpha.tobytes())
        return digest.hexdigest()

    def prepare(self) -> Material:
        """Works out once, before workers are forked, what composites look up; returns itself."""
        for looked_up in (self.everything, self.pools, self.corners, self.height_lines, self.weight_max):
            assert looked_up is not None
        return self

    def only(self, wanted: Callable[[Cutout], bool]) -> Material:
        """The same camera with these cutouts alone."""
        return replace(self, cutouts=tuple(filter(wanted, self.cutouts)))


def gain_at(cutout: Cutout, backdrop: Backdrop, box_xyxy: Box) -> Light:
    """What brings an object into the light of a place before a backdrop, per channel, times 256."""
    if backdrop.light is None:
        return NO_GAIN, NO_GAIN, NO_GAIN
    return gains(cutout.light, backdrop.light.at(box_xyxy))


def _middle(boxes: list[Box]) -> tuple[int, int]:
    """Ground row and height of an object in its middle appearance, so that each object counts once."""
    _, top, _, bottom = sorted(boxes, key=lambda box: (box[3], box[1]))[len(boxes) // 2]
    return bottom, bottom - top


def load_material(folder: Path) -> Material:
    """Decodes a clip-art folder; what is marked as holdout stays out.

    Raises:
        ClipArtError: The folder is missing, malformed or empty, or an image, mask or point of it is bad.
    """
    clipart = read_clipart(folder)
    clips = [clip for clip in clipart.clips if not clip.header.holdout]
    remedy = f"mine more with walt-edge mine --out {folder}"
    if not clips:
        kept_out = f", {len(clipart.clips)} of them holdout" if clipart.clips else ""
        raise ClipArtError(
            f"{folder / FILE_NAME} has {len(clipart.clips)} clips{kept_out}, none to train on: {remedy}"
        )
    if not clipart.plates:
        raise ClipArtError(f"{folder / FILE_NAME} has no plate to paste over: {remedy} from a longer recording")
    seen_us = believed_times([clip.header for clip in clips])
    object_ids = physical_objects([clip.header for clip in clips], seen_us, [clip.object for clip in clips])
    views = read_plates(folder, clipart)
    cutouts = [read_cutout(folder, *facts, views) for facts in zip(clips, object_ids, seen_us, strict=True)]
    posts = read_posts(folder, clipart)
    return Material(clipart.camera, clipart.frame_wh, tuple(cutouts), tuple(backdrops(views)), posts)
