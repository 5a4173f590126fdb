"""A camera for demonstrations and tests: plays a video or a folder of frames by RTSP.

The film is brought to access units of one codec once (packets of a video that has it are taken as they are, all else
is encoded), and GStreamer's own server plays them from a process of the system's Python, where its bindings live.
Every client sees the film from its first frame, frame i at i/fps of the stream's time. At the end the stream ends;
who asks again sees it again, unless `loop` (it never ends) or `once` (the server ends with its first film). With
`live` it is as at a real camera: the film goes on unseen, and who comes has to wait for the next keyframe.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import TracebackType
from typing import IO, Any, Literal, Self

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from tqdm import tqdm

from walt_edge.camera import Camera, CameraError, Frame
from walt_edge.capture.files import STILLS_FPS, FolderCamera, VideoCamera
from walt_edge.contract.errors import WaltError

Codec = Literal["h264", "h265", "mjpeg"]
# What turns a container's packets into access units. MJPEG is not among them: RTP carries few of its kinds.
_UNITS_OF: dict[Codec, str] = {"h264": "h264_mp4toannexb", "h265": "hevc_mp4toannexb"}
SYSTEM_PYTHON = "/usr/bin/python3"
PACKAGES = "gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
START_S = 15.0
CLOCK_HZ = 90_000  # RTP's clock for video
_FASTEST = {"crf": "18", "preset": "veryfast", "tune": "zerolatency", "bf": "0"}
# Of each codec the encoder, its pixels and its options: nothing reordered, so that each picture can be sent at once.
_ENCODERS = {
    "h264": ("libx264", "yuv420p", _FASTEST),
    "h265": ("libx265", "yuv420p", _FASTEST | {"preset": "ultrafast", "x265-params": "log-level=none:pools=1"}),
    "mjpeg": ("mjpeg", "yuvj420p", {"huffman": "default", "q": "4"}),  # RTP carries no tables of its own
}
_SCRIPT = Path(__file__).with_name("rtsp_server_gst.py")
_log = logging.getLogger(__name__)

Index = list[tuple[int, int]]
"""Of each access unit in decoding order: presentation time since the film's first frame in ticks, size in bytes."""


class RtspServerError(WaltError):
    """The camera server cannot play; the text says why and what to do."""


class RtspServer:
    """Plays `source` until stopped; a context manager. Ends with this process, however that ends.

    Args:
        source: A video file, or a folder of stills.
        port: TCP port; 0 takes a free one.
        path: Where the stream is, beginning with `/`.
        fps: Rate that replaces the video's own times; folders default to 10.
        loop: Begin again at the end without the client noticing; the stream's time goes on.
        once: End the server when its first film has been played to the end, so that clients are refused then.
        live: Play on whether or not anybody looks, in a loop: clients come in wherever the film is.
        codec: How the pictures are compressed.
        host: Address to listen on.

    Attributes:
        url: What to give to `open_camera`.
        pid: The server's process.

    Raises:
        CameraError: The source cannot be read.
        RtspServerError: GStreamer is missing, or the port is taken.
    """

    def __init__(
        self,
        source: str | Path,
        port: int = 0,
        path: str = "/street",
        *,
        fps: float | None = None,
        loop: bool = False,
        once: bool = False,
        live: bool = False,
        codec: Codec = "h264",
        host: str = "127.0.0.1",
    ) -> None:
        if not path.startswith("/"):
            raise RtspServerError(f"path '{path}' does not begin with /: write /{path}")
        with NamedTemporaryFile(prefix="walt-film-") as film:
            index, size_wh = _write_film(Path(source), film, fps, codec)
            film.flush()
            order: dict[str, Any] = {"film": film.name, "index": index, "codec": codec, "size_wh": size_wh}
            order |= {"loop": loop, "once": once, "live": live, "host": host, "port": port, "path": path}
            # The server holds the film open from here on; its name can go.
            self._child, self.port = _start(order)
        self.frames = len(index)
        self.pid = self._child.pid
        self.url = f"rtsp://{host}:{self.port}{path}"

    def running(self) -> bool:
        """Whether the server still plays."""
        return self._child.poll() is None

    def wait(self) -> int:
        """Waits until the server ends by itself (`once`) or is killed; returns its exit status."""
        return self._child.wait()

    def stop(self) -> None:
        """Ends the server; harmless when repeated."""
        if self._child.stdin is not None and not self._child.stdin.closed:
            self._child.stdin.close()
        try:
            self._child.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _write_film(source: Path, film: IO[bytes], fps: float | None, codec: Codec) -> tuple[Index, tuple[int, int]]:
    """Writes the access units of a video or folder one after another; returns their index and the pictures' size."""
    if source.is_dir():
        return _encoded(FolderCamera(source, fps=fps or STILLS_FPS), film, codec)
    if not source.is_file():
        raise CameraError(f"{source} does not exist: give a video file or a folder of frames")
    if fps is None and codec in _UNITS_OF and _codec_of(source) == codec:
        return _copied(source, film, codec)
    return _encoded(VideoCamera(source, fps=fps), film, codec)


def _codec_of(source: Path) -> str:
    """A video's codec, by this module's name of it; empty if it cannot be read, which reading it again reports."""
    try:
        with av.open(str(source)) as container:
            name = container.streams.video[0].codec_context.name if container.streams.video else ""
    except av.FFmpegError:
        return ""
    return "h265" if name == "hevc" else name


def _copied(source: Path, film: IO[bytes], codec: Codec) -> tuple[Index, tuple[int, int]]:
    """Takes a video's packets as they are."""
    index: Index = []
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        size_wh = (stream.width, stream.height)
        as_units = av.BitStreamFilterContext(_UNITS_OF[codec], stream)
        for packet in container.demux(stream):
            for unit in as_units.filter(packet if packet.size else None):
                if unit.pts is not None and unit.time_base is not None:
                    index.append((round(unit.pts * unit.time_base * CLOCK_HZ), film.write(bytes(unit))))
    if not index:
        raise CameraError(f"{source} holds no frame with a time: convert it to MP4")
    first = min(ticks for ticks, _ in index)
    return [(ticks - first, size) for ticks, size in index], size_wh


def _encoded(camera: Camera, film: IO[bytes], codec: Codec) -> tuple[Index, tuple[int, int]]:
    """Encodes frames so that each can be sent at once: no reordering, a keyframe a second."""
    index: Index = []
    with camera:
        width, height = camera.resolution_wh[0] & ~1, camera.resolution_wh[1] & ~1
        encoder = _encoder(codec, width, height, camera.fps)
        for frame in tqdm(_frames(camera), desc="encoding the film", unit="frame", disable=None, leave=False):
            picture = VideoFrame.from_ndarray(np.ascontiguousarray(frame.bgr[:height, :width]), format="bgr24")
            picture.pts, picture.time_base = round(frame.captured.media_time_s * CLOCK_HZ), encoder.time_base
            for packet in encoder.encode(picture):
                index.append((packet.pts or 0, film.write(bytes(packet))))
        index += [(packet.pts or 0, film.write(bytes(packet))) for packet in encoder.encode(None)]
    return index, (width, height)


def _frames(camera: Camera) -> Iterator[Frame]:
    while (frame := camera.read(timeout_s=0)) is not None:
        yield frame


def _encoder(codec: Codec, width: int, height: int, fps: float) -> VideoCodecContext:
    name, pixels, options = _ENCODERS[codec]
    encoder = av.CodecContext.create(name, "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = width, height, pixels
    encoder.time_base = Fraction(1, CLOCK_HZ)
    encoder.gop_size = max(1, round(fps or STILLS_FPS))  # a keyframe a second
    encoder.options = options
    return encoder


def _start(order: dict[str, Any]) -> tuple[subprocess.Popen[str], int]:
    """Starts the server's process and waits until it plays; returns it and its port."""
    try:
        child = subprocess.Popen(
            [SYSTEM_PYTHON, str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(),
        )
    except OSError as error:
        raise RtspServerError(f"no {SYSTEM_PYTHON} for the camera server: apt-get install {PACKAGES}") from error
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(json.dumps(order) + "\n")
        child.stdin.flush()
        answer = json.loads(child.stdout.readline() or '{"error": "its process died"}')
        if "error" in answer:
            raise RtspServerError(_explained(answer["error"]))
        _await_description(order["host"], answer["port"], order["path"])
    except BaseException:
        child.kill()
        child.communicate()
        raise
    return child, answer["port"]


def _environment() -> dict[str, str]:
    """The system's Python must not see this environment's packages."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def _explained(error: str) -> str:
    if error.startswith("missing"):
        return f"the camera server needs GStreamer ({error}): apt-get install --no-install-recommends {PACKAGES}"
    if error.startswith("cannot listen"):
        return f"{error}: it is taken or not allowed, choose another port (0 takes a free one)"
    return f"the camera server failed: {error}"


def _await_description(host: str, port: int, path: str) -> None:
    """Waits until the server describes its stream, so that the first client is never refused."""
    request = f"DESCRIBE rtsp://{host}:{port}{path} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n"
    deadline = time.monotonic() + START_S
    reply = b""
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((host, port), timeout=START_S) as connection:
                connection.sendall(request.encode())
                reply = connection.recv(4096)
        except OSError as error:
            _log.debug("the camera server does not answer yet: %s", error)
            continue
        if reply.startswith(b"RTSP/1.0 200"):
            return
        break
    status = reply.split(b"\r\n")[0].decode(errors="replace") or "nothing"
    raise RtspServerError(
        f"the camera server on {host}:{port} answered '{status}': play another file, or convert it to MP4"
    )
