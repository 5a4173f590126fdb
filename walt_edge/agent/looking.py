"""One model for several cameras: frames that wait at the same time are looked at together, where that is faster."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from walt_edge.update.holder import Look

MOST_TOGETHER = 8
"""Frames in one batch: beyond this the memory grows and the time for each hardly shrinks."""


class Models(Protocol):
    """What looks: `walt_edge.update.holder.ModelHolder`."""

    @property
    def most_pictures(self) -> int:
        """How many frames the current model is best given together; 0 for any number."""

    def look_many(self, images_bgr: Sequence[NDArray[np.uint8]], /) -> list[Look] | None:
        """What the current model makes of frames; None without a model. Never raises."""


@dataclass(slots=True, eq=False)
class _Request:
    bgr: NDArray[np.uint8]
    look: Look | None = None
    is_answered: bool = False


class Looker:
    """Shared by the threads of all cameras. It has no thread of its own: whoever comes first looks for all that wait.

    A camera that is dead asks nothing and delays nobody; one that is slow waits for one batch at most.

    Args:
        models: What looks.
        most: Frames in one batch.
    """

    def __init__(self, models: Models, most: int = MOST_TOGETHER) -> None:
        self._models = models
        self._most = most
        self._turn = threading.Lock()
        self._waiting: deque[_Request] = deque()

    def look(self, bgr: NDArray[np.uint8]) -> Look | None:
        """What the model makes of a frame; None without a model. Never raises.

        Args:
            bgr: (H, W, 3) uint8.
        """
        request = _Request(bgr)
        self._waiting.append(request)
        while not request.is_answered:
            with self._turn:
                if not request.is_answered:
                    self._answer()
        return request.look

    def _answer(self) -> None:
        """Looks at the oldest that wait; called by one thread at a time."""
        # Where each frame takes its own time anyway, the second would only keep the first waiting.
        most = min(self._most, self._models.most_pictures or self._most)
        batch = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        looks = self._models.look_many([request.bgr for request in batch])
        for index, request in enumerate(batch):
            request.look = looks[index] if looks is not None else None
            request.is_answered = True
