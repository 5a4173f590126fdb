"""A data set of drawn shapes, and a recipe so small that a step takes milliseconds; run as a script it trains."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_train.data.sample import AmodalObject, AmodalSample
from walt_train.engine.launch import take_part
from walt_train.engine.plan import Fit
from walt_train.recipes import Network, Recipe, SmallBackbone, Training, WaltBranch

FRAME_WH = (192, 128)
SCENE = np.full((128, 192, 3), 90, np.uint8)


def tiny_recipe(steps: int = 6) -> Recipe:
    """A network of a few thousand weights."""
    network = Network(
        input_wh=(96, 64),
        backbone=SmallBackbone(stem=4, stages=(4, 8, 8, 8), blocks=(1, 1, 1, 1)),
        branch=WaltBranch(width=4),
        feature_channels=8,
        anchors=3,
        box_width=8,
    )
    training = Training(
        steps=steps, batch=2, learning_rate=1e-3, warm_up_steps=2, resume_every=2, validation=4, per_epoch=8, rois=4
    )
    return Recipe(name="tiny", network=network, training=training)


def drawn_sample(seed: int, count: int = 4) -> AmodalSample:
    """Rectangles (vehicles) and ellipses (people) over grey, nearest first."""
    random = np.random.default_rng(seed)
    width, height = FRAME_WH
    image = SCENE.copy()
    rows, columns = np.mgrid[:height, :width] + 0.5
    objects = []
    for track in range(count):
        label = Label.PERSON if track % 2 else Label.VEHICLE
        half = np.array([8.0, 22.0]) if label is Label.PERSON else np.array([34.0, 14.0])
        centre = random.uniform([30, 30], [width - 30, height - 30])
        u, v = (columns - centre[0]) / half[0], (rows - centre[1]) / half[1]
        full = (u**2 + v**2 <= 1) if label is Label.PERSON else (np.maximum(abs(u), abs(v)) <= 1)
        objects.append(AmodalObject(label, PatchMask.from_full(full), track))
    for thing in reversed(objects):
        x0, y0, x1, y1 = thing.amodal.box_xyxy
        image[y0:y1, x0:x1][thing.amodal.mask] = random.integers(0, 255, 3)
    return AmodalSample(image, tuple(objects), name=f"{seed}.png", frame=seed)


class Shapes:
    """A data set of them."""

    sha256 = "5" * 64
    frame_wh = FRAME_WH
    labels: Sequence[Label] = tuple(Label)

    def __init__(self, count: int = 8, offset: int = 0) -> None:
        self._count, self._offset = count, offset

    def __len__(self) -> int:
        return self._count

    def sample(self, epoch: int, index: int) -> AmodalSample:
        return drawn_sample(self._offset + 1000 * epoch + index)


def open_shapes(folder: Path, *, split: str, per_epoch: int, seed: int, settings: object) -> Shapes:
    """Takes the place of `open_samples`."""
    return Shapes(per_epoch, offset=0 if split == "train" else 500_000)


def _train(wanted: Fit) -> Path:
    from walt_train.engine import fit as module

    vars(module)["open_samples"] = open_shapes
    if os.environ.get("RANK") == os.environ.get("WALT_TEST_STRANGER", "none"):
        Shapes.sha256 = "6" * 64  # another machine's folder holds other data
    torch.set_num_threads(1)  # as in the tests: sums of another number of threads differ
    return module.fit(wanted)


def _die_once(note: Path, rank: str, step: int) -> None:
    """The process of that rank kills itself when it has done a step, unless the note says that one did.

    With rank `machine` any does, and takes its machine along: torchrun's agent that started it.
    """
    from walt_train.engine.curves import Curves

    add = Curves.add

    def add_or_die(self: Curves, done: int, losses: Mapping[str, Any]) -> None:
        if done == step and rank in ("machine", os.environ.get("RANK", "0")) and not note.exists():
            note.write_text("killed")
            if rank == "machine":
                os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        add(self, done, losses)

    Curves.add = add_or_die  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    # What torchrun starts instead of the product's own: shapes for data, and perhaps a death.
    if "WALT_TEST_DEATH" in os.environ:
        killed, whose, when = os.environ["WALT_TEST_DEATH"].split(" ")
        _die_once(Path(killed), whose, int(when))
    sys.exit(take_part(sys.argv[1], _train))
