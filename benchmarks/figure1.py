"""The paper's Figure 1: clip art sampled by tracking converges faster than clip art sampled naively.

    python -m benchmarks.figure1 --out docs/benchmarks/figure1.json

The same streets, number of clips, plates, recipe and seeds; only the sampling of the clips differs. Tracked: whole
tracks judged late, one physical object once (`walt-edge mine`). Naive: silhouettes of random frames
(`benchmarks.naive`). Every budget of optimiser steps is a training of its own with its whole schedule, judged on the
exact truth of the street's later time. A picture of the two curves lies beside the figures.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.contest import QUICK, Ground, Method, Subject, gain, mean_iou, run_contest, shortened, trained_on
from benchmarks.naive import quality, sample_naively
from benchmarks.pictures import Curve, draw_curves
from benchmarks.report import Report, arguments
from benchmarks.streets import read_truth
from walt_edge.contract.clipart import read_clipart
from walt_train.metrics.amodal_iou import GAMMAS
from walt_train.recipes import Recipe, find_recipe

TRACKED, NAIVE = "tracked", "naive"

Found = Mapping[int, Mapping[str, Subject]]
"""By budget and sampling."""


def main() -> None:
    """Samples, trains, judges, prints a table, writes JSON and a picture."""
    args = _arguments()
    grounds = [QUICK] if args.quick else [Ground(street) for street in args.streets]
    budgets, seeds = ([2, 4], [0]) if args.quick else (sorted(set(args.budgets)), args.seeds)
    facts = {
        "recipe": args.recipe,
        "budgets": " ".join(map(str, budgets)),
        "seeds": " ".join(map(str, seeds)),
        "streets": " ".join(str(ground.street) for ground in grounds),
    }
    report = Report("figure1", facts)
    with tempfile.TemporaryDirectory() as folder:
        root = args.keep or Path(folder)
        recipe = find_recipe(args.recipe)
        found = {steps: _contest(shortened(recipe, steps), grounds, seeds, root, args.parallel) for steps in budgets}
        _materials(report, grounds, root)
        report.facts["trained on"] = trained_on(root)
    for steps, subjects in found.items():
        _rows(report, steps, subjects)
    _catching_up(report, found)
    report.finish(args.out)
    if args.out is not None:
        draw_curves(
            args.out.with_suffix(".png"),
            "Sampling whole objects by tracking, and naively",
            "optimiser steps",
            "Mask IoU x 100, misses 0",
            curves(found),
        )


def _arguments() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--streets", type=int, nargs="+", default=[9002], metavar="SEED")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="S", help="of the training")
    parser.add_argument("--budgets", type=int, nargs="+", default=[100, 200, 400, 800], metavar="N", help="steps")
    parser.add_argument("--recipe", default="demo", help="what learns (demo)")
    parser.add_argument("--parallel", type=int, default=1, metavar="N", help="trainings at a time (1)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work there and go on with what is there")
    return parser.parse_args()


def _contest(
    recipe: Recipe, grounds: Sequence[Ground], seeds: Sequence[int], root: Path, parallel: int
) -> dict[str, Subject]:
    methods = {TRACKED: Method(recipe), NAIVE: Method(recipe, sample_naively)}
    return {subject.name: subject for subject in run_contest(methods, grounds, seeds, root, parallel=parallel)}


def _materials(report: Report, grounds: Sequence[Ground], root: Path) -> None:
    """How much of each material is what it is taken for."""
    for ground in grounds:
        place = root / str(ground.street)
        truth = read_truth(place / "first")
        for name, folder in ((TRACKED, ground.clips(root)), (NAIVE, place / f"clips-{NAIVE}")):
            seen = quality(read_clipart(folder).clips, truth)
            what = f"street {ground.street}, {name}"
            report.add(f"{what}: clips", seen.clips)
            report.add(f"{what}: true objects that they show", seen.objects)
            report.add(f"{what}: clips that are truly whole", 100 * seen.whole / max(1, seen.clips), "%")
            report.add(f"{what}: clips of the right class", 100 * seen.right_class / max(1, seen.clips), "%")


def _rows(report: Report, steps: int, subjects: Mapping[str, Subject]) -> None:
    for gamma in GAMMAS:
        for name, subject in subjects.items():
            mean, count = mean_iou(subject.mean_cases(), gamma, "mask")
            what = f"{steps} steps, {name}: mask IoU at γ = {gamma:g}"
            if count:
                report.add(f"{what}, {count} cases", mean, "points")
                report.add(f"{what}, deviation over seeds", subject.spread(gamma, "mask"), "points", better="lower")
        points, interval = gain(subjects[TRACKED].mean_cases(), subjects[NAIVE].mean_cases(), gamma, "mask")
        what = f"{steps} steps, tracked minus naive at γ = {gamma:g}"
        if interval is not None:
            report.add(what, points, "points")
            report.add(f"{what}, lower end of 95 %, paired by object", interval[0], "points")
            report.add(f"{what}, upper end", interval[1], "points")
    for name, subject in subjects.items():
        report.add(f"{steps} steps, {name}: false boxes a frame", subject.false_boxes(), better="lower")


def _catching_up(report: Report, found: Found) -> None:
    """The least budget that takes the tracked material to the best that the naive one reaches with any."""
    for gamma in GAMMAS:
        tracked, naive = (
            {steps: mean_iou(subjects[name].mean_cases(), gamma, "mask")[0] for steps, subjects in found.items()}
            for name in (TRACKED, NAIVE)
        )
        best = max(naive.values())
        enough = [steps for steps, mean in tracked.items() if mean >= best > 0]
        if enough:
            what = f"steps until tracked reaches the best of naive (of {max(found)} at most) at γ = {gamma:g}"
            report.add(what, min(enough), "steps", better="lower")


def curves(found: Found) -> dict[str, Curve]:
    """What each sampling reaches, by budget and seed."""
    places = np.array(list(found), np.float64)
    drawn = {}
    for gamma in GAMMAS:
        for name in (TRACKED, NAIVE):
            values = np.array([subjects[name].by_seed(gamma, "mask") for subjects in found.values()])
            if np.isfinite(values).all():
                drawn[f"{name}, γ = {gamma:g}"] = Curve(places, values.T)
    return drawn


if __name__ == "__main__":
    main()
