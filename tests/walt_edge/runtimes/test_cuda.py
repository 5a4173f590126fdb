"""A GPU's memory by its driver; the driver is a fake with the real one's functions."""

from __future__ import annotations

import ctypes
import gc
import threading
from unittest import mock

import numpy as np
import pytest

from tests.fakes.cuda import STREAM, Library
from walt_edge.runtimes.cuda import CudaError, CudaMemory, Driver, Gpu


def test_what_is_written_is_read_in_any_thread() -> None:
    library = Library(name="Orin", capability=(8, 7))
    driver = Driver(library)
    assert driver.gpu == Gpu("Orin", (8, 7))
    memory = CudaMemory(driver)
    assert memory.stream_handle == STREAM
    picture = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    found = np.zeros((2, 4, 5), np.uint8)

    def work() -> None:
        block = memory.reserve(picture.nbytes)
        with memory.in_order():
            memory.write(block, picture)
        memory.read(block, found)

    with memory.in_order():
        work()
    assert (found == picture[:2]).all()
    found[:] = 0
    errors: list[CudaError] = []

    def elsewhere() -> None:
        try:
            work()
        except CudaError as error:
            errors.append(error)
        with memory.in_order():
            work()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(10)
    assert (found == picture[:2]).all()
    assert len(errors) == 1, "a thread that did not say where it works"
    errors.clear()  # its traceback holds a block
    gc.collect()
    assert not library.given, "memory was not given back"


def test_nothing_takes_a_byte_and_has_an_address() -> None:
    memory = CudaMemory(Driver(Library()))
    block = memory.reserve(0)
    assert block.address
    assert block.size_bytes == 1
    memory.read(block, np.zeros((0, 4), np.float32))


def test_a_gpu_without_memory_left_says_so() -> None:
    library = Library()
    library.most_bytes = 1000
    memory = CudaMemory(Driver(library))
    with pytest.raises(CudaError, match="cuMemAlloc_v2 answers error 2; nvidia-smi tells"):
        memory.reserve(2000)


def test_without_a_gpu_it_is_said_in_one_line() -> None:
    with mock.patch.object(ctypes, "CDLL", side_effect=OSError), pytest.raises(CudaError, match="is not here"):
        Driver.open()
    with pytest.raises(CudaError, match="cuInit answers error 100"):
        Driver(Library(gpus=0))
    with pytest.raises(CudaError, match="a CUDA GPU 2 is not here, 2 are"):
        Driver(Library(gpus=2), number=2)
