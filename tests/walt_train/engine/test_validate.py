from __future__ import annotations

import msgspec

from tests.walt_train.engine.shapes import Shapes, tiny_recipe
from walt_train.data.sample import AmodalSample
from walt_train.engine.validate import judge
from walt_train.model.waltnet import WaltNet


class TwoFrames(Shapes):
    """As many samples as asked for, of two frames only."""

    def sample(self, epoch: int, index: int) -> AmodalSample:
        return super().sample(epoch, index % 2)


def test_a_frame_judges_once() -> None:
    network = msgspec.structs.replace(tiny_recipe().network, anchors_wh=((8.0, 20.0), (30.0, 14.0)))
    net = WaltNet(network).eval()
    _, few = judge(net, TwoFrames(6), 6)
    _, more = judge(net, Shapes(6), 6)
    assert (few["frames"], more["frames"]) == (2, 6)
