"""From a float network to a quantised one that still gives its masks: parts stay in float until the gate passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from walt_edge.runtimes.onnx_detector import letterbox
from walt_edge.runtimes.walt_onnx import WaltOnnx
from walt_export.errors import ExportError
from walt_export.quantize.gate import QuantizedParity, answers, compare
from walt_export.quantize.graph import Target, activations_of, rewrite, widen
from walt_export.quantize.layers import PARTS, Layers
from walt_export.quantize.ranges import measure

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One choice of parts, and what came of it.

    Attributes:
        in_float: The parts that were left in float.
        file_bytes: Size of the ONNX file.
        parity: How far it agrees with the float network.
    """

    in_float: tuple[str, ...]
    file_bytes: int
    parity: QuantizedParity

    def __str__(self) -> str:
        parts = ", ".join(self.in_float) or "nothing"
        return f"{parts} in float: {self.file_bytes / 1e6:.2f} MB, {self.parity}"


@dataclass(frozen=True, slots=True)
class Quantized:
    """A quantised network that passed the gate.

    Attributes:
        model: The ONNX file's bytes.
        attempts: All that was tried, in order; the last one is the model, the others did not pass.
    """

    model: bytes
    attempts: tuple[Attempt, ...]

    @property
    def in_float(self) -> tuple[str, ...]:
        """The parts that stayed in float, because without each of them the gate did not pass."""
        return self.attempts[-1].in_float

    @property
    def parity(self) -> QuantizedParity:
        """How far the model agrees with the float network."""
        return self.attempts[-1].parity


def quantize(
    model: bytes,
    frames: Sequence[Image],
    judges: Mapping[str, Image],
    *,
    size_wh: tuple[int, int],
    score_threshold: float,
    target: Target = "onnxruntime",
) -> Quantized:
    """Makes a network compute with 8-bit integers, as far as its masks allow.

    Args:
        model: The ONNX file's bytes, float32 or stored in halves. Its model-local functions stay as they are.
        frames: What calibrates: (H, W, 3) uint8 BGR of any size, anonymised, of the camera that it will watch.
        judges: What the gate looks at, by name; none of the frames.
        size_wh: The network's input, pixels.
        score_threshold: What scores less is not an instance.
        target: What is to run it best; see `walt_export.quantize.graph`.

    Returns:
        The first of the attempts that passes; the same arguments give the same bytes.

    Raises:
        ExportError: No attempt passes, or there is nothing to calibrate or judge on.
    """
    loaded = onnx.load_from_string(model)
    widen(loaded)
    expected = answers(_opened(model, size_wh), judges, size_wh=size_wh, score_threshold=score_threshold)
    fitting = [letterbox(frame, (size_wh[1], size_wh[0]))[0] for frame in frames]
    seen = measure(loaded, activations_of(loaded), fitting)
    attempts: list[Attempt] = []
    for in_float in _choices(loaded):
        made = rewrite(loaded, seen, target=target, in_float=in_float)
        attempts.append(Attempt(in_float, len(made), compare(expected, _opened(made, size_wh), judges)))
        if attempts[-1].parity.passes:
            return Quantized(made, tuple(attempts))
    best = max(attempts, key=lambda attempt: (attempt.parity.f1, attempt.parity.mask_iou))
    raise ExportError(
        f"INT8 loses too much on {len(judges)} pictures, the least with {best}; worst: {best.parity.worst}: "
        "export without --int8"
    )


def _choices(model: onnx.ModelProto) -> list[tuple[str, ...]]:
    """No part in float, then one more at a time; a part that the network lacks is passed over."""
    layers = Layers.of(model.graph)
    present = [part for part in PARTS if layers.parts[part]]
    return [tuple(present[:count]) for count in range(len(present) + 1)]


def _opened(model: bytes, size_wh: tuple[int, int]) -> WaltOnnx:
    """On one thread: whether a network passes must not depend on a machine's cores."""
    return WaltOnnx(model, size_wh=size_wh, device="cpu", threads=1)
