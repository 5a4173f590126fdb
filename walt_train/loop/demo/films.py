"""What the demo's camera plays: a rendered street and its later part, or a film of one's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import cv2

from walt_edge.contract.errors import UsageError
from walt_train.loop.children import Station, Stations, program
from walt_train.loop.demo.progress import Bars

FPS = 10
_READY_S = 60.0
_RENDER_S = 480.0
_FOLDER_FPS = 10.0
_STILLS = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True)
class Film:
    """What the camera plays: a file or folder, how many frames, how fast, how large."""

    path: Path
    frames: int
    fps: float
    resolution_wh: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Street:
    """A part of the demo's rendered street.

    Attributes:
        folder: Gets `annotations.json`, `images/` and `street.mp4`.
        seed: Of the street.
        size: WxH.
        begin_s: Seconds of the street before this part.
        frames: Of this part.
        fps: Frames a second.
    """

    folder: Path
    seed: int
    size: str
    begin_s: float
    frames: int
    fps: int = FPS

    def words(self) -> list[str]:
        """The command line that renders it."""
        words = [program("walt-train"), "rwalt", "--seed", str(self.seed), "--frames", str(self.frames)]
        words += ["--fps", str(self.fps), "--skip", str(round(self.begin_s * self.fps)), "--size", self.size]
        words += ["--light", "day", "--out", str(self.folder)]
        return [*words, "--video", str(self.folder / "street.mp4")]


def render(stations: Stations, street: Street, name: str) -> Film:
    """Renders a part of a street, with a bar.

    Raises:
        StationError: It could not be rendered.
    """
    renderer = stations.start(name, street.words())
    video, images = street.folder / "street.mp4", street.folder / "images"
    with Bars() as bars:

        def is_done() -> bool:
            bars.show("rendered", sum(1 for _ in images.glob("*.*")) if images.is_dir() else 0, street.frames)
            return not renderer.running

        renderer.wait_for(is_done, _RENDER_S, "rendering")
    if renderer.status != 0 or not video.is_file():
        raise renderer.failure()
    return film_of(video)


def start_camera(stations: Stations, name: str, film: Film, *, loops: bool) -> tuple[Station, str]:
    """Starts the camera server on a free port, once through the film or again and again; returns it and its URL."""
    words = [program("walt-edge"), "camera", "--input", str(film.path), "--port", "0"]
    camera = stations.start(name, [*words, "--loop" if loops else "--once"])
    camera.wait_for(lambda: _url(camera) is not None, _READY_S, "starting")
    url = _url(camera)
    assert url is not None
    return camera, url


def film_of(path: Path) -> Film:
    """Looks at a video or folder of stills.

    Raises:
        UsageError: There is nothing to play.
    """
    if path.is_dir():
        stills = sorted(still for still in path.iterdir() if still.suffix.lower() in _STILLS)
        first = cv2.imread(str(stills[0])) if stills else None
        if first is None:
            raise UsageError(
                f"{path} holds no stills ({', '.join(_STILLS)}) that can be read: give a video or a folder"
            )
        return Film(path, len(stills), _FOLDER_FPS, (first.shape[1], first.shape[0]))
    if not path.is_file():
        raise UsageError(f"{path} does not exist: give a video file or a folder of stills")
    video = cv2.VideoCapture(str(path))
    frames, fps = int(video.get(cv2.CAP_PROP_FRAME_COUNT)), float(video.get(cv2.CAP_PROP_FPS))
    size = int(video.get(cv2.CAP_PROP_FRAME_WIDTH)), int(video.get(cv2.CAP_PROP_FRAME_HEIGHT))
    video.release()
    if frames < 1 or fps <= 0:
        raise UsageError(f"{path} is not a video that can be read: convert it to MP4")
    return Film(path, frames, fps, size)


def _url(camera: Station) -> str | None:
    found = re.search(r"^rtsp://\S+$", camera.said(), re.MULTILINE)
    return found.group(0) if found else None
