"""`walt-train swalt`: amodal truth from objects that stand still while others pass before them.

Its pictures pass the anonymiser, with the people whom a detector saw in them.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from walt_edge.amodal_pictures import sightings_of
from walt_edge.contract.errors import UsageError
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.contract.predictions import FramePrediction, Predictions, frame_instances, read_predictions
from walt_edge.privacy.anonymiser import Anonymiser
from walt_edge.privacy.faces import find_faces
from walt_edge.vision.sightings import Sighting
from walt_train.data.sample import AmodalSample
from walt_train.data.write import write_samples
from walt_train.metrics.origin import Known, SwaltOrigin
from walt_train.metrics.swalt import SwaltError, SwaltSettings, Timeline, still_objects
from walt_train.metrics.swalt_frames import StillFrame, hidden_frames, strangers
from walt_train.metrics.swalt_refine import Pictures, passers, refined
from walt_train.metrics.swalt_static import learned_static
from walt_train.metrics.swalt_watch import (
    MOTION,
    MOTION_STEADY,
    as_predictions,
    find_frames,
    learned_ground,
    read_pictures,
    seen_by_bundle,
    seen_by_motion,
)

_LOG = logging.getLogger(__name__)
_EPOCH = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_STANDING = tuple(label.title for label in Label)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    defaults = SwaltSettings()
    add = parser.add_argument
    eyes = parser.add_mutually_exclusive_group(required=True)
    eyes.add_argument("--timeline", type=Path, metavar="FILE.json", help="predictions of one frozen detector")
    eyes.add_argument(
        "--detector",
        metavar="BUNDLE",
        help=f"look at the frames now, with a bundle or with '{MOTION}' (refined), which needs no weights",
    )
    add("--frames", type=Path, required=True, metavar="DIR|VIDEO", help="the pictures that it saw")
    add("--out", type=Path, required=True, metavar="DIR", help="gets images/ and annotations.json")
    add("--occluders", type=Path, metavar="FILE.json", help="another's predictions, of what passes only")
    add(
        "--detector-sha256",
        default="",
        metavar="SHA",
        help="names the frozen detector, who may not be judged by this (the timeline's own)",
    )
    add("--fps", type=float, default=10.0, metavar="F", help="of the timeline (10); 0.1 is a time-lapse")
    add("--still", type=float, default=defaults.still_s, metavar="S", help=f"least stay ({defaults.still_s:g} s)")
    add(
        "--whole",
        type=int,
        default=defaults.whole_frames_min,
        metavar="N",
        help="frames that an object must be whole",
    )
    add("--score", type=float, default=defaults.score_min, metavar="P", help=f"least score ({defaults.score_min:g})")
    add("--classes", nargs="+", choices=_STANDING, default=list(_STANDING), help="which objects (all)")
    add(
        "--refine",
        action="store_true",
        help="fit outlines to the pictures and leave out what is in doubt (always with motion)",
    )
    add(
        "--static",
        type=Path,
        metavar="PNG",
        help="poles and trees, not black: what touches them is never whole (default: learned from who passes behind)",
    )


def run(args: argparse.Namespace) -> int:
    """Makes the truth and writes it; prints one line at the end."""
    settings, predictions = _settings(args), _predictions(args)
    frames = sorted(predictions.frames, key=lambda frame: frame.frame)
    seen = [frame_instances(frame) for frame in frames]
    timeline = Timeline.of(seen, [round(1e6 * frame.frame / args.fps) for frame in frames])
    known, static = _static(args.static, timeline)
    objects = still_objects(timeline, settings, [Label[name.upper()] for name in args.classes], static)
    pictures = _pictures(args.frames, frames)
    before = None
    if args.refine or args.detector == MOTION:
        portraits = refined(objects, pictures, learned_ground(pictures, len(frames)))
        objects, before = [one.thing for one in portraits], passers(portraits, timeline, pictures)
    occluders = (
        None if args.occluders is None else _matching(read_predictions(args.occluders), frames, args.occluders)
    )
    shown = list(hidden_frames(timeline, objects, settings, occluders, before))
    if not shown:
        raise _nothing(args.timeline or args.frames, len(objects), len(frames), settings)
    origin = _origin(args, predictions, len(objects), settings, known)
    places = [frame.frame for frame in shown]
    eyes = [seen] if occluders is None else [seen, occluders]
    people = [[one for each in eyes for one in _people(each[place])] for place in places]
    if before is not None:
        for place, found in zip(places, people, strict=True):
            found += [_unknown(mask) for mask in strangers(timeline, place, objects, before[place])]
    samples = SwaltSamples(shown, timeline, anonymised(pictures(places), people), origin.timeline_sha256)
    _write(args.out, samples, origin)
    print(f"{len(shown)} frames in which something passes before one of {len(objects)} standing objects: {args.out}")  # noqa: T201
    return 0


def _origin(
    args: argparse.Namespace, predictions: Predictions, objects: int, settings: SwaltSettings, known: Known
) -> SwaltOrigin:
    return SwaltOrigin(
        detector=predictions.model,
        detector_sha256=args.detector_sha256.lower() or predictions.model_sha256,
        timeline_sha256=_sha256(args.timeline, predictions),
        objects=objects,
        whole_frames_min=settings.whole_frames_min,
        static=known,
    )


def _nothing(source: Path, objects: int, frames: int, settings: SwaltSettings) -> SwaltError:
    return SwaltError(
        f"{source}: {objects} standing objects were seen whole in {settings.whole_frames_min} of {frames} frames, "
        "and nothing passes before them: give a longer timeline"
    )


def _predictions(args: argparse.Namespace) -> Predictions:
    """The timeline: as it was given, or what the eyes see now."""
    if args.timeline is not None:
        return read_predictions(args.timeline)
    frames = find_frames(args.frames)
    pictures = _with_bar(_pictures(args.frames, frames))
    if args.detector != MOTION:
        return seen_by_bundle(Path(args.detector), pictures, frames)
    seen = seen_by_motion(pictures, len(frames), args.fps)
    return Predictions(model=MOTION, frames=as_predictions(frames, seen))


def _pictures(source: Path, frames: Sequence[FramePrediction]) -> Pictures:
    def pictures(places: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        return read_pictures(source, [frames[place] for place in places])

    return pictures


def _with_bar(pictures: Pictures) -> Pictures:
    def shown(places: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        return iter(
            tqdm(pictures(places), total=len(places), desc="looking", unit=" frames", disable=not sys.stderr.isatty())
        )

    return shown


def _sha256(path: Path | None, predictions: Predictions) -> str:
    """Of the timeline's file, or of the one that it would have."""
    content = msgspec.json.encode(predictions) if path is None else path.read_bytes()
    return hashlib.sha256(content).hexdigest()


def _settings(args: argparse.Namespace) -> SwaltSettings:
    if args.fps <= 0 or args.still < 0 or args.whole < 1 or not 0 <= args.score <= 1:
        raise UsageError("--fps is above 0, --still not below, --whole at least 1 and --score within 0..1")
    settings = SwaltSettings(score_min=args.score, still_s=args.still, whole_frames_min=args.whole)
    return replace(settings, steady=MOTION_STEADY) if args.detector == MOTION else settings


class SwaltSamples:
    """The frames with their truth as a data set.

    Args:
        shown: Frames in which something passes before a standing object.
        timeline: That they are from.
        pictures: (H, W, 3) uint8 BGR of each, anonymised, in their order, one pass.
        sha256: Names the truth.
    """

    def __init__(
        self, shown: Sequence[StillFrame], timeline: Timeline, pictures: Iterator[NDArray[np.uint8]], sha256: str
    ) -> None:
        self.sha256 = sha256
        self.frame_wh = timeline.frame_wh
        self.labels = [label for label in Label if any(t.label == label for frame in shown for t in frame.objects)]
        self._shown = shown
        self._times_us = timeline.times_us
        self._pictures = pictures

    def __len__(self) -> int:
        return len(self._shown)

    def sample(self, epoch: int, index: int) -> AmodalSample:
        """The next frame: pictures are read once, in order."""
        del epoch
        frame, bgr = self._shown[index], next(self._pictures)
        if (bgr.shape[1], bgr.shape[0]) != self.frame_wh:
            raise SwaltError(f"a picture of {bgr.shape[1]}x{bgr.shape[0]}, the timeline's are {self.frame_wh}")
        time = _EPOCH + dt.timedelta(microseconds=int(self._times_us[frame.frame]))
        return AmodalSample(
            image_bgr=bgr,
            objects=frame.objects,
            static=((0, frame.passing),) if frame.passing.area else (),
            name=str(frame.frame),
            frame=frame.frame,
            time=time.isoformat(),
            camera="swalt",
        )


def _write(folder: Path, samples: SwaltSamples, origin: SwaltOrigin) -> None:
    info = {
        "description": "SWALT: standing objects that something passes before",
        "swalt": msgspec.to_builtins(origin),
    }
    written = write_samples(folder, samples, info)
    for _ in tqdm(written, total=len(samples), desc="writing", unit=" frames", disable=not sys.stderr.isatty()):
        pass


def _static(path: Path | None, timeline: Timeline) -> tuple[Known, Mask]:
    """Poles and trees, and how they are known."""
    if path is None:
        learned = learned_static(timeline)
        if not learned.any():
            _LOG.warning(
                "no pole or tree was learned; what one always hides is missing: give --static, or look at it"
            )
        return ("learned" if learned.any() else "none"), learned
    width, height = timeline.frame_wh
    image: NDArray[np.uint8] | None = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None or image.shape != (height, width):
        raise SwaltError(f"{path} is no picture of {width}x{height}: give one of the frames' size")
    return "given", np.asarray(image > 0, bool)


def _matching(found: Predictions, frames: Sequence[FramePrediction], path: Path) -> list[AmodalInstances]:
    """What another detector saw in the timeline's frames."""
    known: Mapping[int, FramePrediction] = {frame.frame: frame for frame in found.frames}
    missing = [frame.frame for frame in frames if frame.frame not in known]
    if missing:
        raise SwaltError(
            f"{path} lacks frame {missing[0]} of the timeline: let both detectors look at the same frames"
        )
    return [frame_instances(known[frame.frame]) for frame in frames]


def anonymised(
    pictures: Iterator[NDArray[np.uint8]], people: Sequence[Sequence[Sighting]]
) -> Iterator[NDArray[np.uint8]]:
    """The pictures without the heads of the people who were seen in each, and without the faces in them.

    Vehicles stay as they are, for they are what is judged: of one that people pass much would be filled.

    Raises:
        PrivacyError: The anonymiser failed.
    """
    anonymiser = Anonymiser(find_faces())
    for bgr, seen in zip(pictures, people, strict=True):
        yield anonymiser(bgr, seen, np.zeros(bgr.shape[:2], bool)).bgr


def _people(instances: AmodalInstances) -> list[Sighting]:
    return [sighting for sighting in sightings_of(instances) if sighting.label is not Label.VEHICLE]


def _unknown(mask: PatchMask) -> Sighting:
    x0, _, x1, y1 = mask.box_xyxy
    return Sighting(silhouette=mask, label=None, score=0.0, ground_xy=((x0 + x1) / 2, float(y1)))
