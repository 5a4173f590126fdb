"""The demo's recipe: below 1 GFLOP at 320x192, from scratch on two CPU cores in minutes."""

from __future__ import annotations

from walt_train.recipes.parts import SmallBackbone, WaltBranch
from walt_train.recipes.recipe import Network, Recipe, Training


def demo() -> Recipe:
    """A small network for one camera, trained for a few minutes."""
    return Recipe(
        name="demo",
        network=Network(
            input_wh=(320, 192),
            backbone=SmallBackbone(stem=16, stages=(24, 48, 96, 128), blocks=(1, 1, 1, 1)),
            branch=WaltBranch(width=24, quality=False),
            feature_channels=32,
            box_width=96,
        ),
        training=Training(steps=800, batch=8, learning_rate=2e-3),
    )
