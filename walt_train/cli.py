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
