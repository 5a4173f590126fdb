"""`walt-edge` before a camera that plays a film over and over; at each turn it writes down what memory it holds.

Frames come as fast as they are watched, each dated by the film's own time: an hour passes in minutes, and a busy
machine changes nothing of what is watched. What the kernel says of a process hides a leak for minutes, as long as the
allocator has freed memory left to give out, and shows one where it only asks for another block. What is held is told
by the allocator itself (glibc's); with `PYTHONMALLOC=malloc` Python's own objects are among it.

    FILM=FILE HELD=FILE PYTHONMALLOC=malloc python -m tests.held_agent run --rtsp rtsp://127.0.0.1/ ...
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np

from tests.short_agent import make_quick
from walt_edge.agent.core import Agent
from walt_edge.agent.gating import LookBudget
from walt_edge.camera import Camera, CameraStats, Frame, open_camera
from walt_edge.capture.clock import boot_id
from walt_edge.cli import main
from walt_edge.contract.closing import Closing
from walt_edge.contract.messages import Clock, Moment
from walt_edge.settings.tree import CameraConfig
from walt_edge.watching.watcher import Watcher

FPS = 5.0
FRAMES_A_LOOK = 5
_FIELDS = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class _Mallinfo(ctypes.Structure):
    """mallinfo2(3)."""

    _fields_ = [(name, ctypes.c_size_t) for name in _FIELDS.split()]


def held_bytes() -> int:
    """Of the process, mapped blocks included, without what is garbage."""
    gc.collect()
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = _Mallinfo
    info = ask()
    return int(info.uordblks + info.hblkhd)


class TurningCamera(Closing):
    """Plays a film in a loop, at `FPS` by its own clock; at each turn a line of `HELD` tells what is held."""

    def __init__(self, film: Path, held: Path) -> None:
        with open_camera(str(film)) as camera:
            self._film = np.stack([frame.bgr for frame in iter(lambda: camera.read(1), None)])
        self._film.flags.writeable = False
        self._held = held.open("w", buffering=1)
        self._began = (time.monotonic_ns(), time.time_ns() // 1000)
        self.resolution_wh = (self._film.shape[2], self._film.shape[1])
        self.fps = FPS
        self.stats = CameraStats()

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame, at once."""
        index = self.stats.frames_received
        if index % len(self._film) == 0:
            self._held.write(f"{index / FPS / 60} {held_bytes() / 2**20}\n")
        self.stats.frames_received += 1
        time_s = index / FPS
        moment = Moment(
            utc_us=self._began[1] + round(time_s * 1e6),
            boot_id=boot_id(),
            monotonic_ns=self._began[0] + round(time_s * 1e9),
            clock=Clock.SYNCHRONISED,
            media_time_s=time_s,
        )
        return Frame(self._film[index % len(self._film)], index, moment)

    def close(self) -> None:
        """Ends the list."""
        self._held.close()


def _looks() -> Callable[..., bool]:
    """Whether the model looks, by the count of frames: a budget of time would go by the machine."""
    frames = itertools.count()
    return lambda *_, **__: next(frames) % FRAMES_A_LOOK == 0


def _open_camera(self: Agent, camera: CameraConfig) -> Camera:
    return TurningCamera(Path(os.environ["FILM"]), Path(os.environ["HELD"]))


if __name__ == "__main__":
    with (
        mock.patch.object(Watcher, "__init__", make_quick),
        mock.patch.object(Agent, "_open_camera", _open_camera),
        mock.patch.object(LookBudget, "wants", _looks()),
    ):
        main()
