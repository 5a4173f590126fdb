"""A network that knows things by their colour: as exact as the drawn scenes, and it answers to pictures alone."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.bundle import Bundle
from walt_edge.contract.labels import Label
from walt_edge.packaged import general_model
from walt_edge.runtimes.network import Candidates
from walt_train.mining.instances import InstanceTeacher

_SIDE = 28
_NEAR = 40


class ColourNetwork:
    """Finds the box around each colour; what has another colour in it hides it, and so does whatever makes it small.

    Args:
        things: Class by colour.
        areas: Of each colour when nothing hides it, pixels of the input; where none is given it may be as it is.
        score: Of everything.
    """

    def __init__(
        self,
        things: Mapping[tuple[int, int, int], Label],
        areas: Mapping[tuple[int, int, int], float] | None = None,
        score: float = 0.95,
    ) -> None:
        self._things, self._areas, self._score = things, areas or {}, score

    def __call__(self, image: NDArray[np.uint8]) -> Candidates:
        boxes, labels, maps = [], [], []
        for colour, label in self._things.items():
            own = (np.abs(image.astype(int) - colour).max(axis=2) < _NEAR).astype(np.uint8)
            own = cv2.morphologyEx(own, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
            x, y, width, height = cv2.boundingRect(own)
            if width * height < 400:
                continue
            boxes.append((x, y, x + width, y + height))
            labels.append(int(label))
            seen = cv2.resize(
                own[y : y + height, x : x + width].astype(np.float32), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA
            )
            nothing = np.zeros_like(seen)
            if colour not in self._areas:
                maps.append([np.ones_like(seen), seen < 0.5, nothing])
            elif own.sum() < 0.96 * self._areas[colour]:
                maps.append([np.ones_like(seen), np.maximum(seen < 0.5, np.eye(_SIDE)), nothing])
            else:
                maps.append([seen, nothing, nothing])
        return Candidates(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.full(len(boxes), self._score, np.float32),
            np.array(labels, np.int64),
            np.array(maps, np.float32).reshape(-1, 3, _SIDE, _SIDE),
        )


def colour_teacher(
    things: Mapping[tuple[int, int, int], Label], areas: Mapping[tuple[int, int, int], float] | None = None
) -> InstanceTeacher:
    """It in the place of the general weights' network."""
    return InstanceTeacher(Bundle.read(general_model()), ColourNetwork(things, areas))
