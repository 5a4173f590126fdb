"""Teaches the witness, who looks at one object at a time and tells whether it is whole, and measures its worth.

    python -m benchmarks.witness --cache DIR --clips DIR --out docs/benchmarks/witness.json --install

Streets are rendered with seeds from 141 and without a third of the vehicle shapes: neither the general weights (31 to
90) nor the calibration (101 to 120) were made on them. With `--clips` composites of real cameras' clip art join them
(`python -m benchmarks.weights --prepare-only` mines it). The last streets are kept to measure on, beside what the
WALT-Net's own occluder head says of the same views. Trained on a processor in minutes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
import torch._dynamo  # before OpenGL: optimisers load it late, and loaded after the renderer it crashes
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from benchmarks.mining import LOOKED_FPS, PRESETS
from benchmarks.report import Report, arguments
from benchmarks.witness_lessons import Lessons, of_composites, of_street
from walt_edge.contract.bundle import Bundle
from walt_edge.contract.files import write_whole
from walt_edge.packaged import general_model
from walt_train.engine.launch import calm_threads
from walt_train.mining import witness
from walt_train.mining.instances import InstanceTeacher
from walt_train.mining.witness import CHANGE, CHANNELS, FILE_NAME, HIDDEN, OBJECT, PICTURE, SIDE, SPREAD, Witness
from walt_train.model.witness import WitnessNet
from walt_train.rwalt.street import StreetConfig

FIRST_SEED, STREETS, KEPT = 141, 48, 4
FRAMES = 150
COMPOSITES = 150
EPOCHS, BATCH, RATE, DECAY = 8, 128, 3e-3, 0.05
RECALL = 0.5
_OPSET = 20

Floats = NDArray[np.float64]


def main() -> None:
    """Renders, looks, trains, exports, measures, and where told installs."""
    args = _arguments()
    calm_threads()
    cv2.setNumThreads(1)
    torch.manual_seed(args.seed)
    lessons, kept = _lessons(args)
    report = Report("witness", {"seed": args.seed, "views": len(lessons), "streets": args.streets})
    model = exported(trained(lessons, steps=args.steps, seed=args.seed))
    told = np.array(Witness(model)(kept.shown))
    report.add("ONNX file", len(model) / 1e6, "MB", better="lower")
    report.add("views on streets not trained on", len(kept))
    for name, scores in (("witness", told), ("occluder head", _by_occluder(kept))):
        report.add(f"{name}: area under the ROC curve", _auc(scores, kept.whole))
        report.add(f"{name}: precision of whole views at recall {RECALL:g}", _precision(scores, kept.whole))
    report.finish(args.out)
    if args.install:
        write_whole(Path(witness.__file__).with_name(FILE_NAME), model)


def _arguments() -> argparse.Namespace:
    parser = arguments(__doc__)
    add = parser.add_argument
    add("--streets", type=int, default=STREETS, metavar="N", help=f"how many, {KEPT} of them to measure on")
    add("--clips", type=Path, metavar="DIR", help="clip art of real cameras, a folder each")
    add("--steps", type=int, metavar="N", help=f"optimiser steps ({EPOCHS} epochs)")
    add("--cache", type=Path, metavar="DIR", help="keeps each street's views, to go on later")
    add("--install", action="store_true", help="put the network where the package loads it from")
    args = parser.parse_args()
    if args.quick:
        args.streets, args.steps = 2, 4
    return args


def _lessons(args: argparse.Namespace) -> tuple[Lessons, Lessons]:
    """What is learned from, and what is measured on."""
    teacher = InstanceTeacher(Bundle.read(general_model()))
    frames, kept = (12, 1) if args.quick else (FRAMES, KEPT)
    seeds = tqdm(range(FIRST_SEED, FIRST_SEED + args.streets), unit="street", disable=not sys.stderr.isatty())
    streets = [of_street(_street(seed, frames), teacher, args.cache) for seed in seeds]
    composed = [of_composites(folder, teacher, COMPOSITES) for folder in _folders(args.clips)]
    return Lessons.joined([*streets[:-kept], *composed]), Lessons.joined(streets[-kept:])


def _street(seed: int, frames: int) -> StreetConfig:
    return StreetConfig(seed=seed, preset=PRESETS[seed % 2], frames=frames, fps=LOOKED_FPS, shapes="tuning")


def _folders(clips: Path | None) -> list[Path]:
    return [] if clips is None else sorted(path for path in clips.iterdir() if (path / "clipart.json").is_file())


# -- training ---------------------------------------------------------------------------------------------


def trained(lessons: Lessons, *, steps: int | None, seed: int) -> WitnessNet:
    """Learns; an object of many views counts for the square root of them."""
    net = WitnessNet().to(memory_format=torch.channels_last)
    steps = steps or EPOCHS * len(lessons) // BATCH
    optimiser = torch.optim.AdamW(net.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps + 1, pct_start=0.1)
    for shown, whole, hidden, weight in tqdm(
        _batches(lessons, steps, seed), total=steps, unit="step", disable=not sys.stderr.isatty()
    ):
        with torch.autocast("cpu", torch.bfloat16):
            found = net(shown.contiguous(memory_format=torch.channels_last))
        odds, root = found.float().unbind(dim=1)
        loss = functional.binary_cross_entropy_with_logits(odds, whole, reduction="none")
        loss = loss + 0.5 * functional.smooth_l1_loss(root, hidden.sqrt(), reduction="none")
        optimiser.zero_grad()
        (loss * weight).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return net.eval()


def _batches(lessons: Lessons, steps: int, seed: int) -> Iterator[tuple[Tensor, ...]]:
    random = np.random.default_rng(seed)
    _, which, counts = np.unique(lessons.objects, return_inverse=True, return_counts=True)
    weights = 1 / np.sqrt(counts[which])
    weights /= weights.mean()
    for _ in range(steps):
        rows = np.sort(random.integers(0, len(lessons), BATCH))
        yield (
            torch.from_numpy(varied(lessons.shown[rows], random)),
            *(
                torch.from_numpy(values[rows].astype(np.float32))
                for values in (lessons.whole, lessons.hidden, weights)
            ),
        )


def varied(shown: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.float32]:
    """The same views in other light, by other sensors, mirrored: what a rendered street has too little of."""
    count = len(shown)
    out = shown.astype(np.float32)
    mirrored = random.random(count) < 0.5
    out[mirrored] = out[mirrored][..., ::-1]
    gain = random.uniform(0.75, 1.25, (count, 3, 1, 1)).astype(np.float32)
    level = random.uniform(-25, 25, (count, 3, 1, 1)).astype(np.float32)
    noise = random.uniform(0, 6, (count, 1, 1, 1)).astype(np.float32)
    grain = random.standard_normal((count, 3, *out.shape[2:]), dtype=np.float32) * noise
    out[:, PICTURE] = out[:, PICTURE] * gain + level + grain
    # The change is shown halved around 128; the empty scene is a mean, and has no grain.
    out[:, CHANGE] = 128 + (out[:, CHANGE] - 128) * gain + grain / 2
    return out.clip(0, 255)


# -- export and measuring ---------------------------------------------------------------------------------


class _Asked(nn.Module):
    """From levels to the witness's word, of a view and its mirror image."""

    def __init__(self, net: WitnessNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, shown: Tensor) -> Tensor:
        """(N, CHANNELS, SIDE, SIDE) uint8 to (N,)."""
        levels = shown.float()
        odds: Tensor = (self.net(levels) + self.net(levels.flip(3)))[:, 0] / 2
        return (odds / SPREAD).sigmoid()


def exported(net: WitnessNet) -> bytes:
    """The bytes of its ONNX file, for any number of views."""
    example = torch.zeros(2, CHANNELS, SIDE, SIDE, dtype=torch.uint8)
    asked = _Asked(net.to(memory_format=torch.contiguous_format)).eval()
    program = torch.onnx.export(
        asked,
        (example,),
        dynamo=True,
        opset_version=_OPSET,
        input_names=["shown"],
        output_names=["whole"],
        dynamic_shapes=({0: torch.export.Dim("views")},),
        verbose=False,
    )
    assert program is not None
    program.optimize()
    model: bytes = program.model_proto.SerializeToString()
    return model


def _by_occluder(lessons: Lessons) -> Floats:
    """One minus the likeliest hidden cell of the object."""
    inside = lessons.shown[:, OBJECT] >= 128
    hidden: Floats = (lessons.shown[:, HIDDEN] * inside).max(axis=(1, 2)) / 255
    return 1 - hidden


def _auc(scores: Floats, truths: NDArray[np.bool_]) -> float:
    """How often a whole view has the higher score than one that is not; ties count half."""
    right, wrong = np.sort(scores[truths]), scores[~truths]
    below = np.searchsorted(right, wrong, "left"), np.searchsorted(right, wrong, "right")
    return float((len(right) - (below[0] + below[1]) / 2).mean() / max(1, len(right)))


def _precision(scores: Floats, truths: NDArray[np.bool_]) -> float:
    """Of the surest views that hold half of the whole ones."""
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(truths[order])
    place = int(np.searchsorted(right, RECALL * truths.sum()))
    return float(right[place] / (place + 1))


if __name__ == "__main__":
    main()
