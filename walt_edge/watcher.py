"""Watches one fixed camera: learns its plate, follows what moves, judges what is whole, and hands on sealed crops.

Raw pixels stay inside. What `step` returns is anonymised or sealed.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from walt_edge.camera import Frame
from walt_edge.contract.errors import WaltError
from walt_edge.contract.masks import Mask, encode_rle
from walt_edge.contract.messages import CropHeader, Moment, Origin
from walt_edge.heads import covers
from walt_edge.judging import Judge
from walt_edge.onlookers import Onlookers
from walt_edge.plates import PlatePublisher
from walt_edge.privacy import AnonymisedImage, Anonymiser, SealedEnvelope, seal
from walt_edge.runtimes import Teacher
from walt_edge.selection import View
from walt_edge.tracking import Match, Track, Tracker
from walt_edge.vision.drift import DriftWatch, MovingCameraError, spread_px
from walt_edge.vision.motion import Motion, find_motion
from walt_edge.vision.plate import Image, Plate, SampleBuffer
from walt_edge.vision.restless import Restlessness
from walt_edge.vision.settings import WatchSettings
from walt_edge.vision.shape import ground_contact
from walt_edge.vision.sightings import Sighting
from walt_edge.vision.silhouettes import Silhouette, find_silhouettes
from walt_edge.vision.standing import grown, is_ghost

MODEL = "motion-1"
__all__ = ["MovingCameraError", "Step", "TooFewFramesError", "WatchSettings", "Watcher"]

_PREPARE_SPACING_S = 0.2
_STEADY_WARM_UPS = 5  # a camera that stood so long was fixed, and was knocked
_OCCUPIED_RIM_PX = 3
_ADOPT_RIM_PX = 4
_PASSING_HEIGHTS = 0.5  # who has gone this far since first seen is passing, not swaying
_DEFAULTS = WatchSettings()
_log = logging.getLogger(__name__)


class TooFewFramesError(WaltError):
    """There is not enough to learn a plate from."""


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

    Args:
        site: The site's name.
        device: The device id.
        camera: The camera's name.
        anonymiser: Passes every frame before anything of it is kept.
        detector: An optional teacher; the heads of people whom it alone sees are filled too.
        settings: How to watch.

    Attributes:
        rejected_by_reason: How many objects gave no crop, by the reason that spoke against most of their views.
        objects_seen: Tracks that ended and were more than a flicker.
        crops_chosen: Crops released.
        judge: What judges at the camera's present position: it knows its static occluders.
    """

    def __init__(
        self,
        *,
        site: str,
        device: str,
        camera: str,
        anonymiser: Anonymiser,
        detector: Teacher | None = None,
        settings: WatchSettings = _DEFAULTS,
    ) -> None:
        model = f"{MODEL}+{detector.name}" if detector else MODEL
        self._origin = Origin(
            site=site, device=device, camera=camera, model=model[:64], anonymiser=anonymiser.version, frame_wh=(0, 0)
        )
        self._anonymiser = anonymiser
        self._onlookers = Onlookers(detector, settings.update_s) if detector else None
        self._settings = settings
        self._tracker = Tracker(settings)
        self._spoiled = 0
        self._plate: Plate | None = None
        self.rejected_by_reason: Counter[str] = Counter()
        self.objects_seen = 0
        self.crops_chosen = 0

    # -- life ---------------------------------------------------------------------------------------------

    def prepare(self, frames: Iterable[Frame]) -> tuple[SealedEnvelope, ...]:
        """Learns the plate from a recording, so that its beginning is watched too; returns the plate to send.

        Raises:
            TooFewFramesError: The recording is too short for a plate.
            MovingCameraError: The camera does not stand still.
        """
        last: Frame | None = None
        for frame in frames:
            if last is None:
                self._begin_epoch(frame, spacing_s=_PREPARE_SPACING_S)
            self._buffer.offer(frame.bgr, frame.captured.media_time_s)
            last = frame
        needed = self._settings.plate_samples_min
        if last is None or len(self._buffer) < needed:
            found = 0 if last is None else len(self._buffer)
            raise TooFewFramesError(
                f"{found} usable frames, at least {needed} are needed to learn the background: give a longer "
                "recording, or, for stills, a lower --fps"
            )
        spread = spread_px(self._buffer.frames)
        if spread > self._settings.drift_px:
            raise self._moving(spread)
        return self._open_eyes(last)

    def step(self, frame: Frame) -> Step:
        """Looks at one frame.

        Raises:
            MovingCameraError: The camera does not stand still.
            PrivacyError: The anonymiser failed; nothing of this frame goes anywhere.
        """
        height, width = frame.bgr.shape[:2]
        if self._origin.frame_wh != (width, height):
            sealed = self.finish() if self._plate else ()
            self._begin_epoch(frame)
            return Step(None, (), sealed + self._warm_up(frame))
        if self._plate is None:
            return Step(None, (), self._warm_up(frame))
        return self._watch(frame, self._plate)

    def finish(self) -> tuple[SealedEnvelope, ...]:
        """Releases what open tracks still hold, and a better plate if there is one; called once at the end."""
        sealed = self._close_all()
        if self._plate is not None and self._publisher.better(self._plate.known):
            sealed += (self._publish(self._plate, self._newest),)
        return sealed

    def _close_all(self) -> tuple[SealedEnvelope, ...]:
        tracks = list(self._tracker.tracks.values())
        self._tracker.tracks.clear()
        return tuple(one for track in tracks for one in self._close(track))

    def _begin_epoch(self, frame: Frame, spacing_s: float | None = None) -> None:
        """Forgets the place: at the start, at another frame size, and when the camera has moved."""
        height, width = frame.bgr.shape[:2]
        settings = self._settings
        self._origin = Origin(
            site=self._origin.site,
            device=self._origin.device,
            camera=self._origin.camera,
            model=self._origin.model,
            anonymiser=self._origin.anonymiser,
            frame_wh=(width, height),
        )
        capacity = min(settings.plate_samples, settings.plate_memory_bytes // (3 * width * height))
        self._buffer = SampleBuffer(spacing_s or settings.warm_up_s / max(1, capacity - 1), capacity)
        self._began_s = frame.captured.media_time_s
        self._plate = None
        self._followed_s = self._relearned_s = self._calm_s = self._began_s
        self._drift = DriftWatch(settings)
        self.judge = Judge((width, height), settings, self._onlookers)
        self._restless = Restlessness((width, height), settings)
        self._found_s = self._began_s
        self._publisher = PlatePublisher(self._origin, self._anonymiser, settings)
        self._newest = frame.captured

    def _warm_up(self, frame: Frame) -> tuple[SealedEnvelope, ...]:
        time_s = frame.captured.media_time_s
        self._buffer.offer(frame.bgr, time_s)
        if time_s - self._began_s < self._settings.warm_up_s or len(self._buffer) < self._settings.plate_samples_min:
            return ()
        spread = spread_px(self._buffer.frames)
        if spread <= self._settings.drift_px:
            return self._open_eyes(frame)
        self._moved(frame, spread)
        return ()

    def _moved(self, frame: Frame, shift_px: float) -> None:
        """The camera moved: begins anew, or gives up if it has done nothing else for some time."""
        lasted_s = frame.captured.media_time_s - self._began_s
        self._spoiled = 1 if lasted_s > _STEADY_WARM_UPS * self._settings.warm_up_s else self._spoiled + 1
        if self._spoiled >= self._settings.moving_epochs:
            raise self._moving(shift_px)
        _log.warning("camera moved by %.0f px at frame %d: learning a new plate", shift_px, frame.index)
        self._begin_epoch(frame)

    def _moving(self, spread: float) -> MovingCameraError:
        return MovingCameraError(
            f"the camera moves: its frames lie {spread:.0f} px apart, at most {self._settings.drift_px:g} "
            "can be watched: fix it to its mount and turn off pan, zoom and stabilisation"
        )

    def _open_eyes(self, frame: Frame) -> tuple[SealedEnvelope, ...]:
        """Learns the plate and begins to watch; returns a first one to send, from the same frames, anonymised."""
        self._plate = plate = Plate.learn(self._buffer, self._settings)
        self._relearned_s = self._calm_s = frame.captured.media_time_s
        self._restless.learn(self._buffer.frames, plate)
        for sample in self._publisher.picked(self._buffer.frames):
            motion = find_motion(sample, plate, self._settings)
            outlines = find_silhouettes(motion, self._settings)
            strangers = [Sighting(s.patch, None, 0.0, ground_contact(s.patch)) for s in outlines]
            strangers += self._onlookers_in(sample, outlines, None)
            self._publisher.add(self._anonymiser(sample, strangers, motion.moving | self._restless.mask))
        return (self._publish(plate, frame.captured),)

    def _publish(self, plate: Plate, captured: Moment) -> SealedEnvelope:
        """Seals the plate, without the heads of who stands in it, and without what fidgets in it as they do."""
        heads = self._restless.mask | self._restless.blobs
        for lone in self._onlookers_in(plate.bgr, [], None):
            heads |= lone.silhouette.full(*heads.shape)
        return self._publisher.publish(plate.bgr, plate.known, heads, captured)

    # -- one frame ----------------------------------------------------------------------------------------

    def _watch(self, frame: Frame, plate: Plate) -> Step:
        time_s = frame.captured.media_time_s
        motion = find_motion(frame.bgr, plate, self._settings)
        moved = self._drift.check(plate.bgr, frame.bgr, motion.moving, time_s)
        if moved is not None:
            sealed = self._close_all()
            self._moved(frame, moved)
            return Step(None, (), sealed)
        if self._flooded(motion, time_s):
            _log.warning("nearly all of the picture changed at frame %d: learning a new plate", frame.index)
            sealed = self._close_all()
            self._begin_epoch(frame)
            return Step(None, (), sealed)
        outlines = find_silhouettes(motion, self._settings)
        boxes = np.array([s.patch.box_xyxy for s in outlines], np.float64).reshape(-1, 4)
        matches = self._tracker.update(boxes, [s.patch.area for s in outlines], time_s)
        sightings = self.judge.judge(frame, plate.known, motion, outlines, matches)
        seen = sightings + self._onlookers_in(frame.bgr, outlines, time_s)
        image = self._anonymiser(frame.bgr, seen, self._foreign(motion, outlines) | self._restless.mask)
        self.judge.keep_views(frame, image, sightings)
        self._tend_plate(frame, plate, motion, sightings, matches)
        self._publisher.offer(image, frame.captured)
        self._newest = frame.captured
        sealed = tuple(one for track in self._tracker.ended(time_s) for one in self._close(track))
        for track in self.judge.overdue(time_s):
            sealed += tuple(self._send(self.judge.release(track), track))
        if self._publisher.due(plate.bgr, plate.known, frame.captured):
            sealed += (self._publish(plate, frame.captured),)
        return Step(image, tuple(sightings), sealed)

    def _onlookers_in(self, bgr: Image, outlines: list[Silhouette], time_s: float | None) -> list[Sighting]:
        """The heads of people whom a detector sees and motion does not."""
        if self._onlookers is None:
            return []
        return self._onlookers.sightings(bgr, [outline.patch for outline in outlines], time_s)

    def _flooded(self, motion: Motion, time_s: float) -> bool:
        if float(motion.moving.mean()) <= self._settings.flood_fraction:
            self._calm_s = time_s
        return time_s - self._calm_s > self._settings.flood_s

    def _foreign(self, motion: Motion, outlines: list[Silhouette]) -> Mask:
        """Moving pixels for the anonymiser: all that is solid, and shadows that belong to nobody.

        The rim trimmed off an outline and the shadow that touches it show no person; filled, they would spoil the
        object's surroundings.
        """
        height, width = motion.moving.shape
        near = np.zeros((height, width), bool)
        for outline in outlines:
            patch = grown(outline.patch, self._settings.halo_px + 2, (width, height))
            x0, y0, x1, y1 = patch.box_xyxy
            near[y0:y1, x0:x1] |= patch.mask
        count, labels = cv2.connectedComponents(motion.moving.astype(np.uint8), connectivity=8)
        owned = np.zeros(count, bool)
        owned[np.unique(labels[near])] = True
        alien: Mask = motion.moving & ~near & (motion.solid | ~owned[labels])
        return alien

    def _tend_plate(
        self, frame: Frame, plate: Plate, motion: Motion, sightings: list[Sighting], matches: list[Match]
    ) -> None:
        """Heals ghosts, takes in what parked, follows the light, learns what was too busy."""
        time_s, settings = frame.captured.media_time_s, self._settings
        elapsed = time_s - self._followed_s
        if elapsed < settings.update_s:
            return
        self._followed_s = time_s
        for sighting, match in zip(sightings, matches, strict=True):
            if match.track is not None and match.track.still_since_s is not None:
                self._take_in(frame, plate, sighting, time_s - match.track.still_since_s)
        self._note_restless(frame, plate, motion, sightings, matches, elapsed)
        kernel = np.ones((2 * _OCCUPIED_RIM_PX + 1,) * 2, np.uint8)
        occupied = cv2.dilate((motion.solid | motion.moving).astype(np.uint8), kernel) > 0
        plate.follow(frame.bgr, motion.difference, occupied, min(elapsed, 5.0))
        self._buffer.offer(frame.bgr, time_s)
        if time_s - self._relearned_s >= settings.relearn_s:
            self._relearned_s = time_s
            plate.relearn(self._buffer)

    def _take_in(self, frame: Frame, plate: Plate, sighting: Sighting, still_s: float) -> None:
        """Heals a ghost, or makes what has parked a part of the plate, in which its head stays filled."""
        settings, silhouette = self._settings, sighting.silhouette
        ghost = still_s > settings.ghost_s and is_ghost(silhouette, frame.bgr, plate.bgr)
        if not ghost and still_s <= settings.parked_s:
            return
        region = grown(silhouette, _ADOPT_RIM_PX, self._origin.frame_wh)
        plate.adopt(frame.bgr, region)
        self._publisher.forget(region)
        if ghost:
            self._restless.forget(region)
        else:
            for head in covers([sighting], self._origin.frame_wh):
                self._restless.hold(head)

    def _note_restless(
        self,
        frame: Frame,
        plate: Plate,
        motion: Motion,
        sightings: list[Sighting],
        matches: list[Match],
        elapsed_s: float,
    ) -> None:
        """Learns what fidgets in the plate; what passes before it does not count."""
        passing = np.zeros(motion.moving.shape, bool)
        for sighting, match in zip(sightings, matches, strict=True):
            if match.track is not None and match.track.travelled_heights() > _PASSING_HEIGHTS:
                x0, y0, x1, y1 = sighting.silhouette.box_xyxy
                passing[y0:y1, x0:x1] |= sighting.silhouette.mask
        self._restless.note(frame.bgr, motion, plate, passing, elapsed_s)
        time_s = frame.captured.media_time_s
        if time_s - self._found_s >= self._settings.restless_find_s:
            self._found_s = time_s
            self._restless.find(plate, self.judge.sizes)

    # -- crops --------------------------------------------------------------------------------------------

    def _close(self, track: Track) -> list[SealedEnvelope]:
        """Ends a track and seals the views of it that are worth sending."""
        if track.sightings < self._settings.track_sightings_min:
            return []
        views, against = self.judge.close(track)
        self.objects_seen += 1
        if against is not None:
            self.rejected_by_reason[against.value] += 1
        return self._send(views, track)

    def _send(self, views: list[View], track: Track) -> list[SealedEnvelope]:
        self.crops_chosen += len(views)
        return [self._seal(view, track) for view in views]

    def _seal(self, view: View, track: Track) -> SealedEnvelope:
        sighting = view.sighting
        assert sighting.label is not None
        height, width = view.image.bgr.shape[:2]
        x, y = view.crop_xy
        header = CropHeader(
            origin=self._origin,
            captured=view.captured,
            box_xyxy=view.observation.box_xyxy,
            label=sighting.label,
            score=sighting.score,
            unoccluded_confidence=sighting.unoccluded_confidence,
            confidence_parts=dict(sighting.confidence_parts),
            track_id=sighting.track_id,
            stationary_us=_interval(track.stood, view.captured),
            ground_xy=sighting.ground_xy,
            crop_xy=view.crop_xy,
            mask=encode_rle(sighting.silhouette.window((x, y, x + width, y + height))),
            plate=self._publisher.newest_id,
            holdout=False,
        )
        return seal(header, view.image)


def _interval(stood: tuple[float, float] | None, captured: Moment) -> tuple[int, int] | None:
    """A media-time interval as UTC microseconds, by a moment that knows both clocks."""
    if stood is None:
        return None
    start, end = (captured.utc_us + round((time_s - captured.media_time_s) * 1e6) for time_s in stood)
    return max(0, start), max(0, end)
