"""What each part of the method is worth: one thing changed at a time, all else the same.

    python -m benchmarks.ablations --out docs/benchmarks/ablations.json

The heads, their activation and coupling, where clip art is put and in which order, its colours, what the anonymiser
took from it, and how sure mining has to be. Every variant is trained on the same streets with the same seeds and
judged on the exact truth of their later time; its difference from the method as it is has a paired interval by
physical object.
"""

from __future__ import annotations

import random
import shutil
import statistics
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import msgspec

from benchmarks.contest import (
    FPS,
    QUICK,
    Ground,
    Method,
    Subject,
    add_options,
    facts_of,
    gain,
    mean_iou,
    run_contest,
    shortened,
    trained_on,
)
from benchmarks.pictures import Bar, draw_bars
from benchmarks.report import Report, arguments
from walt_edge.contract.clipart import Clip, read_clipart, write_clipart
from walt_train.metrics.amodal_iou import GAMMAS
from walt_train.recipes import Recipe, find_recipe

AS_IT_IS = "as it is"
_HEADS: Mapping[str, dict[str, Any]] = {
    "no occluded head": {"occluded": False},
    "no occluder head": {"occluder": False},
    "amodal head alone": {"occluder": False, "occluded": False},
    "sigmoid": {"activation": "sigmoid"},
    "coupled": {"coupled": True},
    "no mask quality": {"quality": False},
}
_COMPOSITES: Mapping[str, dict[str, Any]] = {
    "original placement": {"placement": "original"},
    "spread placement": {"placement": "spread"},
    "random order": {"order": "random"},
    "colours as they were": {"harmonise": False},
}


def main() -> None:
    """Trains, judges, prints a table, writes JSON and a picture."""
    parser = arguments(__doc__)
    add_options(parser, streets=(9002,), seeds=(0, 1, 2), recipe="demo", which="what is changed")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of the variants")
    args = parser.parse_args()
    grounds = [Ground(street) for street in args.streets]
    if args.quick:
        grounds, args.seeds, args.steps = [QUICK], [0], 3
        args.only = args.only or ["coupled", "original placement"]
    recipe = shortened(find_recipe(args.recipe), args.steps)
    variants = variants_of(recipe)
    chosen = {name: variants[name] for name in (AS_IT_IS, *(args.only or list(variants)[1:]))}
    report = Report("ablations", facts_of(args, recipe, grounds))
    with tempfile.TemporaryDirectory() as folder:
        root = args.keep or Path(folder)
        subjects = run_contest(chosen, grounds, args.seeds, root, parallel=args.parallel)
        report.facts["trained on"] = trained_on(root)
    _rows(report, subjects)
    report.finish(args.out)
    if args.out is not None:
        _draw(subjects, args.out.with_suffix(".png"))


def variants_of(recipe: Recipe) -> dict[str, Method]:
    """The method as it is, first, and with one thing changed at a time."""
    variants = {AS_IT_IS: Method(recipe)}
    variants |= {name: Method(_with_branch(recipe, change)) for name, change in _HEADS.items()}
    variants |= {name: Method(_with_composites(recipe, change)) for name, change in _COMPOSITES.items()}
    variants["faces as they were"] = Method(recipe, _with_faces)
    variants["the surer half"] = Method(recipe, _surer_half)
    variants["any half"] = Method(recipe, _any_half)
    return variants


def _with_branch(recipe: Recipe, change: dict[str, Any]) -> Recipe:
    branch = msgspec.structs.replace(recipe.network.branch, **change)
    return msgspec.structs.replace(recipe, network=msgspec.structs.replace(recipe.network, branch=branch))


def _with_composites(recipe: Recipe, change: dict[str, Any]) -> Recipe:
    training = msgspec.structs.replace(recipe.training, compose=recipe.training.compose | change)
    return msgspec.structs.replace(recipe, training=training)


def _with_faces(ground: Path, folder: Path) -> None:
    """The same clips with the pixels of the rendered frames, which nobody has to be protected from."""

    def uncovered(clip: Clip) -> None:
        header = clip.header
        frame = cv2.imread(str(frames[round(header.captured.media_time_s * FPS)]))
        assert frame is not None
        height, width = header.mask.size
        left, top = header.crop_xy
        cv2.imwrite(str(folder / clip.image), frame[top : top + height, left : left + width])

    frames = sorted((ground / "first" / "images").iterdir())
    _changed(ground, folder, lambda clip: True)
    for clip in read_clipart(folder).clips:
        uncovered(clip)


def _surer_half(ground: Path, folder: Path) -> None:
    """Only the clips of which mining is surest: those from the median on."""
    least = statistics.median(_confidence(clip) for clip in read_clipart(ground / "clips").clips)
    _changed(ground, folder, lambda clip: _confidence(clip) >= least)


def _any_half(ground: Path, folder: Path) -> None:
    """As many clips, sure or not: what being fewer costs by itself."""
    images = [clip.image for clip in read_clipart(ground / "clips").clips]
    taken = set(random.Random(0).sample(images, (len(images) + 1) // 2))
    _changed(ground, folder, lambda clip: clip.image in taken)


def _confidence(clip: Clip) -> float:
    return clip.header.unoccluded_confidence if clip.confidence is None else clip.confidence


def _changed(ground: Path, folder: Path, wanted: Callable[[Clip], bool]) -> None:
    shutil.copytree(ground / "clips", folder)
    clipart = read_clipart(folder)
    write_clipart(folder, msgspec.structs.replace(clipart, clips=[clip for clip in clipart.clips if wanted(clip)]))


def _rows(report: Report, subjects: list[Subject]) -> None:
    whole = subjects[0].mean_cases()
    for subject in subjects:
        cases = subject.mean_cases()
        for gamma in GAMMAS:
            found, count = mean_iou(cases, gamma, "mask")
            if not count:
                continue
            what = f"{subject.name}: mask IoU at γ = {gamma:g}"
            report.add(f"{what}, {count} cases", found, "points")
            report.add(f"{what}, deviation over seeds", subject.spread(gamma, "mask"), "points", better="lower")
            if subject is not subjects[0]:
                points, interval = gain(cases, whole, gamma, "mask")
                report.add(f"{what}, minus as it is", points, "points")
                if interval is not None:
                    report.add(f"{what}, minus as it is, lower end of 95 %", interval[0], "points")
                    report.add(f"{what}, minus as it is, upper end", interval[1], "points")
        report.add(f"{subject.name}: false boxes a frame", subject.false_boxes(), better="lower")


def _draw(subjects: list[Subject], path: Path) -> None:
    whole, changed = subjects[0].mean_cases(), [subject.mean_cases() for subject in subjects[1:]]
    bars = []
    for gamma in GAMMAS:
        gains = [gain(cases, whole, gamma, "mask") for cases in changed]
        bars.append(Bar(f"γ = {gamma:g}", [points for points, _ in gains], [interval for _, interval in gains]))
    title = "Mask IoU x 100 minus the method as it is, with 95 % intervals by object"
    draw_bars(path, title, [subject.name for subject in subjects[1:]], bars)


if __name__ == "__main__":
    main()
