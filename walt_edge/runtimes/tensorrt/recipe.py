"""How to build an engine on a device: what `build.json` holds."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from walt_edge.runtimes.tensorrt import EngineError

RECIPE: Final = "build.json"
MODEL: Final = "model.onnx"
Precision = Literal["fp32", "fp16", "int8"]
_Count = Annotated[int, msgspec.Meta(ge=1)]
_FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many pictures an engine takes at once; kernels are chosen for `opt`."""

    min: _Count = 1
    opt: _Count = 1
    max: _Count = 1


class BuildRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that decides what an engine is, but for the device and the version of TensorRT.

    Attributes:
        format: Of this file.
        sha256: Of the ONNX file.
        precision: What the graph's types are: with fp16 learned layers are in halves, with int8 it quantises and
            dequantises (QDQ). An engine is strongly typed: TensorRT chooses no type of its own.
        size_wh: Of a picture, pixels.
        batch: The optimisation profile; min, opt and max are equal where the graph's batch is fixed.
        dynamic_batch: Whether the graph leaves it open.
        input: The graph's input: (batch, H, W, 3) uint8 BGR.
        tensorrt: The oldest version that it is meant for, and the first that it is not.
        workspace_bytes: Scratch memory that the builder's kernels may take.
        optimization_level: TensorRT's, 0..5: how long it searches for kernels.
        model: The ONNX file, in this folder.
        timing_cache: What kernels took on this device: the next build reads it instead of timing again.
        engine: What is built, in this folder.
    """

    format: Literal[1] = 1
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    precision: Precision
    size_wh: tuple[_Count, _Count]
    batch: Batch
    dynamic_batch: bool
    input: str = "image"
    tensorrt: tuple[str, str] = ("10.0", "11")
    workspace_bytes: _Count = 1 << 30
    optimization_level: Annotated[int, msgspec.Meta(ge=0, le=5)] = 3
    model: _FileName = MODEL
    timing_cache: _FileName = "timing.cache"
    engine: _FileName = "model.engine"

    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """The input's smallest, best and largest shape."""
        width, height = self.size_wh
        return tuple((count, height, width, 3) for count in msgspec.structs.astuple(self.batch))  # type: ignore[return-value]


def encode(recipe: BuildRecipe) -> bytes:
    """The file's bytes: the same for the same recipe."""
    return msgspec.json.format(msgspec.json.encode(recipe), indent=2) + b"\n"


def decode(data: bytes, name: str = RECIPE) -> BuildRecipe:
    """Reads a recipe; raises EngineError if `name` is none."""
    try:
        return msgspec.json.decode(data, type=BuildRecipe)
    except msgspec.DecodeError as error:
        raise EngineError(f"{name} is no build recipe of format 1 ({error}): export again") from error


def read_recipe(folder: Path) -> tuple[BuildRecipe, bytes]:
    """A folder's recipe and the ONNX file that it is for.

    Raises:
        EngineError: A file is missing, is not what it should be, or the ONNX file is another one.
    """
    try:
        recipe = decode((folder / RECIPE).read_bytes(), str(folder / RECIPE))
        model = (folder / recipe.model).read_bytes()
    except OSError as error:
        raise EngineError(f"cannot read {error.filename}: {error.strerror}; export with --trt") from error
    found = hashlib.sha256(model).hexdigest()
    if found != recipe.sha256:
        there, meant = found[:12], recipe.sha256[:12]
        raise EngineError(
            f"{folder / recipe.model} has sha256 {there}, the recipe is for {meant}: copy the whole folder"
        )
    return recipe, model
