"""A build recipe as a command line of TensorRT's own tool, and in words."""

from __future__ import annotations

from typing import Final

import msgspec

from walt_edge.runtimes.tensorrt.recipe import RECIPE, BuildRecipe
from walt_export.tensorrt.support import SOURCE

README: Final = "README.md"
_MIB: Final = 1 << 20


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
    python = "from pathlib import Path; from walt_edge.runtimes.tensorrt.engine import build; build(Path('.'))"
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

or, where this project and the Python module `tensorrt` are installed, the same by Python:

```
python -c "{python}"
```

3. Keep `{recipe.timing_cache}`: it makes the next build on the same device faster.
"""
