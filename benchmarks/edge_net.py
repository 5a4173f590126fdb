"""The edge network with weights that see something, and frames in which it sees a given number of objects.

What `walt_edge_small` costs does not depend on its weights, but what it finds does, and whoever times it wants
objects in the picture. So it borrows the packaged general model's: every layer is the same but for the first, whose
further channels (the empty scene, the place of a pixel) weigh nothing here. They are computed all the same.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import cv2
import msgspec
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from walt_edge.contract.bundle import MODEL, Bundle
from walt_edge.packaged import general_model
from walt_edge.runtimes.network import Candidates, Network, look
from walt_edge.runtimes.onnx_detector import letterbox
from walt_train.model.waltnet import WaltNet
from walt_train.recipes import walt_edge_small

Image = NDArray[np.uint8]
_PREFIX, _STORED = "net.", ".stored"
_STEM = "backbone.bottom_up.stem.0.weight"
_GREY_LEVEL = 114
_HALVINGS = 9


def borrowed_net(bundle: Bundle) -> WaltNet:
    """`walt_edge_small` in eval mode with the weights of an exported edge network."""
    model = onnx.load_from_string(bundle.files[MODEL])
    values = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    recipe = walt_edge_small()
    network = msgspec.structs.replace(recipe.network, anchors_wh=_anchors(values, recipe.network.anchors))
    net = WaltNet(network).eval()
    weights = {
        name.removeprefix(_PREFIX).removesuffix(_STORED): torch.from_numpy(value.astype(np.float32))
        for name, value in values.items()
        if name.startswith(_PREFIX)
    }
    _fill(net, _as_trained(weights))
    return net


def force_candidates(net: WaltNet) -> WaltNet:
    """The same network without a least score: it keeps as many candidates as there may be, whatever it looks at."""
    forced = copy.copy(net)
    forced.network = msgspec.structs.replace(net.network, score_floor=-1.0)
    return forced


class Eager:
    """The network in torch, as a runtime.

    Args:
        net: In eval mode.
        device: Where it is moved.
    """

    def __init__(self, net: WaltNet, device: str = "cpu") -> None:
        self._net = copy.deepcopy(net).to(device)
        self._device = device

    def __call__(self, image: Image) -> Candidates:
        """Looks at one (H, W, 3) uint8 BGR picture of the network's size."""
        found = self._net.predict(torch.from_numpy(image[None]).to(self._device))[:4]
        return Candidates(*(one.cpu().numpy() for one in found))


def frames_with(network: Network, bundle: Bundle, objects: int) -> list[Image]:
    """Frames in each of which a network finds so many objects.

    They are the bundle's golden pictures, of whose four sides one after the other is covered, as by a letterbox,
    until as many are left. A picture with too few of them gives none.

    Args:
        network: What looks.
        bundle: Tells the size and the score from which on an object counts.
        objects: How many.
    """
    found = []
    for name in bundle.manifest.golden:
        whole = letterbox(golden_picture(bundle, name), bundle.manifest.size_wh[::-1])[0]
        if count_objects(network, whole, bundle) >= objects:
            covered = (_with_objects(network, whole, bundle, objects, side) for side in range(4))
            found += [image for image in covered if image is not None]
    return found


def golden_picture(bundle: Bundle, name: str) -> Image:
    """(H, W, 3) BGR, as it is in the bundle."""
    return np.asarray(cv2.imdecode(np.frombuffer(bundle.files[name], np.uint8), cv2.IMREAD_COLOR), np.uint8)


def count_objects(network: Network, image: Image, bundle: Bundle) -> int:
    """How many objects are believed in: they score enough and no other is the same one."""
    manifest = bundle.manifest
    return len(look(network, image, size_wh=manifest.size_wh, score_threshold=manifest.score_threshold))


def count_candidates(net: WaltNet, image: Image) -> int:
    """How many objects the mask heads look at."""
    with torch.no_grad():
        feature = net.features(torch.from_numpy(image[None]))
        return len(net.classify(feature, net.propose(feature))[0])


def _with_objects(network: Network, whole: Image, bundle: Bundle, objects: int, side: int) -> Image | None:
    """The picture with enough of a side covered; None where no cover leaves just as many."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        image = _covered(whole, (low + high) / 2, side)
        found = count_objects(network, image, bundle)
        if found == objects:
            return image
        low, high = ((low + high) / 2, high) if found > objects else (low, (low + high) / 2)
    return None


def _covered(whole: Image, share: float, side: int) -> Image:
    turned = np.rot90(whole, side).copy()
    turned[:, turned.shape[1] - round(share * turned.shape[1]) :] = _GREY_LEVEL
    return np.ascontiguousarray(np.rot90(turned, -side))


def _anchors(values: Mapping[str, NDArray[np.float32]], count: int) -> tuple[tuple[float, float], ...]:
    """Shapes of the anchors, from the largest table of boxes in the graph: each cell has them in the same order."""
    tables = [value for name, value in values.items() if value.ndim == 2 and not name.startswith(_PREFIX)]
    table = max((one for one in tables if one.shape[1] == 4), key=len)[:count].astype(np.float64)
    sides = table[:, 2:] - table[:, :2]
    return tuple((float(width), float(height)) for width, height in sides)


def _as_trained(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undoes `walt_export.restate`: of a mask head's four cells one tells the classes, all four the deconvolution."""
    found = dict(weights)
    for name, value in weights.items():
        count = len(value) // 4
        if name.endswith(".up.weight"):
            found[name] = value.view(2, 2, count, -1).permute(3, 2, 0, 1)
        elif name.endswith((".up.bias", ".classes.conv.bias")):
            found[name.replace(".conv.", ".")] = value[:count]
        elif name.endswith(".classes.conv.weight"):
            found[name.replace(".conv.", ".")] = value[:count, : value.shape[1] // 4]
    return found


@torch.no_grad()
def _fill(net: WaltNet, weights: Mapping[str, Tensor]) -> None:
    """Sets every weight; normalisation, folded into its convolutions in the file, is left with their biases."""
    for name, own in net.named_parameters():
        found = weights.get(name)
        if name == _STEM and found is not None:
            own.zero_()[:, : found.shape[1]] = found
        elif found is not None:
            own.copy_(found)
    for name, module in net.named_modules():
        if isinstance(module, nn.Sequential):
            for index, part in enumerate(module):
                if isinstance(part, nn.BatchNorm2d):
                    _leave_bias(part, weights[f"{name}.{index - 1}.bias"])


def _leave_bias(norm: nn.BatchNorm2d, bias: Tensor) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.zero_()
    norm.running_var.fill_(1 - norm.eps)
    norm.weight.fill_(1)
    norm.bias.copy_(bias)


def packaged() -> Bundle:
    """The bundle that comes with the package."""
    return Bundle.read(general_model())
