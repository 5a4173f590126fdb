"""`walt-train evaluate`: IoU by occlusion of a bundle, or of the eyes without weights, on exact truth."""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.instances import AmodalInstances
from walt_train.data import open_samples
from walt_train.data.sample import AmodalSample, Samples
from walt_train.metrics.amodal_iou import evaluate_frames
from walt_train.metrics.average_precision import PrecisionCollector
from walt_train.metrics.by_class import class_rows
from walt_train.metrics.calibration import ScoreCalibration
from walt_train.metrics.case_pictures import COUNT, CasePictures
from walt_train.metrics.evaluation import Evaluation, read_evaluation, table, write_evaluation
from walt_train.metrics.motion_baseline import MotionBaseline, plate_indices
from walt_train.metrics.origin import Contestant, must_be_holdout, read_origin, refuse_unfair
from walt_train.recipes import find_recipe

if TYPE_CHECKING:
    from walt_edge.detector import Detector

MOTION = "motion"
_ANNOTATIONS = "annotations.json"
_FRAME_S = 0.1
_POSSIBLE = 0.02

Pairs = Iterable[tuple[AmodalInstances, AmodalSample]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument(
        "--model", required=True, metavar="BUNDLE", help=f"or '{MOTION}': silhouettes of what moves (generation 0)"
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="images/ and annotations.json")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="gets figures and cases as JSON")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="evaluate every K-th frame (1)")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="FILE",
        help="an evaluation of another model on the same frames, to compare with",
    )
    parser.add_argument(
        "--trained-on",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="what the model was trained on: refuse data that shows one of its objects",
    )
    parser.add_argument(
        "--holdout",
        default="",
        metavar="SHA",
        help="refuse other data than this: its content_sha256, or its beginning",
    )
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="DIR",
        help=f"gets the {COUNT} most hidden objects as JPEG, the same ones whatever the model",
    )


def run(args: argparse.Namespace) -> int:
    """Evaluates, writes and prints; returns the exit status."""
    if args.every < 1:
        raise UsageError(f"--every {args.every}: give at least 1")
    against = read_evaluation(args.against) if args.against else None
    samples = _truth(args.data)
    origin = read_origin(args.data)
    if args.holdout:
        must_be_holdout(origin, args.holdout, args.data)
    if against is not None:
        against.must_match(data_sha256=samples.sha256, every=args.every)
    subject = _subject(args.model, samples, args.every)
    contestant = Contestant(subject.model, subject.sha256, subject.trained)
    refuse_unfair(contestant, args.data, names=_names(args.data, samples, subject), training=args.trained_on)
    pictures = CasePictures() if args.pictures else None
    found = _evaluation(args, samples, subject, pictures, complete=origin.complete)
    found = found if against is None else found.minus(against)
    if pictures is not None:
        pictures.write(args.pictures)
    write_evaluation(found, args.out)
    sys.stdout.write(table(found))
    return 0


def _evaluation(
    args: argparse.Namespace, samples: Samples, subject: _Subject, pictures: CasePictures | None, *, complete: bool
) -> Evaluation:
    """Looks at every frame once, and collects all figures."""
    precision, scores = PrecisionCollector(), ScoreCalibration()

    def collected() -> Pairs:
        for found, sample in subject.pairs:
            believed = found.select(np.flatnonzero(found.scores >= subject.threshold).tolist())
            if complete:
                precision.add(found, sample)
                scores.add(believed, sample)
            if pictures is not None:
                pictures.add(believed, sample)
            yield found, sample

    result = evaluate_frames(collected(), score_threshold=subject.threshold, complete=complete)
    return Evaluation(
        model=subject.model,
        model_sha256=subject.sha256,
        data=str(args.data),
        data_sha256=samples.sha256,
        every=args.every,
        threshold=subject.threshold,
        result=result,
        by_class=class_rows(result.cases, result.false_by_label),
        average_precision=precision.result(),
        calibration=scores.result() if complete else None,
    )


def _names(folder: Path, samples: Samples, subject: _Subject) -> set[str]:
    """Names under which this data may stand in the lineage of a model that was trained on it."""
    names = {samples.sha256}
    if subject.per_epoch is not None:
        names.add(open_samples(folder, split="train", per_epoch=subject.per_epoch, seed=subject.seed).sha256)
    return names


def _truth(folder: Path) -> Samples:
    if not (folder / _ANNOTATIONS).is_file():
        raise UsageError(
            f"{folder} has no {_ANNOTATIONS}: render a street (walt-train rwalt) or use walt-train compose"
        )
    samples = open_samples(folder, split="all")
    if not len(samples):
        raise UsageError(f"{folder} has no frames: there is nothing to evaluate on")
    return samples


class _Subject(NamedTuple):
    """What is evaluated, as `Evaluation` names it, and what its lineage says of its training."""

    model: str
    sha256: str
    threshold: float
    pairs: Pairs
    trained: tuple[str, ...] = ()
    seed: int = 0
    per_epoch: int | None = None


def _subject(model: str, samples: Samples, every: int) -> _Subject:
    if model == MOTION:
        return _Subject(MOTION, "", 0.0, watched(samples, every))
    # The runtime comes with an extra of its own, which `motion` does without.
    from walt_edge.detector import Detector

    detector = Detector.load(model)
    manifest = detector.manifest
    lineage = manifest.lineage
    return _Subject(
        manifest.name,
        detector.sha256,
        manifest.score_threshold,
        detected(samples, every, _Unsure(detector)),
        lineage.trained,
        lineage.seed,
        _per_epoch(lineage.recipe),
    )


def _per_epoch(recipe: str) -> int | None:
    """Samples in an epoch of a recipe, which are part of its data's name; None where it is not known here."""
    with contextlib.suppress(WaltError):
        return find_recipe(recipe).training.per_epoch
    return None


class _Unsure:
    """A detector with all that it thinks possible: a curve of precision needs more than what is believed."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    def predict(self, image_bgr: NDArray[np.uint8]) -> AmodalInstances:
        least = min(_POSSIBLE, self._detector.manifest.score_threshold)
        return self._detector.predict(image_bgr, score_threshold=least)


class Predictor(Protocol):
    """What can be evaluated frame by frame: `walt_edge.Detector`."""

    def predict(self, image_bgr: NDArray[np.uint8]) -> AmodalInstances:
        """The instances of an (H, W, 3) frame."""


def detected(samples: Samples, every: int, predictor: Predictor) -> Pairs:
    """Every K-th frame with what a model sees in it."""
    for sample in _walk(samples, every, "evaluating"):
        yield predictor.predict(sample.image_bgr), sample


def watched(samples: Samples, every: int) -> Pairs:
    """Every K-th frame with what the eyes without weights see, who watch them all: motion is seen only over time."""
    picked = plate_indices(len(samples), samples.frame_wh)
    eyes = MotionBaseline([samples.sample(0, index).image_bgr for index in picked])
    for index, sample in enumerate(_walk(samples, 1, "watching")):
        eyes.see(sample.image_bgr, _time_s(sample, index))
    instances = eyes.instances()
    for index, sample in enumerate(_walk(samples, every, "evaluating")):
        yield instances[index * every], sample


def _walk(samples: Samples, every: int, doing: str) -> Iterator[AmodalSample]:
    chosen = range(0, len(samples), every)
    for index in tqdm(chosen, desc=doing, unit="frame", disable=not sys.stderr.isatty()):
        yield samples.sample(0, index)


def _time_s(sample: AmodalSample, index: int) -> float:
    return dt.datetime.fromisoformat(sample.time).timestamp() if sample.time else index * _FRAME_S
