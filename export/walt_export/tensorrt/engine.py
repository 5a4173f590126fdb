"""Builds an engine by its recipe and runs it. Imported only where the module `tensorrt` is; see `make`.

The interface is that of TensorRT 10: batches are explicit, tensors have names, and an output whose shape depends on
the picture asks for its memory when that is known.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorrt as trt
import torch
from numpy.typing import NDArray
from torch import Tensor

from walt_edge.contract.files import write_whole
from walt_edge.runtimes.network import Candidates
from walt_edge.runtimes.walt_onnx import OUTPUTS
from walt_export.errors import ExportError
from walt_export.tensorrt.recipe import BuildRecipe, read_recipe

_log = logging.getLogger(__name__)


def build(folder: Path) -> Path:
    """Builds the engine of a folder, for this GPU and this version of TensorRT.

    Args:
        folder: With the recipe and the ONNX file that it is for; engine and timing cache are written into it.

    Returns:
        The engine's file. It is written whole or not at all.

    Raises:
        ExportError: Files are missing or wrong, TensorRT is of another version, or it does not take the graph.
    """
    recipe, model = read_recipe(folder)
    _check_version(recipe)
    log = _Log()
    builder = trt.Builder(log)
    # Strongly typed: it computes in the types that the graph has, and has no choice of its own.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(network, model, log)
    config = _configured(builder, network, recipe)
    cache_file = folder / recipe.timing_cache
    _read_timing_cache(config, cache_file)
    plan: trt.IHostMemory | None = builder.build_serialized_network(network, config)
    if plan is None:
        raise ExportError(f"TensorRT built no engine of {folder / recipe.model}: {log.last or 'it does not say why'}")
    try:
        write_whole(cache_file, bytes(config.get_timing_cache().serialize()))
        return write_whole(folder / recipe.engine, bytes(plan))
    except OSError as error:
        raise ExportError(f"cannot write the engine into {folder}: {error.strerror}; free space there") from error


class _Log(trt.ILogger):
    """TensorRT's messages in our log, and its last error."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)  # the binding asks for this very call
        self.last = ""

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
            self.last = " ".join(msg.split())
            _log.error("TensorRT: %s", msg)
        elif severity == trt.ILogger.Severity.WARNING:
            _log.warning("TensorRT: %s", msg)
        else:
            _log.debug("TensorRT: %s", msg)


def _check_version(recipe: BuildRecipe) -> None:
    oldest, beyond = recipe.tensorrt
    if not _version(oldest) <= _version(trt.__version__) < _version(beyond):
        raise ExportError(
            f"TensorRT {trt.__version__} is here, the recipe is for {oldest} up to {beyond}: install one of these"
        )


def _version(words: str) -> tuple[int, ...]:
    return tuple(int(part) for part in words.split(".")[:2] if part.isdecimal())


def _parse(network: trt.INetworkDefinition, model: bytes, log: _Log) -> None:
    parser = trt.OnnxParser(network, log)
    if parser.parse(model):
        return
    errors: list[trt.ParserError] = [parser.get_error(index) for index in range(parser.num_errors)]
    if not errors:
        raise ExportError(f"TensorRT's parser refuses the graph: {log.last or 'it does not say why'}")
    first = errors[0]
    more = f"; and {len(errors) - 1} more errors" if len(errors) > 1 else ""
    place, words = f"{first.node_name()} ({first.node_operator()})", " ".join(first.desc().split())
    raise ExportError(f"TensorRT's parser refuses the node {place}: {words}{more}")


def _configured(builder: trt.Builder, network: trt.INetworkDefinition, recipe: BuildRecipe) -> trt.IBuilderConfig:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, recipe.workspace_bytes)
    config.builder_optimization_level = recipe.optimization_level
    if recipe.precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # it keeps 10 bits of a factor, which is not what fp32 promises
    names = [network.get_input(index).name for index in range(network.num_inputs)]
    if names != [recipe.input]:
        raise ExportError(f"the graph's inputs are {names}, the recipe's is {recipe.input}: export again")
    if recipe.dynamic_batch:
        profile = builder.create_optimization_profile()
        low, best, high = (trt.Dims(list(shape)) for shape in recipe.shapes())
        profile.set_shape(recipe.input, low, best, high)
        if config.add_optimization_profile(profile) < 0:
            raise ExportError(f"TensorRT refuses batches of {recipe.batch}: export with other ones")
    return config


def _read_timing_cache(config: trt.IBuilderConfig, file: Path) -> None:
    stored = file.read_bytes() if file.is_file() else b""
    cache: trt.ITimingCache | None = config.create_timing_cache(stored)
    if cache is None or not config.set_timing_cache(cache, False):
        _log.warning("%s is of another device or version: kernels are timed again", file)
        config.set_timing_cache(config.create_timing_cache(b""), False)


class Memory:
    """Where tensors lie and the order in which work on them is done.

    Args:
        device: A GPU with a stream of its own; on a CPU, which a test takes, work is done when it is asked for.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = _stream(device) if device.type == "cuda" else None

    @property
    def stream_handle(self) -> int:
        """CUDA's stream, as TensorRT takes it."""
        return int(self._stream.cuda_stream) if self._stream else 0

    @contextlib.contextmanager
    def in_order(self) -> Iterator[None]:
        """What torch does inside comes after what the stream was given before; at the end all of it is done."""
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            yield
        self._stream.synchronize()

    def put(self, array: NDArray[np.uint8]) -> Tensor:
        """A picture or several, on the device."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def reserve(self, size_bytes: int) -> Tensor:
        """Memory for at least one byte, so that it has an address where nothing is found."""
        return torch.empty(max(size_bytes, 1), dtype=torch.uint8, device=self._device)


def _stream(device: torch.device) -> torch.cuda.Stream:
    stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return stream


class _Output(trt.IOutputAllocator):
    """One output's memory, which grows to what the fullest picture needs."""

    def __init__(self, memory: Memory, dtype: torch.dtype) -> None:
        trt.IOutputAllocator.__init__(self)  # the binding asks for this very call
        self._memory = memory
        self._dtype = dtype
        self._held = memory.reserve(0)
        self._shape: tuple[int, ...] | None = None

    def reallocate_output_async(self, tensor_name: str, memory: int, size: int, alignment: int, stream: int) -> int:
        """TensorRT asks for memory: the address of at least `size` bytes, which torch aligns to 512."""
        if size > self._held.numel():
            self._held = self._memory.reserve(size)
        address: int = self._held.data_ptr()
        return address

    def reallocate_output(self, tensor_name: str, memory: int, size: int, alignment: int) -> int:
        """The same, of TensorRT's older callback."""
        return self.reallocate_output_async(tensor_name, memory, size, alignment, 0)

    def notify_shape(self, tensor_name: str, shape: trt.Dims) -> None:
        """TensorRT tells how large the answer is."""
        self._shape = tuple(shape[index] for index in range(len(shape)))

    def forget(self) -> None:
        """Before a run: its shape is not the last one's."""
        self._shape = None

    def read(self) -> NDArray[Any]:
        """The answer; call it when the run is done."""
        if self._shape is None:
            raise ExportError("TensorRT gave no shape of an output: build the engine again")
        size_bytes = math.prod(self._shape) * self._dtype.itemsize
        found: NDArray[Any] = (
            self._held[:size_bytes].view(self._dtype).reshape(self._shape).to("cpu", copy=True).numpy()
        )
        return found


class EngineNetwork:
    """An engine as a `walt_edge.runtimes.network.Network`. One call at a time.

    Args:
        plan: The engine's bytes.
        input_name: Of the picture.
        memory: Where it runs.

    Raises:
        ExportError: It is of another device or version, or its outputs are not a WALT-Net's.
    """

    def __init__(self, plan: bytes, *, input_name: str = "image", memory: Memory | None = None) -> None:
        self._log = _Log()
        self._memory = memory or Memory(torch.device("cuda"))
        self._input = input_name
        self._runtime = trt.Runtime(self._log)  # an engine may not outlive it
        engine: trt.ICudaEngine | None = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise ExportError(f"TensorRT {trt.__version__} cannot read the engine ({self._log.last}): build it here")
        self._engine = engine
        context: trt.IExecutionContext | None = engine.create_execution_context()
        if context is None:
            raise ExportError(f"no memory to run the engine ({self._log.last}): give the GPU less to do")
        self._context = context
        self._outputs = {name: _Output(self._memory, _dtype(engine, name)) for name in _output_names(engine)}
        if missing := set(OUTPUTS) - set(self._outputs):
            raise ExportError(
                f"the engine has no outputs {sorted(missing)}: it is of another network, build it again"
            )

    def __call__(self, image: NDArray[np.uint8]) -> Candidates:
        """Looks at one (H, W, 3) uint8 BGR picture of the network's size.

        Raises:
            ExportError: TensorRT gives up.
        """
        found = self.run(image[None])
        return Candidates(*(found[name] for name in OUTPUTS))

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """All outputs, by name, for (B, H, W, 3) uint8 BGR pictures; raises ExportError if TensorRT gives up."""
        context = self._context
        with self._memory.in_order():
            held = self._memory.put(images)
            done = context.set_input_shape(self._input, tuple(images.shape))
            done = done and context.set_tensor_address(self._input, held.data_ptr())
            for name, output in self._outputs.items():
                output.forget()
                done = done and context.set_output_allocator(name, output)
            done = done and context.execute_async_v3(self._memory.stream_handle)
        if not done:
            raise ExportError(
                f"TensorRT gave up on pictures of shape {images.shape}: {self._log.last or 'no reason'}"
            )
        return {name: output.read() for name, output in self._outputs.items()}


def _output_names(engine: trt.ICudaEngine) -> list[str]:
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    return [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT]


_TORCH: Final = {
    trt.DataType.FLOAT: torch.float32,
    trt.DataType.HALF: torch.float16,
    trt.DataType.INT32: torch.int32,
    trt.DataType.INT64: torch.int64,
    trt.DataType.BOOL: torch.bool,
}


def _dtype(engine: trt.ICudaEngine, name: str) -> torch.dtype:
    kind = engine.get_tensor_dtype(name)
    if kind not in _TORCH:
        raise ExportError(f"the engine's output {name} is {kind.name}: build it of what walt-export wrote")
    return _TORCH[kind]
