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
from contextlib import closing
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
from walt_edge.contract.masks import Mask
from walt_edge.contract.predictions import FramePrediction, Predictions, frame_instances, read_predictions
from walt_edge.faces import find_faces
from walt_edge.privacy import Anonymiser
from walt_train.data.sample import AmodalSample
from walt_train.data.write import write_samples
from walt_train.metrics.origin import SwaltOrigin
from walt_train.metrics.swalt import SwaltError, SwaltSettings, Timeline, still_objects
from walt_train.metrics.swalt_frames import StillFrame, hidden_frames
from walt_train.metrics.swalt_refine import refined

_LOG = logging.getLogger(__name__)
_EPOCH = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_STANDING = tuple(label.title for label in Label)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    defaults = SwaltSettings()
    add = parser.add_argument
    add("--timeline", type=Path, required=True, metavar="FILE.json", help="predictions of one frozen detector")
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
        help="fit outlines to the pictures: for eyes that see motion, with its shadows",
    )
    add("--static", type=Path, metavar="PNG", help="poles and trees, not black: what touches them is never whole")


def run(args: argparse.Namespace) -> int:
    """Makes the truth and writes it; prints one line at the end."""
    settings, predictions = _settings(args), read_predictions(args.timeline)
    frames = sorted(predictions.frames, key=lambda frame: frame.frame)
    seen = [frame_instances(frame) for frame in frames]
    timeline = Timeline.of(seen, [round(1e6 * frame.frame / args.fps) for frame in frames])
    labels = [Label[name.upper()] for name in args.classes]
    objects = still_objects(timeline, settings, labels, _static(args.static, timeline.frame_wh))

    def pictures(places: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        return read_pictures(args.frames, [frames[place] for place in places])

    if args.refine:
        objects = refined(objects, timeline, pictures)
    occluders = (
        None if args.occluders is None else _matching(read_predictions(args.occluders), frames, args.occluders)
    )
    shown = list(hidden_frames(timeline, objects, settings, occluders))
    if not shown:
        raise SwaltError(
            f"{args.timeline}: {len(objects)} standing objects were seen whole in {settings.whole_frames_min} "
            f"of {len(frames)} frames, and nothing passes before them: give a longer timeline"
        )
    origin = SwaltOrigin(
        detector=predictions.model,
        detector_sha256=args.detector_sha256.lower() or predictions.model_sha256,
        timeline_sha256=hashlib.sha256(args.timeline.read_bytes()).hexdigest(),
        objects=len(objects),
        whole_frames_min=settings.whole_frames_min,
    )
    places = [frame.frame for frame in shown]
    people = [[seen[place], *([] if occluders is None else [occluders[place]])] for place in places]
    samples = SwaltSamples(shown, timeline, anonymised(pictures(places), people), origin.timeline_sha256)
    _write(args.out, samples, origin)
    if args.static is None:
        _LOG.warning("what a pole or tree always hides is missing from the truth: give --static, or look at it")
    print(f"{len(shown)} frames in which something passes before one of {len(objects)} standing objects: {args.out}")  # noqa: T201
    return 0


def _settings(args: argparse.Namespace) -> SwaltSettings:
    if args.fps <= 0 or args.still < 0 or args.whole < 1 or not 0 <= args.score <= 1:
        raise UsageError("--fps is above 0, --still not below, --whole at least 1 and --score within 0..1")
    return SwaltSettings(score_min=args.score, still_s=args.still, whole_frames_min=args.whole)


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


def _static(path: Path | None, frame_wh: tuple[int, int]) -> Mask | None:
    if path is None:
        return None
    image: NDArray[np.uint8] | None = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None or image.shape != frame_wh[::-1]:
        raise SwaltError(f"{path} is no picture of {frame_wh[0]}x{frame_wh[1]}: give one of the frames' size")
    return np.asarray(image > 0, bool)


def _matching(found: Predictions, frames: Sequence[FramePrediction], path: Path) -> list[AmodalInstances]:
    """What another detector saw in the timeline's frames."""
    known: Mapping[int, FramePrediction] = {frame.frame: frame for frame in found.frames}
    missing = [frame.frame for frame in frames if frame.frame not in known]
    if missing:
        raise SwaltError(
            f"{path} lacks frame {missing[0]} of the timeline: let both detectors look at the same frames"
        )
    return [frame_instances(known[frame.frame]) for frame in frames]


def read_pictures(source: Path, wanted: Sequence[FramePrediction]) -> Iterator[NDArray[np.uint8]]:
    """The pictures of some frames, in order: by their file's names, or by their number in a video.

    Raises:
        SwaltError: One cannot be read.
    """
    if not source.is_dir():
        yield from _from_video(source, [frame.frame for frame in wanted])
        return
    for frame in wanted:
        image: NDArray[np.uint8] | None = cv2.imread(str(source / frame.file_name), cv2.IMREAD_COLOR)
        if image is None:
            raise SwaltError(f"cannot read {source / frame.file_name}: give the folder that the detector looked at")
        yield image


def anonymised(
    pictures: Iterator[NDArray[np.uint8]], seen: Sequence[Sequence[AmodalInstances]]
) -> Iterator[NDArray[np.uint8]]:
    """The pictures without the heads of the people whom the detectors saw in each, and without the faces in them.

    Vehicles stay as they are, for they are what is judged: of one that people pass much would be filled.

    Raises:
        PrivacyError: The anonymiser failed.
    """
    anonymiser = Anonymiser(find_faces())
    for bgr, found in zip(pictures, seen, strict=True):
        sightings = [sighting for instances in found for sighting in sightings_of(instances)]
        people = [sighting for sighting in sightings if sighting.label is not Label.VEHICLE]
        yield anonymiser(bgr, people, np.zeros(bgr.shape[:2], bool)).bgr


def _from_video(path: Path, numbers: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
    video = cv2.VideoCapture(str(path))
    with closing(_Released(video)):
        place = -1
        for number in numbers:
            while place < number:
                if not video.grab():
                    raise SwaltError(f"{path} ends before frame {number}: give the video that the detector looked at")
                place += 1
            _, image = video.retrieve()
            yield np.asarray(image, np.uint8)


class _Released:
    """Gives a capture the `close` that it calls `release`."""

    def __init__(self, video: cv2.VideoCapture) -> None:
        self.close = video.release
