"""Engines by the fake, and by the real TensorRT where it and a GPU are."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType

import pytest

import walt_edge.runtimes.tensorrt
from tests.fakes import tensorrt as fake
from tests.fakes.cuda import Library
from walt_edge.runtimes.cuda import CudaMemory, Driver, Memory
from walt_edge.runtimes.tensorrt.machine import missing

_ENGINE = "walt_edge.runtimes.tensorrt.engine"


@dataclass(frozen=True)
class Place:
    """Where engines are built and run.

    Attributes:
        trt: TensorRT's module, or what stands in for it.
        engine: `walt_edge.runtimes.tensorrt.engine`, which imported that.
        memory: Where tensors lie, made anew.
    """

    trt: ModuleType
    engine: ModuleType
    memory: Callable[[], Memory]

    @property
    def is_real(self) -> bool:
        """Whether there is a GPU."""
        return self.trt is not fake


def engine_module(monkeypatch: pytest.MonkeyPatch, trt: ModuleType) -> ModuleType:
    """`walt_edge.runtimes.tensorrt.engine` on top of a module; call `forget_engine` at the end."""
    forget_engine()
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    return importlib.import_module(_ENGINE)


def forget_engine() -> None:
    """The next import finds the module `tensorrt` of then."""
    sys.modules.pop(_ENGINE, None)
    vars(walt_edge.runtimes.tensorrt).pop("engine", None)


def fake_memory() -> Memory:
    """Of a GPU that is none."""
    return CudaMemory(Driver(Library()))


@pytest.fixture
def fake_place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    yield Place(fake, engine_module(monkeypatch, fake), fake_memory)
    forget_engine()


@pytest.fixture(params=["fake", "tensorrt"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """The fake, then the real one: what a test says has to hold for both."""
    if request.param == "fake":
        yield Place(fake, engine_module(monkeypatch, fake), fake_memory)
    else:
        if why_not := missing():
            pytest.skip(why_not)
        trt = importlib.import_module("tensorrt")
        yield Place(trt, engine_module(monkeypatch, trt), CudaMemory)
    forget_engine()
