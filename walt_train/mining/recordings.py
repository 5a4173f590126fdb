"""Mines one recording: the eyes of `walt-edge`, from its first frame to its last."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from walt_edge.camera import Frame
from walt_edge.contract.masks import decode_rle
from walt_edge.contract.messages import Origin, PlateHeader
from walt_edge.overview import decode_image
from walt_edge.privacy import Anonymiser, SealedEnvelope
from walt_edge.runtimes import Teacher
from walt_edge.vision.sightings import Sighting
from walt_edge.vision.static_occluders import StaticOccluders
from walt_edge.watcher import Step, TooFewFramesError, Watcher
from walt_train.mining.backgrounds import FrameSampler, background
from walt_train.mining.sources import Source

_PREPARE_S = 120.0

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
    plate_id = _take(mined, watcher.prepare(_first_minutes(source.frames())))
    position = mined.occluders[plate_id] = watcher.judge.occluders
    for frame in source.frames():
        step = watcher.step(frame)
        plate_id = _take(mined, step.sealed) or plate_id
        if watcher.judge.occluders is not position and step.image is not None:
            position = mined.occluders[plate_id] = watcher.judge.occluders
        _note(mined, sampler, step, frame, plate_id)
        progress()
    _take(mined, watcher.finish())
    mined.objects, mined.rejected = watcher.objects_seen, watcher.rejected_by_reason
    _add_frames(mined, sampler, anonymiser)
    return mined


def _take(mined: Mined, sealed: tuple[SealedEnvelope, ...]) -> str:
    """Notes envelopes; returns the id of the newest plate among them, or ""."""
    mined.sealed += sealed
    return next((one.id for one in reversed(sealed) if isinstance(one.envelope.header, PlateHeader)), "")


def _note(mined: Mined, sampler: FrameSampler, step: Step, frame: Frame, plate_id: str) -> None:
    mined.frames += 1
    if step.image is None:
        return
    sampler.offer(step.image, step.sightings, frame.captured, plate_id)
    for sighting in step.sightings:
        if sighting.track_id >= 0:
            _follow(mined.trails, sighting, frame.captured.media_time_s)


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
    return itertools.takewhile(lambda frame: frame.captured.media_time_s <= _PREPARE_S, frames)
