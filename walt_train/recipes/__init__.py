"""Recipes: functions that return whole configurations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from walt_edge.contract.errors import UsageError
from walt_train.recipes.baselines import METHODS
from walt_train.recipes.demo import demo
from walt_train.recipes.parts import (
    AsnBranch,
    BcnetBranch,
    EdgeBackbone,
    MaskRcnnBranch,
    MmBackbone,
    SmallBackbone,
    WaltBranch,
)
from walt_train.recipes.recipe import Network, Recipe, Training
from walt_train.recipes.walt import (
    walt_edge_camera,
    walt_edge_general,
    walt_edge_site,
    walt_edge_small,
    walt_paper,
)

RECIPES: Mapping[str, Callable[[], Recipe]] = MappingProxyType(
    {
        recipe.__name__: recipe
        for recipe in (demo, walt_edge_camera, walt_edge_small, walt_edge_general, walt_edge_site, walt_paper)
    }
)


def find_recipe(name: str) -> Recipe:
    """The recipe of that name; `RECIPE:METHOD` is the recipe with another method's mask branch.

    Raises:
        UsageError: There is none.
    """
    base, colon, method = name.partition(":")
    if base not in RECIPES:
        raise UsageError(f"no recipe '{base}': there are {', '.join(RECIPES)}")
    if colon and method not in METHODS:
        raise UsageError(f"no method '{method}': after {base}: comes {', '.join(METHODS)}, or nothing for WALT-Net")
    return METHODS[method](RECIPES[base]()) if colon else RECIPES[base]()


__all__ = [
    "METHODS",
    "RECIPES",
    "AsnBranch",
    "BcnetBranch",
    "EdgeBackbone",
    "MaskRcnnBranch",
    "MmBackbone",
    "Network",
    "Recipe",
    "SmallBackbone",
    "Training",
    "WaltBranch",
    "demo",
    "find_recipe",
    "walt_edge_camera",
    "walt_edge_general",
    "walt_edge_site",
    "walt_edge_small",
    "walt_paper",
]
