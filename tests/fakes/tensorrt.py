"""TensorRT's Python module as far as `walt_export.tensorrt.engine` uses it, on a CPU and by ONNX Runtime.

Names and arguments are the real module's (a test holds them against its published types), and so is what it refuses:
calls out of order, shapes outside of the profile, tensors without memory, plans and caches of another place. Most
refusals are a False or a None, as in the real one, with the reason in the log.
"""

from __future__ import annotations

import ctypes
import enum
import json
import math
import weakref
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError
from walt_export.tensorrt.support import TYPES

__version__ = "10.13.0.35"
DEVICE = b"fake-device"
_PLAN, _CACHE = b"fake-plan:", b"fake-cache:"
_ALIGNMENT = 256


class ILogger:
    class Severity(enum.Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    def __init__(self) -> None:
        self._base_is_made = True

    def log(self, severity: Severity, msg: str) -> None:
        raise NotImplementedError


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class NetworkDefinitionCreationFlag(enum.IntEnum):
    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


class BuilderFlag(enum.Enum):
    FP16 = 0
    INT8 = 1
    TF32 = 6


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4
    UINT8 = 5
    INT64 = 8


_DATA_TYPES: dict[int, DataType] = {
    onnx.TensorProto.DataType.Value({"HALF": "FLOAT16"}.get(kind.name, kind.name)): kind for kind in DataType
}


class Dims:
    def __init__(self, shape: list[int]) -> None:
        self._shape = list(shape)

    def __len__(self) -> int:
        return len(self._shape)

    def __getitem__(self, arg0: int) -> int:
        return self._shape[arg0]


class IHostMemory:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def __bytes__(self) -> bytes:
        return self._data


class ITensor:
    def __init__(self, entry: onnx.ValueInfoProto) -> None:
        sides = entry.type.tensor_type.shape.dim
        self.name = entry.name
        self.shape = Dims([side.dim_value if side.HasField("dim_value") else -1 for side in sides])
        self.dtype = _DATA_TYPES[entry.type.tensor_type.elem_type]

    def _takes(self, shape: list[int]) -> bool:
        own = [self.shape[index] for index in range(len(self.shape))]
        return len(own) == len(shape) and all(side in (-1, given) for side, given in zip(own, shape, strict=True))

    @property
    def _is_dynamic(self) -> bool:
        return any(self.shape[index] == -1 for index in range(len(self.shape)))


class INetworkDefinition:
    def __init__(self, flags: int) -> None:
        self._flags = flags
        self._model = onnx.ModelProto()

    def get_flag(self, flag: NetworkDefinitionCreationFlag) -> bool:
        return bool(self._flags & 1 << int(flag))

    @property
    def num_inputs(self) -> int:
        return len(self._model.graph.input)

    @property
    def num_outputs(self) -> int:
        return len(self._model.graph.output)

    def get_input(self, index: int) -> ITensor:
        return ITensor(self._model.graph.input[index])


class ParserError:
    def __init__(self, node: onnx.NodeProto) -> None:
        self._node = node

    def desc(self) -> str:
        return f"No importer registered for op:\n{self._node.op_type}"

    def node_name(self) -> str:
        return str(self._node.name)

    def node_operator(self) -> str:
        return str(self._node.op_type)


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network, self._logger = network, logger
        self._errors: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def parse(self, model: bytes, path: str | None = None) -> bool:
        try:
            loaded = onnx.load_from_string(model)
        except DecodeError as error:
            self._logger.log(ILogger.Severity.ERROR, f"Failed to parse ONNX model: {error}")
            return False
        nodes = loaded.graph.node
        self._errors += [ParserError(node) for node in nodes if node.domain or node.op_type not in TYPES]
        if not self._errors:
            self._network._model = loaded
        return not self._errors


class IOptimizationProfile:
    def __init__(self) -> None:
        self._shapes: dict[str, list[list[int]]] = {}

    def __bool__(self) -> bool:
        return bool(self._shapes)

    def set_shape(self, input: str, min: Dims, opt: Dims, max: Dims) -> None:  # noqa: A002
        shapes = [[dims[index] for index in range(len(dims))] for dims in (min, opt, max)]
        if not all(low <= best <= high for low, best, high in zip(*shapes, strict=True)):
            raise ValueError(f"Shape provided for min, opt, max is inconsistent: {shapes}")
        self._shapes[input] = shapes


class ITimingCache:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def serialize(self) -> IHostMemory:
        return IHostMemory(self._data)


class IBuilderConfig:
    def __init__(self) -> None:
        self.builder_optimization_level = 3
        self._flags = {BuilderFlag.TF32}
        self._pools: dict[MemoryPoolType, int] = {}
        self._profiles: list[IOptimizationProfile] = []
        self._cache: ITimingCache | None = None

    def set_flag(self, flag: BuilderFlag) -> None:
        self._flags.add(flag)

    def clear_flag(self, flag: BuilderFlag) -> None:
        self._flags.discard(flag)

    def get_flag(self, flag: BuilderFlag) -> bool:
        return flag in self._flags

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self._pools[pool] = pool_size

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        if not profile:
            return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
        return ITimingCache(serialized_timing_cache or _CACHE + DEVICE)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if not ignore_mismatch and not cache._data.startswith(_CACHE + DEVICE):
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache:
        assert self._cache is not None
        return self._cache


class Builder:
    def __init__(self, logger: ILogger) -> None:
        if not hasattr(logger, "_base_is_made"):
            raise TypeError("ILogger.__init__() must be called when overriding __init__")
        self._logger = logger

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        return INetworkDefinition(flags)

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None:
        wrong = _not_buildable(network, config)
        if wrong:
            self._logger.log(ILogger.Severity.ERROR, wrong)
            return None
        if config._cache is not None:
            config._cache._data += b"+timed"
        shapes = config._profiles[0]._shapes if config._profiles else {}
        typed = network.get_flag(NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        flags = sorted(flag.name for flag in config._flags) + ["STRONGLY_TYPED"] * typed
        head = json.dumps({"shapes": shapes, "flags": flags}).encode()
        return IHostMemory(b"\n".join([_PLAN + DEVICE, head, network._model.SerializeToString()]))


def _not_buildable(network: INetworkDefinition, config: IBuilderConfig) -> str:
    if not network.num_outputs:
        return "Network must have at least one output"
    tensors = [network.get_input(index) for index in range(network.num_inputs)]
    shapes = config._profiles[0]._shapes if config._profiles else {}
    for tensor in tensors:
        if tensor._is_dynamic and tensor.name not in shapes:
            return "Network has dynamic or shape inputs, but no optimization profile has been defined."
        if not all(tensor._takes(shape) for shape in shapes.get(tensor.name, [])):
            return f"Error in profile for input {tensor.name}: it does not match the network's"
    if network.get_flag(NetworkDefinitionCreationFlag.STRONGLY_TYPED):
        chosen = [flag.name for flag in (BuilderFlag.FP16, BuilderFlag.INT8) if config.get_flag(flag)]
        return f"Builder flags {chosen} are not allowed in a strongly typed network" if chosen else ""
    quantises = any(node.op_type == "QuantizeLinear" for node in network._model.graph.node)
    if quantises and not config.get_flag(BuilderFlag.INT8):
        return "Network has QuantizeLinear layers, but the INT8 flag is not set"
    return ""


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        place, _, rest = serialized_engine.partition(b"\n")
        if place != _PLAN + DEVICE:
            self._logger.log(ILogger.Severity.ERROR, "Serialization assertion failed: magic tag does not match")
            return None
        head, _, model = rest.partition(b"\n")
        return ICudaEngine(self, json.loads(head), model)


class ICudaEngine:
    def __init__(self, runtime: Runtime, head: dict[str, Any], model: bytes) -> None:
        # Weak: the real engine is gone when its runtime is.
        self._runtime = weakref.ref(runtime)
        self._logger = runtime._logger
        self._shapes: dict[str, list[list[int]]] = head["shapes"]
        graph = onnx.load_from_string(model).graph
        self._inputs = [ITensor(entry) for entry in graph.input]
        self._tensors = {tensor.name: tensor for tensor in [*self._inputs, *map(ITensor, graph.output)]}
        self._session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        names: list[str] = list(self._tensors)
        return names[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        if name not in self._tensors:
            return TensorIOMode.NONE
        return TensorIOMode.INPUT if any(one.name == name for one in self._inputs) else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return self._tensors[name].dtype

    def create_execution_context(self) -> IExecutionContext | None:
        return IExecutionContext(self)


class IOutputAllocator:
    def __init__(self) -> None:
        self._base_is_made = True

    def reallocate_output(self, tensor_name: str, memory: int, size: int, alignment: int) -> int:
        raise NotImplementedError

    def reallocate_output_async(self, tensor_name: str, memory: int, size: int, alignment: int, stream: int) -> int:
        raise NotImplementedError

    def notify_shape(self, tensor_name: str, shape: Dims) -> None:
        raise NotImplementedError


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._shapes: dict[str, list[int]] = {}
        self._addresses: dict[str, int] = {}
        self._allocators: dict[str, IOutputAllocator] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...] | list[int] | Dims) -> bool:
        sides = [shape[index] for index in range(len(shape))]
        if self._engine.get_tensor_mode(name) != TensorIOMode.INPUT:
            return self._refuse(f"{name} is not an input")
        low, _, high = self._engine._shapes.get(name) or [sides] * 3
        fits = self._engine._tensors[name]._takes(sides)
        if not fits or not all(a <= side <= b for a, side, b in zip(low, sides, high, strict=True)):
            return self._refuse(f"Static dimension mismatch while setting input shape for {name}: {sides}")
        self._shapes[name] = sides
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in self._engine._tensors or memory == 0:
            return self._refuse(f"{name}: no such tensor, or a null pointer")
        self._addresses[name] = memory
        return True

    def set_output_allocator(self, name: str, output_allocator: IOutputAllocator) -> bool:
        if not hasattr(output_allocator, "_base_is_made"):
            raise TypeError("IOutputAllocator.__init__() must be called when overriding __init__")
        if self._engine.get_tensor_mode(name) != TensorIOMode.OUTPUT:
            return self._refuse(f"{name} is not an output")
        self._allocators[name] = output_allocator
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert self._engine._runtime() is not None, "the real engine would crash here: its runtime is gone"
        fed = {}
        for tensor in self._engine._inputs:
            if tensor.name not in self._addresses:
                return self._refuse(f"Address is not set for input tensor {tensor.name}")
            if tensor._is_dynamic and tensor.name not in self._shapes:
                return self._refuse(f"Shape of the dynamic input {tensor.name} is not set")
            fed[tensor.name] = self._read(tensor)
        for name in self._engine._tensors:
            if self._engine.get_tensor_mode(name) == TensorIOMode.OUTPUT and name not in self._allocators:
                return self._refuse(f"Neither address nor allocator is set for output tensor {name}")
        names = list(self._allocators)
        answers = self._engine._session.run(names, fed)
        return all(self._write(name, answer, stream_handle) for name, answer in zip(names, answers, strict=True))

    def _read(self, tensor: ITensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
        assert tensor.dtype == DataType.UINT8
        shape = self._shapes.get(tensor.name) or [tensor.shape[index] for index in range(len(tensor.shape))]
        data = ctypes.string_at(self._addresses[tensor.name], math.prod(shape))
        return np.frombuffer(data, np.uint8).reshape(shape)

    def _write(self, name: str, answer: np.ndarray[Any, Any], stream: int) -> bool:
        allocator = self._allocators[name]
        address = allocator.reallocate_output_async(name, 0, answer.nbytes, _ALIGNMENT, stream)
        if not address:
            return self._refuse(f"No memory for output tensor {name}")
        ctypes.memmove(address, np.ascontiguousarray(answer).ctypes.data, answer.nbytes)
        allocator.notify_shape(name, Dims(list(answer.shape)))
        return True

    def _refuse(self, words: str) -> bool:
        self._engine._logger.log(ILogger.Severity.ERROR, words)
        return False
