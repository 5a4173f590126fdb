"""The edge network with weights that see something, and frames in which it sees a given number of objects.

What `walt_edge_small` costs does not depend on its weights, but what it finds does, and whoever times it wants
objects in the picture. So it borrows the packaged general model's: every layer is the same but for the first, whose
further channels (the empty scene, the place of a pixel) weigh nothing here. They are computed all the same.
"""

from __future__ import annotations

import copy
from pathlib import Path

import cv2
import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from walt_edge.contract.bundle import Bundle
from walt_edge.packaged import general_model
from walt_edge.runtimes.network import Candidates, Network, look
from walt_edge.runtimes.onnx_detector import letterbox
from walt_train.engine.start import Start
from walt_train.model.waltnet import WaltNet
from walt_train.recipes import walt_edge_small

Image = NDArray[np.uint8]
_GREY_LEVEL = 114
_HALVINGS = 9


def borrowed_net(bundle: Bundle) -> WaltNet:
    """`walt_edge_small` in eval mode with the weights of an exported edge network, as a training begins with them."""
    start = Start.of_bundle(Path(bundle.manifest.name), bundle)
    net = WaltNet(start.shaped(walt_edge_small().network)).eval()
    start.lend(net)
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


def packaged() -> Bundle:
    """The bundle that comes with the package."""
    return Bundle.read(general_model())
