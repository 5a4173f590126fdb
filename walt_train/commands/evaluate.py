"""`walt-train evaluate`: IoU by occlusion of a bundle, or of the eyes without weights, on exact truth."""

from __future__ import annotations

import argparse
import datetime as dt
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from walt_edge.contract.errors import UsageError
from walt_edge.contract.instances import AmodalInstances
from walt_train.data import open_samples
from walt_train.data.sample import AmodalSample, Samples
from walt_train.metrics.amodal_iou import evaluate_frames
from walt_train.metrics.evaluation import Evaluation, read_evaluation, table, write_evaluation
from walt_train.metrics.motion_baseline import MotionBaseline, plate_indices

MOTION = "motion"
_ANNOTATIONS = "annotations.json"
_FRAME_S = 0.1

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


def run(args: argparse.Namespace) -> int:
    """Evaluates, writes and prints; returns the exit status."""
    if args.every < 1:
        raise UsageError(f"--every {args.every}: give at least 1")
    against = read_evaluation(args.against) if args.against else None
    samples = _truth(args.data)
    if against is not None:
        against.must_match(data_sha256=samples.sha256, every=args.every)
    subject = _subject(args.model, samples, args.every)
    found = Evaluation(
        model=subject.model,
        model_sha256=subject.sha256,
        data=str(args.data),
        data_sha256=samples.sha256,
        every=args.every,
        threshold=subject.threshold,
        result=evaluate_frames(subject.pairs, score_threshold=subject.threshold),
    )
    found = found if against is None else found.minus(against)
    write_evaluation(found, args.out)
    sys.stdout.write(table(found))
    return 0


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
    """What is evaluated, as `Evaluation` names it."""

    model: str
    sha256: str
    threshold: float
    pairs: Pairs


def _subject(model: str, samples: Samples, every: int) -> _Subject:
    if model == MOTION:
        return _Subject(MOTION, "", 0.0, watched(samples, every))
    # The runtime comes with an extra of its own, which `motion` does without.
    from walt_edge.detector import Detector

    detector = Detector.load(model)
    manifest = detector.manifest
    return _Subject(manifest.name, detector.sha256, manifest.score_threshold, detected(samples, every, detector))


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
