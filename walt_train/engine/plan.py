"""What a training is: written before its first step, so that a folder never mixes two of them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from walt_edge.contract.errors import WaltError
from walt_train.engine.checkpoint import CHECKPOINT, write_whole
from walt_train.recipes.recipe import Recipe

RESUME = "resume"
PLAN = "plan.json"
STATE = "state.pth"


class FitError(WaltError):
    """A training cannot be begun or gone on with."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides a training's result.

    Attributes:
        recipe: As asked for, before anything is fitted to the data.
        seed: Of everything random.
        data_sha256: Names the training data.
        processes: That train together.
    """

    recipe: Recipe
    seed: int
    data_sha256: str
    processes: int


def settle(plan: Plan, folder: Path) -> Path | None:
    """Takes the folder for this training.

    Returns:
        The state to go on from, or None where there is none yet.

    Raises:
        FitError: The folder holds another training.
    """
    path = folder / RESUME / PLAN
    if not path.is_file():
        if (folder / CHECKPOINT).exists():
            raise FitError(f"{folder} holds a checkpoint whose training is unknown: give another --out")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, msgspec.json.encode(plan))
        return None
    differing = _differences(plan, path)
    if differing:
        raise FitError(f"{folder} holds another training (its {differing} differ): give another --out, or remove it")
    state = folder / RESUME / STATE
    return state if state.is_file() else None


def _differences(plan: Plan, path: Path) -> str:
    try:
        other = msgspec.json.decode(path.read_bytes(), type=Plan)
    except msgspec.MsgspecError:
        return "make and version"
    names = {"recipe": "recipe or steps", "seed": "seed", "data_sha256": "data", "processes": "processes"}
    return " and ".join(title for name, title in names.items() if getattr(plan, name) != getattr(other, name))
