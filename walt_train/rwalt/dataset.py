"""Renders a street's frames on several processes and writes them as a COCO data set and as a video.

A frame is a pure function of (street, number): worker k of n makes the frames k, k + n, k + 2n ... and the parent
takes them in turn, so that the order, the bytes and the content hash are the same for every number of workers. A
pipe holds a few frames, which bounds what is in flight.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.errors import WaltError
from walt_train.rwalt.annotate import annotation_records, camera_record, categories, image_record, static_record
from walt_train.rwalt.renderer import Renderer
from walt_train.rwalt.street import VERSION, Street, StreetConfig
from walt_train.rwalt.video import VideoWriter

ANNOTATIONS = "annotations.json"
IMAGES = "images"
JPEG_QUALITY = 95
FORMATS = ("jpg", "png")


class OutputError(WaltError):
    """The data set cannot be written, or a render process ended before its work."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One rendered frame.

    Attributes:
        index: From 0.
        bgr: (H, W, 3) uint8.
        image: Its COCO `images` record.
        annotations: Its COCO `annotations` records, nearest first.
        static: The union of all static things, a COCO RLE object; the same in every frame.
    """

    index: int
    bgr: NDArray[np.uint8]
    image: dict[str, Any]
    annotations: list[dict[str, Any]]
    static: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Output:
    """Where frames go.

    Attributes:
        folder: Gets `annotations.json`, and `images/` unless `images` is None.
        images: `jpg`, `png`, or None for labels (and video) only.
        video: An MP4 file, or None.
    """

    folder: Path
    images: str | None = "jpg"
    video: Path | None = None


@dataclass(frozen=True, slots=True)
class _Rendered:
    """A frame as it comes from a worker: labels as JSON, pixels only where the parent needs them."""

    image: bytes
    annotations: list[bytes]
    static: bytes
    pixels_sha256: bytes
    bgr: NDArray[np.uint8] | None = field(repr=False)


def render(street: Street, frames: range | None = None, image_format: str = "jpg") -> Iterator[Frame]:
    """Renders frames in memory, in this process; by default all of the street's.

    Raises:
        RenderError: No OpenGL without a screen.
    """
    renderer = Renderer(street)
    try:
        for index in frames if frames is not None else range(street.config.frames):
            drawn = renderer.draw(index)
            yield Frame(
                index,
                drawn.bgr,
                image_record(street, index, f"{IMAGES}/{index + 1:06d}.{image_format}"),
                annotation_records(street, index, drawn),
                static_record(street, drawn),
            )
    finally:
        renderer.close()


def write_dataset(config: StreetConfig, output: Output, workers: int) -> Iterator[int]:
    """Renders and writes everything; yields the number of frames written so far.

    `annotations.json` and the video appear whole at the end, or not at all.

    Raises:
        OutputError: The folder cannot be written, or a worker ended.
        RenderError: No OpenGL without a screen.
    """
    street = Street(config)
    with ExitStack() as stack:
        labels = stack.enter_context(_LabelWriter(street, output))
        video = stack.enter_context(VideoWriter(output.video, config.size_wh, config.fps)) if output.video else None
        for index, frame in enumerate(_render_all(stack, street, output, workers)):
            labels.add(frame)
            if video is not None and frame.bgr is not None:
                video.add(frame.bgr)
            yield index + 1
        labels.finish()
        if video is not None:
            video.finish()


def _render_all(stack: ExitStack, street: Street, output: Output, workers: int) -> Iterator[_Rendered]:
    if workers <= 1:
        return _render_some(street, range(street.config.frames), output)
    return _Crew(stack, street, output, min(workers, street.config.frames)).frames()


def _render_some(street: Street, frames: range, output: Output) -> Iterator[_Rendered]:
    """Renders in this process; writes the images."""
    for frame in render(street, frames, output.images or "jpg"):
        if output.images is not None:
            _write_image(output.folder / frame.image["file_name"], frame.bgr)
        yield _Rendered(
            msgspec.json.encode(frame.image),
            [msgspec.json.encode(record) for record in frame.annotations],
            msgspec.json.encode(frame.static),
            hashlib.sha256(frame.bgr.tobytes()).digest(),
            frame.bgr if output.video is not None else None,
        )


def _write_image(path: Path, bgr: NDArray[np.uint8]) -> None:
    parameters = (
        [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if path.suffix == ".jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 1]
    )
    done, data = cv2.imencode(path.suffix, bgr, parameters)
    if not done:
        raise OutputError(f"cannot encode an image of shape {bgr.shape} as {path.suffix}")
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; free space or choose another --out") from error


class _Crew:
    """Worker processes, each with the simulated street and a pipe of its own; they end with the stack."""

    def __init__(self, stack: ExitStack, street: Street, output: Output, workers: int) -> None:
        self._frames = street.config.frames
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection[Any, Any]] = []
        for number in range(workers):
            receiver, sender = context.Pipe(duplex=False)
            share = range(number, street.config.frames, workers)
            process = context.Process(target=_work, args=(street, output, share, sender), daemon=True)
            _start_deaf(process)
            sender.close()
            stack.callback(_end, process, receiver)
            self._pipes.append(receiver)

    def frames(self) -> Iterator[_Rendered]:
        for index in range(self._frames):
            try:
                message = self._pipes[index % len(self._pipes)].recv()
            except EOFError as error:
                raise OutputError(
                    f"a render process ended at frame {index}: free memory or use fewer --workers"
                ) from error
            if isinstance(message, WaltError):
                raise message
            yield message


def _start_deaf(process: SpawnProcess) -> None:
    """Starts a worker with SIGINT blocked from its birth: Ctrl-C is the parent's to handle, even while it imports."""
    # Starting the first process starts multiprocessing's tracker too, which unblocks SIGINT on its way.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(process: SpawnProcess, receiver: Connection[Any, Any]) -> None:
    receiver.close()
    process.join(timeout=0.2)
    process.terminate()
    process.join()


def _work(street: Street, output: Output, share: range, sender: Connection[Any, Any]) -> None:
    """A worker's life. A closed pipe means that nobody wants more."""
    # One process a core already: threads of the software rasteriser would only contend.
    os.environ["LP_NUM_THREADS"] = "0"
    cv2.setNumThreads(1)
    try:
        for rendered in _render_some(street, share, output):
            sender.send(rendered)
    except WaltError as error:
        sender.send(error)
    except BrokenPipeError:
        return


class _LabelWriter:
    """Writes `annotations.json` as frames come, under another name until it is whole."""

    def __init__(self, street: Street, output: Output) -> None:
        self._street = street
        self._output = output
        self._path = output.folder / ANNOTATIONS
        self._partial = output.folder / f".{ANNOTATIONS}.partial"
        self._images: list[bytes] = []
        self._static = b"null"
        self._count = 0
        self._hash = hashlib.sha256()

    def __enter__(self) -> _LabelWriter:
        try:
            folder = self._output.folder if self._output.images is None else self._output.folder / IMAGES
            folder.mkdir(parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)
            self._file = self._partial.open("wb")
        except OSError as error:
            raise OutputError(
                f"cannot write to {self._output.folder}: {error.strerror}; choose another --out"
            ) from error
        self._file.write(b'{"annotations":[')
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def add(self, frame: _Rendered) -> None:
        """Appends a frame's labels."""
        for record in frame.annotations:
            self._write((b",\n" if self._count else b"\n") + record)
            self._count += 1
        self._images.append(frame.image)
        self._static = frame.static
        for part in (frame.pixels_sha256, frame.image, *frame.annotations):
            self._hash.update(part)

    def finish(self) -> None:
        """Completes the file and gives it its name."""
        tail = {
            "images": [msgspec.Raw(image) for image in self._images],
            "categories": categories(),
            "cameras": [camera_record(self._street)],
            "static_segmentation": msgspec.Raw(self._static),
            "info": self._info(),
        }
        self._write(b"\n]," + msgspec.json.encode(tail)[1:])
        self._file.flush()
        os.fsync(self._file.fileno())
        self._partial.replace(self._path)

    def _info(self) -> dict[str, Any]:
        config = self._street.config
        return {
            "description": "RWALT: a rendered street of a fixed camera with exact amodal layers",
            "rwalt_version": VERSION,
            "seed": config.seed,
            "preset": config.preset,
            "light": "dusk" if self._street.layout.light.dusk else "day",
            "fps": config.fps,
            "meshes": None if config.meshes is None else config.meshes.name,
            "content_sha256": self._hash.hexdigest(),
            **({} if config.shapes == "all" else {"shapes": config.shapes}),
        }

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise OutputError(
                f"cannot write {self._partial}: {error.strerror}; free space or choose another --out"
            ) from error
