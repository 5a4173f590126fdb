"""The paper's table by a command: every method on the same data, backbone, schedule and seeds.

    python -m benchmarks.table1 --out docs/benchmarks/table1.json

Streets are rendered, their first part is mined and composited, and each method is trained on the same composites with
the same recipe; only its mask branch differs. They are judged on the exact truth of the street's later time. The
paper's own figures, on its own data, stand beside ours as facts: they are no target of this data set. A picture of
the bars lies beside the figures.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.contest import (
    QUICK,
    Ground,
    Method,
    Subject,
    add_options,
    each_once,
    facts_of,
    gain,
    mean_iou,
    run_contest,
    shortened,
    trained_on,
)
from benchmarks.pictures import Bar, draw_bars
from benchmarks.report import Report, arguments
from walt_edge.contract.labels import Label
from walt_train.metrics.amodal_iou import GAMMAS
from walt_train.metrics.by_class import ASKED, is_large
from walt_train.recipes import find_recipe

OURS, ADAPTED = "WALT-Net", "WALT-Net that began with general weights"
METHODS = {
    "Mask R-CNN, visible": "mask_rcnn_visible",
    "Mask R-CNN, amodal": "mask_rcnn_amodal",
    "ASN": "asn",
    "BCNet": "bcnet",
    OURS: "",
}
PAPER = {
    "Mask R-CNN, visible": (76.23, 68.62, 55.44, 37.29),
    "ASN": (82.72, 79.38, 79.45, 76.91),
    "BCNet": (86.47, 82.23, 82.79, 77.44),
    "WALT-Net": (91.9, 91.71, 92.19, 91.70),
}
"""Box at γ = 0.01 and 0.5, mask at γ = 0.01 and 0.5; none is given for Mask R-CNN on amodal masks."""
GAIN_TARGET = 1.0
LARGE = {Label.VEHICLE: (90.0, 87.0), Label.PERSON: (82.0, 76.0)}
"""Mask IoU that WALT-Net is to reach on large objects at each γ."""


def main() -> None:
    """Trains, judges, prints a table, writes JSON and a picture."""
    parser = arguments(__doc__)
    add_options(parser, streets=(9001, 9002), seeds=(0, 1, 2), recipe="demo", which="without a method")
    parser.add_argument("--batch", type=int, metavar="N", help="pictures a step (the recipe's)")
    parser.add_argument(
        "--start",
        type=Path,
        metavar="FILE",
        help="one row more: WALT-Net that begins so (general: the package's)",
    )
    args = parser.parse_args()
    grounds = [Ground(street) for street in args.streets]
    if args.quick:
        grounds, args.seeds, args.steps = [QUICK], [0], 3
    methods = {
        title: Method(
            shortened(find_recipe(f"{args.recipe}:{name}" if name else args.recipe), args.steps, args.batch)
        )
        for title, name in METHODS.items()
    }
    if args.start is not None:
        methods[ADAPTED] = Method(methods[OURS].recipe, start=args.start)
    report = Report("table1", facts_of(args, methods[OURS].recipe, grounds))
    with tempfile.TemporaryDirectory() as folder:
        root = args.keep or Path(folder)
        subjects = run_contest(methods, grounds, args.seeds, root, parallel=args.parallel)
        report.facts["trained on"] = trained_on(root)
    iou_rows(report, subjects)
    large_rows(report, subjects, is_quick=args.quick)
    difference_rows(report, subjects, is_quick=args.quick)
    report.finish(args.out)
    if args.out is not None:
        _draw(subjects, args.out.with_suffix(".png"))


def iou_rows(report: Report, subjects: list[Subject]) -> None:
    """Of each subject its IoU by γ, over cases and with each object once, and its false boxes."""
    for subject in subjects:
        cases = subject.mean_cases()
        for place, (kind, gamma) in enumerate((kind, gamma) for kind in ("box", "mask") for gamma in GAMMAS):
            found, count = mean_iou(cases, gamma, kind)
            if not count:
                continue
            what = f"{subject.name}: {kind} IoU at γ = {gamma:g}"
            objects = {case.object for case in cases if case.occlusion >= gamma}
            report.add(f"{what}, {count} cases of {len(objects)} objects", found, "points")
            report.add(
                f"{what}, standard deviation over seeds", subject.spread(gamma, kind), "points", better="lower"
            )
            if subject.name in PAPER:
                report.add(f"{what}, the paper on its own data", PAPER[subject.name][place], "points")
        for gamma in GAMMAS:
            once = each_once(cases, gamma)
            if once:
                what = f"{subject.name}: mask IoU at γ = {gamma:g}, each of {len(once)} objects once"
                report.add(what, mean_iou(once, gamma, "mask")[0], "points")
        report.add(f"{subject.name}: false boxes a frame", subject.false_boxes(), better="lower")


def large_rows(report: Report, subjects: list[Subject], *, is_quick: bool) -> None:
    """Large objects of each class: the last subject's rows, which are ours at its best, have targets."""
    for subject in subjects:
        wanted = LARGE if subject is subjects[-1] and not is_quick else {}
        for label, asked in ASKED.items():
            cases = [case for case in subject.mean_cases() if case.label == label and is_large(case)]
            for place, gamma in enumerate(GAMMAS):
                found, count = mean_iou(cases, gamma, "mask")
                if count:
                    objects = len({case.object for case in cases if case.occlusion >= gamma})
                    what = f"{subject.name}: {label.title}, {asked}, mask IoU at γ = {gamma:g}"
                    goal = wanted[label][place] if label in wanted else None
                    report.add(f"{what}, {count} cases of {objects} objects", found, "points", target=goal)


def difference_rows(report: Report, subjects: list[Subject], *, is_quick: bool) -> None:
    """WALT-Net minus the best of the others, which is chosen on the same cases: the hardest comparison for it."""
    others = {subject.name: subject.mean_cases() for subject in subjects if subject.name != ADAPTED}
    ours = others.pop(OURS)
    for gamma in GAMMAS:
        if not mean_iou(ours, gamma, "mask")[1]:
            continue
        best = max(others, key=lambda name: mean_iou(others[name], gamma, "mask")[0])
        points, interval = gain(ours, others[best], gamma, "mask")
        goal = GAIN_TARGET if gamma == max(GAMMAS) and not is_quick else None
        what = f"WALT-Net minus the best other ({best}), mask IoU at γ = {gamma:g}"
        report.add(what, points, "points", target=goal)
        if interval is not None:
            low = 0.0 if goal is not None else None
            report.add(f"{what}, lower end of 95 %, paired by object", interval[0], "points", target=low)
            report.add(f"{what}, upper end", interval[1], "points")
        points, interval = gain(each_once(ours, gamma), each_once(others[best], gamma), gamma, "mask")
        if interval is not None:
            report.add(f"{what}, each object once", points, "points")
            report.add(f"{what}, each object once, lower end of 95 %", interval[0], "points")
            report.add(f"{what}, each object once, upper end", interval[1], "points")


def _draw(subjects: list[Subject], path: Path) -> None:
    cases = [subject.mean_cases() for subject in subjects]
    bars = [Bar(f"γ = {gamma:g}", [mean_iou(each, gamma, "mask")[0] for each in cases]) for gamma in GAMMAS]
    draw_bars(path, "Mask IoU x 100, misses 0", [subject.name for subject in subjects], bars)


if __name__ == "__main__":
    main()
