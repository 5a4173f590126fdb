"""What a training is: written before its first step, so that a folder never mixes two of them."""

from __future__ import annotations

import logging
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import msgspec

from walt_edge.contract.errors import WaltError
from walt_edge.contract.files import write_whole
from walt_train.recipes.recipe import Recipe

CHECKPOINT = "checkpoint.pt"
RESUME = "resume"
PLAN = "plan.json"
_STATE = re.compile(r"state-(\d+)\.pth")

_LOG = logging.getLogger(__name__)


class FitError(WaltError):
    """A training cannot be begun or gone on with."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What is asked for.

    Attributes:
        data: Folders of clip art or of COCO annotations, at least one.
        recipe: The whole configuration.
        seed: Of everything random, 0 or more.
        out: Gets the checkpoint and everything beside it.
        gpu: Whether each process has a GPU of its own.
        elastic: Whether machines may come and go, so that the number of processes changes.
        start: A checkpoint or a bundle with whose weights it begins, `general` for the package's; None is what the
            recipe says.
    """

    data: tuple[Path, ...]
    recipe: Recipe
    seed: int
    out: Path
    gpu: bool = False
    elastic: bool = False
    start: Path | None = None

    @property
    def begins_with(self) -> Path | None:
        """The file whose weights are taken; None begins at random."""
        return self.start or (Path(self.recipe.start) if self.recipe.start else None)

    @property
    def named(self) -> str:
        """The data's folders, for people."""
        return ", ".join(map(str, self.data))


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides a training's result.

    Attributes:
        recipe: As asked for, before anything is fitted to the data.
        seed: Of everything random.
        data_sha256: Names the training data.
        processes: That train together; 0 where they may come and go.
        start_sha256: Of the file that it begins with; "" begins at random.
    """

    recipe: Recipe
    seed: int
    data_sha256: str
    processes: int
    start_sha256: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """What a training goes on from.

    Attributes:
        path: The file.
        step: Steps done.
    """

    path: Path
    step: int

    @classmethod
    def after(cls, step: int, folder: Path) -> State:
        """The state of the training in `folder` after so many steps, as it is named, whether it exists or not."""
        return cls(folder / RESUME / f"state-{step:07d}.pth", step)


def settle(plan: Plan, folder: Path) -> State | None:
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
    return whole_state(folder)


def whole_state(folder: Path) -> State | None:
    """The newest state to go on from; None where there is none: a damaged one is none."""
    named = ((path, _STATE.fullmatch(path.name)) for path in (folder / RESUME).glob("state-*.pth"))
    states = [State(path, int(match[1])) for path, match in named if match]
    for state in sorted(states, key=lambda state: -state.step):
        if zipfile.is_zipfile(state.path):  # its directory is at the end: false for one that was cut off
            return state
        _LOG.warning("%s is damaged: the training goes on from an earlier state, or begins anew", state.path)
    return None


def _differences(plan: Plan, path: Path) -> str:
    try:
        other = msgspec.json.decode(path.read_bytes(), type=Plan)
    except msgspec.MsgspecError:
        return "make and version"
    names = {
        "recipe": "recipe or steps",
        "seed": "seed",
        "data_sha256": "data",
        "processes": "processes",
        "start_sha256": "first weights",
    }
    return " and ".join(title for name, title in names.items() if getattr(plan, name) != getattr(other, name))
