"""Methods compared as networks of many cameras that stand still, each shown what differs from its empty scene.

    python -m benchmarks.sites --keep DIR --prepare-only
    python -m benchmarks.sites --keep DIR --out docs/benchmarks/sites.json

Hundreds of streets are rendered with exact truth, with tuning seeds and shapes; the first ten minutes of those
that judge are mined. Every method, `walt_edge_site` with its mask branch, learns both at once. Judged is the exact
truth of the later time of the cameras whose first time was learned. `--longer N` trains WALT-Net once more for so
many steps of 32 pictures.

On a machine with a GPU several calls may share the work: each with `--only METHOD` and a folder in common.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import msgspec
import torch
from tqdm import tqdm

from benchmarks.contest import (
    MACHINE,
    QUICK,
    Ground,
    Subject,
    add_options,
    facts_of,
    judge,
    plain,
    share_out,
    shortened,
    trained_on,
)
from benchmarks.grounds import Street, varied
from benchmarks.report import Report, arguments, machine
from benchmarks.streets import compress
from benchmarks.table1 import METHODS, OURS, difference_rows, iou_rows, large_rows
from walt_train.clipart.settings import JUDGING
from walt_train.data import open_samples
from walt_train.engine.launch import calm_threads, launch
from walt_train.engine.plan import Fit
from walt_train.engine.scenes import SceneSamples
from walt_train.metrics.amodal_iou import AmodalIou
from walt_train.recipes import Recipe, find_recipe
from walt_train.rwalt import Output, StreetConfig, write_dataset

LONGER = "WALT-Net, longer"
FIRST_SEED, STREETS, FRAMES = 301, 400, 24
_LONGER_BATCH = 32
_QUICK = ("Mask R-CNN, amodal", OURS)
_EVERY_S = 5


@dataclass(frozen=True, slots=True)
class Contender:
    """One training of a contest: a method and a seed.

    Attributes:
        name: Of the method.
        recipe: Its whole configuration.
        seed: Of the training.
        grounds: The streets whose first time it learns and whose later time judges it.
        root: Everything is kept there.
    """

    name: str
    recipe: Recipe
    seed: int
    grounds: tuple[Ground, ...]
    root: Path

    @property
    def out(self) -> Path:
        """Where the network goes, and what it reached."""
        return self.root / "models" / f"{plain(self.name)}-{self.recipe.training.steps}-{self.seed}"


def main() -> None:
    """Renders, mines, trains, judges, prints a table, writes JSON."""
    args = _arguments()
    calm_threads()
    grounds = (QUICK,) if args.quick else tuple(Ground(street) for street in args.streets)
    recipes = _recipes(args)
    with tempfile.TemporaryDirectory() as folder:
        root = (args.keep or Path(folder)).resolve()
        streets = _prepare(root, grounds, args)
        if args.prepare_only:
            return
        subjects = _contest(recipes, grounds, args, root)
        if args.only:
            return
        report = Report("sites", facts_of(args, recipes[OURS], grounds) | {"rendered streets": streets})
        report.facts["trained on"] = trained_on(root)
    iou_rows(report, subjects)
    large_rows(report, subjects, is_quick=args.quick)
    difference_rows(report, [one for one in subjects if one.name != LONGER], is_quick=args.quick)
    report.finish(args.out)


def _arguments() -> argparse.Namespace:
    parser = arguments(__doc__)
    add_options(parser, streets=(9001, 9002), seeds=(0, 1, 2), recipe="walt_edge_site", which="without a method")
    add = parser.add_argument
    add("--batch", type=int, metavar="N", help="pictures a step (the recipe's)")
    add("--longer", type=int, metavar="N", help=f"steps of {_LONGER_BATCH} pictures of one WALT-Net more")
    add("--rendered", type=int, default=STREETS, metavar="N", help=f"streets to learn from ({STREETS})")
    add("--only", nargs="+", metavar="METHOD", help="train and judge these, and say nothing")
    add("--prepare-only", action="store_true", help="render and mine, then stop")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.steps, args.batch, args.rendered = [0], 2, 2, 2
    return args


def _recipes(args: argparse.Namespace) -> Mapping[str, Recipe]:
    recipes = {
        title: shortened(find_recipe(f"{args.recipe}:{name}" if name else args.recipe), args.steps, args.batch)
        for title, name in METHODS.items()
        if not args.quick or title in _QUICK
    }
    if args.longer:
        recipes[LONGER] = shortened(find_recipe(args.recipe), args.longer, _LONGER_BATCH)
    return {name: _lightened(recipe) for name, recipe in recipes.items()} if args.quick else recipes


def _lightened(recipe: Recipe) -> Recipe:
    training = msgspec.structs.replace(recipe.training, validation=8, warm_up_steps=1)
    return msgspec.structs.replace(recipe, training=training)


def _prepare(root: Path, grounds: Sequence[Ground], args: argparse.Namespace) -> int:
    """Renders and mines what is missing; returns how many streets there are to learn from."""
    for ground in grounds:
        ground.prepare(root)
        link = root / "clips" / str(ground.street)
        link.parent.mkdir(exist_ok=True)
        if not link.exists():
            link.symlink_to(Path("..", str(ground.street), "clips"))
    seeds = range(FIRST_SEED, FIRST_SEED + args.rendered)
    frames = 4 if args.quick else FRAMES
    todo = {_folder(root, street): street for street in map(varied, seeds)}
    missing = {folder: street for folder, street in todo.items() if not folder.is_dir()}
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), get_context("spawn")) as pool:
        done = pool.map(functools.partial(_render, frames), missing, missing.values())
        for _ in tqdm(done, total=len(missing), desc="streets", disable=not sys.stderr.isatty()):
            pass
    return len(todo)


def _folder(root: Path, street: Street) -> Path:
    return root / f"scenes {street.preset}" / str(street.seed)


def _render(frames: int, folder: Path, street: Street) -> None:
    size = street.size.split("x")
    config = StreetConfig(
        seed=street.seed,
        frames=frames,
        size_wh=(int(size[0]), int(size[1])),
        fps=1 / _EVERY_S,
        preset=street.preset,
        light=street.light,
        shapes="tuning",
    )
    partial = folder.with_name(f".{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    for _ in write_dataset(config, Output(partial), workers=1):
        pass
    compress(partial / "images")
    partial.rename(folder)


def _contest(
    recipes: Mapping[str, Recipe], grounds: tuple[Ground, ...], args: argparse.Namespace, root: Path
) -> list[Subject]:
    seeds = {name: [args.seeds[0]] if name == LONGER else args.seeds for name in recipes}
    asked = args.only or list(recipes)
    todo = [Contender(name, recipes[name], seed, grounds, root) for name in asked for seed in seeds[name]]
    results = tqdm(
        share_out(_one, todo, args.parallel), total=len(todo), desc="trainings", disable=not sys.stderr.isatty()
    )
    found: dict[str, dict[tuple[int, int], AmodalIou]] = {}
    for contender, by_street in zip(todo, results, strict=True):
        own = found.setdefault(contender.name, {})
        own |= {(contender.seed, int(street)): result for street, result in by_street.items()}
    return [Subject(name, own) for name, own in found.items()]


def _one(contender: Contender) -> dict[str, AmodalIou]:
    """Trains and judges one; what is there already is not done again. Returns by street what it reached."""
    file = contender.out / "found.json"
    if not file.is_file():
        root = contender.root
        data = tuple(root / part for part in ("scenes street", "scenes busy", "clips") if (root / part).is_dir())
        gpu = torch.cuda.is_available()
        checkpoint = launch(Fit(data, contender.recipe, contender.seed, contender.out, gpu=gpu), processes=0)
        reached = {}
        for ground in contender.grounds:
            clips = ground.clips(root)
            scene = SceneSamples(open_samples(clips, split="train", per_epoch=64, settings=JUDGING)).scene
            reached[str(ground.street)] = judge(checkpoint, ground.truth(root), training=[clips], scene_bgr=scene)
        (contender.out / MACHINE).write_text(json.dumps(machine()))
        file.write_bytes(msgspec.json.encode(reached))
    return msgspec.json.decode(file.read_bytes(), type=dict[str, AmodalIou])


if __name__ == "__main__":
    main()
