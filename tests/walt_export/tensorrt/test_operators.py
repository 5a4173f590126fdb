from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from walt_export.errors import ExportError
from walt_export.tensorrt import support
from walt_export.tensorrt.artefact import tensorrt_model
from walt_export.tensorrt.operators import check_operators

from tests.walt_export.tensorrt.graphs import OPSET, graph_model, value

node = helper.make_node
FLOAT, DOUBLE, INT64, BOOL = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.BOOL
UINT8, INT8, STRING = TensorProto.UINT8, TensorProto.INT8, TensorProto.STRING


def constant(name: str, *values: float, kind: Any = np.int64) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, kind), name)


def refusal(model: onnx.ModelProto) -> str:
    with pytest.raises(ExportError) as caught:
        check_operators(model)
    words = str(caught.value)
    assert "\n" not in words
    return words


def with_if(branch: onnx.NodeProto) -> list[onnx.NodeProto]:
    good = helper.make_graph([node("Relu", ["x"], ["b"], "fine")], "else", [], [value("b")])
    bad = helper.make_graph([branch], "then", [], [value("a")])
    return [node("If", ["c"], ["y"], "choose", then_branch=bad, else_branch=good)]


def test_the_exported_network_is_taken(model: bytes) -> None:
    ready = onnx.load_from_string(tensorrt_model(model))
    assert check_operators(ready) == len(ready.graph.node) > 100


def test_the_table_speaks_of_operators_that_onnx_has() -> None:
    for operator in support.TYPES:
        assert onnx.defs.has(operator, support.OPSETS[-1], ""), operator
    for table in (support.DATA, support.CONSTANT_INPUTS, support.RANKS, support.ATTRIBUTES):
        assert set(table) <= set(support.TYPES)
    for operator, parameters in support.DATA.items():
        schema = onnx.defs.get_schema(operator, OPSET, "")
        formals = {formal.type_str for formal in [*schema.inputs, *schema.outputs]}
        assert set(parameters) <= formals, operator
    for operator, attributes in support.ATTRIBUTES.items():
        known = onnx.defs.get_schema(operator, OPSET, "").attributes
        assert {name for name, _ in attributes} <= set(known), operator


@pytest.mark.parametrize("operator", ["Unique", "Det", "QLinearConv", "SequenceEmpty", "Bernoulli"])
def test_operators_that_tensorrt_has_not(operator: str) -> None:
    assert operator not in support.TYPES


def test_an_unknown_operator_is_named() -> None:
    words = refusal(
        graph_model([node("Det", ["x"], ["y"], "volume")], [value("x", shape=(3, 3))], [value("y", shape=())])
    )
    assert "1 of 1 nodes: volume (Det): TensorRT 10.15 does not have it: restate it" in words


def test_a_node_without_a_name_is_called_by_its_output() -> None:
    words = refusal(graph_model([node("Det", ["x"], ["y"])], [value("x", shape=(3, 3))], [value("y", shape=())]))
    assert " y (Det)" in words


def test_all_are_counted_and_the_first_are_named() -> None:
    nodes = [node("Foo", [f"x{i}"], [f"x{i + 1}"], f"foo{i}", domain="com.example") for i in range(12)]
    words = refusal(graph_model([node("Relu", ["x"], ["x0"]), *nodes], [value("x")], [value("x12")]))
    assert "12 of 13 nodes: foo0 (com.example::Foo): the domain com.example is not ONNX's own" in words
    assert "also foo1 (com.example::Foo)" in words
    assert words.endswith("foo7 (com.example::Foo), 4 more")


@pytest.mark.parametrize(
    ("branch", "words"),
    [
        (
            node("Foo", ["x"], ["a"], "hidden", domain="com.example"),
            "hidden (com.example::Foo in then_branch of choose)",
        ),
        (node("Hardmax", ["x"], ["a"], "hidden"), "hidden (Hardmax in then_branch of choose)"),
    ],
)
def test_branches_are_walked(branch: onnx.NodeProto, words: str) -> None:
    model = graph_model(with_if(branch), [value("c", BOOL, ()), value("x")], [value("y")])
    assert f"1 of 3 nodes: {words}" in refusal(model)


def test_types_are_held_in_branches_too() -> None:
    branch = node("Cast", ["x"], ["a"], "wide", to=DOUBLE)
    good = helper.make_graph([node("Identity", ["d"], ["b"], "fine")], "else", [], [value("b", DOUBLE)])
    bad = helper.make_graph([branch], "then", [], [value("a", DOUBLE)])
    choose = node("If", ["c"], ["y"], "choose", then_branch=bad, else_branch=good)
    inputs = [value("c", BOOL, ()), value("x"), value("d", DOUBLE)]
    words = refusal(graph_model([choose], inputs, [value("y", DOUBLE)]))
    assert "3 of 3 nodes" in words
    assert "wide (Cast in then_branch of choose)" in words


def test_functions_are_walked_and_calling_one_is_no_offence() -> None:
    def model_of(operator: str) -> onnx.ModelProto:
        body = [node("Relu", ["x"], ["r"], "first"), node(operator, ["r"], ["y"], "second")]
        function = helper.make_function("walt", "Two_v1", ["x"], ["y"], body, [helper.make_opsetid("", OPSET)])
        call = node("Two_v1", ["x"], ["y"], "call", domain="walt")
        return graph_model([call], [value("x")], [value("y")], functions=[function])

    assert check_operators(model_of("Abs")) == 3
    assert "1 of 3 nodes: second (Hardmax in function walt::Two_v1)" in refusal(model_of("Hardmax"))


def test_branches_inside_functions_are_walked() -> None:
    body = with_if(node("Hardmax", ["x"], ["a"], "deep"))
    function = helper.make_function("walt", "Two_v1", ["x", "c"], ["y"], body, [helper.make_opsetid("", OPSET)])
    call = node("Two_v1", ["x", "c"], ["y"], "call", domain="walt")
    model = graph_model([call], [value("x"), value("c", BOOL, ())], [value("y")], functions=[function])
    assert "deep (Hardmax in then_branch of choose in function walt::Two_v1)" in refusal(model)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (DOUBLE, "x is double"),
        (TensorProto.UINT16, "x is uint16"),
        (INT8, "x is int8"),
        (UINT8, "x is uint8, which only the input may be, with a Cast right behind it"),
        (TensorProto.COMPLEX64, "x is complex64"),
        (STRING, "x is string"),
    ],
)
def test_types_that_tensorrt_does_not_take(kind: int, words: str) -> None:
    found = refusal(graph_model([node("Identity", ["x"], ["y"], "id")], [value("x", kind)], [value("y", kind)]))
    assert f"1 of 1 nodes: id (Identity): {words}" in found


def test_what_comes_of_an_offence_is_an_offence_too() -> None:
    nodes = [node("Cast", ["x"], ["d"], "to", to=DOUBLE), node("Sqrt", ["d"], ["r"], "root")]
    nodes.append(node("Cast", ["r"], ["y"], "back", to=FLOAT))
    words = refusal(graph_model(nodes, [value("x")], [value("y")]))
    assert "3 of 3 nodes: to (Cast): d is double" in words
    assert "also root (Sqrt), back (Cast)" in words


def test_uint8_is_taken_at_the_input_with_a_cast_behind_it() -> None:
    good = graph_model([node("Cast", ["x"], ["y"], to=FLOAT)], [value("x", UINT8)], [value("y")])
    assert check_operators(good) == 1
    moved = [node("Transpose", ["x"], ["t"], "turn", perm=[1, 0]), node("Cast", ["t"], ["y"], "cast", to=FLOAT)]
    words = refusal(graph_model(moved, [value("x", UINT8, (2, 3))], [value("y", shape=(3, 2))]))
    assert "2 of 2 nodes: turn (Transpose): x is uint8" in words


def test_a_uint8_constant_is_refused() -> None:
    stored = constant("w.stored", 1, 2, 3, 4, kind=np.uint8)
    nodes = [node("Cast", ["w.stored"], ["w"], "widen", to=FLOAT), node("Add", ["x", "w"], ["y"])]
    words = refusal(graph_model(nodes, [value("x")], [value("y")], constants=[stored]))
    assert "1 of 2 nodes: widen (Cast): w.stored is uint8" in words


@pytest.mark.parametrize(
    ("operator", "kind", "fine"),
    [
        ("Sqrt", FLOAT, True),
        ("Relu", INT64, True),
        ("NonZero", BOOL, False),
        ("Ceil", DOUBLE, False),
        ("Not", BOOL, True),
    ],
)
def test_types_are_held_by_operator(operator: str, kind: int, fine: bool) -> None:
    out = value("y", INT64, (1, "n")) if operator == "NonZero" else value("y", kind)
    model = graph_model([node(operator, ["x"], ["y"], "it")], [value("x", kind)], [out])
    if fine:
        assert check_operators(model) == 1
    else:
        assert "it (" in refusal(model)


def test_indices_and_conditions_are_not_data() -> None:
    nodes = [
        node("Gather", ["x", "i"], ["g"]),
        node("Greater", ["g", "g"], ["c"]),
        node("Where", ["c", "g", "g"], ["y"]),
    ]
    assert check_operators(graph_model(nodes, [value("x"), value("i", INT64)], [value("y")])) == 3


def pool(**attributes: Any) -> onnx.ModelProto:
    pooled = node("MaxPool", ["x"], ["y"], "it", kernel_shape=[2, 2], **attributes)
    return graph_model([pooled], [value("x", shape=(1, 1, 8, 8))], [value("y", shape=(1, 1, "h", "w"))])


def topk(most: int, **attributes: Any) -> onnx.ModelProto:
    best = node("TopK", ["x", "k"], ["y", "i"], "it", **attributes)
    outputs = [value("y", shape=("k",)), value("i", INT64, ("k",))]
    return graph_model([best], [value("x", shape=(5000,))], outputs, constants=[constant("k", most)])


def resized(**attributes: Any) -> onnx.ModelProto:
    scales = constant("s", 1, 1, 2, 2, kind=np.float32)
    larger = node("Resize", ["x", "", "s"], ["y"], "it", **attributes)
    shape = value("y", shape=(1, 1, 16, 16))
    return graph_model([larger], [value("x", shape=(1, 1, 8, 8))], [shape], constants=[scales])


def summed(constant_axes: bool) -> onnx.ModelProto:
    inputs = [value("x")] if constant_axes else [value("x"), value("a", INT64, (1,))]
    constants = [constant("a", 0)] if constant_axes else []
    total = node("ReduceSum", ["x", "a"], ["y"], "it", keepdims=0)
    return graph_model([total], inputs, [value("y", shape=())], constants=constants)


def scattered(reduction: str) -> onnx.ModelProto:
    put = node("ScatterND", ["x", "i", "u"], ["y"], "it", reduction=reduction)
    inputs = [value("x"), value("i", INT64, (2, 1)), value("u", shape=(2,))]
    return graph_model([put], inputs, [value("y")])


def quantised(zero: int, kind: Any = np.int8) -> onnx.ModelProto:
    constants = [constant("s", 0.1, kind=np.float32), constant("z", zero, kind=kind)]
    constants = [numpy_helper.from_array(numpy_helper.to_array(one).reshape(()), one.name) for one in constants]
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"], "it"),
        node("DequantizeLinear", ["q", "s", "z"], ["y"], "back"),
    ]
    return graph_model(nodes, [value("x")], [value("y")], constants=constants)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        pytest.param(pool(), "", id="pool"),
        pytest.param(pool(dilations=[1, 1]), "", id="pool-undilated"),
        pytest.param(pool(dilations=[2, 2]), "dilations is 2, 2, only 1 will do", id="pool-dilated"),
        pytest.param(topk(3839), "", id="k"),
        pytest.param(topk(3840), "K is 3840, it must be below 3840: take fewer", id="k-too-many"),
        pytest.param(topk(5, sorted=0), "sorted is 0, only 1", id="k-unsorted"),
        pytest.param(resized(mode="linear"), "", id="resize"),
        pytest.param(resized(mode="cubic"), "mode is cubic, only linear, nearest", id="resize-cubic"),
        pytest.param(summed(True), "", id="sum"),
        pytest.param(summed(False), "its input a is known only when it runs: make it a constant", id="sum-axes"),
        pytest.param(scattered("none"), "", id="scatter"),
        pytest.param(scattered("add"), "reduction is add, only none", id="scatter-add"),
        pytest.param(quantised(0), "", id="int8"),
        pytest.param(quantised(3), "its zero point is not 0: quantise symmetrically", id="int8-asymmetric"),
        pytest.param(quantised(0, np.uint8), "it quantises to uint8: quantise symmetrically", id="uint8"),
    ],
)
def test_limits_of_operators(model: onnx.ModelProto, words: str) -> None:
    onnx.checker.check_model(model, full_check=True)
    if words:
        assert f"it ({model.graph.node[0].op_type}): {words}" in refusal(model)
    else:
        assert check_operators(model) == len(model.graph.node)


def test_a_pool_over_one_dimension_is_refused() -> None:
    pooled = node("AveragePool", ["x"], ["y"], "it", kernel_shape=[2])
    words = refusal(graph_model([pooled], [value("x", shape=(1, 1, 8))], [value("y", shape=(1, 1, 7))]))
    assert "it (AveragePool): its input has 3 dimensions, only 4 or 5 will do" in words


@pytest.mark.parametrize(("rank", "fine"), [(8, True), (9, False)])
def test_tensors_have_eight_dimensions_at_most(rank: int, fine: bool) -> None:
    shape = (1,) * rank
    model = graph_model([node("Relu", ["x"], ["y"], "it")], [value("x", shape=shape)], [value("y", shape=shape)])
    if fine:
        assert check_operators(model) == 1
    else:
        assert "it (Relu): x has 9 dimensions, 8 at most will do" in refusal(model)


def test_indices_of_a_pool_are_refused() -> None:
    model = pool()
    model.graph.node[0].output.append("i")
    model.graph.output.append(value("i", INT64, (1, 1, "h", "w")))
    assert "its second output is used" in refusal(model)


def test_branches_with_outputs_of_one_name_are_refused() -> None:
    branches = [helper.make_graph([node("Relu", ["x"], ["a"])], name, [], [value("a")]) for name in ("t", "e")]
    choose = node("If", ["c"], ["y"], "choose", then_branch=branches[0], else_branch=branches[1])
    words = refusal(graph_model([choose], [value("c", BOOL, ()), value("x")], [value("y")]))
    assert "choose (If): both branches call an output a" in words


@pytest.mark.parametrize("opset", [8, 25])
def test_an_opset_that_tensorrt_does_not_read_is_refused(opset: int) -> None:
    model = graph_model([node("Relu", ["x"], ["y"])], [value("x")], [value("y")], opset=opset)
    assert f"of opset {opset}, TensorRT takes 9 to 24" in refusal(model)
