"""A camera never keeps its agent waiting, and never another camera, whatever is broken."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psutil
import pytest

from benchmarks.fault_proxy import FaultProxy, Weather
from benchmarks.fault_site import wait_until
from tests.films import FPS, write_film
from walt_edge.camera import CameraTimeout
from walt_edge.capture.rtsp import RtspCamera
from walt_edge.rtsp_server import RtspServer

TOLERANCE_S = 0.3  # for a process to be started, on a busy machine
CLOSES_S = 1.5


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4", 100)


@contextmanager
def _nothing_listens(_film: Path) -> Iterator[RtspCamera]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    yield RtspCamera(f"rtsp://127.0.0.1:{port}/street", retry_first=True)


@contextmanager
def _nothing_answers(_film: Path) -> Iterator[RtspCamera]:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield RtspCamera(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/street", retry_first=True)


@contextmanager
def _nobody_knows_it(_film: Path) -> Iterator[RtspCamera]:
    yield RtspCamera("rtsp://camera.invalid/street", retry_first=True)


@contextmanager
def _it_went_silent(film: Path) -> Iterator[RtspCamera]:
    with RtspServer(film, live=True) as server, FaultProxy(server.port) as proxy:
        camera = RtspCamera(proxy.url(), retry_first=True)
        camera.read(timeout_s=20)
        proxy.weather = Weather(silent=True)
        proxy.freeze()
        yield camera


@contextmanager
def _its_decoder(film: Path, blow: signal.Signals) -> Iterator[RtspCamera]:
    with RtspServer(film, live=True) as server:
        camera = RtspCamera(server.url)
        assert camera.decoder_pid is not None
        os.kill(camera.decoder_pid, blow)
        server.stop()
        yield camera


@contextmanager
def _its_decoder_hangs(film: Path) -> Iterator[RtspCamera]:
    with _its_decoder(film, signal.SIGSTOP) as camera:
        yield camera


@contextmanager
def _its_decoder_died(film: Path) -> Iterator[RtspCamera]:
    with _its_decoder(film, signal.SIGKILL) as camera:
        yield camera


TROUBLES = (
    _nothing_listens,
    _nothing_answers,
    _nobody_knows_it,
    _it_went_silent,
    _its_decoder_hangs,
    _its_decoder_died,
)


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__.strip("_"))
def test_no_read_outlasts_its_timeout_and_closing_is_quick(
    film: Path, trouble: Callable[[Path], AbstractContextManager[RtspCamera]]
) -> None:
    with trouble(film) as camera:
        _read_dry(camera)
        for timeout_s in (0.0, 0.05, 0.3, 1.0):
            began = time.monotonic()
            with pytest.raises(CameraTimeout):
                camera.read(timeout_s)
            assert time.monotonic() - began < max(timeout_s, 0.1) + TOLERANCE_S
        decoder = camera.decoder_pid
        began = time.monotonic()
        camera.close()
        assert time.monotonic() - began < CLOSES_S
        assert decoder is None or not psutil.pid_exists(decoder)


def _read_dry(camera: RtspCamera) -> None:
    """Reads what was decoded before the trouble."""
    for _ in range(100):
        try:
            camera.read(timeout_s=0.0)
        except CameraTimeout:
            return


def test_a_camera_that_is_to_be_retried_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        camera = RtspCamera(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/street", retry_first=True)
        assert time.monotonic() - began < 0.1
        began = time.monotonic()
        camera.close()
        assert time.monotonic() - began < 0.1


def test_a_decoder_that_cannot_be_started_is_tried_again(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RtspServer(film, live=True) as server, RtspCamera(server.url, retry_first=True) as camera:
        descriptors = psutil.Process().num_fds()
        with monkeypatch.context() as patched:
            patched.setattr(sys, "executable", "/nonexistent/python3")
            for _ in range(3):
                with pytest.raises(CameraTimeout, match="the decoder cannot be started"):
                    camera.read(timeout_s=0.3)
        assert psutil.Process().num_fds() == descriptors
        camera.read(timeout_s=20)
        assert camera.stats.is_live


def test_a_live_stream_polled_without_waiting_gives_its_frames(film: Path) -> None:
    with RtspServer(film, live=True) as server, RtspCamera(server.url) as camera:
        indices: list[int] = []
        began = time.monotonic()
        while len(indices) < FPS:
            try:
                indices.append(camera.read(timeout_s=0.0).index)
            except CameraTimeout:
                assert time.monotonic() - began < 30
        assert indices == sorted(set(indices))


def test_an_answer_that_lay_for_long_is_not_handed_out(film: Path) -> None:
    with RtspServer(film, live=True) as server, FaultProxy(server.port) as proxy, RtspCamera(proxy.url()) as camera:
        camera.read(timeout_s=5)
        proxy.weather = Weather(delay_s=0.7)
        _read_dry(camera)  # the last question stays open, and is answered while we are away
        proxy.weather = Weather()
        threading.Event().wait(1.5)
        frame = camera.read(timeout_s=5)
        assert time.monotonic_ns() - frame.captured.monotonic_ns < 0.5e9


def test_a_dead_camera_slows_no_other(film: Path) -> None:
    """Two lanes in two threads: one camera hangs, dies and stays away; the other gives all its frames."""
    with (
        RtspServer(film, live=True) as server,
        RtspServer(film, live=True) as ill,
        RtspCamera(server.url) as live,
        RtspCamera(ill.url, stall_s=1.0) as dead,
    ):
        over = threading.Event()

        def suffer() -> None:
            while not over.is_set():
                try:
                    dead.read(timeout_s=0.5)
                except CameraTimeout:
                    if dead.decoder_pid is not None:
                        os.kill(dead.decoder_pid, signal.SIGSTOP)

        lane = threading.Thread(target=suffer)
        lane.start()
        try:
            ill.stop()
            first = live.read(timeout_s=5)
            read, last = 0, first
            while last.index < first.index + 3 * FPS:
                last = live.read(timeout_s=5)
                read += 1
            wait_until(lambda: dead.stats.decoder_restarts > 0, "the dead camera's decoder to be replaced")
        finally:
            over.set()
            lane.join()
        passed_s = (last.captured.monotonic_ns - first.captured.monotonic_ns) / 1e9
        assert (last.index - first.index) / passed_s == pytest.approx(FPS, rel=0.1)
        assert read > 0.7 * (last.index - first.index), "hardly a frame was superseded"
        assert live.stats.reconnects == live.stats.decoder_restarts == 0
