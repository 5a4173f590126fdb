"""The functions of a GPU's driver that `walt_edge.runtimes.cuda` calls, on a CPU: a GPU's memory is this machine's.

As in the real one, a thread has to say which context it works in, and what was given back must not be touched.
Work on a stream is done at once.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any

CONTEXT = 0xC0DE
STREAM = 0x57EA
_MAJOR, _MINOR = 75, 76
_INVALID, _NO_DEVICE, _NO_MEMORY, _NO_CONTEXT = 1, 100, 2, 201


class Library:
    """`libcuda`, with as many GPUs as are asked for.

    Attributes:
        given: Blocks that are given out, by address.
        most_bytes: Memory of the GPU.
    """

    def __init__(self, gpus: int = 1, *, name: str = "Fake GPU", capability: tuple[int, int] = (8, 7)) -> None:
        self._gpus, self._name, self._capability = gpus, name, capability
        self._current = threading.local()
        self.given: dict[int, Any] = {}
        self.most_bytes = 1 << 30

    def cuInit(self, flags: int) -> int:
        return 0 if self._gpus else _NO_DEVICE

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self._gpus
        return 0

    def cuDeviceGet(self, device: Any, number: int) -> int:
        device._obj.value = number
        return 0

    def cuDeviceGetName(self, name: Any, length: int, device: Any) -> int:
        name.value = self._name.encode()[: length - 1]
        return 0

    def cuDeviceGetAttribute(self, value: Any, which: int, device: Any) -> int:
        value._obj.value = {_MAJOR: self._capability[0], _MINOR: self._capability[1]}[which]
        return 0

    def cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> int:
        context._obj.value = CONTEXT
        return 0

    def cuCtxSetCurrent(self, context: Any) -> int:
        self._current.context = context.value
        return 0

    def cuStreamCreate(self, stream: Any, flags: int) -> int:
        stream._obj.value = STREAM
        return self._in_context()

    def cuStreamSynchronize(self, stream: Any) -> int:
        return self._in_context() if stream.value == STREAM else _INVALID

    def cuMemAlloc_v2(self, address: Any, size: Any) -> int:
        if sum(map(len, self.given.values())) + size.value > self.most_bytes:
            return _NO_MEMORY
        if error := self._in_context():
            return error
        block = ctypes.create_string_buffer(size.value)
        address._obj.value = ctypes.addressof(block)
        self.given[ctypes.addressof(block)] = block
        return 0

    def cuMemFree_v2(self, address: Any) -> int:
        return self._in_context() if self.given.pop(address.value, None) is not None else _INVALID

    def cuMemcpyHtoDAsync_v2(self, target: Any, source: Any, size: Any, stream: Any) -> int:
        if target.value not in self.given or stream.value != STREAM:
            return _INVALID
        ctypes.memmove(target.value, source.value, size.value)
        return self._in_context()

    def cuMemcpyDtoH_v2(self, target: Any, source: Any, size: Any) -> int:
        if source.value not in self.given:
            return _INVALID
        ctypes.memmove(target.value, source.value, size.value)
        return self._in_context()

    def _in_context(self) -> int:
        return 0 if getattr(self._current, "context", None) == CONTEXT else _NO_CONTEXT
