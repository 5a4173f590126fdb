"""Who keeps identities while buses and lorries pass: our tracker on amodal boxes, on visible boxes, and peers.

    python -m benchmarks.tracking --out tracking.json [--quick] [--picture tracking.png]

Rendered streets (`benchmarks/passing.py`: more than half of what drives is a bus or a lorry) of two presets, 5 frames
a second. Each tracker sees the same detections, once with amodal boxes and once with boxes of what is seen:

- exact: made from truth. Half seen or more, an object is found with 95%, less below, at a tenth never; edges jitter
  by 3% of the box's side, for amodal boxes up to 15% where all is hidden; 2% are false.
- model: what the packaged general model says of the rendered pictures, at its own threshold.

A switch is what CLEAR MOT calls one, on the identities of detections (`benchmarks/identities.py`), and the interval
of the difference is a bootstrap over streets. The peer is SORT, in three ways of patience the best of which counts.
Settings were chosen on other streets (seeds above 100).
"""

from __future__ import annotations

import functools
import operator
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.identities import (
    NOBODY,
    Answer,
    Identities,
    bootstrap,
    fewer_switches,
    judge,
    kept_share,
    more_kept,
    owners_of,
)
from benchmarks.passing import Flaws, Moment, detect, heavy_street, visible_only, watch
from benchmarks.report import Report, arguments
from benchmarks.simple_trackers import Sort
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_edge.detector import Detector
from walt_edge.tracking.tracker import AmodalTracker, TrackedObject

FPS = 5.0
PRESETS = ("street", "busy")
SOURCES = ("exact", "model")
_PATIENCE_S = (0.4, 1.0, 3.0)
_SORT_SCORE = 0.4
_FINDABLE, _HARDLY = 0.25, 0.1
_CROWDS = {10: 1.0, 50: None, 100: 10.0, 200: None}

Update = Callable[[AmodalInstances, float], Mapping[int, int]]


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """One frame's detections in both kinds, and whose they are.

    Attributes:
        present, hidden: As `Answer` takes them.
        visible_rows: Which of the amodal detections each of the visible ones is.
    """

    time_s: float
    amodal: AmodalInstances
    visible: AmodalInstances
    visible_rows: NDArray[np.int64]
    owners: NDArray[np.int64]
    present: frozenset[int]
    hidden: frozenset[int]


Film = dict[str, list[Sight]]
"""Sights of a street by source."""


def main() -> None:
    """Measures, prints a table, writes JSON and, if asked, the picture."""
    parser = arguments(__doc__)
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw a strip of a bus that passes (.png)")
    args = parser.parse_args()
    seeds, frames = (1, 50) if args.quick else (6, 150)
    facts = {"seed": args.seed, "streets": seeds * len(PRESETS), "frames of each": frames, "fps": FPS}
    report = Report("tracking", facts)
    streets = [(preset, args.seed + number) for number in range(seeds) for preset in PRESETS]
    films = {street: film(*street, frames) for street in tqdm(streets, desc="streets", disable=None)}
    for source in SOURCES:
        _measure(report, source, [one[source] for one in films.values()], args.seed)
    for count, target in _CROWDS.items():
        report.add(f"one update, {count} objects", crowd_ms(count), "ms", target=target, better="lower")
    if args.picture is not None:
        from benchmarks.tracking_strip import draw_strip

        draw_strip(args.picture, films, frames)
    report.finish(args.out)


def film(preset: str, seed: int, frames: int) -> Film:
    """Renders a street and lets the model look at it."""
    detector, rng = _detector(), np.random.default_rng(seed)
    sights: Film = {source: [] for source in SOURCES}
    for moment in watch(heavy_street(seed, preset, frames, FPS)):
        made = detect(moment.truth, moment.ids, rng, Flaws())
        rows = np.arange(len(made.owners))
        sights["exact"].append(_sight(moment, made.amodal, made.visible, rows, made.owners))
        found = detector.predict(moment.bgr)
        owners = owners_of(found, moment.truth, moment.ids)
        sights["model"].append(_sight(moment, found, *visible_only(found), owners))
    return sights


@functools.cache
def _detector() -> Detector:
    return Detector.load(device="cpu", threads=1)


def _sight(
    moment: Moment,
    amodal: AmodalInstances,
    visible: AmodalInstances,
    visible_rows: NDArray[np.int64],
    owners: NDArray[np.int64],
) -> Sight:
    seen = 1 - moment.truth.occlusion_fractions
    findable = frozenset(moment.ids[seen >= _FINDABLE].tolist()) | frozenset(owners[owners != NOBODY].tolist())
    hidden = frozenset(moment.ids[seen < _HARDLY].tolist())
    return Sight(moment.time_s, amodal, visible, visible_rows, owners, findable, hidden)


def answers_of(update: Update, sights: Sequence[Sight], kind: str) -> list[Answer]:
    """What a tracker says of a film, on `amodal` or `visible` boxes."""
    answers = []
    for sight in sights:
        tracks = np.full(len(sight.owners), NOBODY, np.int64)
        given = update(sight.amodal if kind == "amodal" else sight.visible, sight.time_s)
        for instance, number in given.items():
            tracks[instance if kind == "amodal" else sight.visible_rows[instance]] = number
        answers.append(Answer(sight.present, sight.hidden, sight.owners, tracks))
    return answers


def told(objects: Sequence[TrackedObject]) -> dict[int, int]:
    """The track of each detection that has a believed one: {instance: track}."""
    return {one.instance: one.id for one in objects if one.instance is not None and one.state != "tentative"}


def _ours() -> Update:
    tracker = AmodalTracker()
    return lambda instances, time_s: told(tracker.update(instances, time_s))


def _measure(report: Report, source: str, films: Sequence[Sequence[Sight]], seed: int) -> None:
    results = {kind: [judge(answers_of(_ours(), sights, kind)) for sights in films] for kind in ("amodal", "visible")}
    for kind, parts in results.items():
        _add(report, f"{source}: ours, {kind} boxes", parts)
    fewer = fewer_switches(results["amodal"], results["visible"])
    pair = results["amodal"], results["visible"]
    low, high = bootstrap(*pair, fewer_switches, seed=seed)
    report.add(f"{source}: switches fewer than on visible boxes", fewer, "%")
    report.add(f"{source}: ... 95% interval, low", low, "%", target=0.0)
    report.add(f"{source}: ... 95% interval, high", high, "%")
    low, high = bootstrap(*pair, more_kept, seed=seed)
    report.add(f"{source}: more kept after hiding than on visible boxes, 95% interval, low", low, "points")
    report.add(f"{source}: ... 95% interval, high", high, "points")
    for kind in results:
        best = min((_sort(films, kind, patience_s) for patience_s in _PATIENCE_S), key=lambda one: -total(one).idf1)
        _add(report, f"{source}: SORT, {kind} boxes", best)


def _sort(films: Sequence[Sequence[Sight]], kind: str, patience_s: float) -> list[Identities]:
    return [judge(answers_of(Sort(patience_s, _SORT_SCORE).update, sights, kind)) for sights in films]


def total(parts: Sequence[Identities]) -> Identities:
    """Of all streets."""
    return functools.reduce(operator.add, parts)


def _add(report: Report, name: str, parts: Sequence[Identities]) -> None:
    counts = total(parts)
    report.add(f"{name}: ID switches", counts.switches, "", better="lower")
    report.add(f"{name}: switches in 1,000 answers", 1000 * counts.switches / max(1, counts.answers), better="lower")
    report.add(f"{name}: IDF1", 100 * counts.idf1, "%")
    report.add(f"{name}: fragmentations", counts.fragments, "", better="lower")
    report.add(f"{name}: same identity after hiding ({counts.returns} returns)", kept_share(parts), "%")


def crowd_ms(count: int, updates: int = 60) -> float:
    """Milliseconds of one core for an update with so many people who walk through each other, 1280x720."""
    tracker, spent = AmodalTracker(), 0.0
    for number, instances in enumerate(_crowd(count, updates)):
        start = time.process_time()
        tracker.update(instances, number / FPS)
        spent += time.process_time() - start
    return 1000 * spent / updates


def _crowd(count: int, updates: int) -> Iterator[AmodalInstances]:
    rng = np.random.default_rng(count)
    wh = np.array([1280, 720])
    feet, pace = rng.uniform((0, 80), wh, (count, 2)), rng.normal(0, 6, (count, 2))
    for _ in range(updates):
        feet = (feet + pace) % wh
        order = np.argsort(-feet[:, 1])
        masks, front = [], np.zeros((720, 1280), bool)
        fronts = []
        for x, y in feet[order].astype(int):
            x0, x1, y0 = max(x - 12, 0), min(x + 12, 1280), max(y - 64, 0)
            masks.append(PatchMask(x0, y0, np.ones((y - y0, x1 - x0), bool)))
            fronts.append(PatchMask(x0, y0, front[y0:y, x0:x1].copy()))
            front[y0:y, x0:x1] = True
        rows = [row for row, one in enumerate(fronts) if one.mask.size and one.mask.mean() < 0.8]
        whole = AmodalInstances.of_masks(
            (1280, 720), [Label.PERSON] * len(rows), [0.8] * len(rows), [masks[row] for row in rows]
        )
        yield replace(whole, occluder=tuple(fronts[row] for row in rows))


if __name__ == "__main__":
    main()
