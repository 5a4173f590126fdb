"""What comparisons of methods share: the same clip art, schedule and seeds, and truth that took part in nothing.

A ground is one rendered street: its first part is mined by the product's own commands, its later part is truth. The
networks are trained and judged in torch, so that whatever a method is exported to plays no part.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing.queues import Queue
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.report import machine
from benchmarks.streets import compress
from walt_edge.contract.instances import AmodalInstances
from walt_train.data import open_samples
from walt_train.data.sample import AmodalSample
from walt_train.engine.checkpoint import load_model
from walt_train.engine.launch import calm_threads, launch
from walt_train.engine.plan import Fit
from walt_train.engine.scenes import show_scene
from walt_train.engine.validate import predict_frame
from walt_train.metrics.amodal_iou import AmodalIou, Case, evaluate_frames
from walt_train.metrics.bootstrap import Interval, mean_intervals
from walt_train.metrics.origin import Contestant, refuse_unfair
from walt_train.recipes.recipe import Recipe

FPS = 10
TRUTH_EVERY_S = 2.5
MACHINE = "machine.json"

_Call = TypeVar("_Call")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Ground:
    """A street to compare on, and how it is rendered.

    Attributes:
        street: Seed; 9000 and more are kept for judging and never tuned on.
        frames: Of its first part, 10 a second, which is mined.
        later: Of its later part, one in 2.5 seconds: many things rather than many pictures.
        size: WxH.
        preset: How much goes on.
    """

    street: int
    frames: int = 6000
    later: int = 180
    size: str = "768x432"
    preset: str = "street"

    def clips(self, root: Path) -> Path:
        """Where its clip art is."""
        return root / str(self.street) / "clips"

    def truth(self, root: Path) -> Path:
        """Where its later part is."""
        return root / str(self.street) / "truth"

    def prepare(self, root: Path) -> None:
        """Renders and mines it, unless that has been done; what was made of another ground there is removed."""
        done = root / str(self.street) / "ground.json"
        facts = json.dumps(asdict(self))
        if done.is_file() and done.read_text() == facts:
            return
        for part in ("first", "truth", "clips*", "models"):
            for stale in done.parent.glob(part):
                shutil.rmtree(stale)
        look = ["--seed", str(self.street), "--light", "day", "--size", self.size, "--preset", self.preset]
        first = done.with_name("first")
        _call("walt-train", "rwalt", *look, "--frames", str(self.frames), "--out", str(first))
        skipped = math.ceil(self.frames / FPS / TRUTH_EVERY_S)
        later = ["--fps", str(1 / TRUTH_EVERY_S), "--skip", str(skipped), "--frames", str(self.later)]
        _call("walt-train", "rwalt", *look, *later, "--out", str(self.truth(root)))
        compress(self.truth(root) / "images")
        mined = ["--input", str(first / "images"), "--fps", str(FPS), "--out", str(self.clips(root))]
        _call("walt-edge", "mine", *mined)
        done.write_text(facts)


QUICK = Ground(5, frames=240, later=24, size="640x360")
"""Small, with enough seen whole to train on; none of those kept for judging."""


def _call(program: str, *words: str) -> None:
    beside = Path(sys.executable).with_name(program)
    subprocess.run([str(beside), *words], check=True, stdout=subprocess.DEVNULL)


def add_options(
    parser: argparse.ArgumentParser, *, streets: Sequence[int], seeds: Sequence[int], recipe: str, which: str
) -> None:
    """The options that every contest has, with its own defaults; `which` says what the recipe is to it."""
    add = parser.add_argument
    add("--streets", type=int, nargs="+", default=list(streets), metavar="SEED")
    add("--seeds", type=int, nargs="+", default=list(seeds), metavar="S", help="of the training")
    add("--recipe", default=recipe, help=f"{which} ({recipe})")
    add("--steps", type=int, metavar="N", help="optimiser steps (the recipe's)")
    add("--parallel", type=int, default=1, metavar="N", help="trainings at a time (1)")
    add("--keep", type=Path, metavar="DIR", help="work there and go on with what is there")


def facts_of(args: argparse.Namespace, recipe: Recipe, grounds: Sequence[Ground]) -> dict[str, str | int | float]:
    """How a contest was run, for its report."""
    return {
        "recipe": args.recipe,
        "steps": recipe.training.steps,
        "pictures a step": recipe.training.batch,
        "seeds": " ".join(map(str, args.seeds)),
        "streets": " ".join(str(ground.street) for ground in grounds),
    }


def shortened(recipe: Recipe, steps: int | None, batch: int | None = None) -> Recipe:
    """The recipe with another number of steps, and of pictures in each, where they are given."""
    recipe = recipe if steps is None else recipe.with_steps(steps)
    training = recipe.training if batch is None else msgspec.structs.replace(recipe.training, batch=batch)
    return msgspec.structs.replace(recipe, training=training)


def train(recipe: Recipe, data: Path, seed: int, out: Path, start: Path | None = None) -> Path:
    """Trains in this process, on a GPU where there is one; a folder that is trained already is taken as it is."""
    calm_threads()
    return launch(Fit((data,), recipe, seed, out, gpu=torch.cuda.is_available(), start=start), processes=0)


def judge(
    checkpoint: Path, truth: Path, *, training: Sequence[Path], scene_bgr: NDArray[np.uint8] | None = None
) -> AmodalIou:
    """Evaluates a checkpoint on every frame of the truth, at the threshold that its own validation chose.

    Args:
        checkpoint: Of the network.
        truth: Folder of the frames.
        training: Folders that it was trained on.
        scene_bgr: The camera's empty scene, for a network of many cameras; None for its own.

    Raises:
        OriginError: The truth is what it was trained on.
    """
    net, manifest = load_model(checkpoint)
    refuse_unfair(Contestant(manifest.recipe.name, trained=manifest.trained), truth, training=training)
    if scene_bgr is not None:
        show_scene(net, scene_bgr)
    net = net.to("cuda" if torch.cuda.is_available() else "cpu")
    threshold = manifest.score_threshold
    return evaluate_on(truth, lambda frame: predict_frame(net, frame, threshold), threshold)


def evaluate_on(truth: Path, look: Callable[[AmodalSample], AmodalInstances], threshold: float) -> AmodalIou:
    """What whoever looks reaches on every frame of the truth."""
    samples = open_samples(truth, split="all")
    frames = (samples.sample(0, index) for index in range(len(samples)))
    return evaluate_frames(((look(frame), frame) for frame in frames), score_threshold=threshold)


@dataclass(frozen=True, slots=True)
class Subject:
    """One method in a contest: by seed and street what it reached."""

    name: str
    found: Mapping[tuple[int, int], AmodalIou]

    def mean_cases(self) -> list[Case]:
        """Every case once, with the mean of its IoU over the seeds."""
        grouped: dict[tuple[object, ...], list[Case]] = {}
        for (_, street), result in sorted(self.found.items()):
            for case in result.cases:
                grouped.setdefault((street, *case.truth), []).append(case)
        return [
            msgspec.structs.replace(
                cases[0],
                object=f"{key[0]}/{cases[0].object}",
                box_iou=float(np.mean([case.box_iou for case in cases])),
                mask_iou=float(np.mean([case.mask_iou for case in cases])),
            )
            for key, cases in grouped.items()
        ]

    def false_boxes(self) -> float:
        """A frame, over all seeds and streets."""
        results = self.found.values()
        return sum(one.false_boxes for one in results) / max(1, sum(one.frames for one in results))

    def by_seed(self, gamma: float, kind: str) -> list[float]:
        """The mean IoU x 100 of each seed, over all streets."""
        by_seed: dict[int, list[Case]] = {}
        for (seed, _), one in sorted(self.found.items()):
            by_seed.setdefault(seed, []).extend(one.cases)
        return [mean_iou(cases, gamma, kind)[0] for cases in by_seed.values()]

    def spread(self, gamma: float, kind: str) -> float:
        """Standard deviation of `by_seed`."""
        means = self.by_seed(gamma, kind)
        return float(np.std(means, ddof=1)) if len(means) > 1 else 0.0


def mean_iou(cases: Iterable[Case], gamma: float, kind: str) -> tuple[float, int]:
    """Mean IoU x 100 at γ with misses 0, and the number of cases."""
    values = [100 * getattr(case, f"{kind}_iou") for case in cases if case.occlusion >= gamma]
    return (float(np.mean(values)) if values else float("nan")), len(values)


def each_once(cases: Iterable[Case], gamma: float) -> list[Case]:
    """One case for each physical object at γ, with the means of its own.

    Who stands half hidden for minutes is a case in every frame, and would outvote all others together.
    """
    grouped: dict[str, list[Case]] = {}
    for case in cases:
        if case.occlusion >= gamma:
            grouped.setdefault(case.object, []).append(case)
    return [
        msgspec.structs.replace(
            own[0],
            box_iou=float(np.mean([case.box_iou for case in own])),
            mask_iou=float(np.mean([case.mask_iou for case in own])),
        )
        for own in grouped.values()
    ]


def gain(one: Sequence[Case], other: Sequence[Case], gamma: float, kind: str) -> tuple[float, Interval | None]:
    """`one` minus `other` on the same cases, points, with its paired 95 % interval by physical object."""
    others = {(case.object, *case.truth): case for case in other}
    pairs = [(case, others[case.object, *case.truth]) for case in one if case.occlusion >= gamma]
    apart = np.array([[100 * (getattr(a, f"{kind}_iou") - getattr(b, f"{kind}_iou"))] for a, b in pairs])
    if not len(apart):
        return float("nan"), None
    intervals = mean_intervals(apart, [case.object for case, _ in pairs], seed=0)
    return float(apart.mean()), None if intervals is None else intervals[0]


@dataclass(frozen=True, slots=True)
class Method:
    """What is compared: a recipe, and what it learns from.

    Attributes:
        recipe: The whole configuration.
        material: Makes other clip art of a ground's folder, given (ground's folder, where to put it); None takes the
            ground's own.
        start: A checkpoint or bundle with whose weights it begins; None begins at random.
    """

    recipe: Recipe
    material: Callable[[Path, Path], None] | None = None
    start: Path | None = None


def run_contest(
    methods: Mapping[str, Method], grounds: Sequence[Ground], seeds: Sequence[int], root: Path, *, parallel: int = 1
) -> list[Subject]:
    """Trains and judges every method on every ground with every seed; what is there already is not done again.

    Args:
        methods: By name.
        grounds: Are prepared first.
        seeds: Of the trainings.
        root: Everything is kept there.
        parallel: How many trainings run at a time, each on its share of the cores; they may share a GPU.
    """
    for ground in grounds:
        ground.prepare(root)
        for name, method in methods.items():
            _clips(name, method, ground, root)
    todo = [(name, seed, ground) for seed in seeds for name in methods for ground in grounds]
    calls = [(name, methods[name], ground, seed, root) for name, seed, ground in todo]
    results = tqdm(
        share_out(_one, calls, parallel), total=len(todo), desc="trainings", disable=not sys.stderr.isatty()
    )
    found = {(name, seed, ground.street): result for (name, seed, ground), result in zip(todo, results, strict=True)}
    return [
        Subject(name, {(seed, street): result for (own, seed, street), result in found.items() if own == name})
        for name in methods
    ]


Call = tuple[str, Method, Ground, int, Path]
"""What `_one` is asked."""


def share_out(work: Callable[[_Call], _Result], calls: Sequence[_Call], parallel: int) -> Iterator[_Result]:
    """Every call's result in order; of several processes each has cores of its own, or they would only wait."""
    if parallel == 1:
        yield from map(work, calls)
        return
    context = multiprocessing.get_context("spawn")
    shares: Queue[list[int]] = context.Queue()
    cores = sorted(os.sched_getaffinity(0))
    for place in range(parallel):
        shares.put(cores[place * len(cores) // parallel : (place + 1) * len(cores) // parallel])
    with ProcessPoolExecutor(parallel, context, initializer=_take_share, initargs=(shares,)) as pool:
        yield from pool.map(work, calls)


def trained_on(root: Path) -> str:
    """The machines of all trainings that lie there: figures may be drawn up on another one."""
    facts = [json.loads(path.read_text()) for path in root.rglob(f"models/*/{MACHINE}")]
    return "; ".join(sorted({", ".join(f"{key} {value}" for key, value in one.items()) for one in facts}))


def _take_share(shares: Queue[list[int]]) -> None:
    os.sched_setaffinity(0, shares.get())
    torch.set_num_threads(len(os.sched_getaffinity(0)))


def _one(call: Call) -> AmodalIou:
    name, method, ground, seed, root = call
    out = root / str(ground.street) / "models" / f"{plain(name)}-{method.recipe.training.steps}-{seed}"
    found = out / "found.json"
    if not found.is_file():
        clips = _clips(name, method, ground, root)
        checkpoint = train(method.recipe, clips, seed, out, method.start)
        result = judge(checkpoint, ground.truth(root), training=[clips])
        found.with_name(MACHINE).write_text(json.dumps(machine()))
        found.write_bytes(msgspec.json.encode(result))
    return msgspec.json.decode(found.read_bytes(), type=AmodalIou)


def _clips(name: str, method: Method, ground: Ground, root: Path) -> Path:
    """What a method learns from on a ground; it is made where it is missing."""
    if method.material is None:
        return ground.clips(root)
    folder = root / str(ground.street)
    return made(method.material, folder, folder / f"clips-{plain(name)}")


def plain(name: str) -> str:
    """A method's name as a folder's."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())


def made(material: Callable[[Path, Path], None], ground: Path, clips: Path) -> Path:
    """The folder with a method's own clip art; what an interrupted run left half done is made again."""
    if not clips.is_dir():
        partial = clips.with_name(f".{clips.name}")
        shutil.rmtree(partial, ignore_errors=True)
        material(ground, partial)
        partial.rename(clips)
    return clips
