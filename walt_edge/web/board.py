"""The newest frame of every camera, for whoever looks; while nobody does, lanes hand nothing over."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Final

from walt_edge.web.status import LiveFrame

WATCHED_S: Final = 5.0


class LiveBoard:
    """Between lanes, which show, and the page, which looks; any thread may call anything.

    A lane asks `is_watched` for every frame and makes a `LiveFrame` only then, so that a view that nobody has open
    costs one comparison a frame.

    Args:
        cameras: Their names; of others nothing is taken and nothing told.
        watched_s: A camera counts as watched for so long after somebody looked.
    """

    def __init__(self, cameras: Iterable[str], watched_s: float = WATCHED_S) -> None:
        self._watched_s = watched_s
        self._lock = threading.Lock()
        self._frames: dict[str, LiveFrame] = {}
        self._looked_s = dict.fromkeys(cameras, float("-inf"))

    @property
    def cameras(self) -> tuple[str, ...]:
        """Their names, in the order given."""
        return tuple(self._looked_s)

    def is_watched(self, camera: str) -> bool:
        """Whether somebody looked lately."""
        return time.monotonic() - self._looked_s.get(camera, float("-inf")) < self._watched_s

    def show(self, frame: LiveFrame) -> None:
        """Takes a camera's newest frame; dropped if nobody watches."""
        if self.is_watched(frame.camera):
            with self._lock:
                self._frames[frame.camera] = frame

    def clear(self, camera: str) -> None:
        """Forgets a camera's frame."""
        with self._lock:
            self._frames.pop(camera, None)

    def live(self, camera: str) -> LiveFrame | None:
        """The newest frame; from now on the camera is watched. What an earlier viewer left behind is not shown."""
        if camera not in self._looked_s:
            return None
        with self._lock:
            if not self.is_watched(camera):
                self._frames.pop(camera, None)
            self._looked_s[camera] = time.monotonic()
            return self._frames.get(camera)
