"""What a network costs by part, told by its ONNX graph alone."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from walt_export.cost import PartCost, measure_cost, read_model, static_cost
from walt_export.cost_picture import draw_cost
from walt_export.errors import ExportError
from walt_export.flops import largest_shapes, node_flops
from walt_export.parts import INPUT, PARTS, REST, SELECTION, carry_parts, find_parts, op_part, ordered, part_of_weight
from walt_export.profiling import profile
from walt_export.restate import restated

from tests.checkpoints import SIZE_WH, noise, small_net
from walt_edge.contract.bundle import Bundle
from walt_edge.packaged import general_model
from walt_edge.runtimes.onnx_detector import letterbox
from walt_edge.runtimes.session import SessionError
from walt_train.model.cost import measure_gflops, measure_parts
from walt_train.model.waltnet import WaltNet
from walt_train.recipes import walt_edge_small

HEADS = ("masks: shared", "masks: amodal", "masks: occluder", "masks: occluded", "masks: quality")


@pytest.fixture(scope="module")
def general() -> Bundle:
    return Bundle.read(general_model())


@pytest.fixture(scope="module")
def graph(general: Bundle) -> onnx.ModelProto:
    return read_model(general)


@pytest.mark.parametrize(
    ("weight", "part"),
    [
        ("net.input.plate", INPUT),
        ("net.backbone.bottom_up.stem.0.weight", "backbone: stem"),
        ("net.backbone.bottom_up.inner.conv1.weight", "backbone: stem"),
        ("net.backbone.bottom_up.stages.0.0.first.0.weight.stored", "backbone: stages"),
        ("net.backbone.bottom_up.inner.layer1.0.conv1.weight", "backbone: stages"),
        ("net.backbone.top_down.laterals.3.0.bias", "backbone: top down"),
        ("net.proposal_head.conv.weight_quantized", "proposals"),
        ("net.box_head.visible_deltas.bias", "box head"),
        ("net.branch.trunk.0.0.weight", "masks: shared"),
        ("net.branch.coupling.0.weight", "masks: shared"),
        ("net.branch.heads.amodal.up.weight", "masks: amodal"),
        ("net.branch.heads.occluder.up.weight", "masks: occluder"),
        ("net.branch.heads.occluded.up.weight", "masks: occluded"),
        ("net.branch.quality.conv.0.weight", "masks: quality"),
        ("val_14", ""),
    ],
)
def test_a_weights_name_tells_its_part(weight: str, part: str) -> None:
    assert part_of_weight(weight) == part


def test_nodes_without_weights_go_with_what_they_read_and_picks_begin_anew() -> None:
    weight = numpy_helper.from_array(np.zeros((2, 3, 1, 1), np.float32), "net.backbone.bottom_up.stem.0.weight")
    heads = numpy_helper.from_array(np.zeros((4, 2, 1, 1), np.float32), "net.branch.trunk.0.0.weight")
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["seen"], to=TensorProto.FLOAT),
            helper.make_node("Conv", ["seen", weight.name], ["feature"]),
            helper.make_node("Relu", ["feature"], ["active"]),
            helper.make_node("TopK", ["active", "count"], ["best", "places"]),
            helper.make_node("Mul", ["best", "active"], ["rois"]),
            helper.make_node("RoiAlign", ["active", "rois", "places"], ["cells"]),
            helper.make_node("Identity", ["cells"], ["same"]),
            helper.make_node("Conv", ["same", heads.name], ["maps"], name="the heads"),
            helper.make_node("OcclusionOrder_v1", ["maps"], ["order"], domain="walt"),
            helper.make_node("Neg", ["order"], ["out"]),
            helper.make_node("Shape", ["count"], ["unread"]),
        ],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [weight, heads, numpy_helper.from_array(np.array([1]), "count")],
    )
    parts = find_parts(graph)
    stem, mask, op = "backbone: stem", "masks: shared", op_part("OcclusionOrder_v1")
    assert parts.nodes == (INPUT, stem, stem, SELECTION, SELECTION, mask, mask, mask, op, SELECTION, REST)
    assert parts.initializers == {weight.name: stem, heads.name: mask, "count": SELECTION}
    # Fused, renamed and rearranged as runtimes do it.
    rearranged = helper.make_graph(
        [
            helper.make_node("Layout", ["seen"], ["token"]),
            helper.make_node("Conv", ["token", "packed"], ["token_2"], name="active_nchwc"),
            helper.make_node("Layout", ["token_2"], ["active"]),
            helper.make_node("Conv", ["active"], ["token_9"], name="the heads_token_7"),
            helper.make_node("Inlined", ["maps"], ["token_3"]),
            helper.make_node("Inlined", ["token_3"], ["order"]),
            helper.make_node("Shape", ["other"], ["unread_2"]),
        ],
        "g",
        [],
        [],
    )
    assert carry_parts(rearranged, parts) == [stem, stem, stem, mask, op, op, REST]


def test_parts_stand_in_the_networks_order() -> None:
    assert ordered({REST, "op B", SELECTION, "op A", INPUT}) == [INPUT, SELECTION, "op A", "op B", REST]


def test_the_graph_costs_what_torch_counts(model: bytes) -> None:
    net = restated(small_net())
    costs = {one.part: one for one in static_cost(onnx.load_from_string(model), net.network.candidates)}
    expected = measure_parts(net)
    features = sum(one.gflops for part, one in costs.items() if part.startswith("backbone"))
    assert features == pytest.approx(expected["features"], rel=0.02)
    assert costs["proposals"].gflops == pytest.approx(expected["proposals"], rel=0.02)
    # The box head reads candidates a second time where the visible box is asked for, which torch counts to the masks.
    heads = sum(costs[part].gflops for part in ("box head", *HEADS) if part in costs)
    assert heads == pytest.approx(expected["boxes"] + expected["masks"], rel=0.02)
    # What the functions of the domain do comes after the network.
    network = sum(one.gflops for part, one in costs.items() if not part.startswith("op "))
    assert network == pytest.approx(measure_gflops(net), rel=0.02)


MOST_GFLOPS = 8.0
"""Of the edge network, exported too."""


def test_restating_adds_little() -> None:
    torch.manual_seed(0)
    recipe = walt_edge_small().network
    net = WaltNet(msgspec.structs.replace(recipe, anchors_wh=((20.0, 40.0),) * recipe.anchors)).eval()
    added = measure_gflops(restated(net)) - measure_gflops(net)
    assert 0 < added < 0.02 * measure_gflops(net)
    assert measure_gflops(restated(net)) <= MOST_GFLOPS


def test_the_general_model_costs_what_its_manifest_says(general: Bundle, graph: onnx.ModelProto) -> None:
    costs = static_cost(graph, general.manifest.candidates)
    network = sum(one.gflops for one in costs if not one.part.startswith("op "))
    assert network == pytest.approx(general.manifest.gflops, rel=0.02)
    # Normalisation is folded into the convolutions.
    assert sum(one.parameters for one in costs) == pytest.approx(general.manifest.parameters, rel=0.01)
    assert sum(one.size_bytes for one in costs) == pytest.approx(len(general.files["model.onnx"]), rel=1e-3)
    by_part = {one.part: one for one in costs}
    assert {part for part in PARTS if part in by_part} == set(PARTS)
    assert max(by_part.values(), key=lambda one: one.gflops).part == "backbone: stages"
    assert by_part[SELECTION].parameters == by_part[INPUT].parameters == 0


def test_the_largest_shapes_have_every_candidate(general: Bundle, graph: onnx.ModelProto) -> None:
    shapes = largest_shapes(graph, 7)
    width, height = general.manifest.size_wh
    pooled = {shapes[node.output[0]] for node in graph.graph.node if node.op_type == "RoiAlign"}
    assert (general.manifest.candidates, 64, 14, 14) in pooled
    first = next(node for node in graph.graph.node if node.op_type == "Conv")
    assert shapes[first.output[0]] == (1, 24, height // 2, width // 2)


def graph_of(nodes: list[onnx.NodeProto], shape: list[int | str], **values: object) -> onnx.ModelProto:
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    out = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    return helper.make_model(helper.make_graph(nodes, "g", [given], [out], constants))


@pytest.mark.parametrize(
    ("node", "shape", "weight", "expected"),
    [
        (helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1]), [1, 3, 8, 6], (5, 3, 3, 3), 2 * 48 * 5 * 27),
        (helper.make_node("Conv", ["x", "w"], ["y"], group=4), [2, 4, 8, 6], (4, 1, 1, 1), 2 * 2 * 48 * 4),
        (helper.make_node("Conv", ["x", "w"], ["y"]), ["B", 3, 8, 6], (5, 3, 1, 1), 2 * 48 * 5 * 3),
        (
            helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2]),
            [1, 3, 4, 4],
            (3, 5, 2, 2),
            2 * 16 * 3 * 5 * 4,
        ),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transB=1), [7, 3], (5, 3), 2 * 7 * 3 * 5),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transA=1), [3, 7], (3, 5), 2 * 7 * 3 * 5),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), [2, 7, 3], (3, 5), 2 * 2 * 7 * 3 * 5),
        (helper.make_node("Mul", ["x", "w"], ["y"]), [7, 3], (7, 3), 0),
    ],
)
def test_operations_of_a_node(
    node: onnx.NodeProto, shape: list[int | str], weight: tuple[int, ...], expected: int
) -> None:
    assert node_flops(graph_of([node], shape, w=np.zeros(weight, np.float32)), 30) == [expected]


def test_sizes_that_contradict_each_other_are_refused() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    with pytest.raises(ExportError, match="contradict each other"):
        node_flops(graph_of([node], [1, 3], w=np.zeros((5, 3, 1, 1), np.float32)), 30)


def test_functions_count_as_parts_of_their_own() -> None:
    body = helper.make_function(
        "walt",
        "Overlap_v1",
        ["x"],
        ["y"],
        [
            helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]),
            helper.make_node("MatMul", ["x", "t"], ["y"]),
        ],
        [helper.make_opsetid("", 20)],
    )
    model = graph_of([helper.make_node("Overlap_v1", ["x"], ["y"], domain="walt")], [30, 784])
    model.functions.append(body)
    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid("", 20), helper.make_opsetid("walt", 1)])
    costs = {one.part: one for one in static_cost(model, 30)}
    assert costs["op Overlap_v1"].gflops == pytest.approx(2 * 30 * 30 * 784 / 1e9)


def test_time_is_found_in_the_parts(general: Bundle) -> None:
    costs, measured = measure_cost(general, threads=1, runs=1)
    assert measured is not None
    assert len(measured.found) == len(general.manifest.golden)
    ms = {one.part: one.ms or 0.0 for one in costs}
    assert sum(ms.values()) == pytest.approx(measured.total_ms)
    assert all(ms[part] > 0 for part in PARTS)
    assert ms[REST] < 0.3 * measured.total_ms
    assert max(ms, key=lambda part: ms[part]) == "backbone: stages"


def test_functions_have_their_own_time(model: bytes) -> None:
    small = onnx.load_from_string(model)
    image = noise(1)
    assert image.shape == (SIZE_WH[1], SIZE_WH[0], 3)
    found = profile(small, find_parts(small.graph), [image], threads=1, runs=2)
    assert found.ms["backbone: stages"] > 0
    assert all(found.ms[op_part(one.name)] > 0 for one in small.functions)
    assert found.ms[REST] < found.total_ms


def test_bars_are_as_long_as_costs() -> None:
    costs = [PartCost("input", 0, 0, 0.0, 0.5), PartCost("box head", 5, 20_000, 1.0, 1.0)]
    image = draw_cost("net", ["how"], costs)
    blue = (image == (168, 108, 27)).all(axis=2)
    lengths = sorted({int(row.sum()) for row in blue if row.any()})
    assert lengths[0] == pytest.approx(lengths[-1] / 2, abs=1)
    untimed = draw_cost("net", ["how"], [PartCost("input", 0, 0, 1.0, None)])
    assert untimed.shape[1] < image.shape[1]
    assert not (untimed == (168, 108, 27)).all(axis=2).any()


def test_what_is_profiled_reads_no_file_of_the_device(
    model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = onnx.load_from_string(model)
    weight = max(loaded.graph.initializer, key=lambda one: one.ByteSize())
    (tmp_path / "weights.bin").write_bytes(numpy_helper.to_array(weight).tobytes())
    monkeypatch.chdir(tmp_path)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="weights.bin")
    image = letterbox(noise(1), SIZE_WH[::-1])[0]
    with pytest.raises(SessionError, match="External data path"):
        profile(loaded, find_parts(loaded.graph), [image], threads=1, runs=1)
