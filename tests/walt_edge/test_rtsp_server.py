from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import av
import cv2
import psutil
import pytest

from tests.films import number_of, numbered, write_film
from tests.waiting import wait_for
from walt_edge import rtsp_server
from walt_edge.camera import CameraError
from walt_edge.capture.rtsp import RtspCamera
from walt_edge.rtsp_server import Codec, RtspServer, RtspServerError


def _played(url: str, limit: int = 10_000) -> list[tuple[int | None, int]]:
    """(time in ticks, number) of every frame until the stream ends."""
    seen: list[tuple[int | None, int]] = []
    with av.open(url, options={"rtsp_transport": "tcp", "probesize": "32"}, timeout=(5, 5)) as container:
        for frame in container.decode(video=0):
            seen.append((frame.pts, number_of(frame.to_ndarray(format="bgr24"))))  # type: ignore[arg-type]
            if len(seen) == limit:
                break
    return seen


def test_two_clients_each_see_the_whole_film(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", 12)
    with RtspServer(film, path="/a/b") as server:
        assert server.url.endswith("/a/b")
        assert server.frames == 12
        for _ in range(2):
            seen = _played(server.url)
            assert [number for _, number in seen] == list(range(12))
            assert [pts for pts, _ in seen[1:]] == [3600 * i for i in range(1, 12)]


def test_a_folder_is_encoded_and_played(tmp_path: Path) -> None:
    for index in range(20):
        cv2.imwrite(str(tmp_path / f"{index}.png"), numbered(index, (321, 193)))  # odd sizes lose a row and a column
    with RtspServer(tmp_path, fps=50) as server:
        seen = _played(server.url)
    assert [number for _, number in seen] == list(range(20))
    assert [pts for pts, _ in seen[1:]] == [1800 * i for i in range(1, 20)]


@pytest.mark.parametrize(("name", "codec", "fps"), [("film.avi", "mpeg4", None), ("film.mkv", "libx264", 50.0)])
def test_other_codecs_and_other_rates_are_encoded(tmp_path: Path, name: str, codec: str, fps: float | None) -> None:
    film = write_film(tmp_path / name, 20, codec=codec)
    with RtspServer(film, fps=fps) as server:
        seen = _played(server.url)
    assert [number for _, number in seen] == list(range(20))
    assert seen[-1][0] == 19 * 90_000 / (fps or 25)


def test_a_loop_goes_on_without_a_break_in_time(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", 10)
    with RtspServer(film, loop=True) as server:
        seen = _played(server.url, limit=25)
    assert [number for _, number in seen] == [i % 10 for i in range(25)]
    assert [pts for pts, _ in seen[1:]] == [3600 * i for i in range(1, 25)]


@pytest.mark.parametrize("codec", ["h265", "mjpeg"])
def test_a_film_is_played_in_the_codec_that_is_asked_for(tmp_path: Path, codec: Codec) -> None:
    film = write_film(tmp_path / "film.mp4", 15)
    with RtspServer(film, codec=codec) as server:
        with av.open(server.url, options={"rtsp_transport": "tcp", "probesize": "32"}, timeout=(5, 5)) as container:
            assert container.streams.video[0].codec_context.name == {"h265": "hevc"}.get(codec, codec)
        assert [number for _, number in _played(server.url)] == list(range(15))


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_who_comes_to_a_live_film_waits_for_its_next_keyframe(tmp_path: Path, codec: Codec) -> None:
    film = write_film(tmp_path / "film.mp4", 300)
    with RtspServer(film, live=True, codec=codec) as server:
        first = []
        for _ in range(2):
            with RtspCamera(server.url) as camera:
                frame = camera.read(timeout_s=5)
                first.append(number_of(frame.bgr) - frame.index)
    assert all(number % 25 == 0 for number in first), "a second's keyframe"
    assert first[0] != first[1], "it went on in between"


def test_once_refuses_a_second_play(tmp_path: Path) -> None:
    with RtspServer(write_film(tmp_path / "film.mp4", 5), once=True) as server:
        assert len(_played(server.url)) == 5
        assert server.wait() == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), timeout=2)


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", 5)
    with (
        RtspServer(film) as server,
        pytest.raises(RtspServerError, match=f"cannot listen on 127.0.0.1:{server.port}"),
    ):
        RtspServer(film, server.port)


def test_what_cannot_be_played_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(CameraError, match="is not a video"):
        RtspServer(tmp_path / "text.mp4")
    with pytest.raises(CameraError, match="does not exist"):
        RtspServer(tmp_path / "missing.mp4")
    with pytest.raises(RtspServerError, match="write /street"):
        RtspServer(tmp_path / "text.mp4", path="street")


@pytest.mark.parametrize(
    ("python", "text"),
    [("/nonexistent/python3", "no /nonexistent/python3"), (sys.executable, "needs GStreamer")],
)
def test_missing_system_packages_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str, text: str
) -> None:
    film = write_film(tmp_path / "film.mp4", 5)
    monkeypatch.setattr(rtsp_server, "SYSTEM_PYTHON", python)
    with pytest.raises(RtspServerError, match=text + ".*apt-get install .*gir1.2-gst-rtsp-server-1.0") as caught:
        RtspServer(film)
    assert "\n" not in str(caught.value)


def test_stopping_leaves_nothing_behind(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", 5)
    descriptors = psutil.Process().num_fds()
    server = RtspServer(film)
    server.stop()
    server.stop()
    assert not server.running()
    assert not psutil.pid_exists(server.pid)
    assert psutil.Process().num_fds() == descriptors


def test_the_command_plays_until_it_is_interrupted(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", 50)
    command = [str(Path(sys.executable).with_name("walt-edge")), "camera", "--input", str(film), "--port", "0"]
    command += ["--codec", "h265", "--loop"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("rtsp://127.0.0.1:")
        assert len(_played(url, limit=5)) == 5
        children = [child.pid for child in psutil.Process(process.pid).children()]
        began = time.monotonic()
        os.kill(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=10)
    assert process.returncode == 130
    assert time.monotonic() - began < 5
    assert "Traceback" not in told
    wait_for(lambda: not any(map(psutil.pid_exists, children)), what="for the server to end")
