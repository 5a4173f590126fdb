"""One contract for all teachers: ONNX, mmdet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx.checker
import onnx.parser
import pytest
import torch
from numpy.typing import NDArray

from walt_edge.contract.errors import WaltError
from walt_edge.contract.labels import Label
from walt_edge.runtimes import Teacher, coco
from walt_train.mining.teachers import open_teacher

WH = (160, 128)

_ONNX = """
<ir_version: 10, opset_import: ["" : 20]>
one (float[1,3,128,160] image) => (float[2,4] boxes, float[2] scores, int64[2] labels)
<float[2,4] places = {10,20,500,60, 30,30,40,40}, float[2] sure = {0.9,0.8}, int64[2] kinds = {0,40}>
{
    boxes = Identity(places)
    scores = Identity(sure)
    labels = Identity(kinds)
}
"""

_CONFIG = """
dataset_type = "{dataset}"
test_pipeline = [dict(type="Resize", scale=(160, 128), keep_ratio=True)]
model = dict(
    type="FCOS",
    data_preprocessor=dict(type="DetDataPreprocessor", mean=[100.0] * 3, std=[50.0] * 3, pad_size_divisor=32),
    backbone=dict(
        type="ResNet", depth=18, num_stages=4, out_indices=(0, 1, 2, 3), base_channels=8,
        init_cfg=dict(type="Pretrained", checkpoint="nowhere.pth"),
    ),
    neck=dict(type="FPN", in_channels=[8, 16, 32, 64], out_channels=16, start_level=1, num_outs=5,
              add_extra_convs="on_output"),
    bbox_head=dict(
        type="FCOSHead", num_classes=80, in_channels=16, feat_channels=16, stacked_convs=1,
        norm_cfg=dict(type="GN", num_groups=4),
    ),
    test_cfg=dict(nms_pre=50, min_bbox_size=0, score_thr=0.0, nms=dict(type="nms", iou_threshold=0.5),
                  max_per_img=20),
)
"""


def mmdet_files(folder: Path, dataset: str = "CocoDataset") -> tuple[Path, Path]:
    """A tiny detector with random weights that is sure of something everywhere."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    from walt_train.model.mm_adapter.quiet import quiet

    config, checkpoint = folder / "tiny.py", folder / "tiny.pth"
    config.write_text(_CONFIG.format(dataset=dataset))
    with quiet():
        register_all_modules(init_default_scope=True)
        settings = Config.fromfile(config).model
        settings.backbone.pop("init_cfg")
        torch.manual_seed(1)
        model = MODELS.build(settings)
    torch.nn.init.constant_(model.bbox_head.conv_cls.bias, 1.0)
    torch.save({"state_dict": model.state_dict(), "meta": {}}, checkpoint)
    return config, checkpoint


def frames(count: int = 3) -> Iterator[NDArray[np.uint8]]:
    """A light box that drives over dark noise."""
    ground = np.random.default_rng(3).integers(40, 60, (WH[1], WH[0], 3)).astype(np.uint8)
    for index in range(count):
        picture = ground.copy()
        x = (index * 4) % 120
        picture[60:90, x : x + 34] = (200, 180, 160)
        yield picture


@pytest.fixture(params=["onnx", "mmdet"])
def teacher(request: pytest.FixtureRequest, tmp_path: Path) -> Teacher:
    if request.param == "onnx":
        model = onnx.parser.parse_model(_ONNX)
        onnx.checker.check_model(model)
        (tmp_path / "tiny.onnx").write_bytes(model.SerializeToString())
        spec = str(tmp_path / "tiny.onnx")
    if request.param == "mmdet":
        config, checkpoint = mmdet_files(tmp_path)
        spec = f"mmdet:{config}:{checkpoint}"
    made = open_teacher(spec)
    assert made is not None
    return made


def test_every_teacher_answers_alike(teacher: Teacher) -> None:
    assert 0 < len(teacher.name) <= 40
    seen = 0
    for picture in frames():
        before = picture.copy()
        found = teacher(picture)
        count = len(found.labels)
        assert np.array_equal(picture, before)
        assert found.boxes_xyxy.shape == (count, 4)
        assert found.scores.shape == (count,)
        assert found.boxes_xyxy.dtype == found.scores.dtype == np.float64
        assert (found.boxes_xyxy >= 0).all()
        assert (found.boxes_xyxy <= (*WH, *WH)).all()
        assert (found.boxes_xyxy[:, :2] <= found.boxes_xyxy[:, 2:]).all()
        assert ((found.scores >= 0) & (found.scores <= 1)).all()
        assert all(label is None or isinstance(label, Label) for label in found.labels)
        seen += count
    assert seen > 0


def test_what_does_not_move_is_left_out() -> None:
    found = coco.detections(np.array([[0, 0, 9, 9]] * 3), np.array([0.9, 0.9, 0.05]), np.array([2, 56, 0]), WH)
    assert found.labels == (Label.VEHICLE,)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("oracle", "no teacher 'oracle'"),
        ("mmdet:only-one", "CONFIG:CHECKPOINT"),
        ("nowhere.onnx", "no detector model"),
        ("mmdet:nowhere.py:nowhere.pth", "no detector config at nowhere.py"),
    ],
)
def test_what_is_missing_is_said_in_a_line(spec: str, words: str) -> None:
    with pytest.raises(WaltError, match=words) as told:
        open_teacher(spec)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("damage", "words"),
    [("classes", "no classes"), ("missing", "no checkpoint"), ("code", "without running code"), ("other", "fit")],
)
def test_a_pair_that_cannot_teach(tmp_path: Path, damage: str, words: str) -> None:
    config, checkpoint = mmdet_files(tmp_path, "SomeDataset" if damage == "classes" else "CocoDataset")
    if damage == "missing":
        checkpoint.unlink()
    if damage == "code":
        torch.save({"state_dict": Path}, checkpoint)
    if damage == "other":
        torch.save({"state_dict": {"a": torch.zeros(1)}}, checkpoint)
    with pytest.raises(WaltError, match=words) as told:
        open_teacher(f"mmdet:{config}:{checkpoint}")
    assert "\n" not in str(told.value)


def test_motion_needs_nobody_beside_it() -> None:
    assert open_teacher("motion") is None
