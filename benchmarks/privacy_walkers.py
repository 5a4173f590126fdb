"""How many heads of composited walkers are covered, by size, with the hold-over and without."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from benchmarks.composited import Crowd, Shown
from benchmarks.privacy_recorder import Recorder
from benchmarks.report import Report
from walt_edge.contract.masks import Mask
from walt_edge.privacy.anonymiser import Anonymiser, FaceDetector
from walt_edge.vision.sightings import Sighting
from walt_edge.watching.watcher import Step, Watcher

SIZES_PX = (8, 12, 16, 24, 32, 48, 64)
QUICK_PX = (8, 16, 32, 64)
FILLED = 0.95
OUTLINED = 0.3  # of a body's visible pixels in silhouettes: the eyes have it


class _Tally:
    """Heads by way, size and whether the eyes have an outline of who wears them."""

    def __init__(self) -> None:
        self._done: dict[tuple[str, int, bool], list[bool]] = defaultdict(list)
        self._share: dict[str, list[float]] = defaultdict(list)

    def take(self, way: str, filled: Mask, shown: Sequence[Shown], sightings: Sequence[Sighting]) -> None:
        self._share[way].append(float(filled.mean()))
        outlined = np.zeros_like(filled)
        for sighting in sightings:
            outlined |= sighting.silhouette.full(*filled.shape)
        for one in shown:
            if one.is_whole and one.body.area:
                done = float(filled[_window(one.head.box_xyxy)][one.head.mask].mean()) >= FILLED
                has = float(outlined[_window(one.body.box_xyxy)][one.body.mask].mean()) >= OUTLINED
                self._done[way, one.head_px, has].append(done)

    def report(self, report: Report) -> None:
        """Adds the rows."""
        for way, shares in self._share.items():
            for head_px in sorted({size for _, size, _ in self._done}):
                both = [self._done[way, head_px, has] for has in (True, False)]
                _add(report, f"composited, {way}: heads of {head_px} px", [*both[0], *both[1]])
            bare = [done for (of, _, has), many in self._done.items() for done in many if of == way and not has]
            _add(report, f"composited, {way}: heads of any size, no outline", bare)
            report.add(f"composited, {way}: of the picture filled", 100 * np.mean(shares), "%", better="lower")


def _add(report: Report, what: str, done: Sequence[bool]) -> None:
    if done:
        report.add(f"{what} (n = {len(done)})", 100 * np.mean(done), "%")


def _window(box_xyxy: tuple[int, int, int, int]) -> tuple[slice, slice]:
    x0, y0, x1, y1 = box_xyxy
    return slice(y0, y1), slice(x0, x1)


def measure(report: Report, seed: int, faces: FaceDetector | None, *, quick: bool) -> None:
    """Watches a crowd and adds its rows; with a face detector, a second time with it."""
    tally = _Tally()
    for detector, name in ((None, ""), (faces, " with CenterFace")):
        if detector is not None or not name:
            crowd = Crowd(seed, QUICK_PX if quick else SIZES_PX, 1 if quick else 4)
            step_ms = _watch(tally, crowd, detector, name)
            report.add(f"composited{name}: a step of 960x540, median", step_ms, "ms", better="lower")
    tally.report(report)


def _watch(tally: _Tally, crowd: Crowd, faces: FaceDetector | None, name: str) -> float:
    recorder = Recorder(faces)
    watcher = Watcher(site="bench", device="walt-bench", camera="crowd", anonymiser=recorder)
    truth: dict[int, list[Shown]] = {}
    took_ms: list[float] = []

    def look(step: Step) -> None:
        if step.image is None or step.frame is None:
            return
        shown = truth.pop(step.frame.index)
        tally.take(f"as it runs{name}", step.image.filled, shown, step.sightings)
        given = recorder.given
        alone = Anonymiser(faces)(given.bgr, step.sightings, given.moving)
        tally.take(f"alone{name}", alone.filled, shown, step.sightings)

    for frame, shown in crowd.frames():
        truth[frame.index] = shown
        began = time.perf_counter()
        step = watcher.step(frame)
        took_ms.append(1e3 * (time.perf_counter() - began))
        look(step)
    for step in watcher.drain():
        look(step)
    return float(np.median(took_ms[round(len(took_ms) / 2) :]))
