"""How to build the engine on a device: what `build.json` holds, and the same as a command line and in words."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from walt_export.errors import ExportError
from walt_export.tensorrt.support import SOURCE

RECIPE: Final = "build.json"
MODEL: Final = "model.onnx"
README: Final = "README.md"
Precision = Literal["fp32", "fp16", "int8"]
_MIB: Final = 1 << 20
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


def read_recipe(folder: Path) -> tuple[BuildRecipe, bytes]:
    """A folder's recipe and the ONNX file that it is for.

    Raises:
        ExportError: A file is missing, is not what it should be, or the ONNX file is another one.
    """
    try:
        recipe = msgspec.json.decode((folder / RECIPE).read_bytes(), type=BuildRecipe)
        model = (folder / recipe.model).read_bytes()
    except OSError as error:
        raise ExportError(f"cannot read {error.filename}: {error.strerror}; export with --trt") from error
    except msgspec.DecodeError as error:
        raise ExportError(f"{folder / RECIPE} is no build recipe of format 1 ({error}): export again") from error
    found = hashlib.sha256(model).hexdigest()
    if found != recipe.sha256:
        there, meant = found[:12], recipe.sha256[:12]
        raise ExportError(
            f"{folder / recipe.model} has sha256 {there}, the recipe is for {meant}: copy the whole folder"
        )
    return recipe, model


def trtexec(recipe: BuildRecipe) -> list[str]:
    """The command that builds the same engine with TensorRT's own tool, run in the folder."""
    words = [
        "trtexec",
        f"--onnx={recipe.model}",
        f"--saveEngine={recipe.engine}",
        f"--timingCacheFile={recipe.timing_cache}",
        f"--memPoolSize=workspace:{recipe.workspace_bytes // _MIB}M",
        f"--builderOptimizationLevel={recipe.optimization_level}",
        "--skipInference",
        "--stronglyTyped",
    ]
    if recipe.precision == "fp32":
        words.append("--noTF32")  # it keeps 10 bits of a factor, which is not what fp32 promises
    if recipe.dynamic_batch:
        for name, shape in zip(("min", "opt", "max"), recipe.shapes(), strict=True):
            words.append(f"--{name}Shapes={recipe.input}:{'x'.join(map(str, shape))}")
    return words


def readme(recipe: BuildRecipe) -> str:
    """What a person who finds the folder on a device needs to know."""
    width, height = recipe.size_wh
    oldest, beyond = recipe.tensorrt
    low, best, high = msgspec.structs.astuple(recipe.batch)
    pictures = f"{low} to {high}, best {best}" if recipe.dynamic_batch else f"{low}"
    command = " \\\n  ".join(trtexec(recipe))
    python = "from pathlib import Path; from walt_export.tensorrt.engine import build; build(Path('.'))"
    return f"""\
# A WALT-Net for TensorRT

`{recipe.model}` is the network in standard ONNX operators that TensorRT's parser takes; `{RECIPE}` says how to build
an engine of it. An engine belongs to one kind of GPU and one version of TensorRT: build it where it is to run.

**We have built no engine of this on hardware yet.** Every node was held against the operators of {SOURCE}. The
project's tests hold that ONNX Runtime answers by such a file as by the model it is made of, but for rounding.

- Input `{recipe.input}`: ({pictures}; {height}, {width}, 3) uint8, BGR, as a camera gives it; normalised inside.
- Outputs have as many rows as there are objects: none, if nothing is seen. Read them with an `IOutputAllocator`.
- Precision {recipe.precision}, by the types in the graph; TensorRT from {oldest}, before {beyond}.

## Build

1. Copy this folder to the device.
2. In it, run TensorRT's own tool:

```
{command}
```

or, where this project (extra `export`) and the Python module `tensorrt` are installed, the same by Python:

```
python -c "{python}"
```

3. Keep `{recipe.timing_cache}`: it makes the next build on the same device faster.
"""
