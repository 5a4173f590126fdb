from dataclasses import replace

import msgspec
import pytest
import torch

from tests.walt_train.engine.shapes import SCENE, Shapes, drawn_sample, tiny_recipe
from walt_train.engine.batches import StepBatches, survey
from walt_train.model.mm_adapter import AmodalDetector
from walt_train.model.waltnet import BOX_SPREAD, WaltNet, decode_boxes
from walt_train.recipes import Recipe


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    recipe = tiny_recipe()
    return msgspec.structs.replace(recipe, network=survey(Shapes(), recipe.network)[0])


@pytest.fixture
def net(recipe: Recipe) -> WaltNet:
    torch.manual_seed(1)
    return WaltNet(recipe.network)


def test_every_weight_learns(recipe: Recipe, net: WaltNet) -> None:
    detector = AmodalDetector(net)
    total, shown = detector.parse_losses(detector(**StepBatches(Shapes(), SCENE, recipe, seed=0)[0]))
    total.backward()

    names = {
        "loss_rpn_cls",
        "loss_rpn_bbox",
        "loss_cls",
        "loss_bbox",
        "loss_amodal",
        "loss_occluder",
        "loss_occluded",
    }
    assert set(shown) == names | {"loss"}
    assert torch.isfinite(total)
    without = [name for name, weight in net.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []
    assert dict(detector.named_parameters()).keys() == {f"net.{name}" for name, _ in net.named_parameters()}


def test_pictures_without_objects_have_finite_losses(recipe: Recipe, net: WaltNet) -> None:
    class Empty(Shapes):
        def sample(self, epoch, index):  # type: ignore[no-untyped-def]
            return replace(super().sample(epoch, index), objects=())

    detector = AmodalDetector(net)
    total, _ = detector.parse_losses(detector(**StepBatches(Empty(), SCENE, recipe, seed=0)[0]))
    total.backward()
    assert torch.isfinite(total)


def test_proposals_are_mmdets(net: WaltNet) -> None:
    detector = AmodalDetector(net.eval()).eval()
    torch.nn.init.normal_(net.proposal_head.deltas.weight, std=0.2)
    picture = drawn_sample(1).image_bgr[::2, ::2]
    feature = net.features(torch.from_numpy(picture.copy())[None])
    with torch.no_grad():
        scores, deltas = net.proposal_head(feature)
        meta = {"img_shape": (64, 96)}
        theirs = detector.rpn.predict_by_feat([scores], [deltas], batch_img_metas=[meta], rescale=False)[0].bboxes
        ours = net.propose(feature)
    assert len(ours) == len(theirs) > 5
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)


def test_boxes_are_decoded_as_mmdet_encodes_them(net: WaltNet) -> None:
    coder = AmodalDetector(net).roi.bbox_head.bbox_coder
    boxes = torch.tensor([[10.0, 10, 30, 60], [5, 8, 50, 30]])
    goals = torch.tensor([[12.0, 9, 36, 66], [5, 2, 44, 31]])
    deltas = coder.encode(boxes, goals) * torch.tensor(BOX_SPREAD)
    torch.testing.assert_close(decode_boxes(boxes, deltas), goals)
