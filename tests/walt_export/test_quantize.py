"""The search: what passes, what is refused, and that it leaves nothing behind."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from walt_export.errors import ExportError
from walt_export.quantize import Quantized, quantize
from walt_export.quantize.graph import widen
from walt_export.quantize.layers import OUTPUTS, PARTS

from tests.checkpoints import EVEN_LEVEL, SCORE_THRESHOLD, SIZE_WH, noise
from walt_edge.runtimes.network import look
from walt_edge.runtimes.walt_onnx import WaltOnnx

FRAMES = [noise(seed) for seed in range(20, 26)]
EVEN = np.full((SIZE_WH[1], SIZE_WH[0], 3), EVEN_LEVEL, np.uint8)


def quantized(model: bytes, judges: Sequence[int], frames: Sequence[NDArray[np.uint8]] = FRAMES) -> Quantized:
    named = {f"{seed}.png": noise(seed) for seed in judges}
    return quantize(model, frames, named, size_wh=SIZE_WH, score_threshold=SCORE_THRESHOLD)


def test_what_passes_sees_the_same_objects_in_a_smaller_file_and_leaves_nothing_behind(
    model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found = quantized(model, [1, 3, 8])
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert found.in_float == found.attempts[0].in_float == ()
    assert found.parity.passes
    assert len(found.parity.ious) >= 15
    assert len(found.model) == found.attempts[0].file_bytes < 0.9 * len(model)
    runtime = WaltOnnx(found.model, size_wh=SIZE_WH, device="cpu", threads=1)
    assert len(look(runtime, EVEN, size_wh=SIZE_WH, score_threshold=SCORE_THRESHOLD)) == 0


def test_parts_stay_in_float_one_after_another_until_the_gate_passes(model: bytes) -> None:
    found = quantized(model, [2])
    tried = [attempt.in_float for attempt in found.attempts]
    assert tried == [PARTS[:count] for count in range(len(tried))]
    assert len(tried) > 1
    assert [attempt.parity.passes for attempt in found.attempts] == [False] * (len(tried) - 1) + [True]
    assert OUTPUTS in found.in_float
    weights = {one.name: one for one in onnx.load_from_string(found.model).graph.initializer}
    assert weights["net.box_head.classes.weight"].data_type == onnx.TensorProto.FLOAT
    assert weights["net.box_head.first.weight_quantized"].data_type == onnx.TensorProto.INT8


def test_the_same_pictures_give_the_same_bytes(model: bytes) -> None:
    assert quantized(model, [1]).model == quantized(model, [1]).model


def test_a_network_that_integers_spoil_is_refused_with_picture_and_object(model: bytes) -> None:
    spoilt = with_a_loud_channel(model)
    with pytest.raises(
        ExportError, match=r"INT8 loses too much .*\d\.png, (person|vehicle) of score .*without --int8"
    ):
        quantized(spoilt, [0, 9])


def with_a_loud_channel(model: bytes) -> bytes:
    """The same network in float; but a channel of a stage outshouts the others, which integers then do not hear."""
    loaded = onnx.load_from_string(model)
    widen(loaded)
    weights = {one.name: one for one in loaded.graph.initializer}
    loud, *after = [
        node for node in loaded.graph.node if "stages.1" in (*node.input, "")[1] and node.op_type == "Conv"
    ]
    rectified = next(node for node in loaded.graph.node if loud.output[0] in node.input).output[0]
    for node in after:
        if node.input[0] == rectified:
            change(weights[node.input[1]], (slice(None), 0), 1e-4)
    for name in loud.input[1:]:
        change(weights[name], (0,), 1e4)
    return bytes(loaded.SerializeToString())


def change(tensor: onnx.TensorProto, where: tuple[int | slice, ...], factor: float) -> None:
    values = numpy_helper.to_array(tensor).copy()
    values[where] *= factor
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


@pytest.mark.parametrize(
    ("frames", "judges", "words"),
    [
        pytest.param([], [1], "no frames to calibrate", id="no-frames"),
        pytest.param([EVEN, EVEN], [1], "finds nothing .*--calibrate FOLDER", id="empty-frames"),
        pytest.param(FRAMES, [], "nothing in the 0 pictures that judge", id="no-judges"),
    ],
)
def test_pictures_that_prove_nothing_are_refused(
    model: bytes, frames: list[NDArray[np.uint8]], judges: list[int], words: str
) -> None:
    with pytest.raises(ExportError, match=words):
        quantized(model, judges, frames)
