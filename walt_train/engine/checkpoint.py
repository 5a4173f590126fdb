"""A trained network on disk: `checkpoint.pt` for machines, `manifest.json` beside it for people."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from walt_edge.contract.errors import WaltError
from walt_edge.contract.files import write_whole
from walt_train.engine.plan import CHECKPOINT
from walt_train.engine.segments import Segment
from walt_train.model.waltnet import WaltNet
from walt_train.recipes.parts import MmBackbone
from walt_train.recipes.recipe import Network, Recipe

MANIFEST = "manifest.json"
VERSION = 2
"""Of checkpoints: 2 says in the recipe which backbone and which branch the network has."""


class CheckpointError(WaltError):
    """A checkpoint is missing, corrupt or of another make."""


class _Version(msgspec.Struct):
    """What can be read of every manifest."""

    version: int = 1


class CheckpointManifest(msgspec.Struct, frozen=True, kw_only=True):
    """Where a network comes from.

    Attributes:
        recipe: The whole of it, with the anchors that were fitted.
        seed: Of the training.
        data_sha256: Names the training data.
        data: The folder it was read from.
        classes: Titles in the order of their Label values.
        size_wh: Of the letterboxed input, pixels.
        parameters: Numbers that were learnt.
        gflops: For a picture with as many candidates as there can be.
        score_threshold: From which on a detection is believed.
        validation: Figures on the validation split, by name.
        processes: How many trained together, and from which step on.
        started: `data_sha256` of the trainings whose weights it began with, the last first.
        learned_sha256: Of `learned.json`, which names every crop; "" of an older training.
        walt_version: Of this package.
        torch_version: Of torch.
        version: Of this format.
    """

    recipe: Recipe
    seed: int
    data_sha256: str
    data: str
    classes: list[str]
    size_wh: tuple[int, int]
    parameters: int
    gflops: float
    score_threshold: float
    validation: dict[str, float | None]
    processes: tuple[Segment, ...]
    walt_version: str
    torch_version: str
    started: tuple[str, ...] = ()
    learned_sha256: str = ""
    version: int = VERSION

    @property
    def trained(self) -> tuple[str, ...]:
        """`data_sha256` of all that the weights have been trained on, the last first."""
        return (self.data_sha256, *self.started)


def write_checkpoint(folder: Path, state: dict[str, Tensor], manifest: CheckpointManifest) -> Path:
    """Writes both files, each whole or not at all; returns the checkpoint's path."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    buffer = io.BytesIO()
    torch.save({"state_dict": state, "manifest": msgspec.json.encode(manifest).decode()}, buffer)
    write_whole(folder / MANIFEST, text)
    return write_whole(folder / CHECKPOINT, buffer.getvalue())


def load_model(path: Path) -> tuple[WaltNet, CheckpointManifest]:
    """Reads a checkpoint; no code in it is run.

    Args:
        path: The file, or the folder that holds `checkpoint.pt`.

    Returns:
        The network on the CPU in eval mode, and where it comes from.

    Raises:
        CheckpointError: Missing, corrupt, or not made by `walt-train`.
    """
    file = path / CHECKPOINT if path.is_dir() else path
    content = _read(file)
    try:
        if not isinstance(content, dict):
            raise TypeError(f"it holds a {type(content).__name__}")
        _check_version(msgspec.json.decode(content["manifest"], type=_Version).version, file)
        manifest = msgspec.json.decode(content["manifest"], type=CheckpointManifest)
        net = WaltNet(_blank(manifest.recipe.network))
        net.load_state_dict(content["state_dict"])
    except (KeyError, TypeError, AttributeError, RuntimeError, msgspec.MsgspecError) as error:
        first = str(error).splitlines()[0]
        raise CheckpointError(
            f"{file} is no checkpoint of this version of walt-train ({first[:120]}): train again"
        ) from error
    return net.eval(), manifest


def _blank(network: Network) -> Network:
    """Without the file that its backbone began with: what was learned takes its place."""
    if not isinstance(network.backbone, MmBackbone):
        return network
    return msgspec.structs.replace(network, backbone=MmBackbone(kind=network.backbone.kind))


def _check_version(found: int, file: Path) -> None:
    if found != VERSION:
        raise CheckpointError(
            f"{file} is a checkpoint of version {found}, this walt-train reads {VERSION}: train again"
        )


def _read(file: Path) -> Any:
    if not file.is_file():
        raise CheckpointError(f"no checkpoint at {file}: make one with walt-train --data DIR --out {file.parent}")
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{file} is corrupt or not a checkpoint: copy it again, or repeat the command that trained it"
        ) from error
