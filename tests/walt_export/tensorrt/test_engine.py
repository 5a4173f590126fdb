"""What holds for the fake has to hold for the real TensorRT: the same tests run on both, where both are."""

from __future__ import annotations

import ctypes
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from walt_export.tensorrt.artefact import tensorrt_model

from tests.checkpoints import EVEN_LEVEL, SIZE_WH, noise
from tests.walt_export.tensorrt.conftest import Place
from tests.walt_export.tensorrt.graphs import bright_pictures, folder_of, pictures, quantised_pictures
from walt_edge.runtimes.network import Candidates
from walt_edge.runtimes.tensorrt import EngineError
from walt_edge.runtimes.tensorrt.recipe import Batch
from walt_edge.runtimes.walt_onnx import WaltOnnx

EVEN = np.full((SIZE_WH[1], SIZE_WH[0], 3), EVEN_LEVEL, np.uint8)


@pytest.fixture
def bright() -> bytes:
    return tensorrt_model(bright_pictures().SerializeToString())


def network_of(place: Place, folder: Path) -> Any:
    plan = place.engine.build(folder).read_bytes()
    return place.engine.EngineNetwork(plan, memory=place.memory())


def assert_close(found: Candidates, expected: Candidates) -> None:
    assert found.labels.tolist() == expected.labels.tolist()
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=0.1)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)
    np.testing.assert_allclose(found.maps, expected.maps, atol=1e-3)


def test_an_engine_answers_as_the_model_does(place: Place, model: bytes, tmp_path: Path) -> None:
    fixed = {"size_wh": SIZE_WH, "batch": Batch(), "dynamic_batch": False}
    network = network_of(place, folder_of(tmp_path, tensorrt_model(model), **fixed))
    expected = WaltOnnx(model, size_wh=SIZE_WH, device="cpu", threads=1)
    for image in (noise(5), EVEN, noise(6)):
        assert_close(network(image), expected(image))
    assert len(network(noise(5)).scores) > 0
    nothing = network(EVEN)
    assert nothing.boxes_xyxy.shape == (0, 4)
    assert nothing.maps.shape == (0, 3, 28, 28)


def test_as_many_rows_as_are_found(place: Place, bright: bytes, tmp_path: Path) -> None:
    network = network_of(place, folder_of(tmp_path, bright))
    for levels in [(9,), (200, 9, 100), (9, 9), (60, 70, 80, 90), (255,)]:
        found = network.run(pictures(*levels))
        expected = [index for index, level in enumerate(levels) if level > 50]
        assert found["pictures"].tolist() == expected
        assert found["labels"].tolist() == [1] * len(expected)
        assert found["labels"].dtype == np.int64
        assert found["maps"].shape == (len(expected), 3, 28, 28)
        np.testing.assert_allclose(found["boxes"][:, 2], [levels[index] for index in expected], rtol=1e-6)


def test_an_answer_stays_when_the_next_picture_is_looked_at(place: Place, bright: bytes, tmp_path: Path) -> None:
    network = network_of(place, folder_of(tmp_path, bright))
    first = network(pictures(100)[0])
    network(pictures(200)[0])
    assert first.scores.tolist() == pytest.approx([100 / 255])


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(pictures(1, 1, 1, 1, 1), id="more-than-the-profile-has"),
        pytest.param(pictures(1)[:, 1:], id="another-size"),
        pytest.param(pictures(1)[0], id="no-batch"),
    ],
)
def test_pictures_that_the_engine_was_not_built_for_are_refused(
    place: Place, bright: bytes, tmp_path: Path, wrong: np.ndarray[Any, np.dtype[np.uint8]]
) -> None:
    network = network_of(place, folder_of(tmp_path, bright))
    with pytest.raises(EngineError, match="TensorRT gave up on pictures of shape") as caught:
        network.run(wrong)
    assert "\n" not in str(caught.value)
    assert network.run(pictures(99))["pictures"].tolist() == [0]


def test_the_parser_s_error_names_the_node(place: Place, tmp_path: Path) -> None:
    model = bright_pictures()
    model.graph.node[2].op_type = "Bernoulli"
    with pytest.raises(EngineError, match=r"refuses the node bright \(Bernoulli\): ") as caught:
        place.engine.build(folder_of(tmp_path, model.SerializeToString()))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model.engine").exists()


def test_what_is_no_model_is_refused(place: Place, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"TensorRT's parser refuses the (graph|node)"):
        place.engine.build(folder_of(tmp_path, b"not a model"))


def test_a_dynamic_batch_needs_a_profile(place: Place, bright: bytes, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"TensorRT built no engine of .*profile"):
        place.engine.build(folder_of(tmp_path, bright, dynamic_batch=False))


def test_a_recipe_of_another_input_is_refused(place: Place, bright: bytes, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"inputs are \['image'\], the recipe's is picture"):
        place.engine.build(folder_of(tmp_path, bright, input="picture"))


def test_a_timing_cache_is_written_and_read(
    place: Place, bright: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = folder_of(tmp_path, bright)
    place.engine.build(folder)
    first = (folder / "timing.cache").read_bytes()
    assert first
    with caplog.at_level(logging.WARNING, "walt_edge"):
        place.engine.build(folder)
        assert "timed again" not in caplog.text
        (folder / "timing.cache").write_bytes(b"of another device")
        place.engine.build(folder)
    assert "timing.cache is of another device or version" in caplog.text
    assert (folder / "timing.cache").read_bytes() != b"of another device"


def test_what_is_no_engine_is_refused(place: Place) -> None:
    with pytest.raises(EngineError, match=r"cannot read the engine .*build it here"):
        place.engine.EngineNetwork(b"of another device", memory=place.memory())


def test_an_engine_of_something_else_is_refused(place: Place, tmp_path: Path) -> None:
    model = bright_pictures()
    del model.graph.output[2:4]
    folder = folder_of(tmp_path, tensorrt_model(model.SerializeToString()))
    with pytest.raises(EngineError, match=r"no outputs \['labels', 'maps'\]"):
        network_of(place, folder)


@pytest.mark.parametrize(("version", "fine"), [("10.0.1", True), ("10.99", True), ("9.3.0", False), ("11.0", False)])
def test_another_major_version_is_refused(
    place: Place, bright: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, fine: bool
) -> None:
    folder = folder_of(tmp_path, bright)
    monkeypatch.setattr(place.trt, "__version__", version)
    if fine:
        assert place.engine.build(folder).is_file()
        return
    with pytest.raises(EngineError, match=rf"TensorRT {version} is here, the recipe is for 10\.0 up to 11"):
        place.engine.build(folder)


def context_of(place: Place, bright: bytes, folder: Path) -> tuple[Any, ...]:
    """A context and what has to outlive it not."""
    log = place.trt.Logger(place.trt.Logger.Severity.INTERNAL_ERROR) if place.is_real else Silent()
    plan = place.engine.build(folder_of(folder, bright)).read_bytes()
    runtime = place.trt.Runtime(log)
    engine = runtime.deserialize_cuda_engine(plan)
    return engine.create_execution_context(), engine, runtime, log


class Silent:
    """A logger that says nothing."""

    def log(self, severity: object, msg: str) -> None:
        pass


def test_what_is_called_out_of_order_is_false(place: Place, bright: bytes, tmp_path: Path) -> None:
    context, engine, *_kept = context_of(place, bright, tmp_path)
    held = place.memory().reserve(2 * 6 * 8 * 3)
    assert not context.execute_async_v3(0)  # neither shape nor address
    assert not context.set_input_shape("scores", (2,))
    assert not context.set_input_shape("image", (2, 6, 8, 4))
    assert not context.set_tensor_address("nobody", held.address)
    assert context.set_input_shape("image", (2, 6, 8, 3))
    assert context.set_tensor_address("image", held.address)
    assert not context.execute_async_v3(0)  # outputs have no memory
    modes = {
        engine.get_tensor_name(index): engine.get_tensor_mode(engine.get_tensor_name(index)) for index in range(6)
    }
    assert [name for name, mode in modes.items() if mode == place.trt.TensorIOMode.INPUT] == ["image"]


def test_an_allocator_made_without_its_base_is_refused(place: Place, bright: bytes, tmp_path: Path) -> None:
    class Hasty(place.trt.IOutputAllocator):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            pass

    context, *_kept = context_of(place, bright, tmp_path)
    with pytest.raises(TypeError, match="__init__"):
        context.set_output_allocator("boxes", Hasty())


def test_an_impossible_profile_is_a_value_error(place: Place) -> None:
    builder = place.trt.Builder(place.engine._Log())
    profile = builder.create_optimization_profile()
    assert not profile
    shapes = [place.trt.Dims([count, 6, 8, 3]) for count in (4, 2, 1)]
    with pytest.raises(ValueError, match=r"[Ss]hape|profile"):
        profile.set_shape("image", *shapes)


def flags_of(fake_place: Place, folder: Path) -> list[str]:
    plan = fake_place.engine.build(folder).read_bytes()
    flags: list[str] = json.loads(plan.split(b"\n", 2)[1])["flags"]
    return flags


@pytest.mark.parametrize(("precision", "tf32"), [("fp32", []), ("fp16", ["TF32"]), ("int8", ["TF32"])])
def test_types_are_the_graph_s(
    fake_place: Place, bright: bytes, tmp_path: Path, precision: str, tf32: list[str]
) -> None:
    assert flags_of(fake_place, folder_of(tmp_path, bright, precision=precision)) == [*tf32, "STRONGLY_TYPED"]


def test_an_int8_engine_answers_as_the_model_does(place: Place, tmp_path: Path) -> None:
    model = tensorrt_model(quantised_pictures())
    folder = folder_of(tmp_path, model, precision="int8", batch=Batch(), dynamic_batch=False)
    network = network_of(place, folder)
    assert network(pictures(121)[0]).boxes_xyxy.tolist() == [[120] * 4]  # 60.5 steps of 2, halves to even
    assert network(pictures(9)[0]).boxes_xyxy.shape == (0, 4)


def test_a_device_without_memory_gives_up_in_one_line(
    fake_place: Place, bright: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = network_of(fake_place, folder_of(tmp_path, bright))
    monkeypatch.setattr(fake_place.engine._Output, "reallocate_output_async", lambda *_: 0)
    with pytest.raises(EngineError, match="No memory for output tensor"):
        network.run(pictures(99))


def test_the_fake_writes_where_it_was_told(fake_place: Place, bright: bytes, tmp_path: Path) -> None:
    context, *_kept = context_of(fake_place, bright, tmp_path)
    held = pictures(51)

    class Fixed(fake_place.trt.IOutputAllocator):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.memory = ctypes.create_string_buffer(3 * 28 * 28 * 4)
            self.shape: list[int] = []

        def reallocate_output_async(
            self, tensor_name: str, memory: int, size: int, alignment: int, stream: int
        ) -> int:
            return ctypes.addressof(self.memory)

        def notify_shape(self, tensor_name: str, shape: Any) -> None:
            self.shape = list(shape)

    outputs = {name: Fixed() for name in ("boxes", "scores", "labels", "maps", "pictures")}
    assert context.set_input_shape("image", (1, 6, 8, 3))
    assert context.set_tensor_address("image", held.ctypes.data)
    assert all(context.set_output_allocator(name, output) for name, output in outputs.items())
    assert context.execute_async_v3(0)
    assert outputs["boxes"].shape == [1, 4]
    assert np.frombuffer(outputs["boxes"].memory.raw[:16], np.float32).tolist() == [51] * 4
