from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

import onnx
import onnxruntime
from numpy.typing import NDArray

from tests.detectors import SIZE_WH, model, picture
from walt_edge.contract.errors import UsageError
from walt_edge.runtimes import session as sessions
from walt_edge.runtimes.session import Device, GpuOptions, SessionError, open_session
from walt_edge.runtimes.walt_onnx import WaltOnnx

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


@pytest.mark.parametrize("where", ["weights.bin", "../weights.bin", "{folder}/weights.bin"])
def test_a_model_reads_no_file_of_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Weights that lie in a file beside the process, above it, or anywhere."""
    inner = tmp_path / "inner"
    inner.mkdir()
    for folder in (tmp_path, inner):
        (folder / "weights.bin").write_bytes(np.arange(2000, dtype=np.float32).tobytes())
    monkeypatch.chdir(inner)
    weights = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[2000])
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=where.format(folder=tmp_path))
    sides = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2000]) for name in "xy"]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "w"], ["y"])], "g", sides[:1], sides[1:], [weights]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    with pytest.raises(SessionError, match="External data path"):
        open_session(model.SerializeToString())


class Gpu:
    """A session of the real ONNX Runtime on a processor that says it runs on what it was asked to run on."""

    def __init__(self, session: Any, providers: list[str], trouble: str) -> None:
        self._session, self._providers, self._trouble = session, providers, trouble

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def get_providers(self) -> list[str]:
        return self._providers

    def run(self, *args: Any) -> Any:
        if self._trouble:
            raise RuntimeError(f"{self._trouble}\nand a second line")
        return self._session.run(*args)


class Machine:
    """The module `onnxruntime` of a machine with a GPU, which may be broken in several ways."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, available: list[str], trouble: str = "") -> None:
        self._trouble = trouble
        self.asked: list[list[tuple[str, dict[str, str]]]] = []
        module = SimpleNamespace(
            SessionOptions=onnxruntime.SessionOptions,
            InferenceSession=self._open,
            get_available_providers=lambda: available,
        )
        monkeypatch.setattr(sessions, "require_runtime", lambda: module)

    def _open(self, data: bytes, options: Any, providers: Any, enable_fallback: int) -> Any:
        self.asked.append(providers)
        session = onnxruntime.InferenceSession(data, options, providers=[CPU], enable_fallback=enable_fallback)
        names = [name for name, _ in providers]
        if names == [CPU]:
            return session
        if self._trouble == "does not open":
            raise RuntimeError("CUDA failure 35: driver version is insufficient\nand a second line")
        if self._trouble == "is left out":
            return session
        return Gpu(session, names, self._trouble)


@pytest.mark.parametrize(
    ("pictures", "device", "most", "runs"), [(0, "cuda", 0, [3]), (1, "cuda", 1, [1, 1, 1]), (0, "cpu", 1, [3])]
)
def test_pictures_are_best_given_together_where_a_gpu_takes_any_number(
    monkeypatch: pytest.MonkeyPatch, pictures: int, device: Device, most: int, runs: list[int]
) -> None:
    Machine(monkeypatch, [CUDA, CPU])
    network = WaltOnnx(model(pictures=pictures), size_wh=SIZE_WH, device=device)
    assert network.most_pictures == most
    given: list[int] = []
    run = network._run

    def counted(outputs: tuple[str, ...], images_NHWC: NDArray[np.uint8]) -> list[NDArray[Any]]:
        given.append(len(images_NHWC))
        return run(outputs, images_NHWC)

    monkeypatch.setattr(network, "_run", counted)
    found = network.many(np.stack([picture(0), picture(), picture(1, 3)]))
    assert [len(one.scores) for one in found] == [1, 0, 2]
    assert given == runs


def opened(device: Device, gpu: GpuOptions | None = None) -> WaltOnnx:
    return WaltOnnx(model(), size_wh=SIZE_WH, device=device, gpu=gpu)


@pytest.mark.parametrize(
    ("device", "available", "expected"),
    [
        ("auto", [CPU], [CPU]),
        ("auto", [TENSORRT, CUDA, CPU], [CUDA, CPU]),
        ("cpu", [TENSORRT, CUDA, CPU], [CPU]),
        ("cuda", [TENSORRT, CUDA, CPU], [CUDA, CPU]),
        ("tensorrt", [TENSORRT, CUDA, CPU], [TENSORRT, CUDA, CPU]),
    ],
)
def test_what_is_there_and_asked_for_is_taken(
    monkeypatch: pytest.MonkeyPatch,
    device: Device,
    available: list[str],
    expected: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    Machine(monkeypatch, available)
    assert opened(device).providers == tuple(expected)
    assert not caplog.records


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("does not open", f"{CUDA} does not run the model: CUDA failure 35: driver version is insufficient"),
        ("is left out", f"{CUDA} does not start here, only {CPU}"),
        ("no kernel image", f"{CUDA} does not run the model: no kernel image"),
    ],
)
def test_a_gpu_that_does_not_work_is_told_in_one_line_and_the_processor_taken(
    monkeypatch: pytest.MonkeyPatch, trouble: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    Machine(monkeypatch, [CUDA, CPU], trouble)
    with caplog.at_level(logging.WARNING):
        assert opened("auto").providers == (CPU,)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"running on the processor: {words}")
    assert "\n" not in record.getMessage()
    with pytest.raises((SessionError, UsageError), match=trouble if trouble == "no kernel image" else CUDA):
        opened("cuda")


@pytest.mark.parametrize(("device", "name"), [("cuda", CUDA), ("tensorrt", TENSORRT)])
def test_a_device_that_is_not_there_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, device: Device, name: str
) -> None:
    Machine(monkeypatch, [CPU])
    with pytest.raises(UsageError, match=rf"has no {name}, only {CPU}: pip install 'walt-amodal\[gpu\]'"):
        opened(device)


def test_a_gpu_is_asked_for_what_a_small_device_can_bear(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = Machine(monkeypatch, [TENSORRT, CUDA, CPU])
    opened("tensorrt", GpuOptions(number=1, memory_mb=512, cache=tmp_path / "kept"))
    assert (tmp_path / "kept").is_dir()
    ((tensorrt, cuda, cpu),) = machine.asked
    assert cpu == (CPU, {})
    assert cuda[1] == {
        "device_id": "1",
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "gpu_mem_limit": str(512 << 20),
    }
    assert tensorrt[1]["trt_engine_cache_path"] == str(tmp_path / "kept")
    assert tensorrt[1]["trt_engine_cache_enable"] == "1"


def test_no_second_copy_of_the_file_is_kept() -> None:
    assert open_session(model(), device="cpu")._model_bytes is None
