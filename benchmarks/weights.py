"""The weights that come with the package, and the command that makes them again.

    python -m benchmarks.weights --workspace DIR --prepare-only
    python -m benchmarks.weights --workspace DIR --gpu --out docs/benchmarks/weights.json --install

Streets are rendered with tuning seeds and without the shapes kept for judging; they are learned from as they are, and
by composites of what the product mines from them. Where `../shared/data` is present, composites of its cameras' first
two thirds are mixed in. `walt_edge_general` is trained on the mixture, exported, and the bundle itself is judged on
streets and shapes that it has never seen. The first line may run on another machine: the workspace travels.

    python -m benchmarks.weights --workspace DIR --renew --out docs/benchmarks/weights.json --install

trains nothing: the package's weights are suppressed as this version does, believed from a threshold that is chosen on
streets nobody learned from, and judged.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.grounds import DETECTOR, judged_on, learned_from, prepare, tuned_on
from benchmarks.report import Report, arguments
from walt_edge.contract.bundle import MODEL, Bundle, write_bundle
from walt_edge.contract.errors import WaltError
from walt_edge.contract.files import write_whole
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_edge.detector import Detector
from walt_edge.packaged import GENERAL_MODEL, general_model
from walt_edge.runtimes import Teacher
from walt_train.data import data_sets_in, open_samples
from walt_train.data.sample import AmodalSample, Samples
from walt_train.engine.launch import calm_threads, count_gpus, launch
from walt_train.engine.plan import Fit
from walt_train.metrics.amodal_iou import GAMMAS, evaluate_frames
from walt_train.metrics.origin import Contestant, refuse_unfair
from walt_train.metrics.threshold import choose_threshold
from walt_train.recipes import Recipe, walt_edge_general

OURS = "walt-general"
MOST_MB = 12.0
_QUICK_STEPS = 3
_MOVED_LEVELS = 25
_LEAST_PX = 64

Image = NDArray[np.uint8]
Looks = Callable[[Image], AmodalInstances]


def main() -> int:
    """Prepares, trains, exports, judges, and where told installs."""
    args = _arguments()
    try:
        return _run(args)
    except WaltError as error:
        sys.stderr.write(f"benchmarks.weights: {error}\n")
        return error.exit_code


def _arguments() -> argparse.Namespace:
    parser = arguments(__doc__)
    add = parser.add_argument
    add("--workspace", type=Path, required=True, metavar="DIR", help="everything is made there, and gone on with")
    add("--prepare-only", action="store_true", help="render and mine, then stop; the folder can travel")
    add("--train-only", action="store_true", help="stop at the checkpoint, which another machine exports and judges")
    add("--renew", action="store_true", help="the package's weights as they are, with this version's suppression")
    add("--gpu", action="store_true", help="train on a GPU (default: the CPU)")
    add("--start", type=Path, metavar="FILE", help="go on from a checkpoint or a bundle (general: the package's)")
    add("--steps", type=int, metavar="N", help="optimiser steps (the recipe's epochs)")
    add("--batch", type=int, metavar="N", help="pictures a step (the recipe's)")
    add("--install", action="store_true", help="put the bundle where the package is loaded from")
    return parser.parse_args()


def _run(args: argparse.Namespace) -> int:
    calm_threads()
    root: Path = args.workspace.resolve()
    if args.renew:
        prepare(root, is_quick=args.quick, learning=False)
        return _report(root, _renewed(root), [], args)
    if args.prepare_only or not (args.train_only or judged_on(root)):
        prepare(root, is_quick=args.quick)
    data = learned_from(root)
    if args.prepare_only:
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) / 1e6
        sys.stdout.write(
            f"{root}: {len(data)} kinds of data, {len(judged_on(root))} streets to judge on, {size:.1f} MB\n"
        )
        return 0
    steps = _QUICK_STEPS if args.quick and args.steps is None else args.steps
    checkpoint = _trained(root, data, _recipe(steps, args.batch, args.start, is_quick=args.quick), args)
    if args.train_only:
        sys.stdout.write(f"{checkpoint}\n")
        return 0
    return _report(root, _exported(root, checkpoint), data, args)


def _report(root: Path, bundle: Path, data: Sequence[Path], args: argparse.Namespace) -> int:
    lineage = Bundle.read(bundle).manifest.lineage
    report = Report("weights", {"seed": lineage.seed, "steps": lineage.steps})
    if data:
        report.facts["data sets"] = sum(len(data_sets_in(folder)) for folder in data)
    report.add("ONNX file", len(Bundle.read(bundle).files[MODEL]) / 1e6, "MB", target=MOST_MB, better="lower")
    for street in judged_on(root):
        refuse_unfair(Contestant(OURS, trained=lineage.trained), street, training=data)
    for name, look, threshold in _subjects(root, bundle):
        _judge(report, name, look, threshold, judged_on(root))
    report.finish(args.out)
    if args.install:
        GENERAL_MODEL.parent.mkdir(exist_ok=True)
        write_whole(GENERAL_MODEL, bundle.read_bytes())
    return 0


def _recipe(steps: int | None, batch: int | None, start: Path | None, *, is_quick: bool) -> Recipe:
    recipe = walt_edge_general() if steps is None else walt_edge_general().with_steps(steps)
    changes: dict[str, Any] = {} if batch is None else {"batch": batch}
    if start is not None:
        # What goes on for long may go far: half of the recipe's rate is left of this.
        changes["learning_rate"] = 2 * recipe.training.learning_rate
    if is_quick:
        changes = {"batch": 2, "validation": 4, "warm_up_steps": 1}
    return msgspec.structs.replace(recipe, training=msgspec.structs.replace(recipe.training, **changes))


def _trained(root: Path, data: Sequence[Path], recipe: Recipe, args: argparse.Namespace) -> Path:
    """The checkpoint; goes on where it was interrupted."""
    gpus = count_gpus(1 if args.gpu else 0)
    more = "" if args.start is None else f"-after-{args.start.stem}"
    out = root / "models" / f"{recipe.training.steps or 'whole'}-{args.seed}{more}"
    wanted = Fit(tuple(data), recipe, args.seed, out, gpu=gpus > 0, start=args.start)
    return launch(wanted, processes=gpus)


def _exported(root: Path, checkpoint: Path) -> Path:
    from walt_export.bundle import ExportOptions, export
    from walt_export.onnx import GraphOptions

    bundle = root / GENERAL_MODEL.name
    # Any number of pictures: several cameras on a GPU share one session, and one alone is no slower.
    made = export(checkpoint, ExportOptions(graph=GraphOptions(batch=True)))
    write_bundle(bundle, made.manifest, made.files)
    return bundle


def _renewed(root: Path) -> Path:
    from walt_export.renew import renewed

    bundle, old = root / GENERAL_MODEL.name, Bundle.read(general_model())
    write_bundle(bundle, *renewed(old, old.manifest.score_threshold))
    look = functools.partial(Detector.load(bundle, device="cpu").predict, score_threshold=0.0)
    write_bundle(bundle, *renewed(old, _threshold(look, root)))
    return bundle


def _threshold(look: Looks, root: Path) -> float:
    known = (sample for folder in tuned_on(root) for sample in _each(open_samples(folder, split="all")))
    return choose_threshold((look(sample.image_bgr), sample) for sample in known)


def _subjects(root: Path, bundle: Path) -> Iterator[tuple[str, Callable[[Samples], Looks], float]]:
    """By name: what looks at a street's pictures, and the threshold, which was chosen without the judges."""
    detector = Detector.load(bundle, device="cpu")
    ours = functools.partial(detector.predict, score_threshold=0.0)
    yield OURS, lambda _: ours, detector.manifest.score_threshold
    if DETECTOR.is_file():
        from walt_edge.runtimes.onnx_detector import OnnxDetector

        boxes = functools.partial(_boxes_of, OnnxDetector(DETECTOR))
        yield DETECTOR.stem, lambda _: boxes, _threshold(boxes, root)
    yield "motion against the median", _motion_in, 0.0


def _each(samples: Samples) -> Iterator[AmodalSample]:
    return (samples.sample(0, index) for index in range(len(samples)))


def _judge(
    report: Report, name: str, look_of: Callable[[Samples], Looks], threshold: float, streets: Sequence[Path]
) -> None:
    def pairs() -> Iterator[tuple[AmodalInstances, AmodalSample]]:
        for street in tqdm(streets, desc=name, disable=not sys.stderr.isatty()):
            samples = open_samples(street, split="all")
            look = look_of(samples)
            for sample in _each(samples):
                # Streets number their pictures alike; cases are told apart by name.
                yield look(sample.image_bgr), replace(sample, name=f"{street.name}/{sample.name}")

    found = evaluate_frames(pairs(), score_threshold=threshold)
    report.facts[f"{name}: threshold"] = round(threshold, 4)
    for gamma in GAMMAS:
        row = found.at_gamma[gamma]
        what = f"{name}: %s IoU at γ = {gamma:g}, {row.cases} cases of {row.objects} objects"
        report.add(what % "box", row.box_iou or 0.0, "points")
        if name == OURS:
            report.add(what % "mask", row.mask_iou or 0.0, "points")
    report.add(f"{name}: false boxes a frame", found.false_boxes / max(1, found.frames), better="lower")


def _boxes_of(detector: Teacher, picture: Image) -> AmodalInstances:
    """A detector's people and vehicles as boxes; of masks it says nothing."""
    seen = detector(picture)
    named = [index for index, label in enumerate(seen.labels) if label is not None]
    labels = [int(label) for label in seen.labels if label is not None]
    return _as_instances(picture, seen.boxes_xyxy[named], labels, np.asarray(seen.scores)[named])


def _motion_in(samples: Samples) -> Looks:
    """Looks for what differs from the median of a street's own pictures; what is upright is a person."""
    plate = np.median([sample.image_bgr for sample in _each(samples)], axis=0)

    def look(picture: Image) -> AmodalInstances:
        apart = (np.abs(picture - plate).max(axis=2) > _MOVED_LEVELS).astype(np.uint8)
        apart = cv2.morphologyEx(apart, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
        found = cv2.connectedComponentsWithStats(apart)[2][1:]
        left, top, width, height, _ = found[found[:, cv2.CC_STAT_AREA] >= _LEAST_PX].T
        boxes = np.stack([left, top, left + width, top + height], axis=1)
        labels = [int(label) for label in np.where(height > width, Label.PERSON, Label.VEHICLE)]
        return _as_instances(picture, boxes, labels, np.ones(len(boxes)))

    return look


def _as_instances(
    picture: Image, boxes_xyxy: NDArray[np.generic], labels: Sequence[int], scores: NDArray[np.float64]
) -> AmodalInstances:
    height, width = picture.shape[:2]
    boxes = np.clip(boxes_xyxy.astype(np.float32), 0, np.array([width, height, width, height], np.float32))
    nothing = (PatchMask.from_full(np.zeros((1, 1), bool)),) * len(boxes)
    return AmodalInstances(
        (width, height), boxes, np.array(labels, np.int64), scores.astype(np.float32), nothing, nothing, nothing
    )


if __name__ == "__main__":
    sys.exit(main())
