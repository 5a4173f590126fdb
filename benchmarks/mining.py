"""How far "seen whole" can be trusted, per physical object, on rendered streets whose truth is exact.

    python -m benchmarks.mining --out docs/benchmarks/mining.json --cache FOLDER

Streets are rendered in memory and watched for a minute, by the general weights or, with `--teacher motion`, by the
eyes that need none; of every physical object the surest view is judged. `--fit` learns the calibration from tuning
streets (seeds from 101, which the general weights were not trained on, without a third of the vehicle shapes) and
writes the package's coefficients; without it the coefficients and their threshold are judged on streets that they
never saw (seeds from 9000, all shapes). With `--cache` an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.candidates import AREA_MIN_PX, Candidate, Watched, collect
from benchmarks.report import Report, arguments
from walt_edge.contract.files import write_whole
from walt_edge.packaged import general_model
from walt_train.mining import confidence, fitting, reliability
from walt_train.mining.confidence import FILE_NAME, INSTANCES_FILE, Coefficients, calibrate
from walt_train.mining.fitting import Example
from walt_train.mining.instances import InstanceTeacher
from walt_train.mining.teachers import MOTION
from walt_train.rwalt.street import StreetConfig

PRESETS = ("busy", "street")
TUNING_SEED, JUDGING_SEED = 101, 9000
WATCHED_FPS, LOOKED_FPS = 10.0, 2.5
"""Of the eyes that follow motion, and of a network that looks at each frame by itself."""
RECALL = 0.5
PRECISION = 0.97
CHOSEN_PRECISION = 0.98
"""That the threshold has on the tuning streets: a little more than is asked, since what is chosen flatters."""

Floats = NDArray[np.float64]
Score = Callable[[Candidate], float]


def main() -> None:
    """Renders, watches, fits or judges, prints a table, writes JSON and a picture."""
    parser = arguments(__doc__)
    parser.add_argument("--fit", action="store_true", help="learn the package's coefficients from tuning streets")
    parser.add_argument("--teacher", metavar="WHO", help="motion, or a FILE.walt (the general weights)")
    parser.add_argument("--streets", type=int, metavar="N", help="how many (40; 2 with --quick)")
    parser.add_argument("--frames", type=int, metavar="N", help="of each street (a minute; 18 s with --quick)")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keeps each street's outcome, to go on later")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="the reliability diagram (.png)")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    teacher = None if args.teacher == MOTION else InstanceTeacher.read(Path(args.teacher or general_model()))
    streets = _streets(args, teacher)
    report = Report("mining", {"streets": len(streets), "frames": _frames(args, teacher), "size": "640x360"})
    report.facts["teacher"] = teacher.name if teacher else MOTION
    file = INSTANCES_FILE if teacher else FILE_NAME
    if args.fit:
        _fit(report, streets, file)
    else:
        _judge(report, streets, confidence.package_coefficients(file), args.picture, gated=teacher is None)
    report.finish(args.out)


def _fps(teacher: InstanceTeacher | None) -> float:
    return LOOKED_FPS if teacher else WATCHED_FPS


def _frames(args: argparse.Namespace, teacher: InstanceTeacher | None) -> int:
    return int(args.frames or (18 if args.quick else 60) * _fps(teacher))


def _streets(args: argparse.Namespace, teacher: InstanceTeacher | None) -> list[Watched]:
    count = args.streets or (2 if args.quick else 40)
    first, shapes = (TUNING_SEED, "tuning") if args.fit else (JUDGING_SEED, "all")
    configs = [
        StreetConfig(
            seed=seed,
            preset=PRESETS[seed % 2],
            frames=_frames(args, teacher),
            fps=_fps(teacher),
            shapes=shapes,
        )
        for seed in range(first, first + count)
    ]
    return [collect(config, args.cache, teacher) for config in tqdm(configs, unit="street", disable=None)]


# -- one claim an object ----------------------------------------------------------------------------------


def examples(streets: Sequence[Watched]) -> list[Example]:
    """All views of objects that are large enough to count."""
    return [
        Example(street.camera, one.object, one.parts, one.whole)
        for street in streets
        for one in street.candidates
        if one.area >= AREA_MIN_PX
    ]


def claims(views: Sequence[Example], confidences: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """(N,) confidence and truth of the surest view of each physical object."""
    best: dict[tuple[str, int], int] = {}
    for index, view in enumerate(views):
        key = (view.camera, view.object)
        if key not in best or confidences[index] > confidences[best[key]]:
            best[key] = index
    chosen = np.array(list(best.values()), int)
    return confidences[chosen], np.array([views[index].whole for index in chosen], bool)


def possible(streets: Sequence[Watched]) -> int:
    """How many objects were ever whole."""
    return sum(len(street.ever_whole) for street in streets)


# -- fitting ----------------------------------------------------------------------------------------------


def _fit(report: Report, streets: Sequence[Watched], file: str) -> None:
    views = examples(streets)
    for name, learn in (("logistic of the parts", _logistic), ("isotonic of their product", _isotonic)):
        surest, truths = claims(views, fitting.across_cameras(views, learn))
        level = reliability.threshold_for_precision(surest, truths, PRECISION)
        _figures(report, f"{name}, on other cameras", surest, truths, possible(streets), level)
    surest, truths = claims(views, fitting.across_cameras(views, _logistic))
    level = reliability.threshold_for_precision(surest, truths, CHOSEN_PRECISION)
    fitted = fitting.fit(views)
    seeds = sorted(int(street.camera.rpartition("-")[2]) for street in streets)
    fitted = msgspec.structs.replace(fitted, threshold=round(level, 4), seeds=seeds)
    path = Path(confidence.__file__).with_name(file)
    write_whole(path, msgspec.json.format(msgspec.json.encode(fitted), indent=1) + b"\n")


def _logistic(views: Sequence[Example]) -> Callable[[Example], float]:
    fitted: Coefficients = fitting.fit(views)
    return lambda view: calibrate(view.parts, fitted)


def _isotonic(views: Sequence[Example]) -> Callable[[Example], float]:
    steps = fitting.isotonic(
        np.array([_product(view) for view in views]), np.array([view.whole for view in views], float)
    )
    return lambda view: steps(_product(view))


def _product(view: Example) -> float:
    return float(np.prod([part for name, part in view.parts.items() if name not in ("class", "size")]))


# -- judging ----------------------------------------------------------------------------------------------


def _judge(
    report: Report, streets: Sequence[Watched], fitted: Coefficients, picture: Path | None, *, gated: bool
) -> None:
    views = examples(streets)
    surest, truths = claims(views, np.array([calibrate(view.parts, fitted) for view in views]))
    _figures(report, "surest view", surest, truths, possible(streets), fitted.threshold, judged=True)
    if gated:
        gates = np.array([one.taken for s in streets for one in s.candidates if one.area >= AREA_MIN_PX], float)
        products = gates * np.array([_product(view) for view in views])
        surest_gated, truths_gated = claims(views, products)
        _figures(report, "the device's own gates", surest_gated, truths_gated, possible(streets), 1e-9)
    if picture is not None:
        points = reliability.curve(surest, truths, possible(streets))
        done, data = cv2.imencode(".png", reliability.draw(reliability.reliability(surest, truths), points))
        assert done
        write_whole(picture, data.tobytes())


def _figures(
    report: Report,
    name: str,
    surest: Floats,
    truths: NDArray[np.bool_],
    whole: int,
    threshold: float,
    *,
    judged: bool = False,
) -> None:
    point = reliability.operate(surest, truths, whole, threshold)
    calibrated = reliability.reliability(surest, truths)
    report.add(f"{name}: objects with a view", len(surest), target=1000 if judged else None)
    report.add(f"{name}: objects ever whole", whole)
    report.add(f"{name}: precision at confidence {threshold:.3f} (of {point.taken})", point.precision)
    report.add(f"{name}: the same, Wilson lower bound", point.interval.low, target=PRECISION if judged else None)
    report.add(f"{name}: recall of objects ever whole", point.recall, target=RECALL if judged else None)
    report.add(f"{name}: ECE", calibrated.ece, target=0.05 if judged else None, better="lower")
    report.add(f"{name}: Brier", calibrated.brier, better="lower")


if __name__ == "__main__":
    main()
