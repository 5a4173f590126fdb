from __future__ import annotations

import onnx
from walt_export.quantize.graph import widen

from benchmarks.precisions import FLOAT16, FLOAT32, TENSORRT, Subject, _quantized, measure_precisions
from tests.checkpoints import SCORE_THRESHOLD, SIZE_WH, noise
from walt_edge.contract.labels import Label
from walt_edge.runtimes.network import look
from walt_edge.runtimes.walt_onnx import WaltOnnx
from walt_train.data.sample import AmodalObject, AmodalSample


def test_every_precision_is_held_against_float32_and_the_truth(model: bytes) -> None:
    wide = onnx.load_from_string(model)
    widen(wide)
    floats = Subject("small", {FLOAT32: wide.SerializeToString(), FLOAT16: model}, SIZE_WH, SCORE_THRESHOLD)
    quantized = _quantized(floats, [noise(seed) for seed in range(20, 24)])
    assert next(iter(quantized)) == "INT8"
    assert list(quantized)[-1] == TENSORRT
    subject = Subject("small", {**floats.models, "INT8": quantized["INT8"]}, SIZE_WH, SCORE_THRESHOLD)
    found = measure_precisions(subject, [judge(model, 1), judge(model, 8)], rounds=2, threads=(1,))
    assert list(found) == [FLOAT32, FLOAT16, "INT8"]
    assert found[FLOAT16].parity.mask_iou == found[FLOAT16].parity.f1 == 1.0
    assert 0.8 < found["INT8"].parity.mask_iou < 1.0
    assert (found[FLOAT32].truth.total.mask_iou or 0) > 99
    assert 50 < (found["INT8"].truth.total.mask_iou or 0) < 99.9
    assert found["INT8"].file_bytes < found[FLOAT16].file_bytes
    assert all(one.milliseconds[1] > 0 for one in found.values())


def judge(model: bytes, seed: int) -> AmodalSample:
    """A picture whose truth is what the network sees in it, without what is small."""
    network = WaltOnnx(model, size_wh=SIZE_WH, device="cpu", threads=1)
    picture = noise(seed)
    seen = look(network, picture, size_wh=SIZE_WH, score_threshold=SCORE_THRESHOLD)
    objects = [
        AmodalObject(Label(int(label)), mask, track)
        for track, (label, mask) in enumerate(zip(seen.labels, seen.amodal, strict=True))
    ]
    return AmodalSample(picture, tuple(objects), name=f"{seed}.png")
