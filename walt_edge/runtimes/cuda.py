"""Memory of a GPU and the order of work on it, by the driver's own library: a device needs no framework for that.

The driver's interface (`libcuda`) comes with every driver and keeps its form; that of CUDA's runtime changes with its
version. TensorRT works in the context that both share, the GPU's primary one.
"""

from __future__ import annotations

import contextlib
import ctypes
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from walt_edge.contract.errors import WaltError

_LIBRARY = "libcuda.so.1"
_NAME_BYTES = 256
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_NON_BLOCKING = 1  # a stream that waits for no other


class CudaError(WaltError):
    """No GPU, or it gives up."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU's name and compute capability."""

    name: str
    capability: tuple[int, int]


class Block(Protocol):
    """Some memory that lasts as long as the object does."""

    @property
    def address(self) -> int:
        """Where it lies."""

    @property
    def size_bytes(self) -> int:
        """How much it is."""


class Memory(Protocol):
    """Where tensors lie and the order in which work on them is done."""

    @property
    def stream_handle(self) -> int:
        """CUDA's stream."""

    def in_order(self) -> AbstractContextManager[None]:
        """What is asked for inside is done in that order; at the end all of it is done."""

    def reserve(self, size_bytes: int) -> Block:
        """Memory for at least one byte, so that it has an address where nothing is found."""

    def write(self, block: Block, array: NDArray[Any]) -> None:
        """Copies a contiguous array into a block, in order; the array must last until all is done."""

    def read(self, block: Block, out: NDArray[Any]) -> None:
        """Copies what a block begins with into a contiguous array."""


class Driver:
    """The driver's library with one GPU's primary context.

    Args:
        library: Its functions; every one answers 0 or the number of an error.
        number: Which GPU, as CUDA counts them.

    Raises:
        CudaError: There is none.
    """

    def __init__(self, library: Any, number: int = 0) -> None:
        self._library = library
        self.call("cuInit", 0)
        count = ctypes.c_int()
        self.call("cuDeviceGetCount", ctypes.byref(count))
        if not 0 <= number < count.value:
            raise CudaError(f"a CUDA GPU {number} is not here, {count.value} are")
        device = ctypes.c_int()
        self.call("cuDeviceGet", ctypes.byref(device), number)
        self._device = device
        self.gpu = Gpu(self._name(), (self._attribute(_MAJOR), self._attribute(_MINOR)))

    @classmethod
    def open(cls, number: int = 0) -> Driver:
        """The driver of this machine; raises CudaError where there is none."""
        try:
            return cls(ctypes.CDLL(_LIBRARY), number)
        except OSError as error:
            raise CudaError("a CUDA GPU is not here") from error

    def call(self, name: str, *arguments: Any) -> None:
        """Calls a function of the library; raises CudaError if it fails."""
        error = int(getattr(self._library, name)(*arguments))
        if error:
            raise CudaError(f"the GPU's driver gave up: {name} answers error {error}; nvidia-smi tells how it does")

    def context(self) -> ctypes.c_void_p:
        """The primary context, which lasts from now on."""
        context = ctypes.c_void_p()
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device)
        return context

    def _name(self) -> str:
        text = ctypes.create_string_buffer(_NAME_BYTES)
        self.call("cuDeviceGetName", text, _NAME_BYTES, self._device)
        return text.value.decode(errors="replace")

    def _attribute(self, which: int) -> int:
        value = ctypes.c_int()
        self.call("cuDeviceGetAttribute", ctypes.byref(value), which, self._device)
        return value.value


class _Held:
    """A block of a GPU's memory, given back when nobody holds it any more."""

    def __init__(self, driver: Driver, context: ctypes.c_void_p, size_bytes: int) -> None:
        address = ctypes.c_uint64()
        driver.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size_bytes))
        self.address, self.size_bytes = address.value, size_bytes
        weakref.finalize(self, _free, driver, context, address)


def _free(driver: Driver, context: ctypes.c_void_p, address: ctypes.c_uint64) -> None:
    with contextlib.suppress(CudaError):  # at the end of the process the driver may be gone already
        driver.call("cuCtxSetCurrent", context)  # it may be any thread that lets go last
        driver.call("cuMemFree_v2", address)


class CudaMemory:
    """A GPU's `Memory`, with a stream of its own; one thread at a time.

    Args:
        driver: The GPU; None takes the first.

    Raises:
        CudaError: There is none.
    """

    def __init__(self, driver: Driver | None = None) -> None:
        self._driver = driver or Driver.open()
        self._context = self._driver.context()
        self._driver.call("cuCtxSetCurrent", self._context)
        self._stream = ctypes.c_void_p()
        self._driver.call("cuStreamCreate", ctypes.byref(self._stream), _NON_BLOCKING)

    @property
    def stream_handle(self) -> int:
        """CUDA's stream, as TensorRT takes it."""
        return self._stream.value or 0

    @contextlib.contextmanager
    def in_order(self) -> Iterator[None]:
        """What is asked for inside is done in that order; at the end all of it is done. In any thread."""
        self._driver.call("cuCtxSetCurrent", self._context)
        try:
            yield
        finally:
            self._driver.call("cuStreamSynchronize", self._stream)

    def reserve(self, size_bytes: int) -> Block:
        """Memory for at least one byte, aligned to 256."""
        return _Held(self._driver, self._context, max(size_bytes, 1))

    def write(self, block: Block, array: NDArray[Any]) -> None:
        """Copies a contiguous array into a block, in order; the array must last until all is done."""
        assert array.flags.c_contiguous
        assert array.nbytes <= block.size_bytes
        size = ctypes.c_size_t(array.nbytes)
        source = ctypes.c_void_p(array.ctypes.data)
        self._driver.call("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(block.address), source, size, self._stream)

    def read(self, block: Block, out: NDArray[Any]) -> None:
        """Copies what a block begins with into a contiguous array."""
        assert out.flags.c_contiguous
        assert out.nbytes <= block.size_bytes
        if out.nbytes:
            target = ctypes.c_void_p(out.ctypes.data)
            self._driver.call("cuMemcpyDtoH_v2", target, ctypes.c_uint64(block.address), ctypes.c_size_t(out.nbytes))
