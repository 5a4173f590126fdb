"""`walt-train`: rendering, compositing, training, evaluation."""

from __future__ import annotations

import sys

from walt_edge.contract.console import Command, Script

SCRIPT = Script(
    prog="walt-train",
    description="Makes amodal training data and trains WALT-Net on it.",
    default="fit",
    commands=(
        Command(
            "fit",
            "train a three-head amodal Mask R-CNN (also: walt-train --gpus 4)",
            module="walt_train.commands.fit",
            extra="train",
            example="walt-train --data ./clipart --recipe demo --out ./model",
        ),
        Command(
            "rwalt",
            "render a fixed camera's street with exact amodal truth",
            module="walt_train.commands.rwalt",
            extra="render",
            example="walt-train rwalt --seed 1 --frames 100 --size 640x360 --out ./street --preset busy",
        ),
        Command(
            "compose",
            "paste clip art over the camera's own plates",
            module="walt_train.commands.compose",
            example="walt-train compose --clipart ./clipart --count 200 --seed 1 --out ./composites",
        ),
        Command(
            "mine",
            "mine an archive: videos, folders of frames or of stills, into clip art",
            module="walt_train.commands.mine",
            example="walt-train mine ./archive/monday.mp4 ./archive/tuesday.mp4 --out ./clipart",
        ),
        Command(
            "coverage",
            "draw where clip art stood, and where it will be pasted",
            module="walt_train.commands.coverage",
            example="walt-train coverage --clipart ./clipart --out coverage.png",
        ),
        Command(
            "swalt",
            "make amodal truth from stationary objects that something passes before",
            module="walt_train.commands.swalt",
            extra="train",
            example="walt-train swalt --timeline predictions.json --frames ./frames --out ./truth",
        ),
        Command(
            "evaluate",
            "IoU at γ and by occlusion bin",
            module="walt_train.commands.evaluate",
            extra="train",
            example="walt-train evaluate --model model.walt --data ./street --out after.json --against before.json",
        ),
    ),
)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(SCRIPT.main())
