"""Mines folders of stills that lie minutes apart: what stands where the plate is empty, seen whole.

There is no motion to learn from. An object is what differs from the plate, has the outline of a vehicle, an edge all
around it and the size of the others along the ground; a detector teacher confirms or refuses it, where there is one.
Who is seen in one still only may be passing; that costs a part of the confidence.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from walt_edge.camera import Frame
from walt_edge.contract.errors import WaltError
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask, decode_rle, encode_rle
from walt_edge.contract.messages import CropHeader, Moment, Origin, PlateHeader
from walt_edge.overview import decode_image
from walt_edge.privacy.anonymiser import AnonymisedImage, Anonymiser, SealedEnvelope, seal
from walt_edge.runtimes import Teacher
from walt_edge.vision import unoccluded
from walt_edge.vision.classify import ClassEvidence
from walt_edge.vision.ground import Sizes
from walt_edge.vision.plate import Plate, SampleBuffer, masked_median
from walt_edge.vision.settings import WatchSettings
from walt_edge.vision.shape import describe, ground_contact
from walt_edge.vision.sightings import Reason, Sighting
from walt_edge.vision.standing import grown
from walt_edge.vision.unoccluded import Parts
from walt_edge.watching.dossiers import weakest
from walt_edge.watching.plates import hour_of
from walt_edge.watching.teacher import teach
from walt_train.mining.backgrounds import FrameSampler, background
from walt_train.mining.epochs import Image, Pose, Poses
from walt_train.mining.lots import SAMPLES, SAMPLES_MIN, Look, learn_plate, look
from walt_train.mining.recordings import Mined
from walt_train.mining.sources import Source
from walt_train.mining.stationary import FOREVER_US, find_clusters

STILLS = WatchSettings(
    sharpness_min=0.25,  # what stands is never blurred by its motion: only the lens and the registering soften it
    edge_min=0.55,  # in the even light of most stills a dark vehicle fades into the shadow it stands on
)
_MODEL = "stills-1"
_LONE = 0.7
_SAME_IOU = 0.7
_SHARP = 0.45
_VOTES = 4
_log = logging.getLogger(__name__)


class TooFewStillsError(WaltError):
    """There are not enough stills of one pose to know the empty place."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One thing in one still.

    Attributes:
        sighting: As judged by itself.
        image: Its anonymised crop.
        crop_xy: The crop's corner.
        captured: When.
        filled: How much of the object the anonymiser filled, 0..1.
    """

    sighting: Sighting
    image: AnonymisedImage
    crop_xy: tuple[int, int]
    captured: Moment
    filled: float


@dataclass(frozen=True, slots=True, eq=False)
class Epoch:
    """Stills of one pose.

    Attributes:
        plate: Their empty place.
        places: Which stills of the source belong to it, and how each lies.
    """

    plate: Plate
    places: dict[int, Pose]


def mine_stills(
    source: Source, *, camera: str, anonymiser: Anonymiser, detector: Teacher | None, progress: Callable[[], object]
) -> Mined:
    """Mines all stills of a camera together.

    Args:
        source: The folders.
        camera: The camera's name.
        anonymiser: Passes every still.
        detector: An optional teacher.
        progress: Is called with every still.

    Raises:
        TooFewStillsError: No pose of the camera has enough of them.
    """
    mined = Mined()
    origin = Origin(
        site="local",
        device="mine",
        camera=camera,
        model=(f"{_MODEL}+{detector.name}" if detector else _MODEL)[:64],
        anonymiser=anonymiser.version,
        frame_wh=source.frame_wh,
    )
    numbers = itertools.count(1)
    for epoch in find_epochs(source, mined.rejected):
        Lot(epoch, origin, anonymiser, detector, numbers).mine(source, mined, progress)
    return mined


class Frames(Protocol):
    """What is looked at, twice: all frames of a source, or some of them."""

    def frames(self) -> Iterator[Frame]:
        """In order, the same each time."""


def find_epochs(source: Frames, rejected: Counter[str]) -> list[Epoch]:
    """The stills by pose, each pose with its plate; poses with too few stills are counted and left out."""
    known = Poses()
    poses: list[dict[int, Pose]] = []
    samples: list[SampleBuffer] = []
    for number, frame in enumerate(source.frames()):
        placed = known.place(frame.bgr)
        if placed.epoch == len(poses):
            poses.append({})
            samples.append(SampleBuffer(1.0, SAMPLES))
        poses[placed.epoch][number] = placed.pose
        samples[placed.epoch].offer(placed.pose.warp(frame.bgr)[0], float(number))
    epochs = []
    for places, buffer in zip(poses, samples, strict=True):
        if len(buffer) >= SAMPLES_MIN:
            epochs.append(Epoch(learn_plate(buffer.frames, STILLS), places))
        else:
            rejected["too few stills of a pose"] += len(places)
            _log.warning("%d stills lie where no others do: %d are needed for a plate", len(places), SAMPLES_MIN)
    if not epochs:
        raise TooFewStillsError(
            f"{sum(map(len, poses))} stills in {len(poses)} poses of the camera, {SAMPLES_MIN} of one are needed to "
            "know the empty place: give more stills"
        )
    return epochs


class Lot:
    """One pose of the camera: its stills, looked at one after another."""

    def __init__(
        self,
        epoch: Epoch,
        origin: Origin,
        anonymiser: Anonymiser,
        detector: Teacher | None,
        numbers: Iterator[int],
    ) -> None:
        self._epoch = epoch
        self._origin = origin
        self._anonymiser = anonymiser
        self._detector = detector
        self._numbers = numbers
        self._sizes = Sizes()
        self._sampler = FrameSampler()
        self._candidates: list[Candidate] = []
        self._plates: tuple[list[Image], list[Mask | None]] = ([], [])

    def mine(self, source: Frames, mined: Mined, progress: Callable[[], object]) -> None:
        """Looks at every still of the pose and adds what was found."""
        newest: Moment | None = None
        for number, frame in enumerate(source.frames()):
            if number in self._epoch.places:
                self._look_at(number, frame)
                newest = frame.captured
                mined.frames += 1
                progress()
        assert newest is not None
        plate = self._plate(newest)
        mined.sealed.append(plate)
        self._seal_frames(mined, plate)
        self._finish(mined, plate.id)

    def _finish(self, mined: Mined, plate_id: str) -> None:
        """Seals what is whole, now that all has been seen."""
        stayed = self._stayed()
        for place, candidate in enumerate(self._candidates):
            self._seal(candidate, place in stayed, mined, plate_id)

    def _stayed(self) -> set[int]:
        """Places of the candidates that stood there in another still too."""
        clusters = find_clusters(
            np.array([one.sighting.silhouette.box_xyxy for one in self._candidates], np.float64).reshape(-1, 4),
            np.zeros(len(self._candidates), np.intp),  # its class is not sure from one look
            np.array([one.captured.utc_us for one in self._candidates], np.int64),
            iou_min=_SAME_IOU,
            still_us=0,
            absence_us=FOREVER_US,
            members_min=2,
        )
        return {row for cluster in clusters for row in cluster.members.tolist()}

    def _look_at(self, number: int, frame: Frame) -> None:
        bgr, shown = self._epoch.places[number].warp(frame.bgr)
        seen = look(bgr, self._epoch.plate, STILLS)
        sightings = self._judged(bgr, seen, shown, frame.captured)
        image = self._anonymiser(bgr, sightings, seen.motion.moving & ~_under(sightings, seen.motion.moving))
        if len(self._plates[0]) < SAMPLES:
            self._plates[0].append(image.bgr)
            self._plates[1].append(image.moving | image.filled)
        self._sampler.offer(image, sightings, frame.captured, "")
        if seen.flooded:
            return
        for sighting in sightings:
            if sighting.label is not None:
                self._keep(sighting, image, frame.captured)

    def _keep(self, sighting: Sighting, image: AnonymisedImage, captured: Moment) -> None:
        self._candidates.append(cut_out(sighting, image, captured))

    def _judged(self, bgr: Image, seen: Look, shown: Mask, captured: Moment) -> list[Sighting]:
        """One sighting for everything that the still shows; those with a class are candidates."""
        height, width = seen.motion.moving.shape
        painted = unoccluded.label_map([outline.patch for outline in seen.outlines], height, width)
        detections = self._detector(bgr) if self._detector else None
        sightings = []
        for index, outline in enumerate(seen.outlines):
            patch, evidence = outline.patch, ClassEvidence()
            for _ in range(3):  # one look, weighed as the few that a class needs
                evidence.add(describe(patch), stride=4)
            parts: Parts = {
                Reason.NEIGHBOUR: unoccluded.neighbour_part(index, patch, painted, STILLS),
                Reason.BORDER: unoccluded.border_part(patch, (width, height), STILLS),
                Reason.SMALL: unoccluded.small_part(patch, STILLS),
                Reason.FRAGMENT: unoccluded.crown_part(patch, seen.motion.moving, STILLS),
                Reason.WARM_UP: unoccluded.known_part(patch, shown),
                Reason.BLURRED: _crispness(patch, bgr),
            }
            if detections is not None:
                lesson = teach(patch, detections)
                parts = weakest(parts, lesson.parts)
                if lesson.label is not None:
                    evidence.votes[lesson.label] += _VOTES
            sightings.append(self._sighting(patch, evidence, parts))
        return sightings

    def _sighting(self, patch: PatchMask, evidence: ClassEvidence, parts: Parts) -> Sighting:
        number = next(self._numbers)
        label, score = evidence.classify()
        if label is Label.PERSON and not evidence.votes[Label.PERSON]:
            label = None  # a person's outline is too easily a shadow's or a bush's, where nothing is seen to walk
        parts[Reason.UNCLASSIFIED] = 0.0 if label is None else score
        parts[Reason.MERGED] = unoccluded.proportion_part(label, describe(patch))
        if label is not None:
            parts[Reason.STATIC_OCCLUDER] = unoccluded.see_through_part(patch, label)
            if min(parts.values()) >= STILLS.whole_confidence:
                _, y0, _, y1 = patch.box_xyxy
                self._sizes.add(label, y1, y1 - y0, patch.area, number)
        outcome = unoccluded.verdict(parts, STILLS)
        return Sighting(
            patch,
            label,
            score,
            ground_contact(patch),
            track_id=number,
            reasons=outcome.reasons,
            unoccluded_confidence=outcome.confidence,
            confidence_parts=tuple((reason.value, part) for reason, part in parts.items()),
        )

    def _plate(self, newest: Moment) -> SealedEnvelope:
        """The empty place, the median of anonymised stills; what they rarely show is filled and unknown."""
        median, _, seen = masked_median(*self._plates)
        image = self._anonymiser(median, (), ~seen)
        header = PlateHeader(
            origin=self._origin,
            captured=newest,
            hour=hour_of(newest),
            known=encode_rle(seen),
            samples=len(self._plates[0]),
        )
        return seal(header, image)

    def _seal_frames(self, mined: Mined, plate: SealedEnvelope) -> None:
        header = plate.envelope.header
        assert isinstance(header, PlateHeader)
        for kept in self._sampler.kept:
            known = decode_rle(header.known)
            sealed = background(kept, decode_image(plate), known, self._origin, self._anonymiser)
            mined.sealed.append(sealed)
            mined.frame_plates[sealed.id] = plate.id

    def _seal(self, candidate: Candidate, stayed: bool, mined: Mined, plate_id: str) -> None:
        """Judges once more, now that sizes are known and who stayed, and seals what is whole."""
        seen, label = candidate.sighting, candidate.sighting.label
        assert label is not None
        parts = {Reason(name): part for name, part in seen.confidence_parts}
        _, y0, _, y1 = seen.silhouette.box_xyxy
        ratio = self._sizes.ratio(label, y1, y1 - y0, seen.silhouette.area)
        parts = weakest(parts, unoccluded.size_parts(ratio, label, STILLS))
        parts[Reason.SHORT_TRACK] = 1.0 if stayed else _LONE
        outcome = unoccluded.verdict(parts, STILLS)
        mined.objects += 1
        if outcome.reasons or candidate.filled > STILLS.filled_most(label):
            mined.rejected[(outcome.reasons or (Reason.MERGED,))[0].value] += 1
            return
        told = {reason.value: part for reason, part in parts.items()}
        stood = (candidate.captured.utc_us, candidate.captured.utc_us)
        mined.sealed.append(self._sealed(candidate, outcome.confidence, told, stood, plate_id))

    def _sealed(
        self,
        candidate: Candidate,
        confidence: float,
        parts: dict[str, float],
        stood_us: tuple[int, int] | None,
        plate_id: str,
    ) -> SealedEnvelope:
        seen = candidate.sighting
        assert seen.label is not None
        height, width = candidate.image.bgr.shape[:2]
        x, y = candidate.crop_xy
        x0, y0, x1, y1 = map(float, seen.silhouette.box_xyxy)
        header = CropHeader(
            origin=self._origin,
            captured=candidate.captured,
            box_xyxy=(x0, y0, x1, y1),
            label=seen.label,
            score=seen.score,
            unoccluded_confidence=confidence,
            confidence_parts=parts,
            track_id=seen.track_id,
            stationary_us=stood_us,
            ground_xy=seen.ground_xy,
            crop_xy=candidate.crop_xy,
            mask=encode_rle(seen.silhouette.window((x, y, x + width, y + height))),
            plate=plate_id,
            holdout=False,
        )
        return seal(header, candidate.image)


def cut_out(sighting: Sighting, image: AnonymisedImage, captured: Moment) -> Candidate:
    """The crop around a sighting."""
    height, width = image.bgr.shape[:2]
    x0, y0, x1, y1 = sighting.silhouette.box_xyxy
    margin = max(STILLS.margin_min_px, round(STILLS.margin_fraction * max(x1 - x0, y1 - y0)))
    box = (max(0, x0 - margin), max(0, y0 - margin), min(width, x1 + margin), min(height, y1 + margin))
    filled = image.filled_fraction(sighting.silhouette)
    return Candidate(sighting, image.crop(box, sighting.silhouette), (box[0], box[1]), captured, filled)


def _crispness(patch: PatchMask, bgr: Image) -> float:
    """An edge all around, as steep as a standing object's."""
    crisp = unoccluded.ramp(unoccluded.sharpness(patch, bgr), STILLS.sharpness_min, _SHARP, low=0.2, middle=0.55)
    return min(crisp, unoccluded.edge_part(patch, bgr, STILLS))


def _under(sightings: list[Sighting], moving: Mask) -> Mask:
    """Outlines with the rim trimmed off them and the shadow beside: filled, they would spoil the surroundings."""
    height, width = moving.shape
    near = np.zeros((height, width), bool)
    for sighting in sightings:
        patch = grown(sighting.silhouette, STILLS.halo_px + 4, (width, height))
        x0, y0, x1, y1 = patch.box_xyxy
        near[y0:y1, x0:x1] |= patch.mask
    return near
