"""Recipes: functions that return whole configurations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from walt_edge.contract.errors import UsageError
from walt_train.recipes.demo import demo
from walt_train.recipes.parts import (
    AsnBranch,
    BcnetBranch,
    MaskRcnnBranch,
    SmallBackbone,
    WaltBranch,
)
from walt_train.recipes.recipe import Network, Recipe, Training

RECIPES: Mapping[str, Callable[[], Recipe]] = MappingProxyType({"demo": demo})


def find_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UsageError: There is none.
    """
    if name not in RECIPES:
        raise UsageError(f"no recipe '{name}': there are {', '.join(RECIPES)}")
    return RECIPES[name]()


__all__ = [
    "RECIPES",
    "AsnBranch",
    "BcnetBranch",
    "MaskRcnnBranch",
    "Network",
    "Recipe",
    "SmallBackbone",
    "Training",
    "WaltBranch",
    "find_recipe",
]
