from __future__ import annotations

import datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.films import FPS, number_of, numbered, write_film
from tests.material import shared_data
from walt_edge.camera import Camera, CameraError, Frame, open_camera
from walt_edge.contract.messages import Clock
from walt_edge.contract.redaction import redact


def _all(camera: Camera) -> list[Frame]:
    frames = []
    while (frame := camera.read(timeout_s=1)) is not None:
        frames.append(frame)
    return frames


def _stills(folder: Path, names: list[str], size_wh: tuple[int, int] = (320, 192)) -> Path:
    folder.mkdir(exist_ok=True)
    for index, name in enumerate(names):
        cv2.imwrite(str(folder / name), numbered(index, size_wh))
    return folder


@pytest.mark.parametrize(
    ("name", "codec", "b_frames"),
    [("plain.mp4", "libx264", 0), ("reordered.mkv", "libx264", 3), ("old.avi", "mpeg4", 0)],
)
def test_a_video_gives_every_frame_in_order_at_its_time(tmp_path: Path, name: str, codec: str, b_frames: int) -> None:
    film = write_film(tmp_path / name, 40, codec=codec, b_frames=b_frames)
    with open_camera(str(film)) as camera:
        assert camera.resolution_wh == (320, 192)
        assert camera.fps == FPS
        frames = _all(camera)
        assert camera.read(timeout_s=0) is None
        assert (camera.stats.frames_received, camera.stats.frames_skipped) == (40, 0)
    assert [number_of(frame.bgr) for frame in frames] == list(range(40))
    assert [frame.index for frame in frames] == list(range(40))
    assert [frame.captured.media_time_s for frame in frames] == pytest.approx([i / FPS for i in range(40)], abs=1e-3)


def test_fps_replaces_a_videos_own_times(tmp_path: Path) -> None:
    with open_camera(str(write_film(tmp_path / "film.mp4", 5)), fps=2) as camera:
        assert [frame.captured.media_time_s for frame in _all(camera)] == [0, 0.5, 1, 1.5, 2]


def test_frames_cannot_be_written_to(tmp_path: Path) -> None:
    with open_camera(str(write_film(tmp_path / "film.mp4", 1))) as camera:
        frame = camera.read(timeout_s=1)
    assert frame is not None
    with pytest.raises(ValueError, match="read-only"):
        frame.bgr[0, 0] = 0


def test_a_damaged_video_gives_what_can_be_decoded(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.avi", 60, codec="mpeg4")
    data = bytearray(film.read_bytes())
    third = len(data) // 3
    data[third : third + 3000] = bytes(3000)
    film.write_bytes(data)
    with open_camera(str(film)) as camera:
        frames = _all(camera)
        assert camera.stats.frames_received == len(frames) + camera.stats.frames_skipped
        assert camera.stats.frames_skipped > 0
    assert 30 < len(frames) < 60


def test_a_video_of_nothing_but_damage_is_an_error(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", 30)
    data = bytearray(film.read_bytes())
    begin = data.find(b"mdat") + 4
    data[begin : data.find(b"moov") - 4] = bytes(data.find(b"moov") - 4 - begin)
    film.write_bytes(data)
    with open_camera(str(film)) as camera, pytest.raises(CameraError, match="holds no frame that can be decoded"):
        _all(camera)


def test_stills_come_in_natural_order(tmp_path: Path) -> None:
    folder = _stills(tmp_path / "frames", [f"frame{i}.png" for i in range(12)])
    (folder / "notes.txt").write_text("not a picture")
    with open_camera(str(folder)) as camera:
        assert camera.fps == 10
        frames = _all(camera)
    assert [number_of(frame.bgr) for frame in frames] == list(range(12))
    assert frames[7].captured.media_time_s == 0.7


def test_stills_with_dates_keep_them(tmp_path: Path) -> None:
    folder = _stills(tmp_path / "lot", ["2013-02-24_10_05_04.jpg", "2013-02-24_10_35_04.jpg"])
    with open_camera(str(folder)) as camera:
        first, second = _all(camera)
        assert camera.fps == 0
    assert first.captured.utc_us == datetime.datetime(2013, 2, 24, 10, 5, 4, tzinfo=datetime.UTC).timestamp() * 1e6
    assert second.captured.media_time_s == 1800
    assert second.captured.utc_us - first.captured.utc_us == 1_800_000_000
    assert first.captured.clock is Clock.SYNCHRONISED


def test_a_folder_with_images_is_played(tmp_path: Path) -> None:
    _stills(tmp_path / "images", ["0.png", "1.png"])
    with open_camera(str(tmp_path)) as camera:
        assert len(_all(camera)) == 2


def test_a_still_of_another_size_is_named(tmp_path: Path) -> None:
    folder = _stills(tmp_path / "frames", ["1.png", "2.png", "3.png"])
    cv2.imwrite(str(folder / "2.png"), numbered(0, (160, 96)))
    with open_camera(str(folder)) as camera:
        assert camera.read(timeout_s=0) is not None
        with pytest.raises(CameraError, match=r"2\.png is 160x96 and the frames before it 320x192"):
            camera.read(timeout_s=0)
        after = camera.read(timeout_s=0)
        assert after is not None
        assert after.index == 2
        assert camera.stats.frames_skipped == 1


@pytest.mark.parametrize("content", [b"", b"not a picture at all", b"\xff\xd8\xff\xe0 cut off"])
def test_an_unreadable_still_is_named(tmp_path: Path, content: bytes) -> None:
    folder = _stills(tmp_path / "frames", ["1.jpg", "2.jpg"])
    (folder / "2.jpg").write_bytes(content)
    with open_camera(str(folder)) as camera:
        camera.read(timeout_s=0)
        with pytest.raises(CameraError, match=r"2\.jpg .*replace or remove it"):
            camera.read(timeout_s=0)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda p: str(p / "missing.mp4"), "does not exist"),
        (lambda p: str(p), "holds no .jpg"),
        (lambda p: _written(p / "film.mp4", b"not a video"), "is not a video"),
        (lambda p: "http://camera.local/stream", "only rtsp://"),
    ],
)
def test_what_is_no_source_is_told_in_one_line(tmp_path: Path, make: object, text: str) -> None:
    assert callable(make)
    with pytest.raises(CameraError, match=text) as caught:
        open_camera(make(tmp_path))
    assert "\n" not in str(caught.value)


def _written(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def test_an_impossible_rate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="fps is 0"):
        open_camera(str(write_film(tmp_path / "film.mp4", 1)), fps=0)


def test_real_video_is_read_whole() -> None:
    with open_camera(str(shared_data("cameras/plaza/vtest.avi"))) as camera:
        assert (camera.resolution_wh, camera.fps) == ((768, 576), 10)
        first, last = None, None
        while (frame := camera.read(timeout_s=1)) is not None:
            first, last = first or frame, frame
    assert first is not None
    assert last is not None
    assert (last.index, last.captured.media_time_s) == (794, 79.4)
    assert np.abs(first.bgr.astype(int) - last.bgr).mean() > 1


@given(st.text(st.characters(categories=["L", "N"], include_characters="@:!"), min_size=1, max_size=20))
def test_passwords_never_show(password: str) -> None:
    shown = redact(f"cannot watch rtsp://admin:{password}@camera.local/a and rtsp://camera.local:554/b")
    assert shown == "cannot watch rtsp://admin:***@camera.local/a and rtsp://camera.local:554/b"
