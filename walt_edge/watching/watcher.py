"""Watches one fixed camera: learns its plate, follows what moves, judges what is whole, and hands on sealed crops.

Raw pixels stay inside. What `step` returns is anonymised or sealed, and a second old: tracking and judging run at
once, everything that shows pixels runs behind (`walt_edge.privacy.holdover`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import msgspec
import numpy as np

from walt_edge.camera import Frame
from walt_edge.contract.errors import WaltError
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.masks import Mask
from walt_edge.contract.messages import Moment, Origin
from walt_edge.contract.telemetry import Lens
from walt_edge.privacy.anonymiser import AnonymisedImage, Anonymiser, PrivacyError, SealedEnvelope, fail_closed
from walt_edge.privacy.heads import may_be_person
from walt_edge.privacy.holdover import DELAY_S, FrameStamp, Holdover, Passed, check_delay
from walt_edge.privacy.onlookers import Onlookers, heads_of
from walt_edge.runtimes import Teacher
from walt_edge.vision.drift import DriftWatch, MovingCameraError, spread_px
from walt_edge.vision.lens import brightness, detail
from walt_edge.vision.motion import Motion, find_motion
from walt_edge.vision.plate import Image, SampleBuffer
from walt_edge.vision.settings import WatchSettings
from walt_edge.vision.shape import ground_contact
from walt_edge.vision.sightings import Sighting
from walt_edge.vision.silhouettes import Silhouette, find_silhouettes
from walt_edge.vision.standing import grown
from walt_edge.watching.judging import Judge
from walt_edge.watching.plates import PlatePublisher
from walt_edge.watching.sealing import seal_view
from walt_edge.watching.tending import Tender
from walt_edge.watching.tracking import Track, Tracker
from walt_edge.watching.views import View

MODEL = "motion-1"
__all__ = ["MovingCameraError", "Step", "TooFewFramesError", "WatchSettings", "Watcher"]

_PREPARE_SPACING_S = 0.2
_STEADY_WARM_UPS = 5  # a camera that stood so long was fixed, and was knocked
_DEFAULTS = WatchSettings()
_log = logging.getLogger(__name__)


class TooFewFramesError(WaltError):
    """There is not enough to learn a plate from."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What is to be handed on now: about a frame of a second ago, not about the one just looked at.

    Attributes:
        image: A whole frame, anonymised; None while the plate is being learned, for a second after that, and where
            frames are thinned out.
        sightings: The objects in it, tracked and judged.
        sealed: Crops and plates to send now.
        frame: Which frame `image` and `sightings` are about; None while there is no image.
        is_busy: Whether anything is in the frame just looked at, or nobody can tell yet.
        is_learning: Whether the plate is being learned.
    """

    image: AnonymisedImage | None
    sightings: tuple[Sighting, ...]
    sealed: tuple[SealedEnvelope, ...]
    frame: FrameStamp | None = None
    is_busy: bool = True
    is_learning: bool = False


class Watcher:
    """The eyes of one camera.

    Args:
        site: The site's name.
        device: The device id.
        camera: The camera's name.
        anonymiser: Passes every frame before anything of it is kept.
        detector: An optional teacher; the heads of people whom it alone sees are filled too.
        settings: How to watch.
        delay_s: How far sinks run behind, media time (`walt_edge.privacy.holdover`). 0 only where whoever asks knows
            that heads before a first detection will show.

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
        delay_s: float = DELAY_S,
    ) -> None:
        check_delay(delay_s)
        model = f"{MODEL}+{detector.name}" if detector else MODEL
        self._origin = Origin(
            site=site, device=device, camera=camera, model=model[:64], anonymiser=anonymiser.version, frame_wh=(0, 0)
        )
        self._anonymiser = anonymiser
        self._onlookers = Onlookers(detector, settings.update_s) if detector else None
        self._settings = settings
        self._delay_s = delay_s
        self._tracker = Tracker(settings)
        self._gone: list[Track] = []
        self._spoiled = 0
        self._moves, self._shift_px = 0, 0.0
        self._tender: Tender | None = None
        self.rejected_by_reason: Counter[str] = Counter()
        self.objects_seen = 0
        self.crops_chosen = 0

    @property
    def lens(self) -> Lens:
        """What the plate tells of the lens and the mount; made anew at every call (about a millisecond)."""
        if self._tender is None:
            return Lens(moves=self._moves, shift_px=self._shift_px)
        plate = self._tender.plate.bgr
        return Lens(moves=self._moves, shift_px=self._shift_px, brightness=brightness(plate), detail=detail(plate))

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

    def step(self, frame: Frame, seen: AmodalInstances | None = None) -> Step:
        """Looks at one frame, and hands on what has waited long enough.

        Args:
            frame: The raw frame.
            seen: What a model saw in this very frame. The heads of people whom motion does not see are covered; it
                is used for nothing else, so that no model is ever taught by itself.

        Raises:
            MovingCameraError: The camera does not stand still.
            PrivacyError: The anonymiser failed; nothing of the frame concerned goes anywhere.
        """
        height, width = frame.bgr.shape[:2]
        if self._origin.frame_wh != (width, height):
            sealed = self.finish() if self._tender else ()
            self._begin_epoch(frame)
            return Step(None, (), sealed + self._warm_up(frame), is_learning=True)
        if self._tender is None:
            return Step(None, (), self._warm_up(frame), is_learning=True)
        return self._watch(frame, self._tender, seen)

    def drain(self) -> Iterator[Step]:
        """Hands on the frames that still wait, when there are no more; crops come with `finish`.

        One that the anonymiser cannot pass is dropped, and said so in the log.
        """
        while self._tender is not None and len(self._holdover):
            try:
                for passed in self._holdover.drain(self._tender.restless.mask):
                    self._hand_on(passed)
                    yield Step(passed.image, passed.sightings, (), passed.stamp)
            except PrivacyError as error:
                _log.error("%s", error)

    def finish(self) -> tuple[SealedEnvelope, ...]:
        """Releases what open tracks still hold, and a better plate if there is one; called once at the end."""
        for _ in self.drain():
            pass
        sealed = self._close_all()
        if self._tender is not None and self._publisher.better(self._tender.plate.known):
            sealed += (self._publish(self._tender, self._newest),)
        return sealed

    def _close_all(self) -> tuple[SealedEnvelope, ...]:
        tracks = [*self._gone, *self._tracker.tracks.values()]
        self._tracker.tracks.clear()
        self._gone.clear()
        return tuple(one for track in tracks for one in self._close(track))

    def _begin_epoch(self, frame: Frame, spacing_s: float | None = None) -> None:
        """Forgets the place: at the start, at another frame size, and when the camera has moved."""
        height, width = frame.bgr.shape[:2]
        settings = self._settings
        self._origin = msgspec.structs.replace(self._origin, frame_wh=(width, height))
        capacity = min(settings.plate_samples, settings.plate_memory_bytes // (3 * width * height))
        self._buffer = SampleBuffer(spacing_s or settings.warm_up_s / max(1, capacity - 1), capacity)
        self._began_s = frame.captured.media_time_s
        self._tender = None
        self._calm_s = self._began_s
        self._drift = DriftWatch(settings)
        self.judge = Judge((width, height), settings, self._onlookers)
        # What waits of the place that was is dropped: no plate tells what moved in it any more.
        self._holdover = Holdover(self._anonymiser, (width, height), self._delay_s)
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
        self._moves, self._shift_px = self._moves + 1, shift_px
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
        time_s = frame.captured.media_time_s
        self._tender = tender = Tender(self._buffer, self._origin.frame_wh, self._began_s, time_s, self._settings)
        self._calm_s = time_s
        for sample in self._publisher.picked(self._buffer.frames):
            motion = find_motion(sample, tender.plate, self._settings)
            outlines = find_silhouettes(motion, self._settings)
            strangers = [Sighting(s.patch, None, 0.0, ground_contact(s.patch)) for s in outlines]
            strangers += self._onlookers_in(sample, outlines, None)
            self._publisher.add(self._anonymiser(sample, strangers, motion.moving | tender.restless.mask))
        return (self._publish(tender, frame.captured),)

    def _publish(self, tender: Tender, captured: Moment) -> SealedEnvelope:
        """Seals the plate, without the heads of who stands in it, and without what fidgets in it as they do."""
        heads = tender.restless.mask | tender.restless.blobs
        for lone in self._onlookers_in(tender.plate.bgr, [], None):
            heads |= lone.silhouette.full(*heads.shape)
        return self._publisher.publish(tender.plate.bgr, tender.plate.known, heads, captured)

    # -- one frame ----------------------------------------------------------------------------------------

    def _watch(self, frame: Frame, tender: Tender, seen: AmodalInstances | None) -> Step:
        time_s, plate = frame.captured.media_time_s, tender.plate
        motion = find_motion(frame.bgr, plate, self._settings)
        moved = self._drift.check(plate.bgr, frame.bgr, motion.moving, time_s)
        if moved is not None:
            sealed = self._close_all()
            self._moved(frame, moved)
            return Step(None, (), sealed, is_learning=True)
        if self._flooded(motion, time_s):
            _log.warning("nearly all of the picture changed at frame %d: learning a new plate", frame.index)
            sealed = self._close_all()
            self._begin_epoch(frame)
            return Step(None, (), sealed, is_learning=True)
        outlines = find_silhouettes(motion, self._settings)
        boxes = np.array([s.patch.box_xyxy for s in outlines], np.float64).reshape(-1, 4)
        matches = self._tracker.update(boxes, [s.patch.area for s in outlines], time_s)
        sightings = self.judge.judge(frame, plate.known, motion, outlines, matches)
        with fail_closed():
            lone = self._onlookers_in(frame.bgr, outlines, time_s) + _people_of(seen, sightings)
            moving = self._foreign(motion, outlines) | tender.restless.mask
        self._holdover.push(frame, sightings, lone, moving, self.judge.looks)
        for changed in tender.tend(frame, motion, sightings, matches, self.judge.sizes):
            self._publisher.forget(changed)
        return self._step(tender, time_s, is_busy=bool(outlines))

    def _step(self, tender: Tender, time_s: float, *, is_busy: bool) -> Step:
        """Hands on what is due: frames, ended tracks, a plate."""
        passed = self._holdover.due(time_s, tender.restless.mask)
        if passed is not None:
            self._hand_on(passed)
        self._gone += self._tracker.ended(time_s)
        # A track is closed when the last frame that shows it has passed.
        oldest_s = self._holdover.oldest_s
        done = [track for track in self._gone if track.seen_s < oldest_s]
        self._gone = [track for track in self._gone if track.seen_s >= oldest_s]
        sealed = tuple(one for track in done for one in self._close(track))
        for track in self.judge.overdue(time_s):
            sealed += tuple(self._send(self.judge.release(track), track))
        if passed is None:
            return Step(None, (), sealed, is_busy=is_busy)
        plate = tender.plate
        if self._publisher.due(plate.bgr, plate.known, passed.stamp.captured):
            sealed += (self._publish(tender, passed.stamp.captured),)
        return Step(passed.image, passed.sightings, sealed, passed.stamp, is_busy)

    def _hand_on(self, passed: Passed) -> None:
        """An anonymised frame, to whom takes crops and plates from it."""
        captured = passed.stamp.captured
        self.judge.keep_views(captured, passed.image, passed.sightings, passed.looks)
        self._publisher.offer(passed.image, captured)
        self._newest = captured

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

    # -- crops --------------------------------------------------------------------------------------------

    def _close(self, track: Track) -> list[SealedEnvelope]:
        """Ends a track and seals the views of it that are worth sending."""
        if track.sightings < self._settings.track_sightings_min:
            self.judge.forget(track)
            return []
        views, against = self.judge.close(track)
        self.objects_seen += 1
        if against is not None:
            self.rejected_by_reason[against.value] += 1
        return self._send(views, track)

    def _send(self, views: list[View], track: Track) -> list[SealedEnvelope]:
        self.crops_chosen += len(views)
        plate, share = self._publisher.newest_id, self._settings.holdout_share
        return [seal_view(view, track, self._origin, plate, share) for view in views]


def _people_of(seen: AmodalInstances | None, sightings: Sequence[Sighting]) -> list[Sighting]:
    """The heads of the people whom a model sees and motion does not."""
    if seen is None:
        return []
    return heads_of(seen, [sighting.silhouette for sighting in sightings if may_be_person(sighting)])
