"""What watches: cameras, and the models that find faces and people."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from walt_edge.camera import Camera, CameraError, CameraTimeout, open_camera
from walt_edge.contract.errors import WaltError
from walt_edge.doctor import Check, Finding, fail, ok, told, warn
from walt_edge.doctor.folder import agent_pid
from walt_edge.privacy.faces import find_faces
from walt_edge.settings.tree import AgentConfig, CameraConfig
from walt_edge.vision.drift import spread_px
from walt_edge.vision.plate import Image
from walt_edge.vision.settings import WatchSettings

_FIRST_FRAME_S: Final = 10.0
_WATCH_S: Final = 3.0
_FRAMES_MAX: Final = 16
_SIDE_MIN_PX: Final = 240
_FPS_MIN: Final = 3.0


@dataclass(frozen=True, slots=True)
class _Seen:
    """A few seconds of a camera."""

    resolution_wh: tuple[int, int]
    fps: float
    first_s: float
    shift_px: float
    codec: str


def check_cameras(config: AgentConfig) -> Iterator[Finding]:
    """Each camera: does it send, what, and does it stand still."""
    if not config.cameras:
        yield fail("camera", "none is configured", "give --rtsp URL, or cameras in the --config file")
    for camera in config.cameras:
        yield _camera(camera, beside_agent=agent_pid(config.home) is not None)


def check_faces(config: AgentConfig) -> Iterator[Finding]:
    """The face detector, beside what geometry hides."""
    chosen = config.privacy.faces
    if chosen == "off":
        yield ok("faces", "heads are hidden by geometry alone, as configured")
        return
    try:
        found = find_faces(chosen if isinstance(chosen, Path) else None)
    except WaltError as error:
        yield told("faces", error)
        return
    if found is not None:
        yield ok("faces", f"{found.name}, and heads by geometry")
    elif isinstance(chosen, Path):
        yield fail(
            "faces", f"no face detector in {chosen}", "walt-edge models pull centerface, or privacy.faces auto"
        )
    else:
        yield warn(
            "faces", "no face detector: heads are hidden by geometry alone", "walt-edge models pull centerface"
        )


def check_model(config: AgentConfig) -> Iterator[Finding]:
    """The bundle and the teacher that are named."""
    from walt_edge.contract.bundle import Bundle
    from walt_edge.packaged import named_model

    chosen = config.inference.model
    if chosen == "none":
        yield ok("model", "what home publishes" if config.updates.url else "none: motion alone watches")
    else:
        try:
            path = named_model(chosen)
            bundle = Bundle.read(path)
            yield ok("model", f"{path.name}, {bundle.manifest.precision}, input {bundle.manifest.size_wh}")
        except WaltError as error:
            yield told("model", error)
    detector = config.privacy.detector
    if detector is not None and not detector.is_file():
        yield fail("detector", f"{detector} is missing", "give an ONNX model with COCO boxes, or leave it out")


CHECKS: Final[tuple[Check, ...]] = (check_cameras, check_faces, check_model)


def _camera(camera: CameraConfig, *, beside_agent: bool) -> Finding:
    name = f"camera {camera.name}" if camera.name else "camera"
    try:
        seen = _watch(camera)
    except CameraError as error:
        if beside_agent:
            return warn(name, str(error), "the running agent holds a connection, and some cameras give out only one")
        return told(name, error)
    width, height = seen.resolution_wh
    text = f"{width}x{height} {seen.codec} at {seen.fps:.1f} fps, first frame after {seen.first_s:.1f} s"
    limit = WatchSettings().drift_px
    if seen.shift_px > limit:
        return warn(
            name, f"{text}, moves by {seen.shift_px:.0f} px", "fix it to its mount; turn off pan and stabilisation"
        )
    if min(width, height) < _SIDE_MIN_PX:
        return warn(name, text, "people are too small to be told apart: choose a stream of 640x360 or more")
    if camera.is_live and seen.fps < _FPS_MIN:
        return warn(name, text, "tracks are lost below 3 fps: choose another stream, or raise its rate")
    return ok(name, f"{text}, stands still")


def _watch(camera: CameraConfig) -> _Seen:
    url = camera.url.get_secret_value()
    began = time.monotonic()
    with open_camera(
        url, fps=camera.fps, transport=camera.transport, stall_s=camera.stall_s, hardware=camera.hwaccel
    ) as opened:
        frames = [_first(opened)]
        first_s = time.monotonic() - began
        received = opened.stats.frames_received
        until = time.monotonic() + _WATCH_S
        while len(frames) < _FRAMES_MAX and (left_s := until - time.monotonic()) > 0:
            try:
                frame = opened.read(left_s) if camera.is_live else opened.read(_FIRST_FRAME_S)
            except CameraTimeout:
                break  # The time is up in the middle of a wait: what came until then is judged.
            if frame is None:
                break
            frames.append(frame.bgr)
        took_s = time.monotonic() - began - first_s
        measured = (opened.stats.frames_received - received) / took_s if took_s > 0 else 0.0
        return _Seen(
            resolution_wh=opened.resolution_wh,
            fps=measured if camera.is_live else opened.fps,
            first_s=first_s,
            shift_px=spread_px(frames),
            codec=_codec(url, camera.transport),
        )


def _first(camera: Camera) -> Image:
    frame = camera.read(_FIRST_FRAME_S)
    if frame is None:
        raise CameraError("it holds no frame: give another recording")
    return frame.bgr


def _codec(url: str, transport: str) -> str:
    """What the pictures are packed in; "" where a second look at the source fails."""
    import av

    av.logging.set_level(av.logging.PANIC)  # its lines may hold the URL
    options = {"rtsp_transport": transport} if "://" in url else {}
    with contextlib.suppress(av.FFmpegError, OSError), av.open(url, options=options, timeout=(5.0, 5.0)) as container:
        if container.streams.video:
            return str(container.streams.video[0].codec_context.name)
    return "pictures"
