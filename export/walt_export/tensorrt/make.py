"""`--trt`: a folder with the graph for TensorRT and how to build it, and the engine where that can be done.

A TensorRT module and a GPU are found on few machines that export. Elsewhere the folder is all that the device needs.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import onnx

from walt_edge.contract.files import flush
from walt_edge.runtimes.network import Network
from walt_edge.runtimes.tensorrt.machine import missing
from walt_edge.runtimes.tensorrt.recipe import MODEL, RECIPE, Batch, BuildRecipe, Precision, encode
from walt_export.errors import ExportError
from walt_export.tensorrt.artefact import tensorrt_model
from walt_export.tensorrt.recipe import README, readme, trtexec

SUFFIX: Final = ".trt"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it.

    Attributes:
        folder: With `model.onnx`, `build.json` and `README.md`.
        recipe: How the engine is built.
        engine: The engine's file in the folder; None where it has to be built on the device.
        network: The engine, ready to be compared with the network; None without an engine.
        words: One line for who called.
    """

    folder: Path
    recipe: BuildRecipe
    engine: Path | None
    network: Network | None
    words: str


def make_tensorrt(
    model: bytes,
    out: Path,
    *,
    precision: Precision,
    size_wh: tuple[int, int],
    batch: tuple[int, int, int] = (1, 1, 1),
    workspace_bytes: int = 1 << 30,
    optimization_level: int = 3,
) -> Outcome:
    """Writes the folder, whole or not at all, and builds the engine if TensorRT and a GPU are here.

    Args:
        model: An ONNX file, as `walt_export.onnx` writes it; one that quantises and dequantises for int8.
        out: The folder. One that was written before is replaced, but for its timing cache.
        precision: See `BuildRecipe`.
        size_wh: Of the graph's input, pixels.
        batch: Fewest, best and most pictures at once; all equal to the graph's where that is fixed.
        workspace_bytes: Scratch memory for the builder's kernels.
        optimization_level: TensorRT's, 0..5.

    Raises:
        ExportError: TensorRT does not take the graph, the graph is of another size, batch or precision, or the folder
            cannot be written.
    """
    ready, recipe = prepare(
        model,
        precision=precision,
        size_wh=size_wh,
        batch=batch,
        workspace_bytes=workspace_bytes,
        optimization_level=optimization_level,
    )
    return write_tensorrt(ready, recipe, out)


def prepare(
    model: bytes,
    *,
    precision: Precision,
    size_wh: tuple[int, int],
    batch: tuple[int, int, int] = (1, 1, 1),
    workspace_bytes: int = 1 << 30,
    optimization_level: int = 3,
) -> tuple[bytes, BuildRecipe]:
    """The graph for TensorRT and how an engine is built of it; arguments and errors are `make_tensorrt`'s."""
    ready = tensorrt_model(model, halves=precision == "fp16")
    asked: dict[str, object] = {
        "precision": precision,
        "size_wh": size_wh,
        "batch": dict(zip(("min", "opt", "max"), batch, strict=True)),
        "workspace_bytes": workspace_bytes,
        "optimization_level": optimization_level,
    }
    return ready, _recipe(ready, asked)


def write_tensorrt(ready: bytes, recipe: BuildRecipe, out: Path) -> Outcome:
    """Writes what `prepare` gave as a folder, and builds the engine; errors are `make_tensorrt`'s."""
    _check_replaceable(out)
    partial = out.with_name(f".{out.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        _write(partial, ready, recipe, out / recipe.timing_cache)
        why_not = missing()
        engine, network = (None, None) if why_not else _build(partial, recipe)
        _put_in_place(partial, out)
    except OSError as error:
        raise ExportError(f"cannot write {out}: {error.strerror}; give another --out") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    words = f"{out}: {recipe.engine} of precision {recipe.precision} built here by TensorRT"
    if why_not:
        command = shlex.join(trtexec(recipe))
        words = f"{out}: no engine built, {why_not}; on the device run in this folder (step 2 of {README}): {command}"
    return Outcome(out, recipe, out / engine.name if engine else None, network, words)


def _recipe(ready: bytes, asked: dict[str, object]) -> BuildRecipe:
    graph = onnx.load_from_string(ready).graph
    (picture,) = graph.input
    sides = picture.type.tensor_type.shape.dim
    fields = asked | {
        "sha256": hashlib.sha256(ready).hexdigest(),
        "dynamic_batch": not sides[0].HasField("dim_value"),
        "input": picture.name,
    }
    try:
        recipe = msgspec.convert(fields, BuildRecipe)
    except msgspec.ValidationError as error:
        raise ExportError(f"TensorRT cannot be asked for that: {error}") from error
    _check_batch(recipe.batch, None if recipe.dynamic_batch else sides[0].dim_value)
    size_wh = (sides[2].dim_value, sides[1].dim_value)
    if size_wh != recipe.size_wh:
        raise ExportError(f"the graph takes pictures of {size_wh}, not {recipe.size_wh}: export at that size")
    quantised = any(node.op_type == "QuantizeLinear" for node in graph.node)
    if quantised != (recipe.precision == "int8"):
        have = "quantises" if quantised else "does not quantise"
        raise ExportError(f"the graph {have}, which is not what {recipe.precision} asks for: int8 goes with QDQ")
    return recipe


def _check_batch(batch: Batch, fixed: int | None) -> None:
    if not batch.min <= batch.opt <= batch.max:
        raise ExportError(f"a batch of {batch.min} to {batch.max} with {batch.opt} as the best: give them in order")
    if fixed is not None and {batch.min, batch.opt, batch.max} != {fixed}:
        raise ExportError(f"the graph takes {fixed} picture(s) at once, always: export with --dynamic-batch")


def _check_replaceable(out: Path) -> None:
    if out.exists() and not (out / RECIPE).is_file():
        raise ExportError(f"{out} is there and is not what --trt writes: give another --out")


def _write(folder: Path, ready: bytes, recipe: BuildRecipe, timing_cache: Path) -> None:
    folder.mkdir(parents=True)
    contents = {MODEL: ready, RECIPE: encode(recipe), README: readme(recipe).encode()}
    for name, data in contents.items():
        (folder / name).write_bytes(data)
        flush(folder / name)
    if timing_cache.is_file():
        shutil.copyfile(timing_cache, folder / timing_cache.name)
    flush(folder)


def _build(folder: Path, recipe: BuildRecipe) -> tuple[Path, Network]:
    from walt_edge.runtimes.tensorrt import engine  # it imports tensorrt, which few machines have

    file = engine.build(folder)
    return file, engine.EngineNetwork(file.read_bytes(), recipe=recipe)


def _put_in_place(partial: Path, out: Path) -> None:
    former = out.with_name(f".{out.name}.former")
    shutil.rmtree(former, ignore_errors=True)
    if out.exists():
        out.rename(former)
    partial.rename(out)
    flush(out.parent)
    shutil.rmtree(former, ignore_errors=True)
