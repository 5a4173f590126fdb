"""Backbones of mmdet's: their stages at strides 4 to 32, under our top-down path."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from walt_edge.contract.errors import WaltError
from walt_train.model.mm_adapter.quiet import quiet
from walt_train.recipes.parts import MmBackbone

with quiet():
    from mmdet.models.backbones import ResNet, SwinTransformer

_PICTURE_CHANNELS = 3
_SWIN_T = {"embed_dims": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24), "window_size": 7}
_FIRST = MappingProxyType({"resnet50": "conv1.weight", "swin_t": "patch_embed.projection.weight"})
_WIDTHS = MappingProxyType({"resnet50": (256, 512, 1024, 2048), "swin_t": (96, 192, 384, 768)})


class BackboneError(WaltError):
    """A backbone's weights cannot be read."""


class MmStages(nn.Module):
    """ResNet-50 or Swin-T, all of it trained, its normalisation too.

    Args:
        inside: Input channels; the first three are the picture, BGR.
        config: Which, and the file of its weights.

    Raises:
        BackboneError: The file is missing, or holds another network's weights.
    """

    def __init__(self, inside: int, config: MmBackbone) -> None:
        super().__init__()
        self.widths = _WIDTHS[config.kind]
        weights = _read(Path(config.checkpoint)) if config.checkpoint else None
        with quiet():
            self.inner = _build(config.kind, inside)
            self.inner.init_weights()
        if weights is not None:
            _load(self.inner, weights, _FIRST[config.kind], config.checkpoint)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, inside, H, W), sides multiples of 32, to four maps, the finest first."""
        return list(self.inner(x))


def _build(kind: str, inside: int) -> Any:
    if kind == "resnet50":
        return ResNet(depth=50, in_channels=inside, frozen_stages=-1, norm_eval=False)
    return SwinTransformer(in_channels=inside, drop_path_rate=0.1, **_SWIN_T)


def _load(network: nn.Module, found: Mapping[str, Any], first: str, file: str) -> None:
    weights = {name.removeprefix("backbone."): value for name, value in found.items() if isinstance(value, Tensor)}
    own = network.state_dict()
    if first in weights:
        weights[first] = _widened(weights[first], own[first])
    fitting = {name: value for name, value in weights.items() if name in own and value.shape == own[name].shape}
    missing = [name for name in own if name not in fitting and not name.endswith("num_batches_tracked")]
    if missing:
        raise BackboneError(
            f"{file} lacks {len(missing)} of {len(own)} weights, {missing[0]} is the first: give one of this backbone"
        )
    network.load_state_dict(fitting, strict=False)


def _widened(weight: Tensor, own: Tensor) -> Tensor:
    """First convolution of an RGB network for BGR and further channels, which begin unheard."""
    if weight.shape[1] != _PICTURE_CHANNELS:
        return weight
    wide = torch.zeros_like(own)
    wide[:, :_PICTURE_CHANNELS] = weight.flip(1)
    return wide


def _read(file: Path) -> Mapping[str, Any]:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise BackboneError(
            f"no backbone weights at {file}: give a file, or leave it out to begin at random"
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise BackboneError(f"{file} is no file of weights that can be read without running code") from error
    for key in ("state_dict", "model"):
        content = content.get(key, content) if isinstance(content, dict) else content
    if not isinstance(content, dict):
        raise BackboneError(f"{file} holds a {type(content).__name__}, expected weights by name")
    return content
