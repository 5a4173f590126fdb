"""What the agent and the decoder's process say to each other, and the memory that the pixels pass through.

Strictly question and answer over a socket that keeps message boundaries. The decoder writes into the shared memory
only between a question and its answer, and the agent reads only between the answer and its next question, so there
is one slot, no lock, and no torn picture. The memory has no name (memfd): it is gone with its last user.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
from typing import TYPE_CHECKING, TypeVar

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_MESSAGE_BYTES = 64 * 1024
PAUSE_FIRST_S = 0.1  # between attempts, of the decoder and for another decoder: they double ...
PAUSE_MOST_S = 2.0  # ... up to this
SOFTWARE = "software"  # what decodes where no device does
LEAVE = signal.SIGUSR1  # asks a decoder's process to say goodbye to the camera and end
_Message = TypeVar("_Message", bound=msgspec.Struct)


class Order(msgspec.Struct, frozen=True):
    """The first message to a decoder. The URL travels here and not in its arguments, where anybody could read it.

    Attributes:
        url: The camera, password included.
        transport: `tcp` or `udp`.
        open_s: How long connecting may take.
        stall_s: How long no picture may come.
        hardware: What shall decode: `auto`, `off`, or a device.
        history: Where the decoder before this one had come.
    """

    url: str
    transport: str
    open_s: float
    stall_s: float
    hardware: str
    history: History


class History(msgspec.Struct, frozen=True):
    """How far a camera has been watched, so that a new decoder goes on counting.

    Attributes:
        received: Frames delivered.
        sessions: Connections that delivered a frame.
        stalls: Connections that were given up because no picture came.
        media_time_s: Of the last frame.
        arrived_ns: Monotonic time of the last frame; 0 before the first.
    """

    received: int = 0
    sessions: int = 0
    stalls: int = 0
    media_time_s: float = 0.0
    arrived_ns: int = 0


class Question(msgspec.Struct, frozen=True):
    """Asks for the newest frame; the next one is asked only after the answer.

    Attributes:
        after: Count of received frames that is known already; the answer waits for more.
        timeout_s: How long it waits.
        peek: Answer without the pixels, and at once when connecting has failed.
    """

    after: int
    timeout_s: float
    peek: bool


class Answer(msgspec.Struct, frozen=True):
    """The newest frame's facts; its pixels are in the shared memory.

    Attributes:
        fresh: Whether there was a frame newer than the question's `after`.
        resolution_wh: Of the frame; (0, 0) before the first.
        fps: As declared or measured; 0 if unknown.
        history: Up to this frame.
        working: False if the decoding thread has not moved for longer than any time limit allows.
        problem: Why the last connection failed: `unreachable`, `refused`, `stalled` or `ended` and a text; both empty
            while frames come.
        device: What decodes: `software`, or a device's name.
        notice: Why it is not the device that was wished for, or "".
    """

    fresh: bool
    resolution_wh: tuple[int, int]
    fps: float
    history: History
    working: bool
    problem: tuple[str, str]
    device: str
    notice: str


def send(connection: socket.socket, message: msgspec.Struct) -> None:
    """Sends one message; raises OSError if the other side is gone or does not take it."""
    connection.send(msgspec.msgpack.encode(message))


def receive(connection: socket.socket, kind: type[_Message]) -> _Message:
    """Receives one message; raises EOFError if the other side is gone, TimeoutError if nothing comes."""
    data = connection.recv(MAX_MESSAGE_BYTES)
    if not data:
        raise EOFError
    return msgspec.msgpack.decode(data, type=kind)


class Slot:
    """One picture's place in anonymous shared memory; grows with the picture.

    Args:
        descriptor: The memory's file descriptor; not closed by this class.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._map: mmap.mmap | None = None

    def write(self, lines: memoryview, line_nbytes: int, resolution_wh: tuple[int, int]) -> None:
        """Puts a picture into the slot.

        Args:
            lines: (H, line_nbytes) bytes: lines of W blue, green and red bytes, each padded to `line_nbytes`.
            line_nbytes: From the beginning of a line to that of the next.
            resolution_wh: Of the picture.
        """
        width, height = resolution_wh
        count, used = width * height * 3, width * 3
        if os.fstat(self._descriptor).st_size < count:
            os.ftruncate(self._descriptor, count)
        with memoryview(self._mapped(count)) as view:
            if line_nbytes == used:
                view[:count] = lines[:count]
                return
            for row in range(height):
                view[row * used : (row + 1) * used] = lines[row * line_nbytes : row * line_nbytes + used]

    def read(self, resolution_wh: tuple[int, int]) -> NDArray[np.uint8]:
        """A read-only copy of the picture in the slot."""
        import numpy as np  # the decoder's process does without

        width, height = resolution_wh
        count = width * height * 3
        view = np.frombuffer(self._mapped(count), dtype=np.uint8, count=count)
        bgr = view.reshape(height, width, 3).copy()
        bgr.flags.writeable = False
        return bgr

    def close(self) -> None:
        """Gives the mapping back; the memory itself belongs to the descriptor."""
        if self._map is not None:
            self._map.close()
            self._map = None

    def _mapped(self, nbytes: int) -> mmap.mmap:
        if self._map is None or len(self._map) < nbytes:
            self.close()
            self._map = mmap.mmap(self._descriptor, os.fstat(self._descriptor).st_size)
        return self._map
