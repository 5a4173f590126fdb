"""The network of a bundle, so that it can be trained on: what an agent runs, read back from its graph.

A bundle holds no checkpoint. Its graph has the weights by the names of the modules that learned them, with the
normalisation folded into the convolutions and the deconvolutions said as convolutions of each cell
(`walt_export.restate`); here both are undone. Where a normalisation was, one that changes nothing stands: measured
anew (`normalisation`), it can be learned with.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import onnx
import onnx.numpy_helper
import torch
from google.protobuf.message import DecodeError
from torch import Tensor, nn

from walt_edge.contract.bundle import MODEL, Bundle, BundleError
from walt_edge.contract.errors import UsageError
from walt_train.model.waltnet import WaltNet
from walt_train.recipes import find_recipe
from walt_train.recipes.recipe import Network

_OURS, _WEIGHT = "net.", ".weight"
_LAYERS = frozenset({"Conv", "Gemm"})
_CELLS = 4
"""Of a map's cell, after a deconvolution of kernel and stride 2."""


def released_network(bundle: Bundle) -> WaltNet:
    """The network in eval mode; it computes what the bundle's does, but for rounding.

    Raises:
        BundleError: Its weights are of another kind: in integers, or of a recipe that this version does not know; or
            its graph is none that `walt-export` writes.
    """
    name = bundle.manifest.lineage.recipe
    try:
        graph = _Graph.of(bundle.files[MODEL])
        net = WaltNet(_with_anchors(find_recipe(name).network, graph))
        _take(net, graph.layers)
    except (LookupError, TypeError, ValueError, RuntimeError, DecodeError, UsageError) as error:
        said = str(error).partition("\n")[0][:120]
        raise BundleError(
            f"{bundle.manifest.name} ({name}, {bundle.manifest.precision}) holds no weights to train on ({said}): "
            "begin with a bundle in float32 or float16 of a recipe of this version, or with a checkpoint"
        ) from error
    return net.eval()


@dataclass(frozen=True, slots=True)
class _Graph:
    """What a graph holds in numbers.

    Attributes:
        arrays: Every constant in floating point, by name.
        layers: Weight and bias of every layer, by the name of the module that learned them.
    """

    arrays: dict[str, Tensor]
    layers: dict[str, tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, model: bytes) -> _Graph:
        """Reads the bytes of a model."""
        graph = onnx.load_from_string(model).graph
        # A bundle is one file: what points at another one on this machine was not written by walt-export.
        if any(each.data_location != onnx.TensorProto.DEFAULT for each in graph.initializer):
            raise ValueError("its weights lie elsewhere")
        arrays = {
            each.name: torch.from_numpy(onnx.numpy_helper.to_array(each).astype(np.float32))
            for each in graph.initializer
            if each.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
        }
        # What is stored in half precision is cast before it is used.
        for node in graph.node:
            if node.op_type == "Cast" and node.input[0] in arrays:
                arrays[node.output[0]] = arrays[node.input[0]]
        layers = {
            node.input[1].removeprefix(_OURS).removesuffix(_WEIGHT): _weight_and_bias(node, arrays)
            for node in graph.node
            if node.op_type in _LAYERS and node.input[1] in arrays
        }
        return cls(arrays, layers)


def _weight_and_bias(node: onnx.NodeProto, arrays: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """A layer's own: equal constants of several are stored once, under one name, and a bias of zeros not at all."""
    weight = arrays[node.input[1]]
    return weight, arrays[node.input[2]] if len(node.input) > 2 else weight.new_zeros(len(weight))


def _with_anchors(network: Network, graph: _Graph) -> Network:
    """With the shapes that the graph's grid of anchors repeats at every place."""
    width, height = network.input_wh
    places = (width // network.proposal_stride) * (height // network.proposal_stride)
    shapes = {array.shape: array for array in graph.arrays.values() if array.ndim == 2 and array.shape[1] == 4}
    grids = [array for shape, array in shapes.items() if shape[0] and shape[0] % places == 0]
    if len(grids) != 1:
        raise ValueError(f"{len(grids)} grids of anchors at {places} places")
    count = len(grids[0]) // places
    sides = (grids[0][:count, 2:] - grids[0][:count, :2]).tolist()
    if not all(0 < side < float("inf") for pair in sides for side in pair):
        raise ValueError("anchors without an area")
    return msgspec.structs.replace(network, anchors_wh=tuple((round(w, 3), round(h, 3)) for w, h in sides))


@torch.no_grad()
def _take(net: WaltNet, layers: dict[str, tuple[Tensor, Tensor]]) -> None:
    """Fills a network; raises KeyError and ValueError where the graph has no such weights."""
    folded = _folded(net)
    for name, module in net.named_modules():
        if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            continue
        weight, bias = _weight(name, module, layers)
        if weight.shape != module.weight.shape:
            raise ValueError(f"{name} is {tuple(weight.shape)}, not {tuple(module.weight.shape)}")
        module.weight.copy_(weight)
        if module.bias is not None:
            module.bias.copy_(bias)
        else:
            _change_nothing(folded[name], bias)


def _folded(net: WaltNet) -> dict[str, nn.BatchNorm2d]:
    """The normalisation that follows each convolution, by the convolution's name."""
    return {
        f"{name}.{place}".lstrip("."): after
        for name, chain in net.named_modules()
        if isinstance(chain, nn.Sequential)
        for place, after in enumerate(list(chain)[1:])
        if isinstance(after, nn.BatchNorm2d)
    }


def _weight(name: str, module: nn.Module, layers: dict[str, tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    if isinstance(module, nn.ConvTranspose2d):
        cells, bias = layers[name]
        weight = cells.reshape(2, 2, -1, module.in_channels).permute(3, 2, 0, 1)
        return weight, bias[: module.out_channels]
    if f"{name}.conv" in layers:  # of four cells, of which each is read alike
        spread, bias = layers[f"{name}.conv"]
        rows, columns = (side // _CELLS for side in spread.shape[:2])
        return spread[:rows, :columns], bias[:rows]
    return layers[name]


def _change_nothing(norm: nn.BatchNorm2d, bias: Tensor) -> None:
    """A normalisation that in eval mode adds a bias and does nothing else."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.zero_()
    norm.running_var.fill_(1.0 - norm.eps)
    norm.weight.fill_(1.0)
    norm.bias.copy_(bias)
