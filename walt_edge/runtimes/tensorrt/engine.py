"""Builds an engine by its recipe and runs it. Imported only where the module `tensorrt` is; see `machine`.

The interface is that of TensorRT 10: batches are explicit, tensors have names, and an output whose shape depends on
the picture asks for its memory when that is known.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import tensorrt as trt
from numpy.typing import NDArray

from walt_edge.contract.files import write_whole
from walt_edge.runtimes.cuda import Block, CudaMemory, Memory
from walt_edge.runtimes.network import Candidates, by_picture
from walt_edge.runtimes.tensorrt import EngineError
from walt_edge.runtimes.tensorrt.recipe import BuildRecipe, read_recipe
from walt_edge.runtimes.walt_onnx import OUTPUTS, PICTURES

_log = logging.getLogger(__name__)


def build(folder: Path) -> Path:
    """Builds the engine of a folder, for this GPU and this version of TensorRT.

    Args:
        folder: With the recipe and the ONNX file that it is for; engine and timing cache are written into it.

    Returns:
        The engine's file. It is written whole or not at all.

    Raises:
        EngineError: Files are missing or wrong, TensorRT is of another version, or it does not take the graph.
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
        raise EngineError(f"TensorRT built no engine of {folder / recipe.model}: {log.last or 'it does not say why'}")
    try:
        write_whole(cache_file, bytes(config.get_timing_cache().serialize()))
        return write_whole(folder / recipe.engine, bytes(plan))
    except OSError as error:
        raise EngineError(f"cannot write the engine into {folder}: {error.strerror}; free space there") from error


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
        raise EngineError(
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
        raise EngineError(f"TensorRT's parser refuses the graph: {log.last or 'it does not say why'}")
    first = errors[0]
    more = f"; and {len(errors) - 1} more errors" if len(errors) > 1 else ""
    place, words = f"{first.node_name()} ({first.node_operator()})", " ".join(first.desc().split())
    raise EngineError(f"TensorRT's parser refuses the node {place}: {words}{more}")


def _configured(builder: trt.Builder, network: trt.INetworkDefinition, recipe: BuildRecipe) -> trt.IBuilderConfig:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, recipe.workspace_bytes)
    config.builder_optimization_level = recipe.optimization_level
    if recipe.precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # it keeps 10 bits of a factor, which is not what fp32 promises
    names = [network.get_input(index).name for index in range(network.num_inputs)]
    if names != [recipe.input]:
        raise EngineError(f"the graph's inputs are {names}, the recipe's is {recipe.input}: export again")
    if recipe.dynamic_batch:
        profile = builder.create_optimization_profile()
        low, best, high = (trt.Dims(list(shape)) for shape in recipe.shapes())
        profile.set_shape(recipe.input, low, best, high)
        if config.add_optimization_profile(profile) < 0:
            raise EngineError(f"TensorRT refuses batches of {recipe.batch}: export with other ones")
    return config


def _read_timing_cache(config: trt.IBuilderConfig, file: Path) -> None:
    stored = file.read_bytes() if file.is_file() else b""
    cache: trt.ITimingCache | None = config.create_timing_cache(stored)
    if cache is None or not config.set_timing_cache(cache, False):
        _log.warning("%s is of another device or version: kernels are timed again", file)
        config.set_timing_cache(config.create_timing_cache(b""), False)


class _Output(trt.IOutputAllocator):
    """One output's memory, which grows to what the fullest picture needs."""

    def __init__(self, memory: Memory, dtype: np.dtype[Any]) -> None:
        trt.IOutputAllocator.__init__(self)  # the binding asks for this very call
        self._memory = memory
        self._dtype = dtype
        self._held = memory.reserve(0)
        self._shape: tuple[int, ...] | None = None

    def reallocate_output_async(self, tensor_name: str, memory: int, size: int, alignment: int, stream: int) -> int:
        """TensorRT asks for memory: the address of at least `size` bytes, which are aligned to 256."""
        if size > self._held.size_bytes:
            self._held = self._memory.reserve(size)
        return self._held.address

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
            raise EngineError("TensorRT gave no shape of an output: build the engine again")
        found: NDArray[Any] = np.empty(self._shape, self._dtype)
        self._memory.read(self._held, found)
        return found


class EngineNetwork:
    """An engine as a `walt_edge.runtimes.network.Runtime`. Several threads may call it, and wait for each other.

    Args:
        plan: The engine's bytes.
        recipe: By which it was built; None for one that takes a single picture as `image`.
        memory: Where it runs; None takes the first GPU.

    Raises:
        EngineError: It is of another device or version, or its outputs are not a WALT-Net's.
        CudaError: There is no GPU.
    """

    def __init__(self, plan: bytes, *, recipe: BuildRecipe | None = None, memory: Memory | None = None) -> None:
        self._log = _Log()
        self._memory = memory or CudaMemory()
        self._input = recipe.input if recipe else "image"
        self._most = recipe.batch.max if recipe and recipe.dynamic_batch else 1
        self._lock = threading.Lock()
        self._picture: Block = self._memory.reserve(0)
        self._runtime = trt.Runtime(self._log)  # an engine may not outlive it
        engine: trt.ICudaEngine | None = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineError(f"TensorRT {trt.__version__} cannot read the engine ({self._log.last}): build it here")
        self._engine = engine
        context: trt.IExecutionContext | None = engine.create_execution_context()
        if context is None:
            raise EngineError(f"no memory to run the engine ({self._log.last}): give the GPU less to do")
        self._context = context
        self._outputs = {name: _Output(self._memory, _dtype(engine, name)) for name in _output_names(engine)}
        if missing := set(OUTPUTS) - set(self._outputs):
            raise EngineError(
                f"the engine has no outputs {sorted(missing)}: it is of another network, build it again"
            )

    @property
    def providers(self) -> tuple[str, ...]:
        """What runs it."""
        return (f"TensorRT {trt.__version__}",)

    @property
    def most_pictures(self) -> int:
        """That it was built for."""
        return self._most if PICTURES in self._outputs else 1

    def __call__(self, image: NDArray[np.uint8]) -> Candidates:
        """Looks at one (H, W, 3) uint8 BGR picture of the network's size.

        Raises:
            EngineError: TensorRT gives up.
        """
        found = self.run(image[None])
        return Candidates(*(found[name] for name in OUTPUTS))

    def many(self, images_NHWC: NDArray[np.uint8]) -> list[Candidates]:
        """Looks at (B, H, W, 3) pictures, `most_pictures` at most; raises EngineError if TensorRT gives up."""
        if self.most_pictures == 1:
            return [self(image) for image in images_NHWC]
        found = self.run(images_NHWC)
        return by_picture([found[name] for name in OUTPUTS], found[PICTURES], len(images_NHWC))

    def run(self, images_NHWC: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """All outputs, by name, for (B, H, W, 3) uint8 BGR pictures; raises EngineError if TensorRT gives up."""
        images = np.ascontiguousarray(images_NHWC)
        with self._lock:
            with self._memory.in_order():
                done = self._execute(images)
            if not done:
                raise EngineError(
                    f"TensorRT gave up on pictures of shape {images.shape}: {self._log.last or 'no reason'}"
                )
            return {name: output.read() for name, output in self._outputs.items()}

    def _execute(self, images: NDArray[np.uint8]) -> bool:
        context = self._context
        if images.nbytes > self._picture.size_bytes:
            self._picture = self._memory.reserve(images.nbytes)
        self._memory.write(self._picture, images)
        done = context.set_input_shape(self._input, tuple(images.shape))
        done = done and context.set_tensor_address(self._input, self._picture.address)
        for name, output in self._outputs.items():
            output.forget()
            done = done and context.set_output_allocator(name, output)
        return bool(done and context.execute_async_v3(self._memory.stream_handle))


def _output_names(engine: trt.ICudaEngine) -> list[str]:
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    return [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT]


_NUMPY: Final[Mapping[trt.DataType, type[np.generic]]] = MappingProxyType(
    {
        trt.DataType.FLOAT: np.float32,
        trt.DataType.HALF: np.float16,
        trt.DataType.INT32: np.int32,
        trt.DataType.INT64: np.int64,
        trt.DataType.BOOL: np.bool_,
    }
)


def _dtype(engine: trt.ICudaEngine, name: str) -> np.dtype[Any]:
    kind = engine.get_tensor_dtype(name)
    if kind not in _NUMPY:
        raise EngineError(f"the engine's output {name} is {kind.name}: build it of what walt-export wrote")
    return np.dtype(_NUMPY[kind])
