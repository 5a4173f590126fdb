"""What building and running share in `tests.fakes.tensorrt`: kinds, shapes, tensors, the log."""

from __future__ import annotations

import enum

import onnx

DEVICE = b"fake-device"
PLAN = b"fake-plan:"


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
