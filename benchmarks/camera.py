"""What a camera's own model knows more than the general one, by the product's own recipe for it.

    python -m benchmarks.camera --out docs/benchmarks/camera.json

Streets are rendered, their first ten minutes are mined, and `walt_edge_camera` goes on from the general weights on
what was mined. Both are judged on the exact truth of the street's later time, each at the threshold that its own
validation chose. With `--keep` an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import msgspec
from tqdm import tqdm

from benchmarks.contest import (
    QUICK,
    Ground,
    Method,
    Subject,
    add_options,
    each_once,
    evaluate_on,
    facts_of,
    gain,
    run_contest,
    shortened,
    trained_on,
)
from benchmarks.report import Report, arguments
from benchmarks.table1 import iou_rows, large_rows
from walt_edge.detector import Detector
from walt_train.metrics.amodal_iou import GAMMAS, AmodalIou
from walt_train.metrics.origin import Contestant, refuse_unfair
from walt_train.recipes import find_recipe

GENERAL, OWN = "general weights", "the camera's own"


def main() -> None:
    """Mines, trains, judges, prints a table, writes JSON."""
    parser = arguments(__doc__)
    add_options(parser, streets=(9001, 9002), seeds=(0,), recipe="walt_edge_camera", which="what is trained")
    args = parser.parse_args()
    grounds = [Ground(street) for street in args.streets]
    if args.quick:
        grounds, args.seeds, args.steps = [QUICK], [0], 3
    recipe = shortened(find_recipe(args.recipe), args.steps)
    if args.quick:
        training = msgspec.structs.replace(recipe.training, batch=2, validation=8, warm_up_steps=1)
        recipe = msgspec.structs.replace(recipe, training=training)
    report = Report("camera", facts_of(args, recipe, grounds))
    with tempfile.TemporaryDirectory() as folder:
        root = args.keep or Path(folder)
        (own,) = run_contest({OWN: Method(recipe)}, grounds, args.seeds, root, parallel=args.parallel)
        general = _general(grounds, root)
        report.facts["trained on"] = trained_on(root)
    iou_rows(report, [general, own])
    large_rows(report, [general, own], is_quick=args.quick)
    _differences(report, general, own, is_quick=args.quick)
    report.finish(args.out)


def _general(grounds: list[Ground], root: Path) -> Subject:
    detector = Detector.load(device="cpu")
    found: dict[tuple[int, int], AmodalIou] = {}
    for ground in tqdm(grounds, desc=GENERAL, disable=not sys.stderr.isatty()):
        refuse_unfair(Contestant(GENERAL, trained=detector.manifest.lineage.trained), ground.truth(root))
        threshold = detector.manifest.score_threshold
        found[0, ground.street] = evaluate_on(
            ground.truth(root), lambda frame: detector.predict(frame.image_bgr), threshold
        )
    return Subject(GENERAL, found)


def _differences(report: Report, general: Subject, own: Subject, *, is_quick: bool) -> None:
    """The camera's own minus the general one, on the same cases."""
    for gamma in GAMMAS:
        for words, cases in {
            "": (own.mean_cases(), general.mean_cases()),
            ", each object once": (each_once(own.mean_cases(), gamma), each_once(general.mean_cases(), gamma)),
        }.items():
            points, interval = gain(*cases, gamma, "mask")
            if interval is None:
                continue
            what = f"{OWN} minus {GENERAL}, mask IoU at γ = {gamma:g}{words}"
            report.add(what, points, "points")
            goal = None if is_quick or words else 0.0
            report.add(f"{what}, lower end of 95 %, paired by object", interval[0], "points", target=goal)
            report.add(f"{what}, upper end", interval[1], "points")


if __name__ == "__main__":
    main()
