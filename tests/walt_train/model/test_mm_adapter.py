from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData

from tests.walt_train.engine.shapes import SCENE, Shapes, drawn_sample, tiny_recipe
from walt_train.engine.batches import StepBatches, survey
from walt_train.model.mm_adapter import AmodalDetector
from walt_train.model.mm_adapter.assigner import LenientAssigner, PlaneOverlaps
from walt_train.model.mm_adapter.backbones import BackboneError, MmStages
from walt_train.model.waltnet import BOX_SPREAD, WaltNet, decode_boxes, encode_boxes
from walt_train.recipes import MmBackbone, Recipe


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    recipe = tiny_recipe()
    network = msgspec.structs.replace(recipe.network, visible_box=True)
    recipe = msgspec.structs.replace(recipe, network=network)
    return msgspec.structs.replace(recipe, network=survey(Shapes(), recipe)[0])


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
        "loss_quality",
        "loss_visible_box",
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
    torch.nn.init.normal_(net.proposal_head.objectness.weight, std=0.5)  # no two alike: mmdet sorts by the sigmoid
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
    torch.testing.assert_close(encode_boxes(boxes, goals), deltas)


def test_overlaps_are_mmdets_to_the_last_bit() -> None:
    random = torch.Generator().manual_seed(4)

    def boxes(count: int) -> torch.Tensor:
        drawn = 200 * torch.rand(count, 4, generator=random)
        return torch.cat([drawn[:, :2], drawn[:, :2] + drawn[:, 2:]], dim=1)

    objects, anchors = boxes(7), boxes(900)
    objects[1, 2:] = objects[1, :2]  # of no area
    anchors[3], anchors[4] = objects[0], objects[1]
    found = PlaneOverlaps()(objects, anchors)
    assert torch.equal(found, bbox_overlaps(objects, anchors))
    assert found[0, 3] == 1
    assert 0 < (found == 0).float().mean() < 1
    assert PlaneOverlaps()(boxes(0), anchors).shape == (0, 900)
    assert PlaneOverlaps()(objects, boxes(0)).shape == (7, 0)


def test_what_is_too_hidden_is_neither_object_nor_background() -> None:
    assigner = LenientAssigner(pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5)
    taught, hidden = torch.tensor([[0.0, 0, 40, 40]]), torch.tensor([[2.0, 0, 42, 40], [100, 100, 120, 140]])
    boxes = torch.tensor(
        [
            [0.0, 0, 40, 40],  # the object that is taught, though a hidden one is almost there
            [101, 100, 121, 140],  # the hidden one
            [100, 100, 104, 104],  # a corner of it: background as ever
            [60, 60, 80, 80],  # nothing
        ]
    )

    def assigned(*ignored: InstanceData) -> list[int]:
        objects = InstanceData(bboxes=taught, labels=torch.tensor([0]))
        found: list[int] = assigner.assign(InstanceData(priors=boxes), objects, *ignored).gt_inds.tolist()
        return found

    assert assigned() == [1, 0, 0, 0]
    assert assigned(InstanceData(bboxes=hidden)) == [1, -1, 0, 0]
    assert assigned(InstanceData(bboxes=torch.zeros(0, 4))) == [1, 0, 0, 0]


def test_both_stages_are_told_what_to_ignore(recipe: Recipe, net: WaltNet, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[bool, list[list[float]]]] = []
    assign = LenientAssigner.assign

    def noted(self: LenientAssigner, boxes: Any, objects: Any, ignored: Any = None, **kwargs: Any) -> Any:
        told.append((self.match_low_quality, ignored.bboxes.tolist()))
        return assign(self, boxes, objects, ignored, **kwargs)

    monkeypatch.setattr(LenientAssigner, "assign", noted)
    detector = AmodalDetector(net)
    hidden = [[[5.0, 5.0, 20.0, 30.0]], []]
    ignored = [torch.tensor(boxes).reshape(-1, 4) for boxes in hidden]
    losses = detector(**(StepBatches(Shapes(), SCENE, recipe, seed=0)[0] | {"ignored": ignored}))
    assert torch.isfinite(detector.parse_losses(losses)[0])
    for first_stage in (True, False):
        assert [boxes for stage, boxes in told if stage == first_stage] == hidden


def test_the_visible_box_is_learned(net: WaltNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deltas that are right cost nothing."""
    detector = AmodalDetector(net)
    rois = torch.tensor([[0.0, 10, 10, 30, 60], [1, 5, 8, 50, 30]])
    visible = torch.tensor([[10.0, 10, 30, 30], [5, 8, 40, 28]])
    goals = encode_boxes(rois[:, 1:], visible) / torch.tensor(BOX_SPREAD)
    monkeypatch.setattr(net.box_head, "visible", lambda context: goals)
    assert detector._visible_box_loss(torch.zeros(2, 8, 7, 7), rois[:, 1:], visible).item() == 0
    assert detector._visible_box_loss(torch.zeros(2, 8, 7, 7), rois[:, 1:], visible + 1).item() > 0.05


@pytest.mark.parametrize("kind", ["resnet50", "swin_t"])
def test_backbones_of_mmdet_learn_and_predict(recipe: Recipe, kind: Literal["resnet50", "swin_t"]) -> None:
    torch.manual_seed(0)
    net = WaltNet(msgspec.structs.replace(recipe.network, backbone=MmBackbone(kind=kind), score_floor=0.0))
    detector = AmodalDetector(net)
    total, _ = detector.parse_losses(detector(**StepBatches(Shapes(), SCENE, recipe, seed=0)[0]))
    total.backward()
    assert torch.isfinite(total)
    without = [name for name, weight in net.named_parameters() if weight.grad is None]
    assert without == []
    answer = net.eval().predict(torch.from_numpy(drawn_sample(1).image_bgr[::2, ::2].copy())[None])
    assert [part.shape[0] for part in answer] == [len(answer[1])] * 5


def test_a_backbones_weights_are_read_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = {f"backbone.{name}": value for name, value in MmStages(3, RESNET).inner.state_dict().items()}
    file = tmp_path / "resnet50.pth"
    torch.save({"state_dict": weights | {"head.weight": torch.zeros(2)}}, file)
    torch.manual_seed(1)
    read = MmStages(8, MmBackbone(kind="resnet50", checkpoint=str(file))).inner.state_dict()
    torch.testing.assert_close(read["layer4.2.conv3.weight"], weights["backbone.layer4.2.conv3.weight"])
    torch.testing.assert_close(read["conv1.weight"][:, :3], weights["backbone.conv1.weight"].flip(1))
    assert not read["conv1.weight"][:, 3:].any()
    for bad, words in (
        ({"state_dict": {"conv1.weight": torch.zeros(64, 3, 7, 7)}}, "lacks 2"),
        ([1], "holds a list"),
    ):
        torch.save(bad, file)
        with pytest.raises(BackboneError, match=words):
            MmStages(8, MmBackbone(kind="resnet50", checkpoint=str(file)))


@pytest.mark.parametrize(("content", "words"), [(None, "no backbone weights"), (b"x", "no file of weights")])
def test_a_backbones_file_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(BackboneError, match=words):
        MmStages(8, MmBackbone(kind="resnet50", checkpoint=str(tmp_path / "weights.pth")))


RESNET = MmBackbone(kind="resnet50")
