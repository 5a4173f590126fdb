"""What TensorRT's ONNX parser takes: operators, the types of their data, and their limits.

Facts of onnx/onnx-tensorrt, docs/operators.md as of TensorRT 10.15 (opsets 9 to 24). An operator with a limit that is
not written down below as something to check is left out, and with it refused: none of our networks needs one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from onnx import TensorProto

SOURCE: Final = "TensorRT 10.15"
OPSETS: Final = range(9, 25)
MOST_K: Final = 3840
"""TopK's K is below it."""

_HALF_OR_FLOAT = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16})
_FLOATING = _HALF_OR_FLOAT | {TensorProto.BFLOAT16}
_NUMBER = _FLOATING | {TensorProto.INT32, TensorProto.INT64}
_BOOL = frozenset({TensorProto.BOOL})
_ANY = _NUMBER | _BOOL
QUANTIZED: Final = frozenset({TensorProto.INT8, TensorProto.INT4, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT4E2M1})
"""Only between QuantizeLinear and DequantizeLinear."""

_BY_TYPES: tuple[tuple[frozenset[int], str], ...] = (
    (_BOOL, "And Not Or Xor"),
    (_HALF_OR_FLOAT, "BlackmanWindow GridSample HammingWindow HannWindow Mish NonMaxSuppression NonZero RoiAlign"),
    (
        _FLOATING,
        "Acos Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Ceil Celu Clip Conv ConvTranspose Cos Cosh "
        "CumSum Einsum Elu Erf Exp Floor Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool GroupNormalization "
        "HardSigmoid HardSwish InstanceNormalization IsInf LRN LayerNormalization LeakyRelu Log LogSoftmax "
        "LpNormalization LpPool MatMul MaxPool MeanVarianceNormalization PRelu QuantizeLinear RMSNormalization "
        "Reciprocal Resize Round Selu Sigmoid Sin Sinh Softmax Softplus Softsign Sqrt Tan Tanh ThresholdedRelu "
        "Upsample",
    ),
    (
        _NUMBER,
        "Abs Add ArgMax ArgMin DepthToSpace Div Equal Greater GreaterOrEqual IsNaN Less LessOrEqual Max Mean Min Mod "
        "Mul Neg Pad Pow Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin "
        "ReduceProd ReduceSum ReduceSumSquare Relu ScatterElements ScatterND Shrink Sign SpaceToDepth Sub Sum TopK",
    ),
    (
        _ANY,
        "Cast CastLike Concat Constant ConstantOfShape Expand Flatten Gather GatherElements GatherND Identity If "
        "Loop OneHot Reshape ReverseSequence Shape Size Slice Split Squeeze Tile Transpose Trilu Unsqueeze Where",
    ),
    (QUANTIZED, "DequantizeLinear"),
)
TYPES: Final[Mapping[str, frozenset[int]]] = {
    operator: types for types, operators in _BY_TYPES for operator in operators.split()
}
"""By operator: the types that its data may have. What does not stand here TensorRT does not have."""

DATA: Final[Mapping[str, tuple[str, ...]]] = {
    "Cast": ("T1", "T2"),
    "CastLike": ("T1", "T2"),
    "ConstantOfShape": ("T2",),
    "If": ("V",),
    "Loop": ("V",),
    "OneHot": ("T3",),
    "Where": ("T",),
}
"""By operator: the type parameters of ONNX's schema that are its data, where that is not the first input's."""

CONSTANT_INPUTS: Final[Mapping[str, tuple[int, ...]]] = {
    "CumSum": (1,),
    "OneHot": (1,),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
    **{operator: (1,) for operator in TYPES if operator.startswith("Reduce")},
}
"""By operator: which inputs have to be known when the engine is built."""

ONE_OUTPUT: Final = frozenset({"LayerNormalization", "MaxPool"})
"""Operators of which only the first output exists."""

MOST_DIMENSIONS: Final = 8

RANKS: Final[Mapping[str, frozenset[int]]] = {
    "AveragePool": frozenset({4, 5}),
    "GridSample": frozenset({4}),
    "MaxPool": frozenset({4, 5}),
}
"""By operator: how many dimensions its first input may have."""

_UNDILATED = ("dilations", frozenset({"1"}))
ATTRIBUTES: Final[Mapping[str, tuple[tuple[str, frozenset[str]], ...]]] = {
    "AveragePool": (_UNDILATED,),
    "LpPool": (_UNDILATED,),
    "MaxPool": (_UNDILATED,),
    "Resize": (
        (
            "coordinate_transformation_mode",
            frozenset({"half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners"}),
        ),
        ("mode", frozenset({"nearest", "linear"})),
        ("nearest_mode", frozenset({"floor", "ceil", "round_prefer_floor", "round_prefer_ceil"})),
        ("keep_aspect_ratio_policy", frozenset({"stretch"})),
        ("antialias", frozenset({"0"})),
    ),
    "ScatterND": (("reduction", frozenset({"none"})),),
    "TopK": (("sorted", frozenset({"1"})),),
}
"""By operator: an attribute and the values that it may have if it is there; of a list, every entry."""
