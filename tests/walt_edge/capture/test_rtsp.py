"""Live cameras against GStreamer's own server: what is delivered, and what it survives."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.broker import free_port
from tests.films import FPS, number_of, write_film
from tests.waiting import wait_for
from walt_edge.camera import (
    CameraError,
    CameraRefusedError,
    CameraTimeout,
    CameraUnreachableError,
    Frame,
    Transport,
    open_camera,
)
from walt_edge.capture.rtsp import RtspCamera
from walt_edge.rtsp_server import Codec, RtspServer

PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4", 100)


@pytest.fixture(scope="module")
def long_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film(tmp_path_factory.mktemp("film") / "long.mp4", 1000)


def _next(camera: RtspCamera) -> Frame:
    """The next frame, however long the camera takes to recover."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return camera.read(timeout_s=0.5)
        except CameraTimeout:
            if time.monotonic() > deadline:
                raise


def _read_dry(camera: RtspCamera) -> None:
    """Reads what is left of a connection that is gone, until the camera times out."""
    for _ in range(100):
        camera.read(timeout_s=1.5)


def _gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_media_time_is_the_films_own(tmp_path: Path, transport: Transport, b_frames: int) -> None:
    film = write_film(tmp_path / "film.mp4", 50, b_frames=b_frames)
    seen: list[int] = []
    with RtspServer(film) as server, RtspCamera(server.url, transport=transport) as camera:
        assert camera.resolution_wh == (320, 192)
        while not seen or seen[-1] < 40:  # over UDP the goodbye may overtake the last packets
            frame = camera.read(timeout_s=5)
            seen.append(number_of(frame.bgr))
            assert round(frame.captured.media_time_s * FPS, 2) == seen[-1]
            assert frame.index == seen[-1]
        assert camera.fps == FPS
        assert camera.stats.frames_received == frame.index + 1
        assert camera.stats.frames_skipped == camera.stats.frames_received - len(seen)
    assert len(seen) > 12
    assert seen == sorted(set(seen))


@pytest.mark.parametrize(("codec", "age_s"), [("h264", 0.2), ("mjpeg", 0.0)])
def test_a_frames_moment_is_when_it_arrived(tmp_path: Path, codec: Codec, age_s: float) -> None:
    """A picture of H.264 is known to be complete when the next one comes, a fifth of a second later here."""
    film = write_film(tmp_path / "film.mp4", 20, fps=5)
    with RtspServer(film, codec=codec) as server, RtspCamera(server.url) as camera:
        ages_s = []
        for _ in range(9):
            frame = camera.read(timeout_s=5)
            ages_s.append((time.monotonic_ns() - frame.captured.monotonic_ns) / 1e9)
    assert sorted(ages_s)[4] == pytest.approx(age_s, abs=0.1)


def test_newest_frame_wins(film: Path) -> None:
    with RtspServer(film) as server, RtspCamera(server.url) as camera:
        before = camera.read(timeout_s=5)
        threading.Event().wait(0.6)  # a consumer that is slow
        after = camera.read(timeout_s=5)
        assert after.index - before.index >= 10
        assert camera.stats.frames_skipped >= after.index - before.index - 1
        assert time.monotonic_ns() - after.captured.monotonic_ns < 0.2e9
        assert number_of(before.bgr) == before.index  # what was handed out is not written over
        with pytest.raises(ValueError, match="read-only"):
            after.bgr[0] = 0


def test_a_server_killed_and_started_again(film: Path, long_film: Path) -> None:
    port = free_port()
    with RtspServer(long_film, port) as server:
        camera = RtspCamera(server.url)
        before = camera.read(timeout_s=5)
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
    with camera:
        with pytest.raises(CameraTimeout, match=r"no frame from rtsp://.*: nothing listens"):
            _read_dry(camera)
        with RtspServer(film, port):
            began = time.monotonic()
            after = _next(camera)
            assert time.monotonic() - began < 4
            assert camera.stats.reconnects == 1
            assert after.index > before.index
            passed_s = (after.captured.monotonic_ns - before.captured.monotonic_ns) / 1e9
            assert after.captured.media_time_s - before.captured.media_time_s == pytest.approx(passed_s, abs=0.5)


def test_the_end_of_a_film_is_a_reconnection(tmp_path: Path) -> None:
    film = write_film(tmp_path / "short.mp4", 15)
    with RtspServer(film) as server, RtspCamera(server.url) as camera:
        times, numbers = [], []
        while camera.stats.reconnects < 2:
            frame = _next(camera)
            times.append(frame.captured.media_time_s)
            numbers.append(number_of(frame.bgr))
        assert times == sorted(set(times))
        assert numbers != sorted(numbers), "the film began again"


@contextmanager
def _speaks(reply: bytes) -> Iterator[int]:
    """A TCP server that answers everything with `reply`; nothing at all if it is empty. Yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        over = threading.Event()

        def serve() -> None:
            taken = []
            while not over.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    break
                taken.append(connection)
                connection.settimeout(5)
                if reply and connection.recv(4096):
                    connection.sendall(reply)
                    connection.close()
            for connection in taken:
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("reply", "error", "text"),
    [
        (b"RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\n\r\n", CameraRefusedError, "wrong user or password"),
        (b"RTSP/1.0 404 Not Found\r\nCSeq: 1\r\n\r\n", CameraRefusedError, "no stream at this path"),
        (b"\x00garbage\xff" * 500, CameraError, "check"),
        (b"", CameraUnreachableError, "no answer within 1 s"),
    ],
)
def test_a_first_connection_that_fails_says_why(reply: bytes, error: type[CameraError], text: str) -> None:
    with _speaks(reply) as port:
        began = time.monotonic()
        with pytest.raises(error, match=text) as caught:
            RtspCamera(f"rtsp://admin:s3cret@127.0.0.1:{port}/street", open_s=1, stall_s=1)
        assert time.monotonic() - began < 6
    assert str(caught.value).startswith(f"cannot watch rtsp://admin:***@127.0.0.1:{port}/street: ")
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_reached_says_why() -> None:
    with pytest.raises(CameraUnreachableError, match="nothing listens at this address and port"):
        open_camera(f"rtsp://127.0.0.1:{free_port()}/street")
    with pytest.raises(CameraUnreachableError, match=r"the host 'camera\.invalid' is unknown"):
        open_camera("rtsp://camera.invalid/street")


def test_a_path_that_the_server_does_not_have(film: Path) -> None:
    with RtspServer(film) as server, pytest.raises(CameraRefusedError, match="no stream at this path"):
        open_camera(server.url + "/elsewhere")


def test_a_camera_may_come_up_later(film: Path) -> None:
    port = free_port()
    with RtspCamera(f"rtsp://127.0.0.1:{port}/street", retry_first=True) as camera:
        with pytest.raises(CameraTimeout):
            camera.read(timeout_s=1)
        with RtspServer(film, port):
            assert number_of(_next(camera).bgr) >= 0
        assert camera.stats.reconnects == 0


def test_closing_leaves_nothing_behind(film: Path) -> None:
    with RtspServer(film) as server:
        descriptors = psutil.Process().num_fds()
        camera = RtspCamera(server.url)
        decoder = camera.decoder_pid
        assert decoder is not None
        camera.read(timeout_s=5)
        camera.close()
        camera.close()
        assert not psutil.pid_exists(decoder)
        assert psutil.Process().num_fds() == descriptors
        with pytest.raises(CameraError, match="is closed"):
            camera.read(timeout_s=1)


def test_children_end_with_a_parent_that_is_killed(film: Path) -> None:
    script = (
        "import sys; from walt_edge.capture.rtsp import RtspCamera; from walt_edge.rtsp_server import RtspServer\n"
        "server = RtspServer(sys.argv[1]); camera = RtspCamera(server.url)\n"
        "print(server.pid, camera.decoder_pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(film)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        children = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(children) == 2
        parent.kill()
        wait_for(lambda: all(map(_gone, children)), what="for both children to end")


def test_the_password_is_in_no_processs_arguments(film: Path) -> None:
    with RtspServer(film) as server:
        url = server.url.replace("rtsp://", "rtsp://admin:s3cret@")
        with RtspCamera(url) as camera:
            assert camera.decoder_pid is not None
            assert "s3cret" not in " ".join(psutil.Process(camera.decoder_pid).cmdline())
