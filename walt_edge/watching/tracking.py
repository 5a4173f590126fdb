"""Which silhouette is which object: a light tracker of boxes, one to one, that carries objects through short merges.

Each track predicts its box with a constant velocity; pairs are taken best IoU first. A prediction that finds no
silhouette of its own but lies inside another's has been merged with it: both are told, neither is lost. A small
silhouette that lies inside a matched prediction is a piece of that object, not a new one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from walt_edge.vision.settings import WatchSettings

Boxes = NDArray[np.float64]
"""(N, 4) half-open xyxy pixels."""

_HISTORY = 400
_VELOCITY_SHARE = 0.35
_INSIDE = 0.6
_PART = 0.15
_MERGED_COASTS = 4
_REACH_SIDES = 0.7


@dataclass(frozen=True, slots=True)
class Observation:
    """One sighting of a track.

    Attributes:
        time_s: Media time.
        box_xyxy: Of the silhouette.
        area: Of the silhouette, pixels.
        clean: Not merged, no fragment, clear of neighbours and border: fit to learn from.
    """

    time_s: float
    box_xyxy: tuple[float, float, float, float]
    area: int
    clean: bool

    @property
    def height(self) -> float:
        """Of the box, pixels."""
        return self.box_xyxy[3] - self.box_xyxy[1]

    @property
    def width(self) -> float:
        """Of the box, pixels."""
        return self.box_xyxy[2] - self.box_xyxy[0]


@dataclass(slots=True)
class Track:
    """One object over time.

    Attributes:
        id: Never used again within a run.
        born_s: Media time of the first sighting.
        seen_s: Media time of the last one.
        sightings: How many there were.
        history: The newest of them.
        still_since_s: Since when it has been standing, or None while it moves.
        stood: Longest interval (from, to) in media time in which it stood, or None.
    """

    id: int
    born_s: float
    seen_s: float
    box: NDArray[np.float64]
    velocity: NDArray[np.float64] = field(default_factory=lambda: np.zeros(4))
    sightings: int = 0
    history: deque[Observation] = field(default_factory=lambda: deque(maxlen=_HISTORY))
    still_since_s: float | None = None
    stood: tuple[float, float] | None = None
    merged_since_s: float | None = None
    merged_until_s: float = -np.inf

    def predict(self, time_s: float) -> NDArray[np.float64]:
        """The box expected at a time: straight on, the size as it was."""
        shift = self.velocity * (time_s - self.seen_s)
        shift[[0, 2]] = shift[[0, 2]].mean()
        shift[[1, 3]] = shift[[1, 3]].mean()
        predicted: NDArray[np.float64] = self.box + shift
        return predicted

    @property
    def height(self) -> float:
        """Of the newest box, pixels."""
        return float(self.box[3] - self.box[1])

    def travelled_heights(self) -> float:
        """Distance between the remembered ends, in heights of the object: did it move at all?"""
        if len(self.history) < 2:
            return 0.0
        ends = np.array([self.history[0].box_xyxy, self.history[-1].box_xyxy])
        return float(np.hypot(*np.diff(centres(ends), axis=0)[0])) / max(1.0, self.height)

    def speed_heights_per_s(self) -> float:
        """Median speed over the history, in heights of the object a second."""
        if len(self.history) < 3:
            return 0.0
        boxes = np.array([o.box_xyxy for o in self.history])
        times = np.array([o.time_s for o in self.history])
        step = max(1, len(times) // 12)
        moved = np.hypot(*(centres(boxes)[step:] - centres(boxes)[:-step]).T)
        spans = np.maximum(times[step:] - times[:-step], 1e-3)
        heights = np.maximum(boxes[step:, 3] - boxes[step:, 1], 1.0)
        return float(np.median(moved / spans / heights))


@dataclass(frozen=True, slots=True)
class Match:
    """What the tracker says about one silhouette.

    Attributes:
        track: Its track; None for a piece of another's object.
        merged_with: Ids of other tracks that are in this silhouette too.
        pieces: How many further silhouettes belong to the same object.
    """

    track: Track | None
    merged_with: tuple[int, ...] = ()
    pieces: int = 0


class Tracker:
    """Tracks boxes through one run."""

    def __init__(self, settings: WatchSettings) -> None:
        self._settings = settings
        self._next_id = 1
        self.tracks: dict[int, Track] = {}

    def update(self, boxes: Boxes, areas: Sequence[int], time_s: float) -> list[Match]:
        """Assigns one frame's boxes; returns one match each, in the same order."""
        live = list(self.tracks.values())
        predicted = np.array([track.predict(time_s) for track in live]).reshape(-1, 4)
        pairs = self._assign(predicted, boxes)
        owner = {column: live[row] for row, column in pairs}
        merged = self._merged(live, predicted, boxes, pairs, time_s)
        pieces = _pieces(predicted, boxes, areas, pairs)
        matches = []
        for column in range(len(boxes)):
            track = owner.get(column)
            if track is None and column in pieces:
                matches.append(Match(None))
                continue
            track = track or self._born(boxes[column], time_s)
            others = tuple(merged.get(column, ()))
            self._follow(track, boxes[column], time_s, hold=bool(others))
            count = sum(1 for of in pieces.values() if owner.get(of) is track)
            matches.append(Match(track, others, count))
        return matches

    def ended(self, time_s: float) -> list[Track]:
        """Removes and returns the tracks that have not been seen for too long."""
        limit = self._settings.coast_s
        gone = [t for t in self.tracks.values() if time_s - max(t.seen_s, t.merged_until_s) > limit]
        for track in gone:
            del self.tracks[track.id]
        return gone

    def _assign(self, predicted: Boxes, boxes: Boxes) -> list[tuple[int, int]]:
        """One-to-one pairs (track, box), best first; far pairs of like size count as weak overlap."""
        if not len(predicted) or not len(boxes):
            return []
        affinity = iou_matrix(predicted, boxes)
        affinity = np.maximum(affinity, 0.5 * self._settings.match_iou + 0.1 * _nearness(predicted, boxes))
        affinity[_nearness(predicted, boxes) + iou_matrix(predicted, boxes) <= 0] = 0
        order = np.dstack(np.unravel_index(np.argsort(-affinity, axis=None, kind="stable"), affinity.shape))[0]
        rows: set[int] = set()
        columns: set[int] = set()
        pairs = []
        for row, column in order.tolist():
            if affinity[row, column] < self._settings.match_iou * 0.5:
                break
            if row not in rows and column not in columns:
                rows.add(row)
                columns.add(column)
                pairs.append((row, column))
        return pairs

    def _merged(
        self, live: list[Track], predicted: Boxes, boxes: Boxes, pairs: list[tuple[int, int]], time_s: float
    ) -> dict[int, list[int]]:
        """Which boxes hold unmatched tracks as well: {box: track ids}."""
        found: dict[int, list[int]] = {}
        if not pairs:
            return found
        sizes = box_areas(predicted)
        inside = overlap_matrix(predicted, boxes) / np.maximum(sizes[:, None], 1.0)
        hidden = overlap_matrix(predicted, predicted) / np.maximum(sizes[:, None], 1.0)
        row_of = {column: row for row, column in pairs}
        matched = set(row_of.values())
        for row, track in enumerate(live):
            column = int(np.argmax(inside[row]))
            if row in matched or column not in row_of or inside[row, column] < _INSIDE:
                continue
            # Two outlines become one when they touch. What was inside the other's box before was a piece of it.
            touched = hidden[row, row_of[column]] < _INSIDE and sizes[row] > _PART * box_areas(boxes)[column]
            lived = track.sightings >= self._settings.track_sightings_min
            if track.merged_since_s is None and not (touched and lived):
                continue
            track.merged_since_s = time_s if track.merged_since_s is None else track.merged_since_s
            # Carried on while hidden in the other; the bound keeps a track that left unseen from living forever.
            if time_s - track.merged_since_s < _MERGED_COASTS * self._settings.coast_s:
                found.setdefault(column, []).append(track.id)
                track.merged_until_s = time_s
        return found

    def _born(self, box: NDArray[np.float64], time_s: float) -> Track:
        track = Track(self._next_id, time_s, time_s, np.array(box, float))
        self._next_id += 1
        self.tracks[track.id] = track
        return track

    def _follow(self, track: Track, box: NDArray[np.float64], time_s: float, *, hold: bool) -> None:
        elapsed = time_s - track.seen_s
        if hold:
            box = track.predict(time_s)  # the merged outline says little about this one
        if elapsed > 0 and track.sightings:
            seen = (box - track.box) / elapsed
            share = 1.0 if track.sightings == 1 else _VELOCITY_SHARE
            track.velocity = (1 - share) * track.velocity + share * seen
        track.box, track.seen_s, track.merged_since_s = np.array(box, float), time_s, None
        track.sightings += 1
        self._note_standing(track, time_s)

    def _note_standing(self, track: Track, time_s: float) -> None:
        shift = centres(track.velocity[None])[0]
        slow = float(np.hypot(*shift)) < self._settings.still_speed_per_s * max(track.height, 1.0) * 2.0
        anchored = slow and track.sightings > self._settings.track_sightings_min
        if not anchored:
            track.still_since_s = None
            return
        track.still_since_s = time_s if track.still_since_s is None else track.still_since_s
        stood = (track.still_since_s, time_s)
        longest = track.stood[1] - track.stood[0] if track.stood else 0.0
        if stood[1] - stood[0] >= max(longest, self._settings.stationary_s):
            track.stood = stood


def centres(boxes: Boxes) -> NDArray[np.float64]:
    """(N, 2) xy centres."""
    middle: NDArray[np.float64] = (boxes[:, :2] + boxes[:, 2:]) / 2
    return middle


def box_areas(boxes: Boxes) -> NDArray[np.float64]:
    """(N,) areas; a box that is turned inside out has none."""
    areas: NDArray[np.float64] = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)
    return areas


def overlap_matrix(one: Boxes, other: Boxes) -> NDArray[np.float64]:
    """(N, M) areas of the intersections."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    common: NDArray[np.float64] = np.clip(high - low, 0, None).prod(axis=2)
    return common


def iou_matrix(one: Boxes, other: Boxes) -> NDArray[np.float64]:
    """(N, M) intersection over union, 0..1."""
    common = overlap_matrix(one, other)
    union = box_areas(one)[:, None] + box_areas(other)[None] - common
    ratio: NDArray[np.float64] = common / np.maximum(union, 1e-9)
    return ratio


def _nearness(one: Boxes, other: Boxes) -> NDArray[np.float64]:
    """(N, M) 1 at the same place and size, 0 beyond a reach or at another size: for objects that outrun their box."""
    sides = np.sqrt(np.maximum(box_areas(one), 1.0))[:, None]
    others = np.sqrt(np.maximum(box_areas(other), 1.0))[None]
    distance = np.linalg.norm(centres(one)[:, None] - centres(other)[None], axis=2)
    alike = np.minimum(sides, others) / np.maximum(sides, others)
    near: NDArray[np.float64] = np.clip(1 - distance / (_REACH_SIDES * sides), 0, 1) * (alike > 0.7)
    return near


def _pieces(predicted: Boxes, boxes: Boxes, areas: Sequence[int], pairs: list[tuple[int, int]]) -> dict[int, int]:
    """Unmatched small boxes inside a matched prediction: {piece: main box of that object}."""
    taken = {column for _, column in pairs}
    found: dict[int, int] = {}
    free = [column for column in range(len(boxes)) if column not in taken]
    if not free or not pairs:
        return found
    inside = overlap_matrix(boxes, predicted) / np.maximum(box_areas(boxes)[:, None], 1.0)
    for column in free:
        row, main = max(pairs, key=lambda pair: inside[column, pair[0]])
        if inside[column, row] >= _INSIDE and areas[column] < areas[main]:
            found[column] = main
    return found
