import importlib.util
import subprocess
import sys
from importlib.machinery import ModuleSpec
from typing import Any

import pytest
import torch

from walt_train.model import mmcv_ext

PICTURES = [
    ([[[[1.0, 2.0], [3.0, 4.0]]]], [[0.0, 0.0, 0.0, 1.0, 1.0]]),
    ([[[[1.0, 2.0], [3.0, 4.0]], [[4.0, 3.0], [2.0, 1.0]]]], [[0.0, 0.0, 0.0, 1.0, 1.0]]),
    (
        [[[[1.0, 2.0, 5.0, 6.0], [3.0, 4.0, 7.0, 8.0], [9.0, 10.0, 13.0, 14.0], [11.0, 12.0, 15.0, 16.0]]]],
        [[0.0, 0.0, 0.0, 3.0, 3.0]],
    ),
]
# What mmcv's compiled operator gives: pooled values, and the gradient of their sum.
POOLED = [
    ([[[[1.0, 1.25], [1.5, 1.75]]]], [[[[3.0625, 0.4375], [0.4375, 0.0625]]]]),
    (
        [[[[1.0, 1.25], [1.5, 1.75]], [[4.0, 3.75], [3.5, 3.25]]]],
        [[[[3.0625, 0.4375], [0.4375, 0.0625]], [[3.0625, 0.4375], [0.4375, 0.0625]]]],
    ),
    (
        [[[[1.9375, 4.75], [7.5625, 10.375]]]],
        [
            [
                [
                    [0.47265625, 0.42968750, 0.42968750, 0.04296875],
                    [0.42968750, 0.39062500, 0.39062500, 0.03906250],
                    [0.42968750, 0.39062500, 0.39062500, 0.03906250],
                    [0.04296875, 0.03906250, 0.03906250, 0.00390625],
                ]
            ]
        ],
    ),
]
SETTINGS: dict[str, Any] = {
    "aligned_height": 2,
    "aligned_width": 2,
    "spatial_scale": 1.0,
    "sampling_ratio": 2,
    "pool_mode": 1,
    "aligned": True,
}
EMPTY = torch.zeros(0)


@pytest.mark.parametrize(("given", "expected"), list(zip(PICTURES, POOLED, strict=True)))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_roi_align_gives_mmcvs_reference_values(given: tuple, expected: tuple, dtype: torch.dtype) -> None:  # type: ignore[type-arg]
    picture, rois = (torch.tensor(value, dtype=dtype) for value in given)
    pooled, gradient = (torch.tensor(value) for value in expected)
    output = torch.zeros(pooled.shape, dtype=dtype)
    mmcv_ext.roi_align_forward(picture, rois, output, EMPTY, EMPTY, **SETTINGS)
    backward = torch.zeros(picture.shape, dtype=dtype)
    mmcv_ext.roi_align_backward(torch.ones_like(output), rois, EMPTY, EMPTY, backward, **SETTINGS)

    tolerance = 1e-2 if dtype is torch.bfloat16 else 1e-6
    assert output.dtype == dtype
    torch.testing.assert_close(output.float(), pooled, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(backward.float(), gradient, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nms_gives_mmcvs_reference_values(dtype: torch.dtype) -> None:
    boxes = torch.tensor([[6, 3, 8, 7], [3, 6, 9, 11], [3, 7, 10, 12], [1, 4, 13, 7]], dtype=dtype)
    scores = torch.tensor([0.6, 0.9, 0.7, 0.2], dtype=dtype)

    assert mmcv_ext.nms(boxes, scores, iou_threshold=0.3, offset=0).tolist() == [1, 0, 3]


def test_nms_of_inclusive_boxes_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="offset 1"):
        mmcv_ext.nms(torch.zeros(1, 4), torch.zeros(1), iou_threshold=0.5, offset=1)


@pytest.mark.parametrize("operator", [mmcv_ext.roi_align_forward, mmcv_ext.roi_align_backward])
def test_maximum_pooling_is_refused(operator) -> None:  # type: ignore[no-untyped-def]
    some = torch.zeros(1, 1, 2, 2)
    with pytest.raises(NotImplementedError, match="maximum"):
        operator(some, torch.zeros(1, 5), some, EMPTY, EMPTY, **{**SETTINGS, "pool_mode": 0})


def test_other_operators_say_that_they_are_missing() -> None:
    module = mmcv_ext.StandIn()
    assert isinstance(module.__spec__, ModuleSpec)
    with pytest.raises(NotImplementedError, match="deform_conv_forward"):
        module.deform_conv_forward(1, 2)
    with pytest.raises(AttributeError):
        module.__wrapped__  # noqa: B018


def test_a_compiled_module_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, mmcv_ext.NAME, raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: ModuleSpec(name, None))
    mmcv_ext.install()
    assert mmcv_ext.NAME not in sys.modules


SPAWNED = """
import multiprocessing
def look(_):
    import sys
    import walt_train.model.mm_adapter
    from mmcv.ops import nms
    return type(sys.modules["mmcv._ext"]).__name__
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(look, [0]))
"""


def test_a_spawned_worker_has_the_stand_in_before_mmcv_looks(tmp_path) -> None:  # type: ignore[no-untyped-def]
    script = tmp_path / "spawned.py"
    script.write_text(SPAWNED)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    compiled = importlib.util.find_spec("mmcv._ext") if "mmcv._ext" not in sys.modules else None
    assert compiled is not None or "['StandIn']" in done.stdout
