from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.fakes.scenes import Scene, Thing, walk
from tests.material import shared_data
from walt_edge.cli import SCRIPT
from walt_edge.contract.clipart import read_clipart
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask, decode_rle

WH = (480, 320)


def film(folder: Path, scene: Scene, seconds: float) -> Path:
    folder.mkdir()
    for frame in scene.frames(seconds):
        cv2.imwrite(str(folder / f"{frame.index:04d}.png"), frame.bgr)
    return folder


def mine(*words: object) -> int:
    return SCRIPT.main(["mine", *(str(word) for word in words)])


def test_a_folder_of_frames_gives_clip_art(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    things = [Thing(walk((-30, 260), (60, 0), 1.0), height=110), Thing(walk((-90, 300), (120, 0), 11.0), "car", 70)]
    folder = film(tmp_path / "street", Scene(wh=WH, things=things), 16)
    assert mine("--input", folder, "--out", tmp_path / "out") == 0
    assert "clips of 2 objects, 1 plates, from 160 frames" in capsys.readouterr().out
    clipart = read_clipart(tmp_path / "out")
    assert clipart.camera == "street"
    assert clipart.frame_wh == WH
    assert {clip.header.label for clip in clipart.clips} == {Label.PERSON, Label.VEHICLE}
    assert {clip.header.plate for clip in clipart.clips} == {plate.id for plate in clipart.plates}
    for clip in clipart.clips:
        picture = cv2.imread(str(tmp_path / "out" / clip.image))
        assert picture is not None
        assert picture.shape[:2] == clip.header.mask.size
    sheet = cv2.imread(str(tmp_path / "out" / "overview.jpg"))
    assert sheet is not None
    assert sheet.shape[1] == 1536


def test_a_part_of_the_frames(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = film(tmp_path / "street", Scene(wh=WH, things=[Thing(walk((-30, 260), (60, 0), 1.0), height=110)]), 12)
    out = tmp_path / "out"
    assert mine("--input", folder, "--out", out, "--start-frame", 5, "--frames", 100, "--camera", "gate") == 0
    assert "from 100 frames" in capsys.readouterr().out
    clipart = read_clipart(out)
    assert clipart.camera == "gate"
    assert all(0.5 <= clip.header.captured.media_time_s < 10.5 for clip in clipart.clips)


@pytest.mark.parametrize(
    ("scene", "seconds", "words", "message"),
    [
        (Scene(wh=WH), 8, [], "nothing moved in 80 frames"),
        (Scene(wh=WH, shift=lambda t: (round(40 * np.sin(2 * t)), 0)), 8, [], "the camera moves"),
        (Scene(wh=WH), 0.5, [], "3 usable frames"),
        (Scene(wh=WH), 1, ["--start-frame", 50], "0 usable frames"),
        (Scene(wh=WH, things=[Thing(walk((-30, 200), (60, 0)), height=24)]), 9, [], "none was seen whole (small"),
        (Scene(wh=WH), 0.2, ["--frames", 0], "--frames from 1"),
        (Scene(wh=WH), 0.2, ["--camera", "no/name"], "is not a name"),
    ],
)
def test_what_cannot_be_mined_is_told_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    scene: Scene,
    seconds: float,
    words: list[object],
    message: str,
) -> None:
    folder = film(tmp_path / "film", scene, seconds)
    assert mine("--input", folder, "--out", tmp_path / "out", *words) in (1, 2)
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len([line for line in error.splitlines() if line.startswith("walt-edge")]) == 1
    assert not (tmp_path / "out" / "clipart.json").exists()


def test_a_missing_input_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mine("--input", tmp_path / "absent.mp4", "--out", tmp_path / "out") == 1
    assert "absent.mp4 does not exist" in capsys.readouterr().err


def test_stills_minutes_apart_end_with_a_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mine("--input", shared_data("cameras/parking/day0"), "--out", tmp_path / "out") == 1
    assert "usable frames, at least" in capsys.readouterr().err


def test_people_on_the_plaza_are_whole_and_apart(tmp_path: Path) -> None:
    video = shared_data("cameras/plaza/vtest.avi")
    assert mine("--input", video, "--out", tmp_path, "--frames", 160) == 0
    clipart = read_clipart(tmp_path)
    tracks = {clip.header.track_id for clip in clipart.clips}
    assert len(tracks) >= 6
    assert {clip.header.label for clip in clipart.clips} == {Label.PERSON}
    for clip in clipart.clips:
        x0, y0, x1, y1 = clip.header.box_xyxy
        assert 1.4 < (y1 - y0) / (x1 - x0) < 4.5
        assert x0 > 2
        assert x1 < 766
        # The sign and the post were derived, not drawn: nobody is chosen across them.
        mask = PatchMask(*clip.header.crop_xy, decode_rle(clip.header.mask)).full(576, 768)
        assert mask[205:240, 415:442].mean() < 0.1


def test_cars_on_the_arterial_are_whole(tmp_path: Path) -> None:
    frames = shared_data("cameras/arterial/frames")
    assert mine("--input", frames, "--out", tmp_path, "--frames", 200, "--fps", 25) == 0
    clipart = read_clipart(tmp_path)
    assert clipart.camera == "arterial"
    vehicles = [clip for clip in clipart.clips if clip.header.label is Label.VEHICLE]
    assert len({clip.header.track_id for clip in vehicles}) >= 4
    assert len(vehicles) >= 0.95 * len(clipart.clips)
    for clip in vehicles:
        x0, y0, x1, y1 = clip.header.box_xyxy
        assert (y1 - y0) / (x1 - x0) < 1.5
        assert y1 < 358
