from __future__ import annotations

import ctypes
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import onnx
import pytest
from walt_export.errors import ExportError
from walt_export.tensorrt.make import make_tensorrt

from tests.checkpoints import SIZE_WH as NETWORK_WH
from tests.checkpoints import noise
from tests.fakes.cuda import Library
from tests.walt_export.tensorrt.conftest import Place
from tests.walt_export.tensorrt.graphs import SIZE_WH, bright_pictures, pictures, quantised_pictures
from walt_edge.runtimes.cuda import Driver
from walt_edge.runtimes.tensorrt import EngineError
from walt_edge.runtimes.tensorrt.machine import missing
from walt_edge.runtimes.tensorrt.recipe import Batch, read_recipe
from walt_edge.runtimes.walt_onnx import WaltOnnx

_Asked = dict[str, Any]
ASKED: _Asked = {"precision": "fp32", "size_wh": SIZE_WH, "batch": (1, 2, 4)}


@pytest.fixture
def bright() -> bytes:
    model: bytes = bright_pictures().SerializeToString()
    return model


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without TensorRT, whatever this one is."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)


@pytest.fixture
def here(fake_place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A machine with TensorRT and a GPU, both fake."""
    library = Library()
    monkeypatch.setattr(Driver, "open", lambda: Driver(library))
    return fake_place


@pytest.mark.usefixtures("nowhere")
class TestWithoutTensorRT:
    def test_the_folder_has_all_that_a_device_needs(self, bright: bytes, tmp_path: Path) -> None:
        out = tmp_path / "street.trt"
        outcome = make_tensorrt(bright, out, **ASKED)
        assert (outcome.folder, outcome.engine, outcome.network) == (out, None, None)
        assert sorted(path.name for path in out.iterdir()) == ["README.md", "build.json", "model.onnx"]
        recipe, model = read_recipe(out)
        assert recipe == outcome.recipe
        assert recipe.batch == Batch(1, 2, 4)
        assert recipe.dynamic_batch
        assert recipe.sha256 == hashlib.sha256(model).hexdigest()
        assert "image.cast" not in {node.name for node in onnx.load_from_string(model).graph.node}

    def test_it_says_so_in_one_line_with_the_step_for_the_device(self, bright: bytes, tmp_path: Path) -> None:
        words = make_tensorrt(bright, tmp_path / "street.trt", **ASKED).words
        assert "\n" not in words
        assert "no engine built, the Python module tensorrt is not here; on the device run" in words
        assert "(step 2 of README.md): trtexec --onnx=model.onnx" in words

    def test_the_network_is_taken(self, model: bytes, tmp_path: Path) -> None:
        outcome = make_tensorrt(model, tmp_path / "street.trt", precision="fp32", size_wh=NETWORK_WH)
        assert not outcome.recipe.dynamic_batch
        ready = (outcome.folder / "model.onnx").read_bytes()
        found, expected = (
            WaltOnnx(one, size_wh=NETWORK_WH, device="cpu", threads=1)(noise(1)) for one in (ready, model)
        )
        assert len(found.scores) > 0
        np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=1e-4)

    def test_fp16_is_in_the_graph(self, model: bytes, tmp_path: Path) -> None:
        outcome = make_tensorrt(model, tmp_path / "street.trt", precision="fp16", size_wh=NETWORK_WH)
        graph = onnx.load(outcome.folder / "model.onnx").graph
        assert sum(one.data_type == onnx.TensorProto.FLOAT16 for one in graph.initializer) > 10

    def test_the_same_bytes_twice(self, bright: bytes, tmp_path: Path) -> None:
        one, other = (make_tensorrt(bright, tmp_path / name, **ASKED).folder for name in ("a", "b"))
        for file in one.iterdir():
            assert file.read_bytes() == (other / file.name).read_bytes()

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"size_wh": (16, 6)}, r"takes pictures of \(8, 6\), not \(16, 6\)"),
            ({"batch": (2, 1, 4)}, "a batch of 2 to 4 with 1 as the best"),
            ({"batch": (0, 1, 4)}, r"batch\.min"),
            ({"precision": "int8"}, "the graph does not quantise, which is not what int8 asks for"),
            ({"optimization_level": 6}, "optimization_level"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, bright: bytes, tmp_path: Path, changes: _Asked, words: str) -> None:
        with pytest.raises(ExportError, match=words) as caught:
            make_tensorrt(bright, tmp_path / "street.trt", **{**ASKED, **changes})
        assert "\n" not in str(caught.value)
        assert not list(tmp_path.iterdir())

    def test_a_quantised_graph_wants_int8(self, tmp_path: Path) -> None:
        model, asked = quantised_pictures(), {**ASKED, "batch": (1, 1, 1)}
        with pytest.raises(ExportError, match="the graph quantises, which is not what fp16 asks for"):
            make_tensorrt(model, tmp_path / "street.trt", **{**asked, "precision": "fp16"})
        outcome = make_tensorrt(model, tmp_path / "street.trt", **{**asked, "precision": "int8"})
        assert outcome.recipe.precision == "int8"

    def test_a_fixed_batch_is_what_it_is(self, tmp_path: Path) -> None:
        model = bright_pictures(1).SerializeToString()
        with pytest.raises(ExportError, match=r"takes 1 picture\(s\) at once, always: export with --dynamic-batch"):
            make_tensorrt(model, tmp_path / "street.trt", **ASKED)
        outcome = make_tensorrt(model, tmp_path / "street.trt", **{**ASKED, "batch": (1, 1, 1)})
        assert outcome.recipe.batch == Batch()

    def test_a_graph_that_tensorrt_does_not_take_leaves_nothing(self, tmp_path: Path) -> None:
        model = bright_pictures()
        model.graph.node[-1].op_type = "Hardmax"
        del model.graph.node[-1].input[1]
        with pytest.raises(ExportError, match=r"maps \(Hardmax\)"):
            make_tensorrt(model.SerializeToString(), tmp_path / "street.trt", **ASKED)
        assert not list(tmp_path.iterdir())

    def test_what_was_written_before_is_replaced_but_for_the_timing_cache(
        self, bright: bytes, tmp_path: Path
    ) -> None:
        out = tmp_path / "street.trt"
        make_tensorrt(bright, out, **ASKED)
        (out / "timing.cache").write_bytes(b"minutes of work")
        (out / "model.engine").write_bytes(b"of the former graph")
        make_tensorrt(bright, out, **{**ASKED, "precision": "fp16"})
        assert read_recipe(out)[0].precision == "fp16"
        assert (out / "timing.cache").read_bytes() == b"minutes of work"
        assert not (out / "model.engine").exists()
        assert [path.name for path in tmp_path.iterdir()] == ["street.trt"]

    @pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
    def test_what_is_not_ours_is_not_replaced(
        self, bright: bytes, tmp_path: Path, make: Callable[[Path], None]
    ) -> None:
        out = tmp_path / "street.trt"
        make(out)
        with pytest.raises(ExportError, match="is there and is not what --trt writes"):
            make_tensorrt(bright, out, **ASKED)

    def test_a_folder_that_cannot_be_made_is_named(self, bright: bytes, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ExportError, match=r"cannot write .*file/street\.trt: Not a directory"):
            make_tensorrt(bright, tmp_path / "file" / "street.trt", **ASKED)


def test_with_tensorrt_the_engine_is_built_and_answers(here: Place, bright: bytes, tmp_path: Path) -> None:
    out = tmp_path / "street.trt"
    outcome = make_tensorrt(bright, out, **ASKED)
    assert outcome.words == f"{out}: model.engine of precision fp32 built here by TensorRT"
    assert outcome.engine == out / "model.engine"
    assert outcome.engine.is_file()
    assert (out / "timing.cache").is_file()
    assert outcome.network is not None
    assert outcome.network(pictures(99)[0]).labels.tolist() == [1]
    assert outcome.network(pictures(9)[0]).labels.tolist() == []


def test_a_build_that_fails_leaves_what_was_there(
    here: Place, bright: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "street.trt"
    make_tensorrt(bright, out, **ASKED)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    monkeypatch.setattr(here.trt.Builder, "build_serialized_network", lambda *_: None)
    with pytest.raises(EngineError, match="TensorRT built no engine"):
        make_tensorrt(bright, out, **{**ASKED, "precision": "fp16"})
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["street.trt"]


class Broken(ModuleType):
    """A module whose libraries are missing."""

    def __getattr__(self, name: str) -> object:
        raise AttributeError(name)


def test_why_no_engine_can_be_built_is_said(monkeypatch: pytest.MonkeyPatch, fake_place: Place) -> None:
    monkeypatch.setattr(ctypes, "CDLL", mock.Mock(side_effect=OSError))
    assert missing() == "a CUDA GPU is not here"
    monkeypatch.setitem(sys.modules, "tensorrt", Broken("tensorrt"))
    assert missing() == "the Python module tensorrt is not here, only its types are"
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert missing() == "the Python module tensorrt is not here"
