"""Pictures of what a model sees, hidden parts included, with nobody to be recognised in them.

Frames pass the anonymiser twice: as in `walt-edge mine`, with the eyes that have learned the camera's plate, and
again with the people whom the model found. Where there is no plate (one image, a camera that moves) everything that
is not a found object is filled: what nobody has judged may show a face.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.camera import Frame
from walt_edge.contract.errors import WaltError
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.privacy.anonymiser import AnonymisedImage, Anonymiser
from walt_edge.privacy.faces import find_faces
from walt_edge.vision.sightings import Sighting
from walt_edge.watching.watcher import MovingCameraError, Step, TooFewFramesError, Watcher

_log = logging.getLogger(__name__)
_COLOURS: dict[int, tuple[int, int, int]] = {Label.PERSON: (60, 160, 255), Label.VEHICLE: (255, 170, 40)}
_OTHER = (200, 200, 200)
_HATCH_PX = 6


class AmodalPictures:
    """Writes one picture for each frame it is given.

    Args:
        folder: Where to; made when the first picture is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._anonymiser = Anonymiser(find_faces())
        self._watcher: Watcher | None = None
        self._waiting: dict[int, tuple[str, AmodalInstances]] = {}

    def learn(self, frames: Iterable[Frame]) -> None:
        """Learns the camera's plate from the beginning of a recording, if it can be learned."""
        watcher = Watcher(site="local", device="detect", camera="camera", anonymiser=self._anonymiser)
        try:
            watcher.prepare(frames)
        except (TooFewFramesError, MovingCameraError) as error:
            _log.warning("pictures show the objects alone: %s", error)
        else:
            self._watcher = watcher

    def add(self, name: str, frame: NDArray[np.uint8] | Frame, instances: AmodalInstances) -> Path | None:
        """Takes one frame in; returns the path of the picture that is ready now.

        That is this frame's where the place is not known, and one of a second ago in a recording that was learned.

        Raises:
            PrivacyError: The anonymiser failed; nothing was written.
            WaltError: It cannot be written.
        """
        if not isinstance(frame, Frame) or self._watcher is None:
            bgr = frame.bgr if isinstance(frame, Frame) else frame
            return self._draw(name, bgr, np.ones(bgr.shape[:2], bool), instances)
        self._waiting[frame.index] = (name, instances)
        try:
            return self._ready(self._watcher.step(frame, instances))
        except MovingCameraError as error:
            _log.warning("no pictures from here on: %s", error)
            return None

    def finish(self) -> list[Path]:
        """Writes the pictures that still wait at the end of a recording; raises as `add` does."""
        steps = self._watcher.drain() if self._watcher is not None else ()
        return [path for path in map(self._ready, steps) if path is not None]

    def _ready(self, step: Step) -> Path | None:
        if step.image is None or step.frame is None:
            return None
        name, instances = self._waiting.pop(step.frame.index)
        # What an anonymiser has skipped is behind it for good.
        self._waiting = {index: one for index, one in self._waiting.items() if index > step.frame.index}
        return self._draw(name, step.image.bgr, np.zeros(step.image.moving.shape, bool), instances)

    def _draw(self, name: str, bgr: NDArray[np.uint8], unknown: Mask, instances: AmodalInstances) -> Path:
        image = self._anonymiser(bgr, sightings_of(instances), unknown)
        return _write(self._folder / f"{name}.jpg", draw_instances(image, instances))


def sightings_of(instances: AmodalInstances) -> list[Sighting]:
    """What is seen of each instance, as the anonymiser takes it."""
    return [
        Sighting(
            silhouette=seen,
            label=Label(int(label)) if int(label) in set(Label) else None,
            score=float(score),
            ground_xy=(float(box[0] + box[2]) / 2, float(box[3])),
        )
        for seen, label, score, box in zip(
            instances.visible, instances.labels, instances.scores, instances.boxes_xyxy, strict=True
        )
    ]


def draw_instances(image: AnonymisedImage, instances: AmodalInstances) -> NDArray[np.uint8]:
    """The picture with every object's full outline in its class's colour; what is hidden of it is hatched."""
    canvas = image.bgr.copy()
    # The surest come first and are drawn last.
    for index in reversed(range(len(instances))):
        colour = _COLOURS.get(int(instances.labels[index]), _OTHER)
        whole, seen = instances.amodal[index], instances.visible[index]
        _hatch(canvas, PatchMask(whole.x, whole.y, whole.mask & ~seen.mask), colour)
        contours, _ = cv2.findContours(whole.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, contours, -1, colour, 1, offset=(whole.x, whole.y))
        corner = (whole.x, max(9, whole.y - 3))
        text = f"{instances.scores[index]:.2f}"
        for ink, thickness in (((0, 0, 0), 2), ((255, 255, 255), 1)):
            cv2.putText(canvas, text, corner, cv2.FONT_HERSHEY_SIMPLEX, 0.32, ink, thickness, cv2.LINE_AA)
    return canvas


def _hatch(canvas: NDArray[np.uint8], hidden: PatchMask, colour: tuple[int, int, int]) -> None:
    x0, y0, x1, y1 = hidden.box_xyxy
    rows, columns = np.ogrid[y0:y1, x0:x1]
    area = canvas[y0:y1, x0:x1]
    tinted = (area * 0.65 + np.array(colour) * 0.35).astype(np.uint8)
    area[hidden.mask] = tinted[hidden.mask]
    area[hidden.mask & ((rows + columns) % _HATCH_PX < 2)] = colour


def _write(path: Path, picture: NDArray[np.uint8]) -> Path:
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.tobytes() if done else b"")
    except OSError as error:
        raise WaltError(f"cannot write {path}: {error.strerror}; free space or give another --pictures") from error
    return path
