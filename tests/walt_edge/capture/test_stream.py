"""How a live camera's stream is tried again and explained, and what decodes it."""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
import psutil
import pytest
from av.codec.hwaccel import hwdevices_available
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from tests.films import FPS, number_of, numbered, write_film
from walt_edge.camera import CameraTimeout
from walt_edge.capture.hardware import Hardware
from walt_edge.capture.rtsp import RtspCamera
from walt_edge.capture.stream import LiveStream
from walt_edge.capture.wire import SOFTWARE, History, Order
from walt_edge.contract.backoff import Backoff
from walt_edge.rtsp_server import RtspServer

OPEN_S = 0.5


class _Told:
    """Keeps what a stream says."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, str]] = []
        self.devices: list[tuple[str, str]] = []
        self.frames: list[History] = []

    def moved(self) -> None:
        pass

    def offer(self, frame: VideoFrame, history: History, fps: float) -> None:
        self.frames.append(history)

    def failed(self, problem: tuple[str, str], stalls: int) -> None:
        self.problems.append(problem)

    def decodes_with(self, device: str, notice: str) -> None:
        self.devices.append((device, notice))


class _EnoughError(Exception):
    pass


def _pauses(url: str, count: int) -> tuple[list[float], _Told]:
    """The pauses between attempts that all fail."""
    told, pauses = _Told(), list[float]()

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == count:
            raise _EnoughError

    with pytest.raises(_EnoughError):
        LiveStream(Order(url, "tcp", OPEN_S, 1.0, "off", History()), told).play_forever(pause)
    return pauses, told


def test_attempts_are_never_given_up_and_at_most_two_seconds_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    pauses, told = _pauses(f"rtsp://127.0.0.1:{port}/street", 200)
    assert all(0 <= pause <= 2.0 for pause in pauses)
    assert pauses[0] <= 0.1
    assert min(pauses[10:]) > 0.5
    assert len({round(pause, 6) for pause in pauses}) > 190, "drawn, so that cameras do not knock together"
    assert {kind for kind, _ in told.problems} == {"unreachable"}


def test_an_attempt_that_took_long_was_a_pause_already() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        pauses, told = _pauses(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/street", 3)
    assert max(pauses) <= 0.1, "half a second had passed, and at most 0.4 are due"
    assert told.problems[-1] == (
        "unreachable",
        "no answer within 0.5 s; check address and port, and that the camera is on",
    )


def test_a_backoff_begins_again_after_success() -> None:
    backoff = Backoff(0.1, 2.0)
    limits = [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    for limit in limits:
        assert limit / 2 <= backoff.next_s() <= limit
    backoff.reset()
    assert backoff.next_s() <= 0.1


@pytest.mark.parametrize(
    ("wish", "notice"),
    [
        ("off", ""),
        ("auto", "decoding in software: "),
        ("nonsense", "nonsense is not among this FFmpeg's devices"),
        ("", "is not among this FFmpeg's devices"),
        *((name, f"decoding in software: {name} ") for name in hwdevices_available()),
        *((f"{name}:7", f"decoding in software: {name}:7 ") for name in hwdevices_available()),
    ],
)
def test_without_a_device_software_decodes(wish: str, notice: str) -> None:
    hardware = Hardware(wish)
    if hardware.accel() is not None:
        pytest.skip(f"{hardware.device} decodes here")
    assert hardware.device == SOFTWARE
    assert notice in hardware.notice
    assert bool(hardware.notice) == (wish != "off")
    before = hardware.notice
    hardware.failed("broke down")
    assert hardware.notice == before, "nothing has changed"


@pytest.mark.parametrize("why", ["gave no picture", "cannot be opened any more"])
def test_a_device_that_fails_is_given_up(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    monkeypatch.setattr("walt_edge.capture.hardware._opened", lambda candidate: ("", object()))
    hardware = Hardware("cuda")
    hardware.recheck()
    assert hardware.accel() is not None
    assert (hardware.device, hardware.notice) == ("cuda", "")
    if why == "gave no picture":
        hardware.failed(why)
    else:
        monkeypatch.setattr("walt_edge.capture.hardware._opened", lambda candidate: ("is gone", None))
        hardware.recheck()
    assert hardware.accel() is None
    assert (hardware.device, hardware.notice) == (
        SOFTWARE,
        f"decoding in software from now on: cuda {why}",
    )


@pytest.mark.parametrize(("wish", "level"), [("auto", logging.INFO), ("nonsense", logging.WARNING)])
def test_a_device_that_is_missing_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, wish: str, level: int
) -> None:
    caplog.set_level(logging.INFO)
    film = write_film(tmp_path / "film.mp4", 15)
    with RtspServer(film) as server, RtspCamera(server.url, hardware=wish) as camera:
        while camera.stats.reconnects == 0:
            camera.read(timeout_s=10)
        if camera.device != SOFTWARE:
            pytest.skip(f"{camera.device} decodes here")
    told = [record for record in caplog.records if "decoding in software" in record.getMessage()]
    assert [record.levelno for record in told] == [level]


def test_a_codec_that_is_unknown_is_told_and_tried_again() -> None:
    with _plays("XNONE") as url:
        _, told = _pauses(url, 2)
    text = "what answers there plays no video that is known here; check port, path and codec"
    assert told.problems == [("refused", text)] * 2


@contextmanager
def _plays(codec: str) -> Iterator[str]:
    """A camera that says yes to everything, and that it sends `codec`; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    _say_yes(listener.accept()[0], codec)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"rtsp://127.0.0.1:{listener.getsockname()[1]}/street"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _say_yes(connection: socket.socket, codec: str) -> None:
    lines = (
        "v=0",
        "o=- 0 0 IN IP4 0.0.0.0",
        "s=street",
        "t=0 0",
        "m=video 0 RTP/AVP 96",
        f"a=rtpmap:96 {codec}/90000",
    )
    described = "".join(f"{line}\r\n" for line in lines)
    heads = {
        b"DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(described)}\r\n\r\n{described}",
        b"SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n\r\n",
    }
    with connection, connection.makefile("rwb") as file, suppress(OSError):
        while request := file.readline():
            while (header := file.readline()).strip():
                if header.startswith(b"CSeq"):
                    number = header
            answer = heads.get(request.split()[0], "Session: 1\r\n\r\n")
            file.write(b"RTSP/1.0 200 OK\r\n" + number + answer.encode())
            file.flush()


def test_a_picture_that_is_too_large_for_memory_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = write_film(tmp_path / "film.mp4", 10)
    with RtspServer(film) as server:
        assert len(_pauses(server.url, 1)[1].frames) == 10
        monkeypatch.setattr("walt_edge.capture.stream.MAX_PIXELS", 320 * 192 - 1)
        assert _pauses(server.url, 1)[1].frames == []


def test_a_resolution_that_changes_under_way(tmp_path: Path) -> None:
    film = tmp_path / "film.ts"
    sizes = [(320, 192), (480, 288)]
    with av.open(str(film), "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=FPS)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = *sizes[0], "yuv420p"
        for index in range(75):
            if index % 25 == 0:
                encoder = _encoder(sizes[index // 25 % 2])
            picture = VideoFrame.from_ndarray(numbered(index, sizes[index // 25 % 2]), format="bgr24")
            picture.pts, picture.time_base = index, Fraction(1, FPS)
            packets = encoder.encode(picture) + (encoder.encode(None) if index % 25 == 24 else [])
            for packet in packets:
                packet.stream = stream
                container.mux(packet)
    seen: dict[int, tuple[int, int]] = {}
    with RtspServer(film) as server, RtspCamera(server.url) as camera:
        while not seen or max(seen) < 70:
            frame = camera.read(timeout_s=5)
            seen[number_of(frame.bgr)] = (frame.bgr.shape[1], frame.bgr.shape[0])
        assert camera.stats.reconnects == 0
    assert all(size == sizes[number // 25 % 2] for number, size in seen.items())
    assert {number // 25 for number in seen} == {0, 1, 2}


def _encoder(size_wh: tuple[int, int]) -> VideoCodecContext:
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = *size_wh, "yuv420p"
    encoder.time_base = Fraction(1, FPS)
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "bf": "0", "crf": "20"}
    return encoder


def _udp_ports() -> set[int]:
    return {one.laddr.port for one in psutil.net_connections("udp4")}


def test_noise_on_the_pictures_own_ports_is_survived(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", 100)
    with RtspServer(film, live=True) as server:
        taken = _udp_ports()
        with RtspCamera(server.url, transport="udp") as camera:
            before = camera.read(timeout_s=5)
            _make_noise(_udp_ports() - taken)
            after = before
            while after.index < before.index + FPS:
                after = camera.read(timeout_s=10)
                assert after.bgr.shape == (192, 320, 3)
            assert camera.stats.decoder_restarts == 0


def _make_noise(ports: set[int]) -> None:
    assert len(ports) >= 4, "two of the camera's, two of the agent's"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as noisy:
        for size in (1, 12, 100, 1400) * 50:
            for port in ports:
                noisy.sendto(os.urandom(size), ("127.0.0.1", port))


_NO_NAMES = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* The name resolves to this machine once the file is there, and not before. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (node && strcmp(node, "camera.test") == 0) {
        if (access(getenv("NAME_SERVER_IS_UP"), F_OK)) { usleep(200000); return EAI_AGAIN; }
        node = "127.0.0.1";
    }
    return real(node, service, hints, found);
}
"""


@contextmanager
def _name_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Gives children a resolver that knows `camera.test` as long as the file that is yielded is there."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler, for a resolver that fails")
    (folder / "names.c").write_text(_NO_NAMES)
    library = folder / "names.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, folder / "names.c", "-ldl"], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("NAME_SERVER_IS_UP", str(folder / "up"))
    yield folder / "up"


def test_names_that_are_not_found_for_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = write_film(tmp_path / "film.mp4", 100)
    with (
        RtspServer(film, live=True) as server,
        _name_server(tmp_path, monkeypatch) as up,
        RtspCamera(f"rtsp://camera.test:{server.port}/street", retry_first=True) as camera,
    ):
        deadline = time.monotonic() + 20
        while "the host 'camera.test' is unknown" not in camera.stats.problem:
            assert time.monotonic() < deadline, camera.stats.problem
            with pytest.raises(CameraTimeout):
                camera.read(timeout_s=0.2)
        up.touch()
        began = time.monotonic()
        assert camera.read(timeout_s=10).bgr.shape == (192, 320, 3)
        assert time.monotonic() - began < 5
        assert camera.stats.is_live
        assert camera.stats.decoder_restarts == 0


def test_the_decoders_process_does_without_numpy_and_opencv() -> None:
    script = "import sys, walt_edge.capture.decoder; print([m for m in ('numpy', 'cv2') if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_the_decoders_memory_stays_in_it(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", 30)
    with RtspServer(film, live=True) as server, RtspCamera(server.url) as camera:
        camera.read(timeout_s=5)
        process = Path(f"/proc/{camera.decoder_pid}")
        assert re.search(r"Max core file size\s+0\s+0", (process / "limits").read_text())
        # What is not dumpable belongs to root; a test that root runs cannot tell.
        assert (process / "environ").stat().st_uid == 0
