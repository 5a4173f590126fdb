"""What is known about heads around a moment, moved along with whom they belong to.

A head that was seen at one moment is somewhere near at the next: with its track, by the motion of the track's box
between the two moments, else at the same place. Three things are joined over the frames around one:

- A track that speaks for a person in any of them is treated as a person in all: its class may flicker.
- A track that has no outline in the frame, because it was lost, has merged with another or was not found yet, keeps
  the cover of its head, carried on from its last outline before and its first one after.
- Faces and the heads of people whom a detector or a model saw, in any of the frames.

An outline that a track has in the frame itself needs no other: it is covered as it is. What is carried of a track
that nobody knows yet leaves the outlines of sure vehicles alone: it may be a piece of theirs, and if it is a person
before them, the outlines are merged, and doubted. Nothing here holds a pixel.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_edge.privacy.heads import covers, grown, may_be_person
from walt_edge.vision.sightings import Reason, Sighting

REACH_S = 1.0
SIGHTINGS_MIN = 3  # fewer are a flicker: foliage would be filled all around each gust
GROW_PER_S = 0.3  # of a cover's smaller side: where a head is a moment later is known ever less ...
GROW_AT_REST_PER_S = 0.1  # ... and hardly less of who has no track, for they stand
_SPEED_SPAN_S = 0.5
_SAME_S = 1e-6
_DOUBTFUL_OUTLINE = {Reason.MERGED, Reason.NEIGHBOUR}

XY = tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """A track in one frame: when, its outline, and whether the look spoke for a person."""

    time_s: float
    sighting: Sighting
    person: bool

    @property
    def xy(self) -> XY:
        """Middle of the upper edge: a head moves with that, while what hides the legs moves the rest."""
        x0, y0, x1, _ = self.sighting.silhouette.box_xyxy
        return (x0 + x1) / 2, float(y0)


@dataclass(slots=True)
class _Path:
    """A track within reach."""

    seen: deque[_Seen] = field(default_factory=deque)
    sightings: int = 0
    was_sure: bool = False  # a vehicle, surely, at some time

    def add(self, time_s: float, sighting: Sighting) -> None:
        self.sightings += 1
        person = _speaks_for_person(sighting, was_sure=self.was_sure)
        self.was_sure |= not may_be_person(sighting)
        self.seen.append(_Seen(time_s, sighting, person))

    @property
    def is_person(self) -> bool:
        return any(one.person for one in self.seen)

    @property
    def may_be_person(self) -> bool:
        return self.is_person or not self.was_sure

    def nearest(self, time_s: float) -> tuple[_Seen | None, _Seen | None]:
        """The last look before a time and the first one after; at the time itself, that one twice."""
        before = next((one for one in reversed(self.seen) if one.time_s <= time_s + _SAME_S), None)
        after = next((one for one in self.seen if one.time_s >= time_s - _SAME_S), None)
        return before, after

    def place(self, time_s: float) -> XY:
        """Where it is at a time: between two looks on the straight line, before and after them straight on."""
        before, after = self.nearest(time_s)
        if before is not None and after is not None:
            span = after.time_s - before.time_s
            share = (time_s - before.time_s) / span if span > _SAME_S else 0.0
            (x0, y0), (x1, y1) = before.xy, after.xy
            return x0 + share * (x1 - x0), y0 + share * (y1 - y0)
        end = self.seen[-1] if after is None else self.seen[0]
        speed_x, speed_y = self._speed(end)
        x, y = end.xy
        return x + speed_x * (time_s - end.time_s), y + speed_y * (time_s - end.time_s)

    def _speed(self, end: _Seen) -> XY:
        """Pixels a second near one end."""
        near = [one for one in self.seen if abs(one.time_s - end.time_s) <= _SPEED_SPAN_S]
        span = near[-1].time_s - near[0].time_s
        if span <= _SAME_S:
            return 0.0, 0.0
        (x0, y0), (x1, y1) = near[0].xy, near[-1].xy
        return (x1 - x0) / span, (y1 - y0) / span


@dataclass(frozen=True, slots=True, eq=False)
class _Loose:
    """A head that was seen without an outline, and the track in whose box it was; -1: in none."""

    time_s: float
    box_xyxy: tuple[int, int, int, int]
    track_id: int


class HeadMemory:
    """Looks at frames around the one that is asked about.

    Args:
        frame_wh: Of the frames, pixels.
        reach_s: How far a look counts, before and after it.
    """

    def __init__(self, frame_wh: tuple[int, int], reach_s: float = REACH_S) -> None:
        self._frame_wh = frame_wh
        self._reach_s = reach_s
        self._paths: dict[int, _Path] = {}
        self._loose: deque[_Loose] = deque()

    def note(self, time_s: float, sightings: Sequence[Sighting], heads: Sequence[PatchMask]) -> None:
        """Notes one look; times only grow.

        Args:
            time_s: Media time.
            sightings: What motion saw.
            heads: Boxes of heads that were seen otherwise: by the face detector, a teacher or a model.
        """
        tracked = [sighting for sighting in sightings if sighting.track_id >= 0 and sighting.silhouette.area]
        for sighting in tracked:
            self._paths.setdefault(sighting.track_id, _Path()).add(time_s, sighting)
        for head in heads:
            self._loose.append(_Loose(time_s, head.box_xyxy, _whose(head, tracked)))

    def forget(self, time_s: float) -> None:
        """Forgets what is out of reach of a time and of all later ones."""
        limit = time_s - self._reach_s - _SAME_S
        while self._loose and self._loose[0].time_s < limit:
            self._loose.popleft()
        for track_id, path in list(self._paths.items()):
            while path.seen and path.seen[0].time_s < limit:
                path.seen.popleft()
            if not path.seen:
                del self._paths[track_id]

    def judged(self, sightings: Sequence[Sighting]) -> list[Sighting]:
        """A frame's sightings, as the anonymiser has to take them: who is a person at any moment near is one now."""
        return [
            dataclasses.replace(sighting, label=None, score=0.0)
            if not may_be_person(sighting) and self._is_person(sighting.track_id)
            else sighting
            for sighting in sightings
        ]

    def heads_at(self, time_s: float, judged: Sequence[Sighting] = ()) -> list[PatchMask]:
        """What shows heads at a time beyond the outlines seen then; may leave the frame.

        Args:
            time_s: Media time.
            judged: The sightings of that time, as `judged` gave them.
        """
        vehicles = [sighting.silhouette for sighting in judged if not may_be_person(sighting)]
        return [*self._of_lost(time_s, vehicles), *self._of_loose(time_s)]

    def _is_person(self, track_id: int) -> bool:
        path = self._paths.get(track_id)
        return path is not None and path.is_person

    def _of_lost(self, time_s: float, vehicles: Sequence[PatchMask]) -> Iterator[PatchMask]:
        for path in self._paths.values():
            before, after = path.nearest(time_s)
            if before is after or not path.may_be_person or (path.sightings < SIGHTINGS_MIN and not path.is_person):
                continue
            x, y = path.place(time_s)
            for seen in (before, after):
                if seen is None or abs(seen.time_s - time_s) > self._reach_s + _SAME_S:
                    continue
                shift = x - seen.xy[0], y - seen.xy[1]
                for patch in covers([seen.sighting], self._frame_wh):
                    more = 1 + round(GROW_PER_S * min(patch.mask.shape) * abs(seen.time_s - time_s))
                    moved = grown(PatchMask(patch.x + round(shift[0]), patch.y + round(shift[1]), patch.mask), more)
                    yield moved if path.is_person else _without(moved, vehicles)

    def _of_loose(self, time_s: float) -> Iterator[PatchMask]:
        for head in self._loose:
            away_s = abs(head.time_s - time_s)
            if away_s > self._reach_s + _SAME_S:
                continue
            dx = dy = 0.0
            rate = GROW_AT_REST_PER_S
            if (path := self._paths.get(head.track_id)) is not None:
                (x, y), (then_x, then_y) = path.place(time_s), path.place(head.time_s)
                dx, dy, rate = x - then_x, y - then_y, GROW_PER_S
            yield _moved(head.box_xyxy, (round(dx), round(dy)), rate * away_s)


def _without(patch: PatchMask, others: Sequence[PatchMask]) -> PatchMask:
    mask = patch.mask.copy()
    for other in others:
        mask &= ~other.window(patch.box_xyxy)
    return PatchMask(patch.x, patch.y, mask)


def _moved(box_xyxy: tuple[int, int, int, int], by_xy: tuple[int, int], growth: float) -> PatchMask:
    """A box elsewhere, larger on every side by a part of its smaller one."""
    x0, y0, x1, y1 = box_xyxy
    more = round(growth * min(x1 - x0, y1 - y0))
    mask = np.ones((y1 - y0 + 2 * more, x1 - x0 + 2 * more), bool)
    return PatchMask(x0 + by_xy[0] - more, y0 + by_xy[1] - more, mask)


def _speaks_for_person(sighting: Sighting, *, was_sure: bool) -> bool:
    """Whether a look at a track tells that it may be a person, rather than that nothing is known of it yet.

    Who is not classified yet is covered as if they were a person, but that says nothing about the moments after. A
    vehicle that was sure and is no longer does, unless it is the outline alone that is doubted.
    """
    if sighting.label is Label.PERSON:
        return True
    if not may_be_person(sighting):
        return False
    return was_sure and not _DOUBTFUL_OUTLINE.intersection(sighting.reasons)


def _whose(head: PatchMask, tracked: Sequence[Sighting]) -> int:
    """The track with the smallest box around a head's middle, or -1."""
    x0, y0, x1, y1 = head.box_xyxy
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    around = [(s.silhouette.mask.size, s.track_id) for s in tracked if _is_inside(x, y, s.silhouette.box_xyxy)]
    return min(around)[1] if around else -1


def _is_inside(x: float, y: float, box_xyxy: tuple[int, int, int, int]) -> bool:
    return box_xyxy[0] <= x < box_xyxy[2] and box_xyxy[1] <= y < box_xyxy[3]
