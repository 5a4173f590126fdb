from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from walt_export.errors import ExportError
from walt_export.quantize.ranges import Activations, measure

BINS = 4096
MODEL = """
<ir_version: 10, opset_import: ["" : 20, "local" : 1]>
net (uint8[1,4,6,3] image) => (float[1,4,6,3] out, float[N,4] some)
{
    wide = Cast <to = 1> (image)
    out = local.Less (wide)
    places = NonZero (out)
    turned = Transpose (places)
    some = Cast <to = 1> (turned)
}
<domain: "local", opset_import: ["" : 20]>
Less (x) => (y) {
    ten = Constant <value = float {10.0}> ()
    y = Sub (x, ten)
}
"""


def as_counts(values: NDArray[np.float64], low: float, high: float) -> Activations:
    return Activations(low, high, np.histogram(values, BINS, (low, high))[0])


@given(
    st.floats(-100, 0),
    st.floats(0.01, 100),
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.sampled_from([63, 127, 255]),
)
def test_a_range_holds_zero_and_nothing_that_was_not_seen(
    low: float, high: float, seed: int, is_symmetric: bool, levels: int
) -> None:
    values = np.random.default_rng(seed).normal(0, (high - low) / 5, 500).clip(low, high)
    found = as_counts(values, low, high).fit(levels=levels, is_symmetric=is_symmetric)
    farthest = max(high, -low)
    assert found[0] <= 0 <= found[1]
    assert found[0] >= (-farthest if is_symmetric else low)
    assert found[1] <= (farthest if is_symmetric else high)
    if is_symmetric:
        assert found[0] == pytest.approx(-found[1])


@given(st.integers(0, 2**32 - 1), st.floats(2, 50), st.sampled_from([127, 255]))
def test_what_it_loses_is_least(seed: int, outlier: float, levels: int) -> None:
    """The squared error of values that are really rounded is no less in any other range tried."""
    values = np.append(np.abs(np.random.default_rng(seed).normal(0, 0.3, 4000)), outlier)

    def loss(high: float) -> float:
        step = high / levels
        return float(((np.clip(np.round(values / step), 0, levels) * step - values) ** 2).sum())

    high = as_counts(values, 0.0, outlier).fit(levels=levels, is_symmetric=False)[1]
    assert loss(high) <= 1.1 * min(loss(outlier * part) for part in np.linspace(0.1, 1, 30))


def test_a_tensor_that_never_changes_has_a_range_too() -> None:
    assert Activations(0.0, 0.0, np.bincount([0], minlength=BINS)).fit(levels=255, is_symmetric=False) == (0.0, 0.0)


def test_tensors_are_measured_as_the_network_gives_them_its_functions_included() -> None:
    model = onnx.parser.parse_model(MODEL)
    frames = [np.full((4, 6, 3), level, np.uint8) for level in (10, 0, 60, 10)]
    seen = measure(model, ["out", "some"], frames)
    assert (seen["out"].low, seen["out"].high) == (-10.0, 50.0)
    assert seen["out"].counts.sum() == 4 * 72
    assert [int(seen["out"].counts[place]) for place in (0, -1)] == [72, 72]
    assert seen["some"].counts.sum() == 2 * 72 * 4  # in two of the frames it holds nothing
    assert model.graph.output[0].name == "out"


def test_a_tensor_that_no_frame_fills_is_refused() -> None:
    with pytest.raises(ExportError, match=r"in 1 calibration frames the network finds nothing \(no value of some\)"):
        measure(onnx.parser.parse_model(MODEL), ["out", "some"], [np.full((4, 6, 3), 10, np.uint8)])
