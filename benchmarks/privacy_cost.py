"""What the hold-over costs a frame beyond anonymising it: looking, joining, keeping."""

from __future__ import annotations

import time

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Report
from walt_edge.camera import Frame
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_edge.contract.messages import Clock, Moment
from walt_edge.privacy.anonymiser import Anonymiser
from walt_edge.privacy.holdover import Holdover
from walt_edge.vision.sightings import Sighting

SIZES_WH = ((640, 384), (1920, 1080))
FPS = 10
FRAMES = 100
PEOPLE, VEHICLES = 7, 3
LOST_EVERY, LOST_FOR = 40, 3  # frames: each person's outline is missing now and then


def measure(report: Report, seed: int) -> None:
    """Adds a row for each size, on one core."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    for size_wh in SIZES_WH:
        target = 4.0 if size_wh == SIZES_WH[0] else None
        what = f"the hold-over of {size_wh[0]}x{size_wh[1]}, {PEOPLE + VEHICLES} objects, beyond anonymising, median"
        report.add(what, _extra_ms(size_wh, seed), "ms", target=target, better="lower")
    cv2.setNumThreads(threads)


def _extra_ms(size_wh: tuple[int, int], seed: int) -> float:
    random = np.random.default_rng(seed)
    width, height = size_wh
    bgr = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    still = np.zeros((height, width), bool)
    movers = [_mover(size_wh, number, random) for number in range(PEOPLE + VEHICLES)]
    held, alone = Anonymiser(), Anonymiser()
    holdover = Holdover(held, size_wh)
    extra = []
    for index in range(FRAMES):
        seen = [sighting for mover in movers if (sighting := mover.at(index)) is not None]
        moment = Moment(utc_us=0, boot_id="bench", monotonic_ns=0, clock=Clock.SYNCHRONISED, media_time_s=index / FPS)
        began = time.perf_counter()
        holdover.push(Frame(bgr, index, moment), seen, (), still, {})
        passed = holdover.due(index / FPS, still)
        between = time.perf_counter()
        if passed is not None:
            alone(bgr, passed.sightings, still, ())
            extra.append(2 * between - began - time.perf_counter())
    return 1e3 * float(np.median(extra))


class _Mover:
    """Somebody or something on a straight way, now and then without an outline."""

    def __init__(self, number: int, mask: NDArray[np.bool_], label: Label, x: float, y: int, step: float) -> None:
        self._number, self._mask, self._label = number, mask, label
        self._x, self._y, self._step = x, y, step

    def at(self, index: int) -> Sighting | None:
        """The sighting in a frame."""
        if self._label is Label.PERSON and (index + LOST_FOR * self._number) % LOST_EVERY < LOST_FOR:
            return None
        patch = PatchMask(round(self._x + self._step * index), self._y, self._mask)
        return Sighting(patch, self._label, 0.9, (0.0, 0.0), track_id=self._number)


def _mover(size_wh: tuple[int, int], number: int, random: np.random.Generator) -> _Mover:
    width, height = size_wh
    scale = height / 384
    if number < PEOPLE:
        tall = round(scale * random.integers(50, 110))
        painted = np.zeros((tall, max(8, round(0.4 * tall))), np.uint8)
        middle = painted.shape[1] // 2
        cv2.circle(painted, (middle, tall // 14), max(2, tall // 14), 1, -1)
        cv2.ellipse(painted, (middle, round(0.36 * tall)), (middle, round(0.24 * tall)), 0, 0, 360, 1, -1)
        cv2.rectangle(painted, (middle // 2, tall // 2), (middle + middle // 2, tall - 1), 1, -1)
        mask, label = painted > 0, Label.PERSON
    else:
        mask, label = np.ones((round(60 * scale), round(130 * scale)), bool), Label.VEHICLE
    place = number * 0.8 * width / (PEOPLE + VEHICLES)
    return _Mover(number, mask, label, place, round(random.uniform(0.1, 0.6) * height), float(random.uniform(-1, 1)))
