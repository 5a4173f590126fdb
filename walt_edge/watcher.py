"""Watches one fixed camera: learns its plate, follows what moves, judges what is seen whole, and hands on sealed crops.

Raw pixels stay inside. What `step` returns is anonymised or sealed.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.camera import Frame
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask, encode_rle
from walt_edge.contract.messages import CropHeader, Moment, Origin
from walt_edge.dossiers import Dossier, jump_parts, occluder_parts, rejudge, track_parts, weakest
from walt_edge.plates import PlatePublisher
from walt_edge.privacy import AnonymisedImage, Anonymiser, SealedEnvelope, seal
from walt_edge.selection import View, ViewKeeper, worth
from walt_edge.tracking import Match, Observation, Tracker
from walt_edge.vision.drift import DriftWatch, MovingCameraError, spread_px
from walt_edge.vision.ground import Sizes
from walt_edge.vision.motion import Motion, find_motion
from walt_edge.vision.plate import Plate, SampleBuffer
from walt_edge.vision.settings import WatchSettings
from walt_edge.vision.shape import Shape, describe
from walt_edge.vision.sightings import Reason, Sighting
from walt_edge.vision.silhouettes import Silhouette, find_silhouettes
from walt_edge.vision.standing import grown, is_ghost
from walt_edge.vision.static_occluders import Footprint, StaticOccluders
from walt_edge.vision.unoccluded import (
    Parts,
    border_part,
    known_part,
    label_map,
    neighbour_part,
    proportion_part,
    ramp,
    sharpness,
    size_parts,
    small_part,
    verdict,
)

MODEL = "motion-1"
_CUTS = (Reason.NEIGHBOUR, Reason.BORDER, Reason.MERGED, Reason.FRAGMENT)
__all__ = ["MovingCameraError", "Step", "WatchSettings", "Watcher"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What one frame gave.

    Attributes:
        image: The whole frame, anonymised; None while the plate is being learned.
        sightings: Its objects, tracked and judged.
        sealed: Crops and plates to send now.
    """

    image: AnonymisedImage | None
    sightings: tuple[Sighting, ...]
    sealed: tuple[SealedEnvelope, ...]


class Watcher:
    """The eyes of one camera.

    Attributes:
        rejected_by_reason: How many objects were not chosen, by the reason that spoke against most of their views.
        objects_seen: Tracks that ended and were more than a flicker.
        crops_chosen: Crops released.
    """

    def __init__(
        self,
        *,
        site: str,
        device: str,
        camera: str,
        anonymiser: Anonymiser,
        settings: WatchSettings = WatchSettings(),
    ) -> None:
        self._names = (site, device, camera)
        self._anonymiser = anonymiser
        self._settings = settings
        self._tracker = Tracker(settings)
        self._dossiers: dict[int, Dossier] = {}
        self._sizes = Sizes()
        self._plate: Plate | None = None
        self._origin: Origin | None = None
        self._epochs_spoiled = 0
        self._captured: Moment | None = None
        self.rejected_by_reason: Counter[str] = Counter()
        self.objects_seen = 0
        self.crops_chosen = 0

    # -- life ---------------------------------------------------------------------------------------------

    def step(self, frame: Frame) -> Step:
        """Looks at one frame.

        Raises:
            MovingCameraError: The camera does not stand still.
            PrivacyError: The anonymiser failed; nothing of this frame goes anywhere.
        """
        self._begin(frame)
        time_s = frame.captured.media_time_s
        if self._plate is None:
            return Step(None, (), self._warm_up(frame, time_s))
        return self._watch(frame, self._plate, time_s)

    def finish(self) -> tuple[SealedEnvelope, ...]:
        """Releases what open tracks still hold; called once at the end."""
        sealed = [one for dossier in self._dossiers.values() for one in self._close(dossier)]
        self._dossiers.clear()
        return tuple(sealed)

    def _begin(self, frame: Frame) -> None:
        height, width = frame.bgr.shape[:2]
        if self._origin is not None and self._origin.frame_wh == (width, height):
            self._captured = frame.captured
            return
        if self._origin is not None:
            _log.warning("frame size changed to %dx%d: a new plate is learned", width, height)
        site, device, camera = self._names
        self._origin = Origin(
            site=site, device=device, camera=camera, model=MODEL, anonymiser="none", frame_wh=(width, height)
        )
        self._captured = frame.captured
        self._publisher = PlatePublisher(self._origin, self._anonymiser, self._settings)
        self._new_epoch()

    def _new_epoch(self) -> None:
        assert self._origin is not None
        width, height = self._origin.frame_wh
        settings = self._settings
        capacity = min(settings.plate_samples, settings.plate_memory_bytes // (3 * width * height))
        self._buffer = SampleBuffer(settings.warm_up_s / max(1, capacity - 1), capacity)
        self._epoch_s: float | None = None
        self._plate = None
        self._followed_s = -np.inf
        self._relearn_s = -np.inf
        self._drift = DriftWatch(settings)
        self._occluders = StaticOccluders(self._origin.frame_wh, settings)
        self._publisher.restart()

    def _warm_up(self, frame: Frame, time_s: float) -> tuple[SealedEnvelope, ...]:
        self._epoch_s = time_s if self._epoch_s is None else self._epoch_s
        self._buffer.offer(frame.bgr, time_s)
        enough = len(self._buffer) >= self._settings.plate_samples_min
        if time_s - self._epoch_s < self._settings.warm_up_s or not enough:
            return ()
        return self._learn(frame, time_s)

    def _learn(self, frame: Frame, time_s: float) -> tuple[SealedEnvelope, ...]:
        spread = spread_px(self._buffer.frames)
        if spread > self._settings.drift_px:
            self._epochs_spoiled += 1
            if self._epochs_spoiled >= self._settings.moving_epochs:
                raise MovingCameraError(
                    f"the camera moves: frames of {self._settings.warm_up_s:g} s lie {spread:.0f} px apart; "
                    "fix it to its mount, or turn off pan, zoom and stabilisation"
                )
            _log.warning("camera moved by %.0f px before frame %d: learning the plate again", spread, frame.index)
            self._new_epoch()
            return ()
        self._epochs_spoiled = 0
        self._plate = Plate.learn(self._buffer, self._settings)
        self._relearn_s = time_s + self._settings.relearn_s
        for number, sample in enumerate(self._buffer.frames[:: max(1, len(self._buffer) // 12)]):
            motion = find_motion(sample, self._plate, self._settings)
            outlines = find_silhouettes(motion, self._settings)
            unknown = tuple(Sighting(s.patch, None, 0.0, _ground(s.patch)) for s in outlines)
            image = self._anonymiser(sample, unknown, motion.moving)
            earlier = replace_time(frame.captured, 2.0 * number)
            self._publisher.offer(image, earlier)
        return self._publish(self._plate, frame.captured)

    # -- one frame ----------------------------------------------------------------------------------------

    def _watch(self, frame: Frame, plate: Plate, time_s: float) -> Step:
        motion = find_motion(frame.bgr, plate, self._settings)
        moved = self._drift.check(plate.bgr, frame.bgr, motion.moving, time_s)
        if moved is not None:
            return self._camera_moved(frame, moved)
        outlines = find_silhouettes(motion, self._settings)
        boxes = np.array([s.patch.box_xyxy for s in outlines], float).reshape(-1, 4)
        matches = self._tracker.update(boxes, [s.patch.area for s in outlines], time_s)
        sightings = self._judge(frame, plate, outlines, matches, time_s)
        image = self._anonymiser(frame.bgr, sightings, self._foreign(motion, outlines))
        self._keep_views(frame, image, sightings, matches)
        self._tend_plate(frame, plate, motion, outlines, matches, time_s)
        self._publisher.offer(image, frame.captured)
        sealed = self._end_tracks(time_s)
        if self._publisher.due(plate.bgr, time_s):
            sealed += self._publish(plate, frame.captured)
        return Step(image, tuple(sightings), sealed)

    def _camera_moved(self, frame: Frame, moved: float) -> Step:
        _log.warning("camera moved by %.0f px at frame %d: a new plate is learned", moved, frame.index)
        sealed = self.finish()
        self._tracker.tracks.clear()
        self._sizes = Sizes()
        self._new_epoch()
        return Step(None, (), sealed)

    def _judge(
        self, frame: Frame, plate: Plate, outlines: list[Silhouette], matches: list[Match], time_s: float
    ) -> list[Sighting]:
        height, width = frame.bgr.shape[:2]
        painted = label_map([s.patch for s in outlines], height, width)
        loose = np.array([False] + [match.track is None for match in matches])
        sightings = []
        self._seen: dict[int, tuple[Observation, Shape, float]] = {}
        for index, (outline, match) in enumerate(zip(outlines, matches, strict=True)):
            patch = outline.patch
            if match.track is None:
                sightings.append(Sighting(patch, None, 0.0, _ground(patch), reasons=(Reason.FRAGMENT,)))
                continue
            dossier = self._dossiers.setdefault(match.track.id, Dossier(match.track, ViewKeeper(self._settings)))
            parts: Parts = {
                Reason.NEIGHBOUR: neighbour_part(index, patch, painted, self._settings),
                Reason.BORDER: border_part(patch, (width, height), self._settings),
                Reason.SMALL: small_part(patch, self._settings),
                Reason.WARM_UP: known_part(patch, plate.known),
                Reason.MERGED: 0.0 if match.merged_with else 1.0,
                Reason.FRAGMENT: 0.2 if match.pieces else 1.0,
                **occluder_parts(patch, self._occluders, self._settings),
            }
            dossier.note_footprint(self._footprint(index, patch, painted, loose, match, time_s))
            sightings.append(self._judge_tracked(frame, outline, match, dossier, parts, time_s))
        return sightings

    def _footprint(
        self,
        index: int,
        patch: PatchMask,
        painted: NDArray[np.int32],
        loose: NDArray[np.bool_],
        match: Match,
        time_s: float,
    ) -> Footprint:
        """The silhouette with the loose pieces around it, as the map of static occluders wants it."""
        x0, y0, x1, y1 = _around(patch, (painted.shape[1], painted.shape[0]))
        window = painted[y0:y1, x0:x1]
        own = (window == index + 1) | loose[window]
        return Footprint(time_s, PatchMask(x0, y0, own), (window > 0) & ~own, not match.merged_with)

    def _judge_tracked(
        self, frame: Frame, outline: Silhouette, match: Match, dossier: Dossier, parts: Parts, time_s: float
    ) -> Sighting:
        assert match.track is not None
        patch, track = outline.patch, match.track
        shape = describe(patch)
        box = (float(patch.box_xyxy[0]), float(patch.box_xyxy[1]), float(patch.box_xyxy[2]), float(patch.box_xyxy[3]))
        jump = jump_parts(dossier.own_ratio(patch.area, box[3] - box[1]))
        clean = min(weakest(parts, jump).values()) >= self._settings.whole_confidence
        roughly = min(parts[reason] for reason in _CUTS) >= self._settings.whole_confidence
        observation = Observation(time_s, box, patch.area, roughly)
        track.history.append(observation)
        if roughly:
            stride = max(1, round(0.3 * len(track.history) / max(0.3, time_s - track.born_s)))
            dossier.evidence.add(shape, patch.area, stride)
        label, score = dossier.evidence.classify()
        parts = weakest(parts, jump, track_parts(dossier, label, score, self._settings))
        if label is not None:
            if clean and len(dossier.track.history) % 5 == 0:
                self._sizes.add(label, box[3], box[3] - box[1], patch.area, track.id)
            ratio = self._sizes.ratio(label, box[3], box[3] - box[1], patch.area)
            parts = weakest(parts, size_parts(ratio, label, self._settings))
            parts = weakest(parts, {Reason.MERGED: proportion_part(label, shape)})
        sharp = 1.0
        if clean and parts[Reason.SMALL] > 0:
            sharp = sharpness(patch, frame.bgr)
            parts[Reason.BLURRED] = ramp(sharp, self._settings.sharpness_min, 0.6, low=0.2, middle=0.55)
        outcome = verdict(parts, self._settings)
        self._seen[track.id] = (observation, shape, sharp)
        dossier.failed.update(outcome.reasons)
        # A vehicle's outline that may hold somebody else's head must not count as a vehicle's for the anonymiser.
        unsure = label is Label.VEHICLE and (parts[Reason.MERGED] < 0.5 or parts[Reason.NEIGHBOUR] < 0.5)
        return Sighting(
            patch,
            None if unsure else label,
            score,
            _ground(patch),
            track_id=track.id,
            reasons=outcome.reasons,
            unoccluded_confidence=outcome.confidence,
            confidence_parts=tuple((reason.value, part) for reason, part in parts.items()),
        )

    def _foreign(self, motion: Motion, outlines: list[Silhouette]) -> Mask:
        """Moving pixels for the anonymiser: all that is solid, and shadows that belong to nobody.

        The rim trimmed off an outline and the shadow that touches it show no person; filled, they would spoil the
        object's surroundings.
        """
        height, width = motion.moving.shape
        near = np.zeros((height, width), np.uint8)
        for outline in outlines:
            patch = grown(outline.patch, self._settings.halo_px + 2, (width, height))
            x0, y0, x1, y1 = patch.box_xyxy
            near[y0:y1, x0:x1][patch.mask] = 1
        count, labels = cv2.connectedComponents(motion.moving.astype(np.uint8), connectivity=8)
        owned = np.zeros(count, bool)
        owned[np.unique(labels[near > 0])] = True
        owned[0] = False
        alien: Mask = motion.moving & (near == 0) & (motion.solid | ~owned[labels])
        return alien

    # -- views --------------------------------------------------------------------------------------------

    def _keep_views(
        self, frame: Frame, image: AnonymisedImage, sightings: list[Sighting], matches: list[Match]
    ) -> None:
        for sighting in sightings:
            dossier = self._dossiers.get(sighting.track_id)
            pending = {Reason.SHORT_TRACK, Reason.UNCLASSIFIED}
            if dossier is None or set(sighting.reasons) - pending:
                continue
            if image.filled_fraction(sighting.silhouette) > self._settings.filled_max:
                continue
            observation, shape, sharp = self._seen[sighting.track_id]
            hopeful = _without(sighting, pending)
            box = self._margin(sighting.silhouette)

            def make(
                sighting: Sighting = hopeful,
                box: tuple[int, int, int, int] = box,
                observation: Observation = observation,
                shape: Shape = shape,
                sharp: float = sharp,
            ) -> View:
                crop = image.crop(box, sighting.silhouette)
                return View(sighting, observation, shape, crop, (box[0], box[1]), frame.captured, sharp)

            dossier.keeper.offer(observation, worth(hopeful, sharp), make)

    def _margin(self, patch: PatchMask) -> tuple[int, int, int, int]:
        assert self._origin is not None
        width, height = self._origin.frame_wh
        x0, y0, x1, y1 = patch.box_xyxy
        margin = max(self._settings.margin_min_px, round(self._settings.margin_fraction * max(x1 - x0, y1 - y0)))
        return (max(0, x0 - margin), max(0, y0 - margin), min(width, x1 + margin), min(height, y1 + margin))

    def _end_tracks(self, time_s: float) -> tuple[SealedEnvelope, ...]:
        sealed: list[SealedEnvelope] = []
        for track in self._tracker.ended(time_s):
            dossier = self._dossiers.pop(track.id, None)
            if dossier is not None:
                sealed += self._close(dossier)
        return tuple(sealed)

    def _close(self, dossier: Dossier) -> list[SealedEnvelope]:
        """Judges a track's views once more and seals the best."""
        if dossier.track.sightings < self._settings.track_sightings_min:
            return []
        self.objects_seen += 1
        self._occluders.learn(list(dossier.trail))
        views = [rejudge(view, dossier, self._sizes, self._occluders, self._settings) for view in dossier.keeper.views]
        whole = sorted((view for view in views if not view.sighting.reasons), key=lambda view: -view.worth)
        chosen = whole[: self._settings.views_per_track]
        self.crops_chosen += len(chosen)
        if not chosen:
            reasons = Counter(dossier.failed)
            for view in views:
                reasons.update({reason: 10_000 for reason in view.sighting.reasons})
            self.rejected_by_reason[max(reasons, key=lambda r: reasons[r]) if reasons else Reason.NOT_BEST] += 1
        return [self._seal(view, dossier) for view in chosen]

    def _seal(self, view: View, dossier: Dossier) -> SealedEnvelope:
        assert self._origin is not None and view.sighting.label is not None
        height, width = view.image.bgr.shape[:2]
        x, y = view.crop_xy
        sighting = view.sighting
        header = CropHeader(
            origin=self._origin,
            captured=view.captured,
            box_xyxy=view.observation.box_xyxy,
            label=sighting.label,
            score=sighting.score,
            unoccluded_confidence=sighting.unoccluded_confidence,
            confidence_parts=dict(sighting.confidence_parts),
            track_id=sighting.track_id,
            stationary_us=_interval(dossier.track.stood, view.captured),
            ground_xy=sighting.ground_xy,
            crop_xy=view.crop_xy,
            mask=encode_rle(sighting.silhouette.window((x, y, x + width, y + height))),
            plate=self._publisher.newest_id,
            holdout=False,
        )
        return seal(header, view.image)

    # -- plate --------------------------------------------------------------------------------------------

    def _tend_plate(
        self,
        frame: Frame,
        plate: Plate,
        motion: Motion,
        outlines: list[Silhouette],
        matches: list[Match],
        time_s: float,
    ) -> None:
        """Heals ghosts, takes in what parked, follows the light."""
        if time_s - self._followed_s < self._settings.update_s:
            return
        elapsed = min(5.0, time_s - self._followed_s) if np.isfinite(self._followed_s) else 0.0
        self._followed_s = time_s
        height, width = motion.moving.shape
        for outline, match in zip(outlines, matches, strict=True):
            if match.track is None or match.track.still_since_s is None:
                continue
            still_s = time_s - match.track.still_since_s
            ghost = still_s > self._settings.ghost_s and is_ghost(outline.patch, frame.bgr, plate.bgr)
            if ghost or still_s > self._settings.parked_s:
                plate.adopt(frame.bgr, grown(outline.patch, 4, (width, height)))
        kernel = np.ones((7, 7), np.uint8)
        occupied = cv2.dilate((motion.solid | motion.moving).astype(np.uint8), kernel) > 0
        plate.follow(frame.bgr, motion.difference, occupied, elapsed)
        self._buffer.offer(frame.bgr, time_s)
        if time_s >= self._relearn_s:
            self._relearn_s = time_s + self._settings.relearn_s
            plate.relearn(self._buffer)

    def _publish(self, plate: Plate, captured: Moment) -> tuple[SealedEnvelope, ...]:
        return (self._publisher.publish(plate.bgr, plate.known, captured),)


def replace_time(moment: Moment, media_time_s: float) -> Moment:
    """The moment with another media time."""
    import msgspec

    return msgspec.structs.replace(moment, media_time_s=media_time_s)


def _without(sighting: Sighting, pending: set[Reason]) -> Sighting:
    """The sighting with the parts left out that only the whole track decides."""
    parts = [(name, part) for name, part in sighting.confidence_parts if name not in pending]
    confidence = float(np.prod([part for _, part in parts])) if parts else 0.0
    return replace(sighting, reasons=(), unoccluded_confidence=confidence, confidence_parts=tuple(parts))


def _around(patch: PatchMask, frame_wh: tuple[int, int]) -> tuple[int, int, int, int]:
    """The patch's box with half its size around, clipped to the frame."""
    x0, y0, x1, y1 = patch.box_xyxy
    dx, dy = (x1 - x0) // 2 + 8, (y1 - y0) // 2 + 8
    return max(0, x0 - dx), max(0, y0 - dy), min(frame_wh[0], x1 + dx), min(frame_wh[1], y1 + dy)


def _ground(patch: PatchMask) -> tuple[float, float]:
    """Where a silhouette touches the ground: the middle of its lowest rows."""
    mask = patch.mask
    rows = max(1, mask.shape[0] // 20)
    columns: NDArray[np.intp] = np.flatnonzero(mask[-rows:].any(axis=0))
    middle = float(columns.mean()) + 0.5 if columns.size else mask.shape[1] / 2
    return patch.x + middle, float(patch.y + mask.shape[0])


def _interval(stood: tuple[float, float] | None, captured: Moment) -> tuple[int, int] | None:
    if stood is None:
        return None
    start = captured.utc_us + round((stood[0] - captured.media_time_s) * 1e6)
    end = captured.utc_us + round((stood[1] - captured.media_time_s) * 1e6)
    return max(0, start), max(0, end)
