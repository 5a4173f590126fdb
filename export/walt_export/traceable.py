"""The network's forward pass as one module that can be traced: one picture in, four tensors out.

It is the trained module's own, with every number of objects as a size that is known only when the graph runs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from walt_train.model.waltnet import WaltNet

OUTPUTS = ("boxes", "scores", "labels", "maps", "visible_boxes")
"""The last one only of a network that has it; who reads a bundle needs the others."""


class TraceableWaltNet(nn.Module):
    """From a letterboxed picture to candidates.

    Args:
        net: In eval mode.
    """

    def __init__(self, net: WaltNet) -> None:
        super().__init__()
        self.net = net
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(1, H, W, 3) uint8 BGR to boxes (N, 4), scores (N,), labels (N,) int64, maps (N, 3, 28, 28).

        Pixels are normalised here, so that every runtime takes what a camera gives.
        """
        found: tuple[Tensor, ...] = self.net(image)
        return found

    @property
    def outputs(self) -> list[str]:
        """Names of what `forward` gives."""
        return list(OUTPUTS[: 5 if self.net.network.visible_box else 4])

    def example(self) -> Tensor:
        """An input of the right size and type; its values do not matter."""
        width, height = self.net.network.input_wh
        return torch.zeros(1, height, width, 3, dtype=torch.uint8)
