"""TensorRT's Python module as far as `walt_edge.runtimes.tensorrt.engine` uses it, on a CPU and by ONNX Runtime.

Names and arguments are the real module's (a test holds them against its published types), and so is what it refuses:
calls out of order, shapes outside of the profile, tensors without memory, plans and caches of another place. Most
refusals are a False or a None, as in the real one, with the reason in the log. What builds stands here.
"""

from __future__ import annotations

import json

import onnx
from google.protobuf.message import DecodeError
from walt_export.tensorrt.support import TYPES

from tests.fakes.tensorrt_running import ICudaEngine as ICudaEngine
from tests.fakes.tensorrt_running import IExecutionContext as IExecutionContext
from tests.fakes.tensorrt_running import IOutputAllocator as IOutputAllocator
from tests.fakes.tensorrt_running import Runtime as Runtime
from tests.fakes.tensorrt_values import DEVICE, PLAN
from tests.fakes.tensorrt_values import BuilderFlag as BuilderFlag
from tests.fakes.tensorrt_values import DataType as DataType
from tests.fakes.tensorrt_values import Dims as Dims
from tests.fakes.tensorrt_values import IHostMemory as IHostMemory
from tests.fakes.tensorrt_values import ILogger as ILogger
from tests.fakes.tensorrt_values import ITensor as ITensor
from tests.fakes.tensorrt_values import MemoryPoolType as MemoryPoolType
from tests.fakes.tensorrt_values import NetworkDefinitionCreationFlag as NetworkDefinitionCreationFlag
from tests.fakes.tensorrt_values import TensorIOMode as TensorIOMode

__version__ = "10.13.0.35"
_CACHE = b"fake-cache:"


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
        return IHostMemory(b"\n".join([PLAN + DEVICE, head, network._model.SerializeToString()]))


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
