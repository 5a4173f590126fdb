"""The half of `tests.fakes.tensorrt` that runs what was built, by ONNX Runtime."""

from __future__ import annotations

import ctypes
import json
import math
import weakref
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from tests.fakes.tensorrt_values import DEVICE, PLAN, DataType, Dims, ILogger, ITensor, TensorIOMode

_ALIGNMENT = 256


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        place, _, rest = serialized_engine.partition(b"\n")
        if place != PLAN + DEVICE:
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
