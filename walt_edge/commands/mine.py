"""`walt-edge mine`: the mining of `walt-edge run` on a recording, into a folder of clip art."""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from walt_edge.camera import Camera, Frame, open_camera
from walt_edge.clip_folder import write_images
from walt_edge.contract.clipart import Clip, ClipArt, Plate, write_clipart
from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.topics import check_name
from walt_edge.overview import Overview
from walt_edge.privacy.anonymiser import Anonymiser
from walt_edge.privacy.faces import find_faces
from walt_edge.runtimes import Teacher
from walt_edge.watching.watcher import Watcher

_READ_TIMEOUT_S = 30.0
_PREPARE_S = 120.0


class NothingMinedError(WaltError):
    """The recording gave no clip art."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add = parser.add_argument
    add("--input", required=True, metavar="VIDEO_OR_FOLDER", help="a video file, or a folder of frames in order")
    add("--out", required=True, type=Path, metavar="DIR", help="folder for clipart.json, its images and overview.jpg")
    add("--detector", type=Path, metavar="FILE", help="an ONNX model with COCO classes as a teacher")
    add("--start-frame", type=int, default=0, metavar="A", help="leave out the first A frames (%(default)s)")
    add("--frames", type=int, metavar="N", help="mine N frames (default: to the end)")
    add("--camera", metavar="NAME", help="the camera's name (default: from the input's name)")
    add("--fps", type=float, metavar="F", help="frames a second, where the input does not say or is wrong")


def run(args: argparse.Namespace) -> int:
    """Mines and writes; prints one line at the end."""
    if args.start_frame < 0 or (args.frames is not None and args.frames < 1):
        raise UsageError("--start-frame counts from 0 and --frames from 1")
    camera = check_name(args.camera, "camera") if args.camera else _name_of(args.input)
    detector = _detector(args.detector)
    watcher = Watcher(
        site="local", device="mine", camera=camera, anonymiser=Anonymiser(find_faces()), detector=detector
    )
    overview = Overview()
    sealed = list(watcher.prepare(_first(_frames(args, "learning the background"))))
    count, frame_wh = 0, (0, 0)
    for frame in _frames(args, "mining"):
        step = watcher.step(frame)
        sealed += step.sealed
        if step.image is not None:
            overview.offer(step.image, step.sightings)
        count, frame_wh = count + 1, (frame.bgr.shape[1], frame.bgr.shape[0])
    for step in watcher.drain():
        if step.image is not None:
            overview.offer(step.image, step.sightings)
    sealed += watcher.finish()
    _check_any(args, watcher, count)
    clips, plates = write_images(args.out, sealed)
    rejected = {str(reason): number for reason, number in watcher.rejected_by_reason.most_common()}
    clipart = ClipArt(
        camera=camera,
        frame_wh=frame_wh,
        plates=plates,
        clips=clips,
        rejected_by_reason=rejected,
        static=watcher.judge.occluders.things(),
    )
    path = write_clipart(args.out, clipart)
    overview.write(args.out / "overview.jpg", sealed, rejected)
    print(_summary(path, watcher, clips, plates, count))  # noqa: T201 - the command's answer
    return 0


def _frames(args: argparse.Namespace, what: str) -> Iterator[Frame]:
    """The frames asked for, in order, with a progress bar."""
    with open_camera(args.input, fps=args.fps) as camera:
        frames = itertools.islice(_all(camera), args.start_frame, _end(args))
        yield from tqdm(frames, desc=what, unit=" frames", total=args.frames, disable=not sys.stderr.isatty())


def _all(camera: Camera) -> Iterator[Frame]:
    while (frame := camera.read(_READ_TIMEOUT_S)) is not None:
        yield frame


def _end(args: argparse.Namespace) -> int | None:
    return None if args.frames is None else args.start_frame + args.frames


def _first(frames: Iterator[Frame]) -> Iterator[Frame]:
    """The first minutes: light drifts, and a plate of the whole day would be a plate of none of it."""
    began_s: float | None = None
    for frame in frames:
        began_s = frame.captured.media_time_s if began_s is None else began_s
        if frame.captured.media_time_s - began_s > _PREPARE_S:
            return
        yield frame


def _detector(path: Path | None) -> Teacher | None:
    if path is None:
        return None
    from walt_edge.runtimes.onnx_detector import OnnxDetector  # only where asked for: an extra

    return OnnxDetector(path)


def _name_of(source: str) -> str:
    path = Path(source).resolve()
    parent = path.parent.name if path.name.lower() in ("frames", "images") else ""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", parent or path.stem).strip("-_")[:64]
    return name or "camera"


def _check_any(args: argparse.Namespace, watcher: Watcher, count: int) -> None:
    if count == 0:
        raise NothingMinedError(f"{args.input} has no frame from {args.start_frame} on: lower --start-frame")
    if watcher.objects_seen == 0:
        raise NothingMinedError(
            f"nothing moved in {count} frames of {args.input}: mining needs a recording in which objects pass; "
            "for stills that lie far apart there is nothing to track"
        )
    if watcher.crops_chosen == 0:
        why = ", ".join(f"{reason} {number}" for reason, number in watcher.rejected_by_reason.most_common(4))
        raise NothingMinedError(
            f"{watcher.objects_seen} objects moved in {count} frames of {args.input}, none was seen whole ({why}): "
            "give a longer recording, a nearer view or a higher resolution"
        )


def _summary(path: Path, watcher: Watcher, clips: list[Clip], plates: list[Plate], count: int) -> str:
    tracks = len({clip.header.track_id for clip in clips})
    return (
        f"{len(clips)} clips of {tracks} objects, {len(plates)} plates, from {count} frames with "
        f"{watcher.objects_seen} objects: {path}"
    )
