"""Mines recordings by a WALT-Net: who is seen whole among many, where silhouettes of motion touch.

Frames are taken so close that people can be followed, each is looked at by itself, and the surest views of every
track are kept until the end: only then is known how large things are where they stand.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from walt_edge.camera import Frame
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.contract.messages import Moment, Origin
from walt_edge.privacy.anonymiser import AnonymisedImage, Anonymiser
from walt_edge.vision.shape import ground_contact
from walt_edge.vision.sightings import Reason, Sighting
from walt_train.mining.confidence import INSTANCES, calibrate, coefficients_of, whole_evidence
from walt_train.mining.epochs import Image
from walt_train.mining.following import Follower
from walt_train.mining.instances import InstanceTeacher, Seen, clear_of_border, evidence
from walt_train.mining.lots import Look
from walt_train.mining.recordings import Mined, Trail
from walt_train.mining.stills import STILLS, Candidate, Epoch, Frames, Lot, cut_out, find_epochs

_EVERY_S = 0.4
"""Media time between two looks: near enough to follow who walks."""
_MARKED = 10
"""So many looks on, the camera's pose is found again."""
_MARKED_AT_FIRST = 8
_VIEWS, _VIEW_EVERY_S = 6, 2.0
_EXPLAINED, _SAME_IOU = 0.5, 0.6
_SURELY_A_VEHICLE = 0.5
_FIRM = ("network", "second look", "occluder", "second occluder", "witness")
_BEFORE_S, _UNKNOWN = 1.0, 0.3
_TEACHES = 0.6
_HOPELESS = 0.02


@dataclass(frozen=True, slots=True)
class Thinned:
    """Some frames of a source, so far apart in media time.

    Attributes:
        source: Whose.
        every_s: Seconds.
    """

    source: Frames
    every_s: float = _EVERY_S

    def frames(self) -> Iterator[Frame]:
        """In order, the same each time."""
        due_s = -np.inf
        for frame in self.source.frames():
            if frame.captured.media_time_s >= due_s - 1e-6:
                due_s = frame.captured.media_time_s + self.every_s
                yield frame


@dataclass(frozen=True, slots=True)
class _Marks:
    """The frames whose pose is found, which takes longer than both looks.

    Attributes:
        source: All that are looked at.
    """

    source: Frames

    def frames(self) -> Iterator[Frame]:
        """In order, the same each time."""
        marks = map(_mark, itertools.count())
        due = next(marks)
        for number, frame in enumerate(self.source.frames()):
            if number == due:
                due = next(marks)
                yield frame


def _mark(index: int) -> int:
    """Number of the frame that is a mark: at first all are, so that a short recording has enough for a plate."""
    return index if index < _MARKED_AT_FIRST else _MARKED_AT_FIRST + (index - _MARKED_AT_FIRST) * _MARKED


def _between(epoch: Epoch) -> Epoch:
    """The epoch of marks as one of all frames: who lies between two marks of one pose has it too."""
    last = max(epoch.places)
    places = {
        number: pose
        for mark, pose in epoch.places.items()
        if mark == last or mark + 1 in epoch.places
        for number in range(_mark(mark), _mark(mark + 1))
    }
    return replace(epoch, places=places)


class Recording(Frames, Protocol):
    """What `mine_crowd` needs to know of a source."""

    @property
    def frame_wh(self) -> tuple[int, int]:
        """Size of its frames, pixels."""


def mine_crowd(
    source: Recording,
    *,
    camera: str,
    anonymiser: Anonymiser,
    detector: InstanceTeacher,
    progress: Callable[[], object],
    keep_doubtful: bool = False,
) -> Mined:
    """Mines a recording.

    Args:
        source: Its frames; they are read twice.
        camera: The camera's name.
        anonymiser: Passes every frame that is looked at.
        detector: The network.
        progress: Is called with every frame that is looked at.
        keep_doubtful: Hand on what nobody would take too, to learn from it what can be believed.

    Raises:
        TooFewStillsError: No pose of the camera has enough frames.
    """
    mined = Mined()
    origin = Origin(
        site="local",
        device="mine",
        camera=camera,
        model=f"{INSTANCES}+{detector.name}"[:64],
        anonymiser=anonymiser.version,
        frame_wh=source.frame_wh,
    )
    numbers = itertools.count(1)
    frames = Thinned(source)
    for epoch in find_epochs(_Marks(frames), mined.rejected):
        crowd = _Crowd(_between(epoch), origin, anonymiser, detector, numbers, keep_doubtful=keep_doubtful)
        crowd.mine(frames, mined, progress)
    return mined


class _Crowd(Lot):
    """One pose of the camera."""

    def __init__(
        self,
        epoch: Epoch,
        origin: Origin,
        anonymiser: Anonymiser,
        detector: InstanceTeacher,
        numbers: Iterator[int],
        *,
        keep_doubtful: bool,
    ) -> None:
        super().__init__(epoch, origin, anonymiser, None, numbers)
        self._teacher = detector
        self._keep_doubtful = keep_doubtful
        self._follower = Follower()
        self._tracks: dict[int, int] = {}
        self._before: dict[int, tuple[float, float]] = {}
        self._views: dict[int, dict[int, Candidate]] = {}
        self._trails: dict[int, Trail] = {}
        # What is known at the end only ever takes from a confidence: what is not enough now never will be.
        self._least = _HOPELESS if keep_doubtful else coefficients_of(INSTANCES).threshold

    def _judged(self, bgr: Image, seen: Look, shown: Mask, captured: Moment) -> list[Sighting]:
        found = self._teacher.look(bgr)
        boxes = np.array([one.box_xyxy for one in found], np.float64).reshape(-1, 4)
        tracks = self._follower.update(boxes, [one.label for one in found], captured.media_time_s)
        told = self._teacher.testify(found, bgr, seen.empty_bgr)
        sightings = [
            self._sighted(one, found, seen, track, shown, captured.media_time_s, whole)
            for one, track, whole in zip(found, tracks, told, strict=True)
        ]
        return sightings + _unexplained(seen, found)

    def _sighted(
        self, one: Seen, found: list[Seen], seen: Look, track: int, shown: Mask, time_s: float, told: float
    ) -> Sighting:
        """An instance as a sighting; its number is that of its track, over all poses of the source."""
        height, width = shown.shape
        patch = _outline(one, seen)
        if track not in self._tracks:
            self._tracks[track] = next(self._numbers)
        number = self._tracks[track]
        parts = evidence(one, found, seen.motion.difference, (width, height))
        # A network may draw its box short of the border that the outline touches.
        parts["border"] = min(parts["border"], clear_of_border(patch.box_xyxy, (width, height)))
        parts["witness"] = told
        parts["silhouette"] = max((s.patch.iou(one.amodal) for s in seen.outlines), default=0.0)
        parts["steady"] = self._steady(number, parts, time_s)
        parts[Reason.WARM_UP.value] = float(patch.window((0, 0, width, height))[shown].sum()) / max(1, patch.area)
        _, y0, _, y1 = one.box_xyxy
        if min(parts["network"], parts["second look"], parts["border"]) >= _TEACHES:
            self._sizes.add(one.label, y1, y1 - y0, one.amodal.area, number)
        self._trails.setdefault(number, Trail(time_s, time_s, one.box_xyxy, one.box_xyxy)).note(one.box_xyxy, time_s)
        return Sighting(
            patch,
            one.label if one.label is Label.PERSON or _is_surely_a_vehicle(one) else None,
            one.score,
            ground_contact(patch),
            track_id=number,
            confidence_parts=tuple(parts.items()),
        )

    def _steady(self, number: int, parts: dict[str, float], time_s: float) -> float:
        """How sure the look before this one was: who is whole was mostly whole just before."""
        before_s, before = self._before.get(number, (-np.inf, 0.0))
        self._before[number] = (time_s, min(parts[name] for name in _FIRM))
        return before if time_s - before_s <= _BEFORE_S else _UNKNOWN

    def _keep(self, sighting: Sighting, image: AnonymisedImage, captured: Moment) -> None:
        """The surest view of each few seconds of a track, so far as can be said before the end.

        Should two objects have been taken for one, each has a view of its own.
        """
        sure = calibrate(dict(sighting.confidence_parts), coefficients_of(INSTANCES))
        views = self._views.setdefault(sighting.track_id, {})
        place = int(captured.media_time_s // _VIEW_EVERY_S)
        if sure < self._least or (place in views and sure <= views[place].sighting.unoccluded_confidence):
            return
        views[place] = cut_out(replace(sighting, unoccluded_confidence=sure), image, captured)
        if len(views) > _VIEWS:
            del views[min(views, key=lambda each: views[each].sighting.unoccluded_confidence)]

    def _finish(self, mined: Mined, plate_id: str) -> None:
        mined.objects += len(self._trails)
        mined.trails |= self._trails
        for number in self._trails:
            taken = 0
            for view in self._views.get(number, {}).values():
                seen, label = view.sighting, view.sighting.label
                assert label is not None
                parts = self._parts(seen)
                found = whole_evidence(parts, seen.score, seen.silhouette.area)
                sure = calibrate(found, coefficients_of(INSTANCES))
                if not self._keep_doubtful and (sure < self._least or view.filled > STILLS.filled_most(label)):
                    continue
                mined.sealed.append(self._sealed(view, sure, parts, None, plate_id))
                taken += 1
            if not taken:
                mined.rejected["not surely whole"] += 1

    def _parts(self, sighting: Sighting) -> dict[str, float]:
        """With what the sizes of all say."""
        parts = dict(sighting.confidence_parts)
        assert sighting.label is not None
        _, y0, _, y1 = sighting.silhouette.box_xyxy
        ratio = self._sizes.ratio(sighting.label, y1, y1 - y0, sighting.silhouette.area)
        ratio = 1.0 if ratio is None else max(1e-3, ratio)
        return parts | {"not too small": min(1.0, ratio), "not too large": min(1.0, 1.0 / ratio)}


def _outline(one: Seen, seen: Look) -> PatchMask:
    """What is seen of it: motion's outline where that shows the same thing, which is exact to the pixel."""
    same = [s.patch for s in seen.outlines if s.patch.iou(one.visible) >= 0.8]
    return same[0] if same else one.visible


def _is_surely_a_vehicle(one: Seen) -> bool:
    """For the anonymiser, who covers the head of everything else."""
    second = one.second.score if one.second else 0.0
    return one.label is Label.VEHICLE and min(one.score, second) >= _SURELY_A_VEHICLE


def _unexplained(seen: Look, found: list[Seen]) -> list[Sighting]:
    """What moves and is nobody's whom the network sees: its heads are covered, it gives no clip.

    Who is not seen before a vehicle must not be taken for a part of it: a vehicle explains its own outline alone.
    """
    people = np.zeros(seen.motion.moving.shape, bool)
    for one in found:
        if one.label is Label.PERSON:
            _window(people, one.visible)[one.visible.mask] = True
    vehicles = [one.visible for one in found if _is_surely_a_vehicle(one)]
    return [
        Sighting(patch, None, 0.0, ground_contact(patch), reasons=(Reason.UNCLASSIFIED,))
        for patch in (outline.patch for outline in seen.outlines)
        if np.count_nonzero(_window(people, patch)[patch.mask]) < _EXPLAINED * patch.area
        and not any(patch.iou(vehicle) >= _SAME_IOU for vehicle in vehicles)
    ]


def _window(frame: Mask, patch: PatchMask) -> Mask:
    x0, y0, x1, y1 = patch.box_xyxy
    return frame[y0:y1, x0:x1]
