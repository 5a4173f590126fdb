"""How far activations reach, measured by running the network on pictures of its camera.

Where a range is cut is what INT8 loses most by: too wide, and every value is rounded coarsely; too narrow, and the
largest are lost. Of each tensor the range is taken that leaves the least squared error, found on a histogram of all
that the pictures give (as in Banner et al. 2019, "Post training 4-bit quantization", section 3, but searched). It was
measured against the smallest and largest value and against percentiles, and lost least.

ONNX Runtime's own calibrators hold every tensor of every picture at once, and those with histograms fail where the
number of objects changes from picture to picture; hence this one, which its quantiser takes as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from walt_edge.runtimes.session import first_line, require_runtime, session_options
from walt_edge.runtimes.walt_onnx import INPUT
from walt_export.errors import ExportError

_BINS = 4096
_CUTS = np.linspace(0.1, 1.0, 91)

Frames = Sequence[NDArray[np.uint8]]
Range = tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Activations:
    """What a tensor was seen to hold.

    Attributes:
        low: The smallest value, at most 0.
        high: The largest, at least 0.
        counts: (4096,) int64, of values by equal steps from `low` to `high`.
    """

    low: float
    high: float
    counts: NDArray[np.int64]

    def fit(self, *, levels: int, is_symmetric: bool) -> Range:
        """The range that loses least when its values become one of `levels` steps.

        Args:
            levels: Steps from one end to the other.
            is_symmetric: Whether zero lies in the middle.
        """
        low, high = self.low, self.high
        edges = np.linspace(low, high, _BINS + 1)
        values = (edges[1:] + edges[:-1]) / 2
        if is_symmetric:
            high = max(high, -low)
            low = -high
        cut = min(_CUTS, key=lambda part: self._loss(values, low * part, high * part, levels))
        return float(low * cut), float(high * cut)

    def _loss(self, values: NDArray[np.float64], low: float, high: float, levels: int) -> float:
        """Sum of squared errors: of what is cut off, and of rounding, step²/12 a value."""
        beyond = np.maximum(np.maximum(low - values, values - high), 0)
        rounding = ((high - low) / levels) ** 2 / 12
        return float(np.where(beyond > 0, beyond**2, rounding) @ self.counts)


def measure(model: onnx.ModelProto, tensors: Sequence[str], frames: Frames) -> dict[str, Activations]:
    """Runs a network on frames, twice, and notes what its tensors hold.

    Args:
        model: Its functions, if it has any, are run as they are.
        tensors: Names of float32 tensors.
        frames: (H, W, 3) uint8 BGR of the network's size.

    Raises:
        ExportError: There are no frames, or nothing was found in them, so that the heads were never seen at work.
    """
    if not frames:
        raise ExportError("no frames to calibrate INT8 on: give --calibrate FOLDER with some 32 frames of the camera")
    run = _opened(model, tensors)
    low, high = np.zeros(len(tensors)), np.zeros(len(tensors))
    count = np.zeros(len(tensors), np.int64)
    for number, values in _seen(run, frames):
        low[number] = min(low[number], values.min())
        high[number] = max(high[number], values.max())
        count[number] += values.size
    silent = [name for name, size in zip(tensors, count, strict=True) if not size]
    if silent:
        raise ExportError(
            f"in {len(frames)} calibration frames the network finds nothing (no value of {silent[0]}): "
            "give --calibrate FOLDER with frames that show people or vehicles"
        )
    counts = np.zeros((len(tensors), _BINS), np.int64)
    for number, values in _seen(run, frames):
        counts[number] += _histogram(values, low[number], high[number])
    return {name: Activations(float(low[i]), float(high[i]), counts[i]) for i, name in enumerate(tensors)}


def _histogram(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.int64]:
    if high <= low:
        return np.bincount([0], minlength=_BINS)
    places = ((values.ravel() - np.float32(low)) * np.float32(_BINS / (high - low))).astype(np.int32)
    return np.bincount(np.clip(places, 0, _BINS - 1), minlength=_BINS)


def _seen(
    run: Callable[[NDArray[np.uint8]], list[NDArray[np.float32]]], frames: Frames
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The number of each tensor and what it holds, for one frame after another; without those of no values."""
    for frame in frames:
        for number, values in enumerate(run(frame)):
            if values.size:
                yield number, values


def _opened(
    model: onnx.ModelProto, tensors: Sequence[str]
) -> Callable[[NDArray[np.uint8]], list[NDArray[np.float32]]]:
    """The network with its inner tensors as outputs.

    Without optimisation, which would take some of them away; on one thread, so that sums come out the same anywhere.
    """
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in tensors)
    runtime = require_runtime()
    options = session_options(1)
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = runtime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own exceptions share no other base
        raise ExportError(f"ONNX Runtime cannot open the network to calibrate it: {first_line(error)}") from error

    def run(frame: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        answer: Any = session.run(list(tensors), {INPUT: frame[None]})
        return list(answer)

    return run
