"""A small network that looks at one object at a time and tells whether anything of it is missing.

A detector looks at a whole frame and draws outlines as coarse as its maps; what is hidden by two hundredths is less
than their error. Here every object fills the picture, beside what else is known of it: the empty scene, who stands
before and behind it, what the detector drew. Taught on rendered streets, where the truth is exact
(`python -m benchmarks.witness`).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import PatchMask
from walt_edge.runtimes.session import open_session

if TYPE_CHECKING:
    from walt_train.mining.instances import Seen

Image = NDArray[np.uint8]

SIDE = 80
"""Pixels of the picture that an object is shown in."""
CONTEXT = 1.4
"""Sides of what is shown, in those of the object's box."""
CHANNELS = 12
PICTURE, CHANGE = slice(0, 3), slice(3, 6)
OBJECT, VISIBLE, SECOND, HIDDEN, NEARER, BEHIND = range(6, CHANNELS)
"""Which channel shows what (`show`)."""
SPREAD = 3.0
"""The network's log-odds are divided by this: among the surest, too, some are surer, and a part of a confidence must
tell. What is likely the calibration says, not the witness."""
FILE_NAME = "witness.onnx"


class Witness:
    """Runs the network.

    Args:
        model: The ONNX file's bytes.

    Raises:
        UsageError: ONNX Runtime is not installed.
        SessionError: The model cannot be opened.
    """

    def __init__(self, model: bytes) -> None:
        self._session = open_session(model, device="cpu", threads=1)

    @classmethod
    def packaged(cls) -> Witness:
        """The one that comes with the package."""
        return cls(files(__package__).joinpath(FILE_NAME).read_bytes())

    def __call__(self, shown: Image) -> list[float]:
        """How sure it is that each of (N, CHANNELS, SIDE, SIDE) objects is whole, 0..1; see `SPREAD`."""
        if not len(shown):
            return []
        (told,) = self._session.run(None, {"shown": shown})
        return [float(each) for each in told]


def show(one: Seen, all_seen: Sequence[Seen], bgr: Image, empty_bgr: Image) -> Image:
    """What the witness sees of an object: (CHANNELS, SIDE, SIDE) uint8.

    Its surroundings, stretched to a square: the picture (3), how it differs from the empty scene (3, 128 = not at
    all), then masks as shares of 255: the object's, what is seen of it, the same object in the mirrored picture, how
    likely each cell is hidden, who stands nearer, who stands behind.

    Args:
        one: The object.
        all_seen: It and all others of the frame.
        bgr: (H, W, 3) the frame.
        empty_bgr: The empty scene in the frame's light, of the same shape.
    """
    x0, y0, x1, y1 = one.box_xyxy
    half_w, half_h = max(4.0, CONTEXT * (x1 - x0) / 2), max(4.0, CONTEXT * (y1 - y0) / 2)
    centre_x, centre_y = (x0 + x1) / 2, (y0 + y1) / 2
    left, top = int(np.floor(centre_x - half_w)), int(np.floor(centre_y - half_h))
    window = (left, top, int(np.ceil(centre_x + half_w)), int(np.ceil(centre_y + half_h)))
    out = np.empty((CHANNELS, SIDE, SIDE), np.uint8)
    picture, empty = _cut(bgr, window), _cut(empty_bgr, window)
    out[PICTURE] = picture.transpose(2, 0, 1)
    changed = (picture.astype(np.int16) - empty) // 2 + 128
    out[CHANGE] = changed.clip(0, 255).astype(np.uint8).transpose(2, 0, 1)
    nobody = PatchMask(0, 0, np.zeros((0, 0), bool))
    second = one.second.amodal if one.second else nobody
    for channel, mask in zip((OBJECT, VISIBLE, SECOND), (one.amodal, one.visible, second), strict=True):
        out[channel] = _sized(mask.window(window))
    out[HIDDEN] = _placed(one.hidden_map, one.box_xyxy, window)
    nearer, behind = (np.zeros((window[3] - window[1], window[2] - window[0]), bool) for _ in range(2))
    for other in all_seen:
        if other is not one:
            (nearer if other.box_xyxy[3] > y1 else behind)[other.visible.window(window)] = True
    out[NEARER], out[BEHIND] = _sized(nearer), _sized(behind)
    return out


def _cut(bgr: Image, window: tuple[int, int, int, int]) -> Image:
    """What lies in the window, in the size that is shown; beyond the frame its border goes on."""
    height, width = bgr.shape[:2]
    x0, y0, x1, y1 = window
    inside = bgr[max(0, y0) : min(height, y1), max(0, x0) : min(width, x1)]
    edges = (max(0, -y0), max(0, y1 - height), max(0, -x0), max(0, x1 - width))
    whole = cv2.copyMakeBorder(inside, *edges, cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(whole, (SIDE, SIDE), interpolation=_method(window)), np.uint8)


def _sized(mask: NDArray[np.bool_]) -> Image:
    height, width = mask.shape
    method = _method((0, 0, width, height))
    return np.asarray(cv2.resize(mask.astype(np.uint8) * 255, (SIDE, SIDE), interpolation=method), np.uint8)


def _method(window: tuple[int, int, int, int]) -> int:
    shrinks = min(window[2] - window[0], window[3] - window[1]) > SIDE
    return cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR


def _placed(
    cells: NDArray[np.float32], box_xyxy: tuple[float, float, float, float], window: tuple[int, int, int, int]
) -> Image:
    """A map of a box where that lies in the window."""
    x0, y0, x1, y1 = box_xyxy
    across, down = SIDE / (window[2] - window[0]), SIDE / (window[3] - window[1])
    rows, columns = cells.shape
    scale_x, scale_y = (x1 - x0) * across / columns, (y1 - y0) * down / rows
    # The centre of cell k lies at (k + 1/2) cells from the box's edge, that of pixel k at k + 1/2.
    shift_x = (x0 - window[0]) * across + scale_x / 2 - 0.5
    shift_y = (y0 - window[1]) * down + scale_y / 2 - 0.5
    to_window = np.array([[scale_x, 0, shift_x], [0, scale_y, shift_y]])
    placed = cv2.warpAffine((cells * 255).astype(np.uint8), to_window, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
    return np.asarray(placed, np.uint8)
