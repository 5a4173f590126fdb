"""Images of strangers, decoded by a process that can do nothing else.

Decoders of pictures are where hostile bytes become hostile code. `ConfinedDecoder` hands an image to a child that may
only read its orders and write pixels: the kernel kills it for any other call (seccomp), it has little memory and no
time to spare, and what comes back is checked to be as many pixels as the image's header promised.
"""

from __future__ import annotations

import os
import selectors
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.closing import Closing
from walt_edge.contract.errors import WaltError

MAX_PIXELS: Final = 64_000_000
MAX_BYTES: Final = 4 * MAX_PIXELS
ORDER: Final = struct.Struct("!III")
ANSWER: Final = struct.Struct("!B")
DONE, NO_IMAGE, READY = 0, 1, 2
# What the child's libraries come with is most of it.
MEMORY_BYTES: Final = 3 * 1024**3
_START_S = 60.0
_CHUNK = 1 << 20


class DecodingError(WaltError):
    """An image cannot be decoded, or not safely."""


class NoDecoderError(WaltError):
    """No image can be decoded safely on this machine."""


class ConfinedDecoder(Closing):
    """A child process that decodes; ended and begun anew when an image harms it.

    Args:
        image_s: An image may take so long, seconds.
    """

    def __init__(self, image_s: float = 10.0) -> None:
        self._image_s = image_s
        self._child: subprocess.Popen[bytes] | None = None

    def decode(self, data: bytes, size_wh: tuple[int, int]) -> NDArray[np.uint8]:
        """Decodes a JPEG or PNG; (H, W, 3) BGR.

        Args:
            data: The image's bytes.
            size_wh: What its header promised, pixels.

        Raises:
            DecodingError: It is no image, of another size, or its decoder crashed, hung or tried something else.
            NoDecoderError: This machine cannot confine a decoder.
        """
        width, height = size_wh
        if min(size_wh) < 1 or width * height > MAX_PIXELS:
            raise DecodingError(f"an image of {width}x{height} is not within 1 to {MAX_PIXELS} pixels")
        if len(data) > MAX_BYTES:
            raise DecodingError(f"an image of {len(data)} bytes is above the limit of {MAX_BYTES}")
        child = self._child or self._start()
        deadline_s = time.monotonic() + self._image_s
        try:
            _write(child, ORDER.pack(len(data), width, height) + data, deadline_s)
            (state,) = ANSWER.unpack(_read(child, ANSWER.size, deadline_s))
            if state == NO_IMAGE:
                raise DecodingError(f"it is no image of {width}x{height}")
            pixels = np.frombuffer(_read(child, width * height * 3, deadline_s), dtype=np.uint8)
        except (OSError, EOFError, TimeoutError) as error:
            raise DecodingError(f"its decoder {self._end()}: the image is hostile or damaged") from error
        return pixels.reshape(height, width, 3)

    def close(self) -> None:
        """Ends the child."""
        if self._child is not None:
            self._end()

    def _start(self) -> subprocess.Popen[bytes]:
        root = Path(__file__).resolve().parent.parent
        child = subprocess.Popen(
            [sys.executable, "-m", "walt_train.decoding_child", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # What decoders mutter about hostile images would fill the log.
            stderr=subprocess.DEVNULL,
            # Nothing of ours, and one thread: more are a call that is forbidden.
            env={"PYTHONPATH": str(root), "OPENBLAS_NUM_THREADS": "1", "OPENCV_IO_MAX_IMAGE_PIXELS": str(MAX_PIXELS)},
        )
        self._child = child
        for pipe in (_pipe(child.stdin), _pipe(child.stdout)):
            os.set_blocking(pipe.fileno(), False)
        try:
            (state,) = ANSWER.unpack(_read(child, ANSWER.size, time.monotonic() + _START_S))
        except (OSError, EOFError, TimeoutError) as error:
            how = self._end()
            raise NoDecoderError(f"images cannot be decoded safely here, the decoder {how}: allow seccomp") from error
        if state != READY:
            raise NoDecoderError(f"the decoder {self._end()} before it was ready")
        return child

    def _end(self) -> str:
        """Ends the child; returns how it ended."""
        child, self._child = self._child, None
        if child is None:
            return "was not there"
        # A child that has closed its end is about to end by itself: how, tells what the image did.
        try:
            status: int | None = child.wait(0.2)
        except subprocess.TimeoutExpired:
            status = None
            child.kill()
            child.wait()
        for pipe in (child.stdin, child.stdout):
            _pipe(pipe).close()
        if status is None:
            return f"did not end within {self._image_s:g} s"
        return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"


def _write(child: subprocess.Popen[bytes], data: bytes, deadline_s: float) -> None:
    pipe, view = _pipe(child.stdin).fileno(), memoryview(data)
    while view:
        _wait(pipe, selectors.EVENT_WRITE, deadline_s)
        view = view[os.write(pipe, view[:_CHUNK]) :]


def _read(child: subprocess.Popen[bytes], size: int, deadline_s: float) -> bytes:
    pipe, found = _pipe(child.stdout).fileno(), bytearray()
    while len(found) < size:
        _wait(pipe, selectors.EVENT_READ, deadline_s)
        part = os.read(pipe, min(_CHUNK, size - len(found)))
        if not part:
            raise EOFError
        found += part
    return bytes(found)


def _wait(pipe: int, event: int, deadline_s: float) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, event)
        if not selector.select(max(0.0, deadline_s - time.monotonic())):
            raise TimeoutError


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
