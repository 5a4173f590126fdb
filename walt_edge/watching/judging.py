"""Judges what the tracker follows: its class, whether it is seen whole, and which views of it are worth keeping.

One `Judge` serves one position of one camera. It learns as it judges: the size of things along the ground, and the
static occluders before them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from walt_edge.camera import Frame
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.contract.messages import Moment
from walt_edge.privacy.anonymiser import AnonymisedImage
from walt_edge.runtimes import Detections, Teacher
from walt_edge.vision import unoccluded
from walt_edge.vision.ground import Sizes
from walt_edge.vision.motion import Motion
from walt_edge.vision.settings import WatchSettings
from walt_edge.vision.shape import Shape, describe, ground_contact
from walt_edge.vision.sightings import Reason, Sighting
from walt_edge.vision.silhouettes import Silhouette
from walt_edge.vision.static_occluders import Footprint, StaticOccluders
from walt_edge.vision.unoccluded import Parts
from walt_edge.watching.dossiers import Dossier, jump_parts, occluder_parts, rejudge, track_parts, weakest
from walt_edge.watching.teacher import teach
from walt_edge.watching.tracking import Match, Observation, Track
from walt_edge.watching.views import View, ViewKeeper, context, worth

_CUTS = (Reason.NEIGHBOUR, Reason.BORDER, Reason.MERGED, Reason.FRAGMENT)
_PENDING = frozenset({Reason.SHORT_TRACK, Reason.UNCLASSIFIED})
_SHARP = 0.6
_TEACHES = 0.7
_HALF_STEP_S = 0.3
_SIZE_EVERY = 5
_YOUNG = 8

Looks = dict[int, tuple[Observation, Shape, float]]
"""What the judge noted of each track in one frame: its place, its outline measured, its rim's sharpness 0..1."""


class Judge:
    """The judge of one camera position.

    Attributes:
        occluders: What stands before the objects.
        sizes: How large things are where they stand.
        looks: What was noted in the newest frame.
    """

    def __init__(self, frame_wh: tuple[int, int], settings: WatchSettings, detector: Teacher | None = None) -> None:
        self._frame_wh = frame_wh
        self._settings = settings
        self._detector = detector
        self._dossiers: dict[int, Dossier] = {}
        self.looks: Looks = {}
        self._opened_s: float | None = None
        self.occluders = StaticOccluders(frame_wh, settings)
        self.sizes = Sizes()

    def judge(
        self,
        frame: Frame,
        known: Mask,
        motion: Motion,
        outlines: Sequence[Silhouette],
        matches: Sequence[Match],
    ) -> list[Sighting]:
        """Judges one frame's silhouettes; returns one sighting each, in the same order.

        Args:
            frame: The raw frame.
            known: (H, W) where the plate is known.
            motion: The frame against the plate.
            outlines: The frame's silhouettes.
            matches: What the tracker says about each.
        """
        width, height = self._frame_wh
        painted = unoccluded.label_map([s.patch for s in outlines], height, width)
        # What a post cuts off is a loose piece first, and on its other side often a new track.
        loose = np.array([False] + [m.track is None or m.track.sightings <= _YOUNG for m in matches])
        self.looks = {}
        settling = self._settling(frame.captured.media_time_s)
        sightings = []
        for index, (outline, match) in enumerate(zip(outlines, matches, strict=True)):
            patch = outline.patch
            if match.track is None:
                sightings.append(Sighting(patch, None, 0.0, ground_contact(patch), reasons=(Reason.FRAGMENT,)))
                continue
            dossier = self._dossier(match.track)
            dossier.note_footprint(
                _footprint(index, patch, painted, loose, motion.moving, match, frame.captured.media_time_s)
            )
            parts = weakest(self._scene_parts(index, patch, painted, known, motion, match), settling)
            sightings.append(self._judge_tracked(frame, patch, dossier, parts))
        return self._taught(frame, sightings)

    def _settling(self, time_s: float) -> Parts:
        """Who was in the picture when it was first watched may be two that walk as one: nobody saw them come."""
        self._opened_s = time_s if self._opened_s is None else self._opened_s
        watched_s = time_s - self._opened_s
        return {Reason.WARM_UP: unoccluded.ramp(watched_s, 0.0, self._settings.settle_s, low=0.3, middle=0.3)}

    def _dossier(self, track: Track) -> Dossier:
        return self._dossiers.setdefault(
            track.id, Dossier(track, ViewKeeper(self._settings), released_s=track.born_s)
        )

    def _scene_parts(
        self,
        index: int,
        patch: PatchMask,
        painted: NDArray[np.int32],
        known: Mask,
        motion: Motion,
        match: Match,
    ) -> Parts:
        """What the surroundings say."""
        settings = self._settings
        return {
            Reason.NEIGHBOUR: unoccluded.neighbour_part(index, patch, painted, settings),
            Reason.BORDER: unoccluded.border_part(patch, self._frame_wh, settings),
            Reason.SMALL: unoccluded.small_part(patch, settings),
            Reason.WARM_UP: unoccluded.known_part(patch, known),
            Reason.MERGED: 0.0 if match.merged_with else 1.0,
            Reason.FRAGMENT: 0.2 if match.pieces else unoccluded.crown_part(patch, motion.moving, settings),
            **weakest(
                occluder_parts(patch, self.occluders, settings),
                {Reason.STATIC_OCCLUDER: unoccluded.cut_part(patch, motion.plate_gradient, settings)},
            ),
        }

    def _judge_tracked(self, frame: Frame, patch: PatchMask, dossier: Dossier, scene: Parts) -> Sighting:
        settings, track = self._settings, dossier.track
        time_s = frame.captured.media_time_s
        x0, y0, x1, y1 = patch.box_xyxy
        apart = min(scene[reason] for reason in _CUTS) >= settings.whole_confidence
        observation = Observation(time_s, (float(x0), float(y0), float(x1), float(y1)), patch.area, apart)
        jump = jump_parts(dossier.own_ratio(patch.area, time_s))
        track.history.append(observation)
        shape = describe(patch)
        if apart:
            rate = len(track.history) / max(_HALF_STEP_S, time_s - track.history[0].time_s)
            dossier.evidence.add(shape, stride=max(1, round(_HALF_STEP_S * rate)))
        label, score = dossier.evidence.classify()
        parts = weakest(scene, jump)
        clean = min(parts.values()) >= settings.whole_confidence
        # Pools of headlights and other soft things must not teach how large objects are.
        teaches = clean and track.sightings % _SIZE_EVERY == 0 and self._crispness(patch, frame)[1] >= _TEACHES
        parts = weakest(parts, track_parts(dossier, label, score, settings))
        if label is not None:
            parts = weakest(parts, {Reason.STATIC_OCCLUDER: unoccluded.see_through_part(patch, label)})
            parts = weakest(parts, self._class_parts(label, shape, observation, track, learn=teaches))
        sharp = 0.0
        failed = any(part < settings.whole_confidence for reason, part in parts.items() if reason not in _PENDING)
        if settings.keep_doubtful or not failed:
            sharp, parts[Reason.BLURRED] = self._crispness(patch, frame)
        self.looks[track.id] = (observation, shape, sharp)
        return self._sighting(patch, dossier, label, score, parts)

    def _crispness(self, patch: PatchMask, frame: Frame) -> tuple[float, float]:
        """Sharpness of the rim, and the part of the confidence that it makes together with the outline's edges."""
        settings = self._settings
        sharp = unoccluded.sharpness(patch, frame.bgr)
        crisp = unoccluded.ramp(sharp, settings.sharpness_min, _SHARP, low=0.2, middle=0.55)
        return sharp, min(crisp, unoccluded.edge_part(patch, frame.bgr, settings))

    def _class_parts(self, label: Label, shape: Shape, seen: Observation, track: Track, *, learn: bool) -> Parts:
        """What the class says: proportions, and size where it stands."""
        proportion = unoccluded.proportion_part(label, shape)
        if learn and proportion >= self._settings.whole_confidence:
            self.sizes.add(label, seen.box_xyxy[3], seen.height, seen.area, track.id)
        ratio = self.sizes.ratio(label, seen.box_xyxy[3], seen.height, seen.area)
        parts = weakest(unoccluded.size_parts(ratio, label, self._settings), {Reason.MERGED: proportion})
        if label is Label.PERSON:
            bulk = unoccluded.bulk_part(self.sizes.bulk_ratio(seen.height, seen.area))
            parts = weakest(parts, {Reason.MERGED: bulk})
        return parts

    def _sighting(
        self, patch: PatchMask, dossier: Dossier, label: Label | None, score: float, parts: Parts
    ) -> Sighting:
        outcome = unoccluded.verdict(parts, self._settings)
        dossier.failed.update(outcome.reasons)
        # An outline that may hold somebody else must not count as a vehicle's for the anonymiser.
        doubtful = label is Label.VEHICLE and {Reason.MERGED, Reason.NEIGHBOUR}.intersection(outcome.reasons)
        return Sighting(
            patch,
            None if doubtful else label,
            score,
            ground_contact(patch),
            track_id=dossier.track.id,
            reasons=outcome.reasons,
            unoccluded_confidence=outcome.confidence,
            confidence_parts=tuple((reason.value, part) for reason, part in parts.items()),
        )

    def _taught(self, frame: Frame, sightings: list[Sighting]) -> list[Sighting]:
        """Asks the teacher, where there is one, about what seems whole."""
        candidates = [s for s in sightings if s.track_id >= 0 and not set(s.reasons) - _PENDING]
        if self._detector is None or not candidates:
            return sightings
        detections = self._detector(frame.bgr)
        return [self._retake(s, detections) if s in candidates else s for s in sightings]

    def _retake(self, sighting: Sighting, detections: Detections) -> Sighting:
        dossier = self._dossiers[sighting.track_id]
        lesson = teach(sighting.silhouette, detections)
        if lesson.label is not None:
            dossier.evidence.votes[lesson.label] += 1
        parts = {Reason(name): part for name, part in sighting.confidence_parts}
        label, score = dossier.evidence.classify()
        parts = weakest(parts, lesson.parts)
        return self._sighting(sighting.silhouette, dossier, label, score, parts)

    def keep_views(
        self, captured: Moment, image: AnonymisedImage, sightings: Sequence[Sighting], looks: Looks
    ) -> None:
        """Keeps crops of an anonymised frame where they are better than what is kept already.

        Args:
            captured: When the frame was; it may have been judged some time ago.
            image: The frame.
            sightings: As judged then.
            looks: As noted then.
        """
        for sighting in sightings:
            dossier = self._dossiers.get(sighting.track_id)
            if dossier is None or (not self._settings.keep_doubtful and set(sighting.reasons) - _PENDING):
                continue
            filled = image.filled_fraction(sighting.silhouette)
            if filled > self._settings.filled_most(sighting.label):
                continue
            observation, shape, sharp = looks[sighting.track_id]
            hopeful = _hopeful(sighting)
            around = context(observation.box_xyxy, self._frame_wh, self._margin_px(sighting.silhouette))
            if dossier.keeper.wants(observation, worth(hopeful, sharp, around, filled)):
                box = self._margin(sighting.silhouette)
                crop = image.crop(box, sighting.silhouette)
                place = (box[0], box[1])
                dossier.keeper.keep(View(hopeful, observation, shape, crop, place, captured, sharp, around, filled))

    def _margin(self, patch: PatchMask) -> tuple[int, int, int, int]:
        width, height = self._frame_wh
        x0, y0, x1, y1 = patch.box_xyxy
        margin = self._margin_px(patch)
        return max(0, x0 - margin), max(0, y0 - margin), min(width, x1 + margin), min(height, y1 + margin)

    def _margin_px(self, patch: PatchMask) -> int:
        height, width = patch.mask.shape
        return max(self._settings.margin_min_px, round(self._settings.margin_fraction * max(width, height)))

    def overdue(self, time_s: float) -> list[Track]:
        """Tracks that have lived so long that what they hold should go now."""
        limit = self._settings.track_budget_s
        late = [d for d in self._dossiers.values() if d.keeper.views and time_s - d.released_s > limit]
        for dossier in late:
            dossier.released_s = time_s
        return [dossier.track for dossier in late]

    def release(self, track: Track) -> list[View]:
        """Judges a track's views once more and gives those to send, best first; the track may live on."""
        dossier = self._dossiers[track.id]
        views = [rejudge(view, dossier, self.sizes, self.occluders, self._settings) for view in dossier.keeper.views]
        dossier.failed_late.update(reason for view in views for reason in view.sighting.reasons)
        if self._settings.keep_doubtful:
            return dossier.keeper.take([view for view in views if view.sighting.label is not None])
        return dossier.keeper.take([view for view in views if not view.sighting.reasons])

    def forget(self, track: Track) -> None:
        """Ends a track that was a flicker: nothing is learned from it."""
        self._dossiers.pop(track.id, None)

    def close(self, track: Track) -> tuple[list[View], Reason | None]:
        """Ends a track and learns from it.

        Returns:
            The views to send, best first; and, if none ever were, what spoke against most of them.
        """
        if track.id not in self._dossiers:
            return [], Reason.SHORT_TRACK
        self.occluders.learn([step.unpacked() for step in self._dossiers[track.id].trail])
        views = self.release(track)
        dossier = self._dossiers.pop(track.id)
        if dossier.keeper.sent:
            return views, None
        against = (dossier.failed_late or dossier.failed).most_common(1)
        return [], against[0][0] if against else Reason.NOT_BEST


def _hopeful(sighting: Sighting) -> Sighting:
    """The sighting without the parts that only the whole track decides."""
    parts = tuple((name, part) for name, part in sighting.confidence_parts if Reason(name) not in _PENDING)
    confidence = float(np.prod([part for _, part in parts])) if parts else 0.0
    return replace(sighting, reasons=(), unoccluded_confidence=confidence, confidence_parts=parts)


def _footprint(
    index: int,
    patch: PatchMask,
    painted: NDArray[np.int32],
    loose: NDArray[np.bool_],
    moving: Mask,
    match: Match,
    time_s: float,
) -> Footprint:
    """The silhouette with the loose pieces around it, as the map of static occluders wants it."""
    height, width = painted.shape
    x0, y0, x1, y1 = patch.box_xyxy
    dx, dy = (x1 - x0) // 2 + 8, (y1 - y0) // 2 + 8
    left, top = max(0, x0 - dx), max(0, y0 - dy)
    region = (slice(top, min(height, y1 + dy)), slice(left, min(width, x1 + dx)))
    window = painted[region]
    own = (window == index + 1) | loose[window]
    changed = ((window > 0) | moving[region]) & ~own
    return Footprint(time_s, PatchMask(left, top, own), changed, not match.merged_with)
