"""Static INT8: a network whose layers compute with 8-bit integers, held against the one it was made from.

`frames` reads what a camera's activations are measured on, `ranges` measures them, `layers` says what a network is
made of, `graph` puts the integers in, `gate` says whether it still gives the same masks, and `search`
leaves parts in float until it does.
"""

from __future__ import annotations

from walt_export.quantize.frames import CALIBRATION, halves, read_calibration
from walt_export.quantize.gate import QuantizedParity, answers, check_quantized, compare
from walt_export.quantize.graph import Target, rewrite
from walt_export.quantize.ranges import Activations, measure
from walt_export.quantize.search import Attempt, Quantized, quantize

__all__ = [
    "CALIBRATION",
    "Activations",
    "Attempt",
    "Quantized",
    "QuantizedParity",
    "Target",
    "answers",
    "check_quantized",
    "compare",
    "halves",
    "measure",
    "quantize",
    "read_calibration",
    "rewrite",
]
