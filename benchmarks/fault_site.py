"""A street with a camera that things happen to: GStreamer's server, the proxy before it, and an agent that watches.

A fault is done to it in three steps: it sets in, it lasts, and it is over. Recovery is counted from where the camera
could be watched again, or from where the agent found out, if that is later: nobody recovers from what is not known.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import cv2
import numpy as np
import psutil
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from benchmarks.fault_proxy import CALM, FaultProxy, Weather
from walt_edge.camera import CameraTimeout, Frame, Transport
from walt_edge.capture.rtsp import RtspCamera
from walt_edge.rtsp_server import Codec, RtspServer

FPS = 25
SENSOR_NOISE = 6.0
CRF = {"libx264": "23", "libx265": "19"}
PATIENCE_S = 30.0
_READ_S = 0.5
UNAUTHORISED = b'RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\nWWW-Authenticate: Basic realm="street"\r\n\r\n'


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Returns once it holds.

    Raises:
        TimeoutError: It does not, in half a minute.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE_S:g} s in vain for {what}")
        time.sleep(0.005)


class Watch:
    """Reads a camera without a pause, as the agent does, and keeps account.

    Args:
        camera: Read from a thread of the watch's own until `stop`.

    Attributes:
        frames: How many were read.
        overtime_s: By how much a read outlasted its timeout, at most.
        backward: How often a frame's number or time was not above that of the frame before.
    """

    def __init__(self, camera: RtspCamera) -> None:
        self.camera = camera
        self.frames = 0
        self.overtime_s = 0.0
        self.backward = 0
        self._last: Frame | None = None
        self._read_at = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._thread.start()

    def newest(self) -> tuple[int, float]:
        """When the newest frame was captured (monotonic ns), and when it was read (s)."""
        last = self._last
        return (last.captured.monotonic_ns if last is not None else 0, self._read_at)

    def more(self, count: int) -> None:
        """Waits for so many more frames."""
        wanted = self.frames + count
        wait_until(lambda: self.frames >= wanted, f"{count} frames ({self.camera.stats.problem or 'no problem'})")

    def stop(self) -> None:
        """Ends the watch, and the camera."""
        self._over.set()
        self._thread.join(PATIENCE_S)
        self.camera.close()

    def _watch(self) -> None:
        while not self._over.is_set():
            began_at = time.monotonic()
            try:
                frame = self.camera.read(_READ_S)
            except CameraTimeout:
                pass
            else:
                self._note(frame)
            self.overtime_s = max(self.overtime_s, time.monotonic() - began_at - _READ_S)

    def _note(self, frame: Frame) -> None:
        last, now, then = self._last, frame.captured, self._last.captured if self._last else None
        if last is not None and then is not None:
            grows = frame.index > last.index and now.media_time_s > then.media_time_s
            self.backward += not (grows and now.monotonic_ns >= then.monotonic_ns)
        self._last, self._read_at = frame, time.monotonic()
        self.frames += 1


class Site:
    """A server, a proxy and a watch.

    Args:
        folder: For the films.
        transport: How the pictures travel; by UDP they do so beside the proxy.
        open_s: As of `RtspCamera`.
        stall_s: As of `RtspCamera`.
        seed: Of everything that is drawn.
    """

    def __init__(self, folder: Path, transport: Transport, open_s: float, stall_s: float, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.films = films(folder)
        self.server = RtspServer(self.films["h264"][0], live=True)
        self.proxy = FaultProxy(self.server.port, seed)
        camera = RtspCamera(
            self.proxy.url(), transport=transport, open_s=open_s, stall_s=stall_s, retry_first=True, hardware="off"
        )
        self.watch = Watch(camera)
        self.camera = camera

    def lasts(self) -> None:
        """Lets a fault last for a while."""
        time.sleep(self.random.uniform(0.3, 1.5))

    def play(self, codec: Codec, which: int = 0) -> None:
        """Starts the camera anew, at its old address."""
        self.server.stop()
        self.server = RtspServer(self.films[codec][which], self.proxy.target_port, live=True, codec=codec)

    def settle(self) -> None:
        """Brings the site back to where any fault can set in."""
        self.proxy.weather = CALM
        self.proxy.admit()
        self.watch.more(FPS // 2)

    def decoders(self) -> list[int]:
        """The decoder processes of this one, dead or alive."""
        children = psutil.Process().children()
        return [child.pid for child in children if child.pid != self.server.pid]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.watch.stop()
        self.proxy.close()
        self.server.stop()


def films(folder: Path) -> dict[Codec, list[Path]]:
    """What the camera may play, by codec; of H.264 a small film and a large one."""
    small, large = (320, 192), (640, 384)
    h264 = [film(folder / f"{size[0]}.mp4", "libx264", size) for size in (small, large)]
    # MJPEG is encoded when it is played: RTP carries few of its kinds.
    return {"h264": h264, "h265": [film(folder / "h265.mp4", "libx265", small)], "mjpeg": h264}


def film(path: Path, encoder: str, size_wh: tuple[int, int], fps: int = FPS) -> Path:
    """Writes four seconds of a street with something that moves, a keyframe a second; returns `path`."""
    if path.exists():
        return path
    width, height = size_wh
    noise = np.random.default_rng(0)
    ground = noise.integers(60, 120, (height // 8, width // 8, 3), dtype=np.uint8)
    ground = cv2.resize(ground, size_wh, interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=fps)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = fps
        stream.options = {
            "preset": "ultrafast",
            "crf": CRF[encoder],
            "bf": "0",
            "x265-params": "log-level=none:pools=1:bframes=0",
        }
        for index in range(4 * fps):
            # A sensor's noise, so that the stream is as wide as a camera's: a megabit a second.
            bgr = (ground + noise.normal(0, SENSOR_NOISE, ground.shape)).clip(0, 255).astype(np.uint8)
            cv2.circle(bgr, (index * width // (4 * fps), height // 2), height // 6, (40, 90, 200), -1)
            picture = VideoFrame.from_ndarray(bgr, format="bgr24")
            picture.pts, picture.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        name: In words.
        inflict: Does it to a site; returns when it is over, or when it was found out if that is later.
        breaks: Whether the connection does not outlive it.
        over_udp: Whether it can be done where the pictures do not pass the proxy.
    """

    name: str
    inflict: Callable[[Site], None]
    breaks: bool = True
    over_udp: bool = True


def recovery_s(site: Site, kind: Kind) -> float:
    """Does it to a site that is well; how long it takes from its end to the first frame that is read after.

    Raises:
        TimeoutError: The camera does not recover.
    """
    before = site.camera.stats.reconnects
    kind.inflict(site)
    over_at = time.monotonic()

    def is_well() -> bool:
        captured_ns, _ = site.watch.newest()
        return captured_ns > 1e9 * over_at and (site.camera.stats.reconnects > before or not kind.breaks)

    wait_until(is_well, f"a frame after: {kind.name} ({site.camera.stats.problem or 'no problem'})")
    return max(0.0, site.watch.newest()[1] - over_at)


def _in_weather(weather: Weather, *, cut: bool) -> Callable[[Site], None]:
    def inflict(site: Site) -> None:
        site.proxy.weather = weather
        if cut:
            site.proxy.cut(reset=site.random.random() < 0.5)
        site.lasts()
        site.proxy.weather = CALM

    return inflict


def _freeze(*, up: bool) -> Callable[[Site], None]:
    def inflict(site: Site) -> None:
        since = time.monotonic()
        site.proxy.freeze(up=up, down=True)
        wait_until(lambda: site.proxy.ended_at > since, "the agent to give the connection up")

    return inflict


def _silence(site: Site) -> None:
    taken = len(site.proxy.taken_at)
    site.proxy.weather = Weather(silent=True)
    site.proxy.cut(reset=True)
    wait_until(lambda: len(site.proxy.taken_at) > taken, "the agent to connect")
    site.proxy.weather = CALM
    since = time.monotonic()
    wait_until(lambda: site.proxy.ended_at > since, "the agent to give the connection up")


def _slow_handshake(site: Site) -> None:
    site.proxy.weather = Weather(answer_s=site.random.uniform(0.1, 0.3))
    site.proxy.cut(reset=False)


def _refuse(site: Site) -> None:
    site.proxy.refuse()
    site.proxy.cut(reset=True)
    site.lasts()
    site.proxy.admit()


def _reboot(site: Site) -> None:
    os.kill(site.server.pid, signal.SIGKILL)
    site.lasts()
    site.play("h264")


def _hang(site: Site) -> None:
    """The camera's own program stops: its connections stay, and the kernel takes new ones."""
    since = time.monotonic()
    os.kill(site.server.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: site.proxy.ended_at > since, "the agent to give the connection up")
    finally:
        os.kill(site.server.pid, signal.SIGCONT)


def _another_resolution(site: Site) -> None:
    site.play("h264", which=1 if site.camera.resolution_wh[0] == 320 else 0)


def _another_codec(site: Site) -> None:
    site.play(site.random.choice(["h265", "mjpeg"]))


def _strike_decoder(blow: signal.Signals) -> Callable[[Site], None]:
    def inflict(site: Site) -> None:
        pid = site.camera.decoder_pid
        assert pid is not None
        os.kill(pid, blow)
        wait_until(lambda: not psutil.pid_exists(pid), "the decoder to be replaced")

    return inflict


KINDS = (
    Kind("delay and jitter", _in_weather(Weather(delay_s=0.3, jitter_s=0.2), cut=False), False, False),
    Kind("throttled", _in_weather(Weather(bytes_per_s=10_000), cut=False), False, False),
    Kind("slow handshake", _slow_handshake),
    Kind("reset", lambda site: site.proxy.cut(reset=True)),
    Kind("ended by the camera", lambda site: site.proxy.cut(reset=False)),
    Kind("half-open", _freeze(up=True), over_udp=False),
    Kind("half-open from the camera alone", _freeze(up=False), over_udp=False),
    Kind("taken and never served", _silence),
    Kind("refused", _refuse),
    Kind("noise among the packets", lambda site: site.proxy.insert(site.random.randrange(1, 5000)), False, False),
    Kind("noise for pictures", _in_weather(Weather(garble=True), cut=False), False, False),
    Kind("answers and no pictures", _in_weather(Weather(mute=True), cut=True), True, False),
    Kind("wrong password", _in_weather(Weather(reply=UNAUTHORISED), cut=True)),
    Kind("not a camera", _in_weather(Weather(reply=b"\x00\xff$" * 2000), cut=True)),
    Kind("camera hangs", _hang),
    Kind("rebooted", _reboot),
    Kind("another resolution", _another_resolution),
    Kind("another codec", _another_codec),
    Kind("decoder killed", _strike_decoder(signal.SIGKILL)),
    Kind("decoder hangs", _strike_decoder(signal.SIGSTOP)),
)
