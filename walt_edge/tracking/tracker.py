"""Who is who over time, by amodal boxes: identities that survive a bus.

An amodal box stays whole while something passes before its object, so its motion stays smooth and its owner can be
told behind it. What is not found is asked whether it could have been seen (`amodal_hiding`): an object that is
expected behind somebody nearer is carried, hidden, with an uncertainty that grows; one that is expected in the open
ends soon. It may come out on the other side, or turn round, or stay until the bus has left.

Pairs of objects and detections are judged by the likelihood of the detection under the object's motion, against that
of a newcomer, and chosen together: the sure detections first, the weak ones for whom is left (the order of ByteTrack,
Zhang et al. 2022).

>>> from walt_edge import Tracker
>>> tracker = Tracker()
>>> for time_s, frame in frames:  # doctest: +SKIP
...     for one in tracker.update(detector.predict(frame), time_s):
...         print(one.id, one.box_xyxy, one.state)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_edge.tracking.assignment import assign
from walt_edge.tracking.found import Box, Found
from walt_edge.tracking.hiding import Cover, not_seen
from walt_edge.tracking.motion import BOTTOM, HEIGHT, WIDTH, Floats, Motion, X, boxes_of
from walt_edge.tracking.tracks import State, TrackedObject, TrackingError, TrackSettings

__all__ = ["AmodalTracker", "State", "TrackSettings", "TrackedObject", "TrackingError"]

_SWAY_SHARES = np.array([1.0, 0.25, 0.05, 0.05])
"""Of the acceleration: along the frame, up and down it (the camera looks down), of width and height."""
_SPEED_SHARES = np.array([1.0, 0.5, 0.3, 0.3])
_PERSON_SPEED, _VEHICLE_SPEED = 1.5, 2.5
"""Of a newcomer, standard deviation, sides a second."""
_SIZE_MEMORY_S = 1.0
_UNTOLD_VARIANCE = 0.02
"""What a number that a cut box does not tell counts as, sides^2: about what one that is told does."""
_OTHER_LABEL = 4.0
_FOLLOWED = 1.0
"""What speaks for a pair whose track was found in the last frame, nats; and against one of another label."""
_JUST_S = 0.9
"""Only what was found so short a time ago is continued by a weak detection, and hides others."""
_LONGEST_STEP_S, _STANDING = 3.0, 0.3
"""After a longer gap only what was slower, sides a second, is carried on."""
_LONGEST_LOOK_S = 0.5
_LEAST_SHARE = 0.05
_EVIDENCE_OF_SCORE, _EVIDENCE_LIMIT, _EVIDENCE_LEAST = 2.5, 4.0, -1.5
_HIDDEN = 0.5
_LEAST_IN_FRAME = 0.05


@dataclass(slots=True, eq=False)
class _Track:
    """What is remembered of an object beside its motion."""

    id: int
    born_s: float
    seen_s: float
    evidence: float
    """Log odds that it is there."""
    votes: dict[int, float] = field(default_factory=dict)
    sum_of_scores: float = 0.0
    score: float = 0.0
    cover: Cover | None = None
    cover_xy: tuple[float, float] = (0.0, 0.0)
    """Its ground contact when its mask was seen."""
    instance: int | None = None
    visible_box: Box | None = None
    occlusion: float = 0.0
    hidden_since_s: float | None = None
    hidden_by: int | None = None

    @property
    def label(self) -> int:
        return max(self.votes, key=self.votes.__getitem__)


class AmodalTracker:
    """Follows the objects of one camera.

    Args:
        settings: How it decides.
        static_occluders: Masks of things that stand in the picture for good (poles, trees, signs) and hide what is
            behind them; each stands on the ground at its lowest row.
    """

    def __init__(self, settings: TrackSettings | None = None, static_occluders: Sequence[PatchMask] = ()) -> None:
        self._settings = settings or TrackSettings()
        self._static = [Cover(mask, mask.box_xyxy[3], None) for mask in static_occluders]
        self._motion = Motion()
        self._tracks: list[_Track] = []
        self._next_id = 1
        self._time_s: float | None = None
        self._frame_wh = (0, 0)

    def update(self, instances: AmodalInstances, time_s: float) -> tuple[TrackedObject, ...]:
        """Takes in what was found in one frame.

        Args:
            instances: Of the frame, as a detector gives them.
            time_s: Of the frame, any clock that runs forward; the steps need not be even.

        Returns:
            Everybody who is there, by id, also those who are not seen now.

        Raises:
            TrackingError: The time is not finite, or before that of the last update.
        """
        elapsed_s = self._tick(time_s)
        if instances.frame_wh != self._frame_wh:
            # Pixels mean other places now.
            self._frame_wh = instances.frame_wh
            self._keep([])
        found = self._found(instances)
        self._predict(elapsed_s)
        pairs = self._associate(found, time_s)
        self._follow(pairs, found, time_s)
        self._search({row for row, _ in pairs}, time_s, elapsed_s)
        self._begin({column for _, column in pairs}, found, time_s)
        self._keep([row for row in range(len(self._tracks)) if self._is_there(row, time_s)])
        return self._told(time_s)

    def _found(self, instances: AmodalInstances) -> Found:
        one = self._settings
        return Found.of(
            instances,
            least_score=one.least_score,
            sure_score=one.sure_score,
            edge_noise=one.edge_noise,
            hidden_noise=one.hidden_noise,
            newcomers=(one.newcomer_at_border, one.newcomer_inside),
        )

    def _tick(self, time_s: float) -> float:
        if not math.isfinite(time_s):
            raise TrackingError(f"the frame's time is {time_s}: give seconds")
        elapsed_s = 0.0 if self._time_s is None else time_s - self._time_s
        if elapsed_s < 0:
            raise TrackingError(
                f"a frame of {time_s} s came after one of {self._time_s} s: give frames in order, or a new tracker"
            )
        self._time_s = time_s
        return elapsed_s

    def _keep(self, rows: list[int]) -> None:
        if len(rows) != len(self._tracks):
            self._tracks = [self._tracks[row] for row in rows]
            self._motion.keep(np.array(rows, np.int64))

    def _sides(self) -> Floats:
        """(N,) side of a square as large as each box."""
        return np.sqrt(self._motion.mean[:, WIDTH, 0] * self._motion.mean[:, HEIGHT, 0])

    def _predict(self, elapsed_s: float) -> None:
        if elapsed_s > _LONGEST_STEP_S:
            # Nobody looked for long: only what stood is where it was.
            speeds = np.hypot(*self._motion.mean[:, :2, 1].T)
            self._keep(np.flatnonzero(speeds <= _STANDING * self._sides()).tolist())
            elapsed_s = _LONGEST_STEP_S
        one = self._settings
        sway = np.array([one.person_sway if t.label == Label.PERSON else one.vehicle_sway for t in self._tracks])
        noise = (sway * self._sides() ** 2)[:, None] * _SWAY_SHARES
        self._motion.predict(elapsed_s, noise, np.array([one.memory_s] * 2 + [_SIZE_MEMORY_S] * 2))

    def _associate(self, found: Found, time_s: float) -> list[tuple[int, int]]:
        """One-to-one pairs (track, detection): the sure detections first, then weak ones for whom was just seen."""
        gains = self._gains(found)
        pairs = assign(np.where(found.sure, gains, 0.0))
        free = np.array(
            [self._is_believed(track) and time_s - track.seen_s < _JUST_S for track in self._tracks], bool
        )
        free[[row for row, _ in pairs]] = False
        return pairs + assign(np.where(free[:, None] & ~found.sure, gains, 0.0))

    def _gains(self, found: Found) -> Floats:
        """(N, M) how much likelier each detection is this track than a newcomer, nats; 0 where it is not."""
        gains = np.zeros((len(self._tracks), len(found)))
        mean, cov = self._motion.mean[:, :, 0], self._motion.cov[:, :, 0]
        reach = math.sqrt(self._settings.gate) * np.sqrt(cov[:, :2]) + mean[:, 2:]
        away = np.abs(mean[:, None, :2] - found.states[:, :2])
        rows, columns = np.nonzero((away <= reach[:, None]).all(axis=2))
        if not len(rows):
            return gains
        measured, variance, told = found.measured(columns, mean[rows], cov[rows], self._frame_wh)
        total = (cov[rows] + variance) / (mean[rows, WIDTH] * mean[rows, HEIGHT])[:, None]
        squares = np.where(told, (measured - mean[rows]) ** 2 / (cov[rows] + variance), 0)
        spread = 0.5 * np.log(2 * np.pi * np.where(told, total, _UNTOLD_VARIANCE))
        density = -(0.5 * squares + spread).sum(axis=1)
        labels = np.array([track.label for track in self._tracks])
        followed = np.array([_FOLLOWED * (track.instance is not None) for track in self._tracks])
        gain = density + followed[rows] - found.newcomer[columns]
        gain -= _OTHER_LABEL * (labels[rows] != found.labels[columns])
        gain += self._settings.overlap * _overlap(_clip(boxes_of(mean[rows]), self._frame_wh), found.boxes[columns])
        gain[squares.sum(axis=1) > self._settings.gate] = 0
        gains[rows, columns] = np.maximum(gain, 0)
        return gains

    def _follow(self, pairs: list[tuple[int, int]], found: Found, time_s: float) -> None:
        for track in self._tracks:
            track.instance, track.visible_box = None, None
        if not pairs:
            return
        rows, columns = np.array(pairs, np.int64).T
        mean, cov = self._motion.mean[rows, :, 0], self._motion.cov[rows, :, 0]
        measured, variance, told = found.measured(columns, mean, cov, self._frame_wh)
        self._motion.correct(rows, measured, np.where(told, variance, np.inf))
        for row, column in pairs:
            self._note(row, column, found, time_s)

    def _note(self, row: int, column: int, found: Found, time_s: float) -> None:
        track = self._tracks[row]
        score, label = float(found.scores[column]), int(found.labels[column])
        x, bottom = self._motion.mean[row, :2, 0].tolist()
        track.votes[label] = track.votes.get(label, 0.0) + score
        track.sum_of_scores += score
        track.evidence = min(track.evidence + _EVIDENCE_OF_SCORE * score, _EVIDENCE_LIMIT)
        track.seen_s, track.score, track.instance = time_s, score, int(found.indices[column])
        track.visible_box, track.occlusion = found.visible_boxes[column], float(found.occlusion[column])
        track.cover = Cover(found.masks[column], float(found.boxes[column, 3]), track.id)
        track.cover_xy = (x, bottom)
        track.hidden_since_s = track.hidden_by = None

    def _search(self, matched: set[int], time_s: float, elapsed_s: float) -> None:
        """Asks of everybody who was not found whether that is a surprise."""
        lost = [row for row in range(len(self._tracks)) if row not in matched]
        if not lost:
            return
        covers = [*self._static, *self._covers(time_s)]
        found = 1 - math.exp(-min(elapsed_s, _LONGEST_LOOK_S) / self._settings.find_s)
        for row in lost:
            track = self._tracks[row]
            others = [cover for cover in covers if cover.owner is None or cover.owner != track.id]
            mean, cov = self._motion.mean[row, :, 0], self._motion.cov[row, :2, 0]
            unseen = not_seen(mean, cov, others, found)
            if not self._is_believed(track):
                # Nobody waits behind a bus for what may never have been there.
                track.evidence += math.log(1 - found)
            self._motion.restrict(row, unseen.place, np.maximum(unseen.variance, _LEAST_SHARE * cov))
            track.evidence += math.log(unseen.likelihood)
            track.occlusion, track.hidden_by = unseen.hidden_share, unseen.owner
            if track.hidden_since_s is None and unseen.hidden_share >= _HIDDEN:
                track.hidden_since_s = time_s

    def _covers(self, time_s: float) -> list[Cover]:
        """The masks of all who were just seen, carried on to where they are now; who is hidden hides nobody."""
        places = self._motion.mean[:, :2, 0].tolist()
        return [
            track.cover.moved(x - track.cover_xy[0], bottom - track.cover_xy[1])
            for track, (x, bottom) in zip(self._tracks, places, strict=True)
            if track.cover is not None and time_s - track.seen_s < _JUST_S
        ]

    def _begin(self, matched: set[int], found: Found, time_s: float) -> None:
        new = [column for column in np.flatnonzero(found.sure).tolist() if column not in matched]
        if not new:
            return
        states = found.states[new]
        sides = np.sqrt(states[:, WIDTH] * states[:, HEIGHT])[:, None]
        people = (found.labels[new] == Label.PERSON)[:, None]
        speeds = np.where(people, _PERSON_SPEED, _VEHICLE_SPEED) * _SPEED_SHARES * sides
        self._motion.add(states, found.noise[new], speeds)
        for column in new:
            self._tracks.append(_Track(self._next_id, time_s, time_s, 0.0))
            self._next_id += 1
            self._note(len(self._tracks) - 1, column, found, time_s)

    def _is_there(self, row: int, time_s: float) -> bool:
        track = self._tracks[row]
        if track.instance is not None:
            return True
        mean, cov = self._motion.mean[row, :, 0], self._motion.cov[row, :2, 0]
        side = math.sqrt(mean[WIDTH] * mean[HEIGHT])
        x0, y0, x1, y1 = _clipped(boxes_of(mean), self._frame_wh)
        return bool(
            track.evidence > _EVIDENCE_LEAST
            and time_s - track.seen_s <= self._settings.hidden_limit_s
            and math.sqrt(cov.max()) <= self._settings.uncertain_limit * side
            and (x1 - x0) * (y1 - y0) > _LEAST_IN_FRAME * side**2
        )

    def _told(self, time_s: float) -> tuple[TrackedObject, ...]:
        boxes = self._motion.boxes_xyxy()
        return tuple(
            TrackedObject(
                id=track.id,
                label=track.label,
                box_xyxy=_clipped(boxes[row], self._frame_wh),
                visible_box_xyxy=track.visible_box,
                velocity_xy=(float(self._motion.mean[row, X, 1]), float(self._motion.mean[row, BOTTOM, 1])),
                place_std_xy=(math.sqrt(self._motion.cov[row, X, 0]), math.sqrt(self._motion.cov[row, BOTTOM, 0])),
                state=self._state(track),
                occlusion_fraction=track.occlusion,
                hidden_since_s=track.hidden_since_s,
                hidden_by=track.hidden_by,
                age_s=time_s - track.born_s,
                score=track.score,
                instance=track.instance,
            )
            for row, track in enumerate(self._tracks)
        )

    def _is_believed(self, track: _Track) -> bool:
        return track.sum_of_scores >= self._settings.confirm_score

    def _state(self, track: _Track) -> State:
        if not self._is_believed(track):
            return "tentative"
        if track.instance is None:
            return "hidden" if track.occlusion >= _HIDDEN else "missed"
        return "partly_hidden" if track.occlusion >= self._settings.partly_hidden_from else "seen"


def _clip(boxes_xyxy: Floats, frame_wh: tuple[int, int]) -> Floats:
    return np.clip(boxes_xyxy, 0, np.array(frame_wh * 2, float))


def _overlap(one: Floats, other: Floats) -> Floats:
    """(P,) IoU of pairs of boxes, 0..1."""
    sides = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    common = np.clip(sides, 0, None).prod(axis=1)
    union = (one[:, 2:] - one[:, :2]).prod(axis=1) + (other[:, 2:] - other[:, :2]).prod(axis=1) - common
    return np.asarray(common / np.maximum(union, 1e-9))


def _clipped(box: Floats, frame_wh: tuple[int, int]) -> Box:
    width, height = frame_wh
    x0, y0, x1, y1 = box.tolist()
    return min(max(x0, 0.0), width), min(max(y0, 0.0), height), min(max(x1, 0.0), width), min(max(y1, 0.0), height)
