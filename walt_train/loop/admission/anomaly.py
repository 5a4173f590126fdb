"""Whether a camera's crops are like what it sent before, or like what the fleet sends: pure, and with a reason.

Crops are judged a hundred at a time. Each such window becomes a few numbers, made from headers alone; each number is
compared with its median over the camera's own past windows, in units of their spread (the median of the absolute
deviations, made comparable to a standard deviation; Huber, Robust Statistics, 1981), never finer than a floor that
honest cameras need. What nobody honest sends is held without any past. A window that is held does not become past.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

WINDOW: Final = 100
"""Crops judged at a time."""
_PAST_WINDOWS = 256
_OWN_WINDOWS = 10
_FLEET_CAMERAS = 8
_MAD = 1.4826
_CELL_PX = 48
_PLACE_PX = 128
_ALIKE_PX = 6
_HOUR_US = 3_600_000_000
# What has never been seen counts as if it had been, this often in all.
_PRIOR = 32.0


@dataclass(frozen=True, slots=True)
class Measure:
    """How one number of a window is judged.

    Attributes:
        words: What it means for people when it is too high.
        floor: A spread smaller than this is taken for this.
        limit: So many spreads above the median hold the camera; below it as well if `low` says so.
        low: What it means when it is too low; "" = low is harmless.
        cap: Nobody honest exceeds this, past or no past.
        is_common: Whether cameras that differ may be compared by it.
    """

    words: str
    floor: float
    limit: float = 8.0
    low: str = ""
    cap: float = float("inf")
    is_common: bool = False


MEASURES: Final[dict[str, Measure]] = {
    "pace": Measure("crops come faster than ever", floor=1.0),
    "detail": Measure("images hold more than ever", floor=0.15, low="images hold less than ever", is_common=True),
    "area": Measure("objects are larger than ever", floor=0.3, low="objects are smaller than ever"),
    "sure": Measure("confidence is higher than ever", floor=0.02, low="confidence is lower than ever"),
    "same": Measure("confidence is the same number", floor=0.03, cap=0.6, is_common=True),
    "place": Measure("crops come from one place", floor=0.06, cap=0.97),
    "alike": Measure("the same object again and again", floor=0.06, cap=0.9, is_common=True),
    "strange": Measure("crops come from places it never saw", floor=0.35),
    "kind": Measure("classes and shapes as never before", floor=0.35),
    "rush": Measure("more crops than these hours ever gave", floor=0.6, limit=5.5),
}
NAMES: Final = tuple(MEASURES)


@dataclass(frozen=True, slots=True)
class Crops:
    """Headers of a camera's crops, in order of capture; arrays of one length.

    Attributes:
        captured_us: Microseconds UTC.
        size: Bytes of the envelope.
        boxes_xyxy: (N, 4) pixels of the frame.
        label: Class numbers.
        confidence: 0..1.
    """

    captured_us: NDArray[np.int64]
    size: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float64]
    label: NDArray[np.int64]
    confidence: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.captured_us)

    def part(self, start: int, stop: int) -> Crops:
        """Some of them."""
        at = slice(start, stop)
        return Crops(self.captured_us[at], self.size[at], self.boxes_xyxy[at], self.label[at], self.confidence[at])


class Past(msgspec.Struct, kw_only=True):
    """What a camera sent, as far as it was accepted.

    Attributes:
        windows: The numbers of the last windows, each in the order of `NAMES`.
        crops: How many crops the counts are of.
        hours: Crops by hour of the day, UTC.
        kinds: Crops by class, shape and size.
        places: Crops by place.
    """

    windows: list[list[float]] = []
    crops: int = 0
    hours: dict[int, int] = {}
    kinds: dict[int, int] = {}
    places: dict[int, int] = {}

    def add(self, crops: Crops, numbers: Sequence[float]) -> None:
        """Takes a window in."""
        self.windows = [*self.windows[1 - _PAST_WINDOWS :], list(numbers)]
        self.crops += len(crops)
        for counts, keys in ((self.hours, _hours(crops)), (self.kinds, _kinds(crops)), (self.places, _places(crops))):
            for key, count in zip(*(part.tolist() for part in np.unique(keys, return_counts=True)), strict=True):
                counts[key] = counts.get(key, 0) + count

    @property
    def typical(self) -> NDArray[np.float64] | None:
        """The camera's medians, for the fleet to compare with; None while it has too little past."""
        if len(self.windows) < _OWN_WINDOWS:
            return None
        middle: NDArray[np.float64] = np.median(np.asarray(self.windows), axis=0)
        return middle


def numbers_of(crops: Crops, past: Past) -> list[float]:
    """The numbers of a window, in the order of `NAMES`."""
    x0, y0, x1, y1 = crops.boxes_xyxy.T
    area = np.maximum((x1 - x0) * (y1 - y0), 1.0)
    span_hours = max(float(np.ptp(crops.captured_us)) / _HOUR_US, 1 / 3600)
    centres = np.stack([(x0 + x1), (y0 + y1)], axis=1) / 2
    found = {
        "pace": np.log2(len(crops) / span_hours),
        "detail": np.mean(np.log2(crops.size / area)),
        "area": np.mean(np.log2(area)),
        "sure": np.mean(crops.confidence),
        "same": _commonest(np.round(crops.confidence * 1000).astype(np.int64)),
        "place": _commonest(_key(np.floor(centres / _CELL_PX))),
        "alike": _repeated(_key(np.round(crops.boxes_xyxy / _ALIKE_PX))),
        "strange": _surprise(_places(crops), past.places, past.crops),
        "kind": _surprise(_kinds(crops), past.kinds, past.crops),
    }
    # How many come in an hour, over how many such hours give: logarithms, so that day and night are alike.
    found["rush"] = found["pace"] + _surprise(_hours(crops), past.hours, past.crops)
    return [float(found[name]) for name in NAMES]


def judge(numbers: Sequence[float], past: Past, fleet: Sequence[NDArray[np.float64]] = ()) -> str:
    """Why a window's camera is to be held, in a few words; "" if it is as ever.

    Args:
        numbers: Of the window, as `numbers_of` gives them.
        past: Of the camera.
        fleet: `Past.typical` of other cameras; used while the camera has little past of its own.
    """
    for name, value in zip(NAMES, numbers, strict=True):
        if value > MEASURES[name].cap:
            return f"{MEASURES[name].words} ({value:.2f})"
    has_own = len(past.windows) >= _OWN_WINDOWS
    if not has_own and len(fleet) < _FLEET_CAMERAS:
        return ""
    known = np.asarray(past.windows if has_own else fleet)
    middle = np.median(known, axis=0)
    spread = _MAD * np.median(np.abs(known - middle), axis=0)
    worst, reason = 1.0, ""
    for at, measure in enumerate(MEASURES.values()):
        if not has_own and not measure.is_common:
            continue
        off = (numbers[at] - middle[at]) / max(spread[at], measure.floor) / measure.limit
        words = measure.words if off > 0 else measure.low
        if words and abs(off) > worst:
            worst, reason = abs(off), f"{words} ({numbers[at]:.2f}, usually {middle[at]:.2f})"
    return reason


def _commonest(keys: NDArray[np.int64]) -> float:
    """Share of the commonest key."""
    return float(np.unique(keys, return_counts=True)[1].max() / len(keys))


def _repeated(keys: NDArray[np.int64]) -> float:
    """Share of what came before in the window."""
    return 1 - len(np.unique(keys)) / len(keys)


def _surprise(keys: NDArray[np.int64], counts: dict[int, int], total: int) -> float:
    """How unlikely the keys are under the past, bits for each."""
    unique, often = np.unique(keys, return_counts=True)
    known = np.asarray([counts.get(key, 0) for key in unique.tolist()], dtype=np.float64)
    chance = (known + 1.0) / (total + _PRIOR)
    return float(-(often * np.log2(chance)).sum() / len(keys))


def _hours(crops: Crops) -> NDArray[np.int64]:
    return crops.captured_us // _HOUR_US % 24


def _places(crops: Crops) -> NDArray[np.int64]:
    centres = (crops.boxes_xyxy[:, :2] + crops.boxes_xyxy[:, 2:]) / 2
    return _key(np.floor(centres / _PLACE_PX))


def _kinds(crops: Crops) -> NDArray[np.int64]:
    width, height = (crops.boxes_xyxy[:, 2:] - crops.boxes_xyxy[:, :2]).T
    shape = np.round(np.log2(np.maximum(width, 1.0) / np.maximum(height, 1.0)))
    large = np.round(np.log2(np.maximum(width * height, 1.0)) / 2)
    return _key(np.stack([crops.label, shape + 16, large], axis=1))


def _key(columns: NDArray[np.float64]) -> NDArray[np.int64]:
    """One number for each row of small numbers."""
    key = np.zeros(len(columns), dtype=np.int64)
    for column in columns.T:
        key = key * 4096 + column.astype(np.int64) % 4096
    return key
