"""Frames of rectangles, small enough to compute by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_train.data.sample import AmodalObject, AmodalSample

SIZE_WH = (320, 200)
PERSON, VEHICLE = Label.PERSON, Label.VEHICLE

Box = tuple[int, int, int, int]


def rectangle(box: Box) -> PatchMask:
    x0, y0, x1, y1 = box
    return PatchMask(x0, y0, np.ones((y1 - y0, x1 - x0), bool))


def truth(
    *things: tuple[Label, Box], tracks: Sequence[int] = (), name: str = "0", static: Sequence[tuple[int, Box]] = ()
) -> AmodalSample:
    """Objects, nearest first; track ids are their places unless given."""
    ids = tracks or range(len(things))
    return AmodalSample(
        image_bgr=np.zeros((SIZE_WH[1], SIZE_WH[0], 3), np.uint8),
        objects=tuple(
            AmodalObject(label, rectangle(box), track) for (label, box), track in zip(things, ids, strict=True)
        ),
        static=tuple((nearer, rectangle(box)) for nearer, box in static),
        name=name,
        camera="board",
    )


def found(*things: tuple[Label, Box], scores: Sequence[float] = ()) -> AmodalInstances:
    """Predictions; sure ones unless scores are given."""
    count = len(things)
    masks = tuple(rectangle(box) for _, box in things)
    return AmodalInstances(
        frame_wh=SIZE_WH,
        boxes_xyxy=np.array([box for _, box in things], np.float32).reshape(-1, 4),
        labels=np.array([int(label) for label, _ in things], np.int64),
        scores=np.array(scores or [1.0] * count, np.float32),
        amodal=masks,
        occluder=masks,
        occluded=masks,
    )
