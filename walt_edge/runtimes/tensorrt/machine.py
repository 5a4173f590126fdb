"""Whether this machine builds and runs engines, and which: an engine belongs to one GPU and one TensorRT."""

from __future__ import annotations

import importlib
from typing import Any

import msgspec

from walt_edge.runtimes.cuda import CudaError, Driver
from walt_edge.runtimes.tensorrt import EngineError


class Machine(msgspec.Struct, frozen=True):
    """What decides, beside the network and its recipe, whether an engine fits.

    Attributes:
        tensorrt: Version of the module.
        gpu: The GPU's name.
        capability: Its compute capability.
    """

    tensorrt: str
    gpu: str
    capability: tuple[int, int]


def missing() -> str:
    """Why no engine can be built on this machine; empty if it can."""
    try:
        _module()
        Driver.open()
    except (EngineError, CudaError) as error:
        return str(error)
    return ""


def this_machine() -> Machine:
    """This one; raises EngineError or CudaError where no engine can be built."""
    module = _module()
    gpu = Driver.open().gpu
    return Machine(str(module.__version__), gpu.name, gpu.capability)


def _module() -> Any:
    try:
        module = importlib.import_module("tensorrt")
    except (ImportError, OSError) as error:  # without its libraries the module fails by either
        raise EngineError("the Python module tensorrt is not here") from error
    if not hasattr(module, "Builder"):  # a folder of type stubs can be imported, too
        raise EngineError("the Python module tensorrt is not here, only its types are")
    return module
