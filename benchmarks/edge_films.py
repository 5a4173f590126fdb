"""Films that an agent watches while it is measured: a busy place, and the same place with nobody in it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.streets import render
from walt_edge.camera import open_camera
from walt_edge.contract.masks import Mask

PLAZA = Path(__file__).resolve().parents[2] / "shared" / "data" / "cameras" / "plaza" / "vtest.avi"
SIZE_WH = (640, 384)
SEED = 11  # a street with twelve objects in view on average, few of them near
RATE = 10
NOISE_LEVEL = 2.0
STILL_FRAMES = 100
_CHANGED_LEVEL = 25
_SAMPLES = 40

Picture = NDArray[np.uint8]


def busy_film(folder: Path) -> tuple[Path, str]:
    """A film of `SIZE_WH`, and what is in it.

    From the shared real camera where it is at hand: its people twice, since there are six and the table asks for ten;
    whoever moves 20 s later is pasted in as well. Else a rendered street.
    """
    if not PLAZA.is_file():
        path = folder / "street.mp4"
        render(folder / "street", SEED, "street", 400, size=f"{SIZE_WH[0]}x{SIZE_WH[1]}", video=path)
        return path, f"street {SEED}"
    frames = _plaza()
    plate = background(frames)
    later = frames[20 * RATE :] + frames[: 20 * RATE]
    joined = (_joined(now, then, plate) for now, then in zip(frames, later, strict=True))
    return _encode(folder / "plaza.mp4", joined), "plaza, its people twice"


def still_film(film: Path, out: Path) -> Path:
    """The film's background, ten seconds of it, as a camera with a sensor gives it."""
    frames = []
    with open_camera(str(film)) as camera:
        while (frame := camera.read(1)) is not None:
            frames.append(np.asarray(frame.bgr))
    plate = background(frames).astype(np.float32)
    chance = np.random.default_rng(1)
    noisy = (plate + chance.normal(0, NOISE_LEVEL, plate.shape) for _ in range(STILL_FRAMES))
    return _encode(out, (np.clip(one, 0, 255).astype(np.uint8) for one in noisy))


def background(frames: list[Picture]) -> Picture:
    """The median of a film."""
    return np.asarray(np.median(np.stack(frames[:: max(1, len(frames) // _SAMPLES)]), axis=0), np.uint8)


def _plaza() -> list[Picture]:
    """Its lower part, in the size and shape of the films."""
    frames = []
    with open_camera(str(PLAZA)) as camera:
        while (frame := camera.read(1)) is not None:
            height = round(frame.bgr.shape[1] * SIZE_WH[1] / SIZE_WH[0])
            frames.append(
                np.asarray(cv2.resize(frame.bgr[-height:], SIZE_WH, interpolation=cv2.INTER_AREA), np.uint8)
            )
    return frames


def _joined(now: Picture, later: Picture, plate: Picture) -> Picture:
    """What moves later, pasted into now."""
    changed: Mask = cv2.absdiff(later, plate).max(axis=2) > _CHANGED_LEVEL
    solid = cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    whole = cv2.dilate(cv2.morphologyEx(solid, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)), np.ones((5, 5), np.uint8))
    return np.where(whole[..., None] > 0, later, now)


def _encode(path: Path, pictures: Iterable[Picture]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "23", "g": str(RATE)})
        stream.width, stream.height, stream.pix_fmt = *SIZE_WH, "yuv420p"
        for picture in tqdm(pictures, desc="film", unit="frame", leave=False, disable=None):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode())
    return path
