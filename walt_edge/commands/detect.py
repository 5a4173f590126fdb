"""`walt-edge detect`: amodal instances of an image, a video or a folder of frames."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from walt_edge.amodal_pictures import AmodalPictures
from walt_edge.camera import CameraError, Frame, open_camera
from walt_edge.capture.stills import STILL_SUFFIXES, find_stills, read_still
from walt_edge.contract.errors import UsageError
from walt_edge.contract.files import check_out
from walt_edge.contract.predictions import FramePrediction, Predictions, frame_prediction, write_predictions
from walt_edge.detector import Detector

_READ_TIMEOUT_S = 30.0
_LEARN_S = 120.0
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """A picture to look at.

    Attributes:
        bgr: (H, W, 3) uint8.
        index: Number of the frame in its recording.
        file_name: Its own file's name, or "" for a video's frame.
        frame: As the camera gave it; None for an image by itself.
    """

    bgr: NDArray[np.uint8]
    index: int
    file_name: str
    frame: Frame | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add = parser.add_argument
    add(
        "--model",
        type=Path,
        metavar="BUNDLE",
        help="a bundle that walt-export wrote (default: the general model that comes with the package)",
    )
    add("--input", required=True, metavar="IMAGE_OR_VIDEO_OR_FOLDER", help="what to look at")
    add("--out", required=True, type=Path, metavar="FILE.json", help="the instances of every frame, COCO-like")
    add("--pictures", type=Path, metavar="DIR", help="also draws them, on anonymised frames")


def run(args: argparse.Namespace) -> int:
    """Looks at every frame and writes what it saw; prints one line at the end."""
    source = _source(args.input)
    check_out(args.out)
    detector = Detector.load(args.model)
    pictures = AmodalPictures(args.pictures) if args.pictures else None
    if pictures is not None and not _is_image(source):
        pictures.learn(_with_bar(_beginning(source), "learning the background"))
    frames = [_looked_at(detector, pictures, shot) for shot in _with_bar(_shots(source), "looking")]
    if pictures is not None:
        pictures.finish()
    if not frames:
        raise CameraError(f"{args.input} has no frame: give a longer video")
    write_predictions(
        args.out, Predictions(model=detector.manifest.name, model_sha256=detector.sha256, frames=frames)
    )
    count = sum(len(frame.instances) for frame in frames)
    print(f"{count} instances in {len(frames)} frames by {detector.manifest.name}: {args.out}")  # noqa: T201 - the answer
    return 0


def _looked_at(detector: Detector, pictures: AmodalPictures | None, shot: Shot) -> FramePrediction:
    instances = detector.predict(shot.bgr)
    if pictures is not None:
        name = Path(shot.file_name).stem or f"{shot.index:06d}"
        pictures.add(name, shot.frame or shot.bgr, instances)
    return frame_prediction(instances, shot.index, shot.file_name)


def _shots(source: Path) -> Iterator[Shot]:
    if _is_image(source):
        yield Shot(read_still(source), 0, source.name)
        return
    names = [still.name for still in find_stills(source)] if source.is_dir() else []
    for frame in _frames(source):
        yield Shot(frame.bgr, frame.index, names[frame.index] if names else "", frame)


def _frames(source: Path) -> Iterator[Frame]:
    with open_camera(str(source)) as camera:
        while (frame := camera.read(_READ_TIMEOUT_S)) is not None:
            yield frame


def _beginning(source: Path) -> Iterator[Frame]:
    """The first minutes: light drifts, and the plate of a whole day is none of it."""
    for frame in _frames(source):
        if frame.captured.media_time_s > _LEARN_S:
            return
        yield frame


def _is_image(source: Path) -> bool:
    return source.is_file() and source.suffix.lower() in STILL_SUFFIXES


def _with_bar(items: Iterator[_Item], what: str) -> Iterator[_Item]:
    return iter(tqdm(items, desc=what, unit=" frames", disable=not sys.stderr.isatty()))


def _source(text: str) -> Path:
    if "://" in text:
        raise UsageError("--input is a file or a folder: walt-edge run watches live cameras")
    return Path(text)
