"""`walt-train`: trains a three-head amodal network on clip art or on labelled pictures."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from walt_edge.contract.errors import UsageError
from walt_train.clipart.chance import SEED_MAX
from walt_train.engine.launch import calm_threads, count_gpus, launch, parse_machines
from walt_train.engine.plan import Fit
from walt_train.recipes import RECIPES, Recipe, find_recipe

_HOME = "./walt"
_DATA_FILES = ("clipart.json", "annotations.json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument(
        "--data",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="clip art, or COCO, KINS or COCOA annotations, or a folder of such folders, which share its turns "
        "(the newest under WALT_HOME); several take turns",
    )
    parser.add_argument("--recipe", default="demo", help=f"what to train, and how: {', '.join(RECIPES)} (demo)")
    parser.add_argument("--gpus", type=int, metavar="N", help="a process for each; 0 is the CPU (all there are)")
    parser.add_argument("--processes", type=int, metavar="N", help="processes on the CPU, with --gpus 0 (1)")
    parser.add_argument(
        "--nodes",
        default="1",
        metavar="N|MIN:MAX",
        help="machines that run this command; with 1:4 they come and go (1)",
    )
    parser.add_argument("--rendezvous", metavar="HOST:PORT", help="one of the machines, where all of them meet")
    parser.add_argument(
        "--start",
        type=Path,
        metavar="FILE",
        help="begin with the weights of a checkpoint or a bundle, as far as they fit, at a quarter of the learning "
        "rate; general: those that come with the package (what walt_edge_camera does by itself)",
    )
    parser.add_argument("--steps", type=int, metavar="N", help="optimiser steps (the recipe says)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of everything random (0)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="gets checkpoint.pt (a folder under WALT_HOME)")


def run(args: argparse.Namespace) -> int:
    """Trains; returns the exit status."""
    calm_threads()
    if not 0 <= args.seed <= SEED_MAX:
        raise UsageError(f"seed {args.seed}: give 0 to {SEED_MAX}")
    recipe = _with_steps(find_recipe(args.recipe), args.steps)
    machines = parse_machines(args.nodes, args.rendezvous)
    gpus = count_gpus(args.gpus)
    processes = _processes(args.processes, gpus)
    home = Path(os.environ.get("WALT_HOME", _HOME))
    data = tuple(args.data or [_newest(home)])
    out = args.out or home / "training" / f"{recipe.name}-{data[0].resolve().name}-{args.seed}"
    if args.data is None or args.out is None:
        sys.stdout.write(f"training on {', '.join(map(str, data))} into {out}\n")
    wanted = Fit(data, recipe, args.seed, out, gpu=gpus > 0, start=args.start)
    checkpoint = launch(wanted, processes=processes, machines=machines)
    sys.stdout.write(f"{checkpoint}\n")
    return 0


def _processes(wanted: int | None, gpus: int) -> int:
    """On each machine; 0 is this one alone."""
    if wanted is None:
        return gpus
    if wanted < 1 or gpus:
        raise UsageError(f"--processes {wanted}: give 1 or more together with --gpus 0; a GPU has one process")
    return wanted


def _with_steps(recipe: Recipe, steps: int | None) -> Recipe:
    if steps is None:
        return recipe
    if steps < 1:
        raise UsageError(f"{steps} steps: give at least 1")
    return recipe.with_steps(steps)


def _newest(home: Path) -> Path:
    found = {path.parent: path.stat().st_mtime for name in _DATA_FILES for path in home.glob(f"**/{name}")}
    if not found:
        raise UsageError(f"no data set under {home}: give --data DIR, or mine one with walt-edge mine")
    # What lies in another one is a part of it: what each recording gave, what an earlier pose of the camera gave.
    whole = [folder for folder in found if not found.keys() & set(folder.parents)]
    return max(whole, key=found.__getitem__)
