"""What the general weights learn from and are judged on: rendered streets, and two thirds of the shared cameras.

Frames with exact truth are cheap to render (six a second), so many streets show them; mining takes minutes, so few
are mined. Scenes, clip art of streets and clip art of cameras lie in a folder each, and each folder shows a third of
the pictures.

A workspace can be made on one machine and used on another: pictures in it are JPEG or small, and it names no path
outside it. Parts that are there already are not made again.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import msgspec
from tqdm import tqdm

from benchmarks.streets import compress
from walt_edge.camera import CameraError
from walt_edge.capture.stills import read_still
from walt_edge.contract.clipart import FILE_NAME, ClipArtError, read_clipart, write_clipart
from walt_edge.contract.errors import UsageError
from walt_edge.contract.masks import decode_rle, encode_rle
from walt_edge.runtimes import Teacher
from walt_edge.runtimes.onnx_detector import OnnxDetector
from walt_train.data import data_sets_in, open_samples
from walt_train.data.coco import ANNOTATIONS

CAMERAS = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "cameras"
DETECTOR = CAMERAS.parent / "models" / "yolox_nano.onnx"
SCENES, STREETS_MINED, CAMERAS_MINED = "scenes", "clips of streets", "clips of cameras"
CHOOSING, JUDGING = "choosing", "judging"

_NOON = "2026-06-01T12:00:00Z"
_MINED_QUALITY = 98
_FPS = 10
_SEEN_SCORE, _AROUND_PX = 0.3, 4


@dataclass(frozen=True, slots=True)
class Street:
    """A rendered street.

    Attributes:
        seed: Below 9000 to learn from; others judge alone.
        preset: How much goes on.
        light: When.
        size: WxH.
        scenes: Frames with exact truth, one in five seconds, after the time that is mined.
    """

    seed: int
    preset: str = "street"
    light: str = "day"
    size: str = "640x360"
    scenes: int = 14

    def render(self, folder: Path, frames: int, *words: str) -> None:
        """Renders so many frames of it into a folder."""
        look = ("--preset", self.preset, "--light", self.light, "--size", self.size)
        command = ("rwalt", "--seed", str(self.seed), *look, "--frames", str(frames), "--out", str(folder))
        _call("walt-train", *command, "--quiet", *words)


def varied(seed: int) -> Street:
    """A street of a size, crowd and light that its seed says."""
    sizes = ("640x360", "768x432", "704x576", "960x540", "768x576")
    preset = ("street", "busy")[seed % 2]
    return Street(seed, preset=preset, light=("day", "day", "dusk")[seed % 3], size=sizes[seed % 5])


STREETS = tuple(varied(seed) for seed in range(31, 91))
CHOOSERS = tuple(varied(seed) for seed in range(141, 149))
"""Nobody learns from them, and they do not judge: thresholds are chosen there."""
MINED = (
    Street(31),
    Street(32, preset="busy", size="768x432"),
    Street(33, light="dusk", size="704x576"),
    Street(34, size="960x540"),
    Street(35, preset="busy", light="dusk"),
    Street(36, size="768x576"),
)
JUDGES = (
    Street(9301, scenes=24),
    Street(9302, preset="busy", size="768x432", scenes=24),
    Street(9303, light="dusk", size="704x576", scenes=24),
    Street(9304, preset="busy", size="768x576", scenes=24),
)
QUICK_STREETS = (Street(5, scenes=12),)
QUICK_CHOOSERS = (Street(149, scenes=4),)
QUICK_JUDGES = (Street(9305, scenes=4),)
MINED_FRAMES, QUICK_FRAMES = 1800, 240
"""10 a second."""


def prepare(root: Path, *, is_quick: bool, learning: bool = True) -> None:
    """Renders and mines all that is missing in a workspace.

    Args:
        root: The workspace.
        is_quick: Little of everything.
        learning: Also what is learned from, which takes the most time.

    Raises:
        CalledProcessError: A command of the product failed; it said why.
    """
    frames = QUICK_FRAMES if is_quick else MINED_FRAMES
    jobs: dict[Path, Callable[[Path], None]] = {}
    for street in QUICK_CHOOSERS if is_quick else CHOOSERS:
        jobs[root / CHOOSING / str(street.seed)] = functools.partial(_render_scenes, street, frames)
    for street in QUICK_JUDGES if is_quick else JUDGES:
        jobs[root / JUDGING / str(street.seed)] = functools.partial(_render_judge, street)
    if learning:
        jobs |= _lessons(root, frames, is_quick=is_quick)
    for folder, make in tqdm(jobs.items(), desc="grounds", disable=not sys.stderr.isatty()):
        _make_once(folder, make)


def _lessons(root: Path, frames: int, *, is_quick: bool) -> dict[Path, Callable[[Path], None]]:
    jobs: dict[Path, Callable[[Path], None]] = {}
    for street in QUICK_STREETS if is_quick else STREETS:
        jobs[root / SCENES / str(street.seed)] = functools.partial(_render_scenes, street, frames)
    for street in QUICK_STREETS if is_quick else MINED:
        jobs[root / STREETS_MINED / str(street.seed)] = functools.partial(_mine_street, street, frames)
    for name, mine in {} if is_quick else _REAL.items():
        if (CAMERAS / name).is_dir():
            jobs[root / CAMERAS_MINED / name] = mine
    return jobs


def learned_from(root: Path) -> list[Path]:
    """Folders of data sets to train on: scenes with exact truth, clip art of streets, clip art of cameras.

    The first gives the golden pictures of the bundle, which are then ours.

    Raises:
        UsageError: Nothing was prepared.
    """
    found = [root / part for part in (SCENES, STREETS_MINED, CAMERAS_MINED) if data_sets_in(root / part)]
    if not found:
        raise UsageError(f"{root} holds nothing to train on: give --prepare-only on a machine that renders")
    return found


def judged_on(root: Path) -> list[Path]:
    """Folders of the streets that judge."""
    return _folders(root / JUDGING)


def tuned_on(root: Path) -> list[Path]:
    """Folders of the streets that thresholds are chosen on."""
    return _folders(root / CHOOSING)


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.name[0] != ".") if root.is_dir() else []


def _is_enough(folder: Path) -> bool:
    try:
        for split in ("train", "validation"):
            open_samples(folder, split=split, per_epoch=1)
    except ClipArtError as error:
        tqdm.write(f"left out: {error}", file=sys.stderr)
        return False
    return True


def _make_once(folder: Path, make: Callable[[Path], None]) -> None:
    """What an interrupted run left half done is made again; a camera of which too little was mined is set aside."""
    aside = folder.parent / "too little" / folder.name
    if not folder.is_dir() and not aside.is_dir():
        partial = folder.with_name(f".{folder.name}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.parent.mkdir(parents=True, exist_ok=True)
        make(partial)
        shutil.rmtree(_scratch(partial), ignore_errors=True)
        target = folder if (partial / ANNOTATIONS).is_file() or _is_enough(partial) else aside
        target.parent.mkdir(exist_ok=True)
        partial.rename(target)


def _scratch(folder: Path) -> Path:
    return folder / "scratch"


def _render_scenes(street: Street, mined: int, folder: Path) -> None:
    later = ("--fps", "0.2", "--skip", str(1 + mined // (5 * _FPS)))
    street.render(folder, street.scenes, *later, "--shapes", "tuning")
    compress(folder / "images")


def _render_judge(street: Street, folder: Path) -> None:
    street.render(folder, street.scenes, "--fps", "0.2")
    compress(folder / "images")


def _mine_street(street: Street, frames: int, folder: Path) -> None:
    street.render(_scratch(folder), frames, "--fps", str(_FPS), "--shapes", "tuning")
    images = _scratch(folder) / "images"
    _call("walt-edge", "mine", "--input", str(images), "--fps", str(_FPS), "--out", str(folder))


def _mine_plaza(folder: Path) -> None:
    """Frames 0 to 529 of 795."""
    frames = _scratch(folder) / "plaza"
    frames.mkdir(parents=True)
    video = cv2.VideoCapture(str(CAMERAS / "plaza" / "vtest.avi"))
    try:
        for number in range(530):
            is_read, picture = video.read()
            if not is_read:
                raise CameraError(f"the recording of plaza ends before frame {number}: fetch it again")
            cv2.imwrite(str(frames / f"{number:03d}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, _MINED_QUALITY])
    finally:
        video.release()
    _mine_real("plaza", folder, frames, "--fps", "10", "--begin", _NOON)


def _mine_arterial(folder: Path) -> None:
    """Frames 1 to 333 of 499."""
    frames = _scratch(folder) / "arterial"
    frames.mkdir(parents=True)
    for number in range(1, 334):
        (frames / f"{number:03d}.jpg").symlink_to(CAMERAS / "arterial" / "frames" / f"{number:03d}.jpg")
    _mine_real("arterial", folder, frames, "--fps", "25", "--begin", _NOON)


def _mine_parking(folder: Path) -> None:
    """Days 1 and 2 of 0 to 3."""
    days = [CAMERAS / "parking" / day for day in ("day1", "day2")]
    _mine_real("parking", folder, *days, "--stills")


_REAL = {"plaza": _mine_plaza, "arterial": _mine_arterial, "parking": _mine_parking}


def _mine_real(camera: str, folder: Path, *words: str | Path) -> None:
    teacher = ("--teacher", str(DETECTOR)) if DETECTOR.is_file() else ()
    _call("walt-train", "mine", *map(str, words), "--camera", camera, "--out", str(folder), *teacher)
    if teacher:
        for file in folder.rglob(FILE_NAME):
            forget_standing(file.parent, OnnxDetector(DETECTOR))


def forget_standing(folder: Path, detector: Teacher) -> None:
    """Takes what a detector sees in the plates out of them, as ground that was never seen.

    A car that never moved is in no clip. On one camera it is background; elsewhere it would be an object, and a
    network for any camera must not be taught that it is none.
    """
    clipart = read_clipart(folder)
    plates = []
    for plate in clipart.plates:
        known = decode_rle(plate.header.known).copy()
        seen = detector(read_still(folder / plate.image))
        for (x0, y0, x1, y1), score in zip(seen.boxes_xyxy.round().astype(int), seen.scores, strict=True):
            if score >= _SEEN_SCORE:
                known[max(0, y0 - _AROUND_PX) : y1 + _AROUND_PX, max(0, x0 - _AROUND_PX) : x1 + _AROUND_PX] = False
        header = msgspec.structs.replace(plate.header, known=encode_rle(known))
        plates.append(msgspec.structs.replace(plate, header=header))
    write_clipart(folder, msgspec.structs.replace(clipart, plates=plates))


def _call(program: str, *words: str) -> None:
    beside = Path(sys.executable).with_name(program)
    subprocess.run([str(beside), *words], check=True, stdout=subprocess.DEVNULL, env=os.environ)
