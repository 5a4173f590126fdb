"""The frozen eyes that make a timeline: what moves before the ground, or a bundle of this project."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.capture.stills import find_stills
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.predictions import FramePrediction, Predictions, frame_prediction
from walt_edge.vision.plate import Image
from walt_train.metrics.motion_baseline import MotionBaseline, plate_indices
from walt_train.metrics.swalt import SwaltError
from walt_train.metrics.swalt_ground import GROUND_FRAMES, cleared, recurrent_ground
from walt_train.metrics.swalt_refine import Pictures, spread

MOTION = "motion"
MOTION_STEADY = 0.97
"""`SwaltSettings.steady` of motion: cars reach 0.98, groups of people that it takes for one thing 0.95 to 0.96."""


def find_frames(source: Path) -> list[FramePrediction]:
    """The frames of a folder or a video, in which nothing was looked for yet.

    Raises:
        WaltError: There are none.
    """
    names = [path.name for path in find_stills(source)] if source.is_dir() else [""] * _length(source)
    if not names:
        raise SwaltError(f"{source} has no frame: give a folder of frames or a video")
    return [
        FramePrediction(frame=place, file_name=name, width=0, height=0, instances=[])
        for place, name in enumerate(names)
    ]


def seen_by_motion(pictures: Pictures, count: int, fps: float) -> list[AmodalInstances]:
    """What moves before the ground that comes back, or stands there for a while.

    Args:
        pictures: Of a timeline.
        count: Its frames.
        fps: Frames a second.
    """
    ground = learned_ground(pictures, count)
    indices = plate_indices(count, (ground.shape[1], ground.shape[0]))
    eyes = MotionBaseline([cleared(bgr, ground) for bgr in pictures(indices)])
    for place, bgr in enumerate(pictures(range(count))):
        eyes.see(bgr, place / fps)
    return eyes.instances()


def seen_by_bundle(path: Path, pictures: Pictures, frames: Sequence[FramePrediction]) -> Predictions:
    """What a bundle's model sees.

    Raises:
        WaltError: The bundle or its runtime cannot be used.
    """
    # The runtime comes with an extra of its own, which motion does without.
    from walt_edge.detector import Detector

    detector = Detector.load(path)
    seen = (detector.predict(bgr) for bgr in pictures(range(len(frames))))
    return Predictions(
        model=detector.manifest.name, model_sha256=detector.sha256, frames=as_predictions(frames, seen)
    )


def as_predictions(
    frames: Sequence[FramePrediction], seen: Sequence[AmodalInstances] | Iterator[AmodalInstances]
) -> list[FramePrediction]:
    """The frames with what was seen in them."""
    return [
        frame_prediction(instances, frame.frame, frame.file_name)
        for frame, instances in zip(frames, seen, strict=True)
    ]


def learned_ground(pictures: Pictures, count: int) -> Image:
    """(H, W, 3) uint8, what comes back in a timeline of so many frames."""
    return recurrent_ground(pictures(spread(range(count), GROUND_FRAMES)))


def read_pictures(source: Path, wanted: Sequence[FramePrediction]) -> Iterator[Image]:
    """The pictures of some frames, in order: by their file's names, or by their number in a video.

    Raises:
        SwaltError: One cannot be read.
    """
    if not source.is_dir():
        yield from _from_video(source, [frame.frame for frame in wanted])
        return
    for frame in wanted:
        image: NDArray[np.uint8] | None = cv2.imread(str(_file(source, frame.file_name)), cv2.IMREAD_COLOR)
        if image is None:
            raise SwaltError(f"cannot read {source / frame.file_name}: give the folder that the detector looked at")
        yield image


def _file(folder: Path, name: str) -> Path:
    """Frames lie in the folder itself, or in `images` in it."""
    path = folder / name
    return path if path.is_file() else folder / "images" / name


def _from_video(path: Path, numbers: Sequence[int]) -> Iterator[Image]:
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


def _length(path: Path) -> int:
    """Frames of a video, counted: what its header says is a guess."""
    video = cv2.VideoCapture(str(path))
    with closing(_Released(video)):
        count = 0
        while video.grab():
            count += 1
    return count


class _Released:
    """Gives a capture the `close` that it calls `release`."""

    def __init__(self, video: cv2.VideoCapture) -> None:
        self.close = video.release
