from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

import onnx

from walt_edge.runtimes.session import SessionError, open_session


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
