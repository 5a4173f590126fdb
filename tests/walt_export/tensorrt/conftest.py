"""Engines by the fake, and by the real TensorRT where it and a GPU are."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

import pytest
import torch
import walt_export.tensorrt
from walt_export.tensorrt.make import missing

from tests.fakes import tensorrt as fake

_ENGINE = "walt_export.tensorrt.engine"


@dataclass(frozen=True)
class Place:
    """Where engines are built and run.

    Attributes:
        trt: TensorRT's module, or what stands in for it.
        engine: `walt_export.tensorrt.engine`, which imported that.
        device: Where tensors lie.
    """

    trt: ModuleType
    engine: ModuleType
    device: torch.device


def engine_module(monkeypatch: pytest.MonkeyPatch, trt: ModuleType) -> ModuleType:
    """`walt_export.tensorrt.engine` on top of a module; call `forget_engine` at the end."""
    forget_engine()
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    return importlib.import_module(_ENGINE)


def forget_engine() -> None:
    """The next import finds the module `tensorrt` of then."""
    sys.modules.pop(_ENGINE, None)
    vars(walt_export.tensorrt).pop("engine", None)


@pytest.fixture
def fake_place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    yield Place(fake, engine_module(monkeypatch, fake), torch.device("cpu"))
    forget_engine()


@pytest.fixture(params=["fake", "tensorrt"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """The fake, then the real one: what a test says has to hold for both."""
    if request.param == "fake":
        yield Place(fake, engine_module(monkeypatch, fake), torch.device("cpu"))
    else:
        if why_not := missing():
            pytest.skip(why_not)
        trt = importlib.import_module("tensorrt")
        yield Place(trt, engine_module(monkeypatch, trt), torch.device("cuda"))
    forget_engine()
