"""What a program of one's own needs around the parts: an anonymiser for a model's instances, and sealed envelopes.

The agent learns a camera's background and anonymises by what moves before it. A program that has a picture and a
detector has no background, so here everything is filled that no instance accounts for, unless the caller says what is
background. The parts themselves are those of the agent.

>>> from walt_edge import Anonymizer, Detector
>>> instances = Detector.load().predict(bgr)  # doctest: +SKIP
>>> cv2.imwrite("safe.jpg", Anonymizer().anonymise(bgr, instances).bgr)  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from walt_edge.capture.clock import live_moment
from walt_edge.config import Device
from walt_edge.contract.errors import WaltError
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask, encode_rle
from walt_edge.contract.messages import CropHeader, FrameHeader, Moment, Origin
from walt_edge.privacy.anonymiser import AnonymisedImage, Anonymiser, PrivacyError, SealedEnvelope, fail_closed, seal
from walt_edge.privacy.onlookers import heads_of
from walt_edge.selecting.sampling import is_holdout
from walt_edge.tracking.tracker import TrackedObject
from walt_edge.vision import unoccluded
from walt_edge.vision.settings import WatchSettings
from walt_edge.vision.shape import ground_contact
from walt_edge.vision.sightings import Reason, Sighting

MODEL: Final = "sdk-1"
HERE: Final = Device(device="walt-sdk")
"""Who sends what a program does not name."""
_SETTINGS: Final = WatchSettings()
_LABELS: Final = frozenset(int(label) for label in Label)


class SealError(WaltError):
    """What was given does not belong together."""


class Anonymizer(Anonymiser):
    """The agent's anonymiser, which also takes what a `Detector` gives."""

    def anonymise(
        self, bgr: NDArray[np.uint8], instances: AmodalInstances, unknown: Mask | None = None
    ) -> AnonymisedImage:
        """Anonymises one picture by a model's instances; the picture itself is left as it is.

        Of people the heads are filled: of their visible outlines by geometry, as of any silhouette, and the upper
        part of their amodal and visible boxes. A vehicle that is not sure counts as a person.

        Args:
            bgr: (H, W, 3) uint8.
            instances: Of this picture; people may have a low score.
            unknown: (H, W) bool: pixels that may show somebody whom the model did not find. They are filled where
                they belong to no instance. None: all of them. A mask without any vouches for the background.

        Raises:
            PrivacyError: Anything went wrong; there is no image then.
        """
        with fail_closed():
            height, width = bgr.shape[:2]
            if instances.frame_wh != (width, height):
                raise PrivacyError(f"instances of a {instances.frame_wh} frame for a picture of {(width, height)}")
            heads = [sighting.silhouette for sighting in heads_of(instances, [])]
            moving = np.ones((height, width), bool) if unknown is None else unknown
            return self(bgr, _sightings(instances), moving, [*self.faces_in(bgr), *heads])


def seal_frame(
    image: AnonymisedImage,
    device: Device = HERE,
    *,
    captured: Moment | None = None,
    model: str = MODEL,
    holdout_share: float = 0.0,
) -> SealedEnvelope:
    """Seals a whole anonymised frame.

    Args:
        image: The frame.
        device: Who sends it: names of site, device and camera.
        captured: When; None for now.
        model: What found its objects.
        holdout_share: Of all blocks of time, those that judge and never train; see `walt_edge.selecting.sampling`.
    """
    moment = captured or live_moment(0.0)
    held_out = is_holdout(device.camera, moment, holdout_share)
    return seal(FrameHeader(origin=_origin(device, model, image), captured=moment, holdout=held_out), image)


def seal_crops(
    image: AnonymisedImage,
    instances: AmodalInstances,
    device: Device = HERE,
    *,
    captured: Moment | None = None,
    tracked: Sequence[TrackedObject] = (),
    model: str = MODEL,
    holdout_share: float = 0.0,
) -> list[SealedEnvelope]:
    """Seals a crop of every instance that is seen whole: nothing before it, clear of others and of the border.

    Args:
        image: The whole frame, anonymised.
        instances: Of the frame.
        device: Who sends them: names of site, device and camera.
        captured: When; None for now.
        tracked: Of the frame, so that home knows which crops show one object; without, each is an object of its own.
        model: What found them, at most 64 characters.
        holdout_share: Of all blocks of time, those that judge and never train; see `walt_edge.selecting.sampling`.

    Raises:
        SealError: The instances are not of a frame of this size.
    """
    height, width = image.bgr.shape[:2]
    if instances.frame_wh != (width, height):
        raise SealError(f"instances of a {instances.frame_wh} frame for an image of {(width, height)}: give its own")
    moment = captured or live_moment(0.0)
    origin = _origin(device, model, image)
    held_out = is_holdout(device.camera, moment, holdout_share)
    ids = {one.instance: one.id for one in tracked if one.instance is not None}
    sealed = []
    for index, sighting in _whole(image, instances):
        # Without a tracker: a number that does not come again while this machine is up.
        track_id = ids.get(index, moment.monotonic_ns // 1000 + index)
        sealed.append(_seal_crop(image, sighting, origin, moment, track_id, held_out=held_out))
    return sealed


def _sightings(instances: AmodalInstances) -> list[Sighting]:
    """What is seen of each instance, as the anonymiser takes it."""
    facts = zip(instances.visible, instances.labels.tolist(), instances.scores.tolist(), strict=True)
    return [_sighting(mask.tight(), label, score) for mask, label, score in facts if mask.area]


def _sighting(mask: PatchMask, label: int, score: float) -> Sighting:
    return Sighting(mask, Label(label) if label in _LABELS else None, score, ground_contact(mask))


def _whole(image: AnonymisedImage, instances: AmodalInstances) -> list[tuple[int, Sighting]]:
    """The instances that are seen whole, with their confidence, and their places among all."""
    width, height = instances.frame_wh
    masks = [mask.cut((0, 0, width, height)) for mask in instances.amodal]
    painted = unoccluded.label_map(masks, height, width)
    hidden = instances.occlusion_fractions
    found = []
    for index, mask in enumerate(masks):
        label, score = int(instances.labels[index]), float(instances.scores[index])
        if label not in _LABELS or not mask.area:
            continue
        parts = {
            Reason.STATIC_OCCLUDER: unoccluded.ramp(float(hidden[index]), 0.0, 0.05, low=1.0, middle=1.0, high=0.0),
            Reason.NEIGHBOUR: unoccluded.neighbour_part(index, mask, painted, _SETTINGS),
            Reason.BORDER: unoccluded.border_part(mask, instances.frame_wh, _SETTINGS),
            Reason.SMALL: unoccluded.small_part(mask, _SETTINGS),
            Reason.UNCLASSIFIED: score,
        }
        outcome = unoccluded.verdict(parts, _SETTINGS)
        if outcome.reasons or image.filled_fraction(mask) > _SETTINGS.filled_most(Label(label)):
            continue
        told = tuple((reason.value, part) for reason, part in parts.items())
        sighting = Sighting(
            *(mask, Label(label), score, ground_contact(mask)),
            unoccluded_confidence=outcome.confidence,
            confidence_parts=told,
        )
        found.append((index, sighting))
    return found


def _seal_crop(
    image: AnonymisedImage, sighting: Sighting, origin: Origin, captured: Moment, track_id: int, *, held_out: bool
) -> SealedEnvelope:
    width, height = origin.frame_wh
    x0, y0, x1, y1 = sighting.silhouette.box_xyxy
    margin = max(_SETTINGS.margin_min_px, round(_SETTINGS.margin_fraction * max(x1 - x0, y1 - y0)))
    box = (max(0, x0 - margin), max(0, y0 - margin), min(width, x1 + margin), min(height, y1 + margin))
    assert sighting.label is not None
    header = CropHeader(
        origin=origin,
        captured=captured,
        box_xyxy=(float(x0), float(y0), float(x1), float(y1)),
        label=sighting.label,
        score=sighting.score,
        unoccluded_confidence=sighting.unoccluded_confidence,
        confidence_parts=dict(sighting.confidence_parts),
        track_id=track_id,
        stationary_us=None,
        ground_xy=sighting.ground_xy,
        crop_xy=box[:2],
        mask=encode_rle(sighting.silhouette.window(box)),
        plate="",
        holdout=held_out,
    )
    return seal(header, image.crop(box, sighting.silhouette))


def _origin(device: Device, model: str, image: AnonymisedImage) -> Origin:
    height, width = image.bgr.shape[:2]
    return Origin(
        site=device.site,
        device=device.device,
        camera=device.camera,
        model=model,
        anonymiser=image.anonymiser,
        frame_wh=(width, height),
    )
