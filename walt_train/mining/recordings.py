"""Mines one recording: the eyes of `walt-edge`, from its first frame to its last."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from walt_edge.camera import Frame
from walt_edge.contract.masks import decode_rle
from walt_edge.contract.messages import Origin, PlateHeader
from walt_edge.overview import decode_image, fit_width
from walt_edge.privacy.anonymiser import Anonymiser, SealedEnvelope
from walt_edge.runtimes import Teacher
from walt_edge.vision.sightings import Sighting
from walt_edge.vision.static_occluders import StaticOccluders
from walt_edge.watching.watcher import MovingCameraError, Step, TooFewFramesError, Watcher, WatchSettings
from walt_train.mining.backgrounds import FrameSampler, background
from walt_train.mining.epochs import Image, register
from walt_train.mining.sources import Source

_PREPARE_S = 120.0
_SAMPLE_S, _SAMPLE_WIDTH = 2.0, 384
_SAMPLE_SHIFT_PX = 1.5  # of such a picture: smaller ones are registered with too little certainty
_SETTINGS = WatchSettings()
_log = logging.getLogger(__name__)

__all__ = ["Mined", "TooFewFramesError", "Trail", "mine_recording"]


@dataclass(slots=True)
class Trail:
    """Where a track began and ended, to join it with what was lost and found again.

    Attributes:
        first_s: Media time of its first sighting.
        last_s: Of its last one.
        first_xyxy: Its box then.
        last_xyxy: Its last box.
        speed_xy: Of the last second or so, pixels a second.
    """

    first_s: float
    last_s: float
    first_xyxy: tuple[float, float, float, float]
    last_xyxy: tuple[float, float, float, float]
    speed_xy: tuple[float, float] = (0.0, 0.0)

    def note(self, box_xyxy: tuple[float, float, float, float], time_s: float) -> None:
        """One more sighting."""
        elapsed = time_s - self.last_s
        if elapsed > 0:
            moved = [
                (box_xyxy[i] + box_xyxy[i + 2] - self.last_xyxy[i] - self.last_xyxy[i + 2]) / 2 / elapsed
                for i in (0, 1)
            ]
            self.speed_xy = (
                0.7 * self.speed_xy[0] + 0.3 * moved[0],
                0.7 * self.speed_xy[1] + 0.3 * moved[1],
            )
        self.last_s, self.last_xyxy = time_s, box_xyxy


@dataclass(slots=True)
class Mined:
    """What one source gave, still in memory; every picture in it is sealed.

    Attributes:
        sealed: Crops and plates.
        frames: How many were watched.
        objects: How many passed.
        rejected: Objects that gave no crop, by reason.
        frame_plates: For each real frame among the plates the plate that it was erased with.
        occluders: The map of each position of the camera, by the first plate there.
        trails: Of each track.
    """

    sealed: list[SealedEnvelope] = field(default_factory=list)
    frames: int = 0
    objects: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    frame_plates: dict[str, str] = field(default_factory=dict)
    occluders: dict[str, StaticOccluders] = field(default_factory=dict)
    trails: dict[int, Trail] = field(default_factory=dict)


def mine_recording(
    source: Source, *, camera: str, anonymiser: Anonymiser, detector: Teacher | None, progress: Callable[[], object]
) -> Mined:
    """Watches a recording.

    Where the camera was moved in the first minutes, what comes after that is watched; where it no longer stands
    still, what came before is kept.

    Args:
        source: What to watch.
        camera: The camera's name.
        anonymiser: Passes every frame.
        detector: An optional teacher.
        progress: Is called with every frame.

    Raises:
        TooFewFramesError: It is too short for a plate.
        MovingCameraError: The camera does not stand still.
    """
    watcher = Watcher(site="local", device="mine", camera=camera, anonymiser=anonymiser, detector=detector)
    mined, sampler = Mined(), FrameSampler()
    begin_s, sealed = _prepare(watcher, source)
    plate_id, position = _take(mined, sealed), None
    for frame in _later(source.frames(), begin_s):
        try:
            step = watcher.step(frame)
        except MovingCameraError as error:
            if len(mined.sealed) == len(sealed):
                raise
            _log.warning("%s: %s; what came before frame %d is kept", source.name, error, frame.index)
            break
        plate_id = _take(mined, step.sealed) or plate_id
        if watcher.judge.occluders is not position and step.image is not None:
            position = mined.occluders[plate_id] = watcher.judge.occluders
        mined.frames += 1
        _note(mined, sampler, step, plate_id)
        progress()
    for step in watcher.drain():
        _note(mined, sampler, step, plate_id)
    _take(mined, watcher.finish())
    mined.objects, mined.rejected = watcher.objects_seen, watcher.rejected_by_reason
    _add_frames(mined, sampler, anonymiser)
    return mined


def _prepare(watcher: Watcher, source: Source) -> tuple[float, tuple[SealedEnvelope, ...]]:
    """Learns the plate; returns the media time from which to watch, and the plate to send."""
    looks = _Looks()
    sealed: tuple[SealedEnvelope, ...] = ()
    moving: MovingCameraError | None = None
    try:
        sealed = watcher.prepare(looks.passing(_first_minutes(source.frames())))
    except MovingCameraError as error:
        moving = error
    if moving is None and looks.ends_where_it_began():
        return 0.0, sealed
    begin_s, end_s = looks.settled_s()
    # Moved late, it has its plate: what comes after is watched with another, as by a device.
    early = 0 < begin_s <= min(end_s / 2, end_s - _SETTINGS.warm_up_s)
    if moving is None and not early:
        return 0.0, sealed
    try:
        sealed = watcher.prepare(_first_minutes(_later(source.frames(), begin_s)))
    except (MovingCameraError, TooFewFramesError) as error:
        raise (moving or error) from None
    _log.warning("%s: the camera was moved: what comes before second %.0f is left out", source.name, begin_s)
    return begin_s, sealed


class _Looks:
    """Small pictures of what passes by, to see when the camera stood where it stands at last."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, Image]] = []
        self._limit_px = _SAMPLE_SHIFT_PX

    def passing(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            time_s = frame.captured.media_time_s
            if not self._samples or time_s >= self._samples[-1][0] + _SAMPLE_S:
                self._samples.append((time_s, fit_width(frame.bgr, _SAMPLE_WIDTH)))
                self._limit_px = max(_SAMPLE_SHIFT_PX, _SETTINGS.drift_px * _SAMPLE_WIDTH / frame.bgr.shape[1])
            yield frame

    def ends_where_it_began(self) -> bool:
        """As most cameras do: one look tells."""
        return not self._is_aside(self._samples[0][1])

    def settled_s(self) -> tuple[float, float]:
        """Media times from which it stood where it stood at last, 0 for all along, and of the last look."""
        begin_s = end_s = self._samples[-1][0]
        for time_s, picture in reversed(self._samples[:-1]):
            if self._is_aside(picture):
                return begin_s, end_s
            begin_s = time_s
        return 0.0, end_s

    def _is_aside(self, picture: Image) -> bool:
        pose = register(self._samples[-1][1], picture)
        return pose.certain and pose.shift_px > self._limit_px


def _later(frames: Iterator[Frame], begin_s: float) -> Iterator[Frame]:
    return itertools.dropwhile(lambda frame: frame.captured.media_time_s < begin_s, frames)


def _take(mined: Mined, sealed: tuple[SealedEnvelope, ...]) -> str:
    """Notes envelopes; returns the id of the newest plate among them, or ""."""
    mined.sealed += sealed
    return next((one.id for one in reversed(sealed) if isinstance(one.envelope.header, PlateHeader)), "")


def _note(mined: Mined, sampler: FrameSampler, step: Step, plate_id: str) -> None:
    if step.image is None or step.frame is None:
        return
    captured = step.frame.captured
    sampler.offer(step.image, step.sightings, captured, plate_id)
    for sighting in step.sightings:
        if sighting.track_id >= 0:
            _follow(mined.trails, sighting, captured.media_time_s)


def _follow(trails: dict[int, Trail], sighting: Sighting, time_s: float) -> None:
    x0, y0, x1, y1 = (float(edge) for edge in sighting.silhouette.box_xyxy)
    box = (x0, y0, x1, y1)
    if sighting.track_id in trails:
        trails[sighting.track_id].note(box, time_s)
    else:
        trails[sighting.track_id] = Trail(time_s, time_s, box, box)


def _add_frames(mined: Mined, sampler: FrameSampler, anonymiser: Anonymiser) -> None:
    """Erases the frames kept with the newest plate of their position: later ones know more."""
    plates = {one.id: one for one in mined.sealed if isinstance(one.envelope.header, PlateHeader)}
    for kept in sampler.kept:
        plate = plates[kept.plate_id]
        header = plate.envelope.header
        assert isinstance(header, PlateHeader)
        origin: Origin = header.origin
        sealed = background(kept, decode_image(plate), decode_rle(header.known), origin, anonymiser)
        mined.sealed.append(sealed)
        mined.frame_plates[sealed.id] = kept.plate_id


def _first_minutes(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Light drifts: a plate of the whole day would be a plate of none of it."""
    begin_s: float | None = None
    for frame in frames:
        begin_s = frame.captured.media_time_s if begin_s is None else begin_s
        if frame.captured.media_time_s > begin_s + _PREPARE_S:
            return
        yield frame
