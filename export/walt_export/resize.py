"""The same weights at another input size: for a slower device, or for objects that are far away."""

from __future__ import annotations

import copy
import logging

import msgspec
import torch
from torch.nn import functional

from walt_export.errors import ExportError
from walt_train.model.waltnet import WaltNet

_MULTIPLE = 32
_LEAST, _MOST = 32, 4096
_log = logging.getLogger(__name__)


@torch.no_grad()
def at_size(net: WaltNet, size_wh: tuple[int, int] | None) -> WaltNet:
    """A network whose input has that size; the network itself if it has it, or None is asked for.

    Proposal shapes grow as the picture does, and so does the empty scene where the network is shown it.

    Raises:
        ExportError: The sides do not divide by 32, are out of range, or the network knows the camera by place and the
            proportions are others than it learned.
    """
    trained_wh = net.network.input_wh
    if size_wh is None or size_wh == trained_wh:
        return net
    _check(size_wh, net)
    scale = min(size_wh[0] / trained_wh[0], size_wh[1] / trained_wh[1])
    anchors = tuple((width * scale, height * scale) for width, height in net.network.anchors_wh)
    other = WaltNet(msgspec.structs.replace(net.network, input_wh=size_wh, anchors_wh=anchors))
    state = copy.copy(net.state_dict())
    plate = state.get("input.plate")
    if plate is not None:
        state["input.plate"] = functional.interpolate(plate[None], (size_wh[1], size_wh[0]), mode="area")[0]
    other.load_state_dict(state)
    _log.warning(
        "trained at %dx%d, exported at %dx%d: parity is proven, accuracy at that size is not measured; "
        "the score threshold is the trained one",
        *trained_wh,
        *size_wh,
    )
    return other.eval()


def _check(size_wh: tuple[int, int], net: WaltNet) -> None:
    width, height = size_wh
    asked, trained_wh = f"{width}x{height}", net.network.input_wh
    if width % _MULTIPLE or height % _MULTIPLE:
        near = "x".join(str(max(_LEAST, round(side / _MULTIPLE) * _MULTIPLE)) for side in size_wh)
        raise ExportError(f"--size {asked}: the sides have to divide by {_MULTIPLE}; {near} is near")
    if min(size_wh) < _LEAST or max(size_wh) > _MOST:
        raise ExportError(f"--size {asked}: sides are {_LEAST} to {_MOST} pixels")
    knows_place = net.network.background or net.network.position
    if knows_place and width * trained_wh[1] != height * trained_wh[0]:
        raise ExportError(
            f"--size {asked}: this network learned its camera at {trained_wh[0]}x{trained_wh[1]}; "
            "give a size of the same proportions, or train at that one"
        )
