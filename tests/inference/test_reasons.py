"""Why a node's axes cannot be told follows from types, not from what things are called."""

from __future__ import annotations

import onnx
import pytest
from onnx import helper

from onnx_net2net.errors import ModelError, Reason, Refusal, RefusalError
from onnx_net2net.files.reader import read
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.inference.validity import checked

NAMES = ("/head/Slice", "/head/Reshape_slice", "run time", "shape: a b", "x: y")


def _model(node: onnx.NodeProto, *inputs: str, **shapes: list[int | str]) -> onnx.ModelProto:
    whole = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 8])
    ends = [helper.make_tensor_value_info(n, onnx.TensorProto.INT64, shapes[n]) for n in inputs]
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", [whole, *ends], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def _refusal(model: onnx.ModelProto) -> Refusal:
    analysis = Analysis(read(model))
    with pytest.raises(RefusalError) as found:
        analysis.factors(analysis.model.nodes[-1])
    return found.value.refusal


@pytest.mark.parametrize("name", NAMES)
def test_a_slice_at_computed_bounds(name: str) -> None:
    node = helper.make_node("Slice", ["x", "a", "b"], ["y"], name=name)
    found = _refusal(_model(node, "a", "b", a=[1], b=[1]))
    assert found.reason is Reason.RUNTIME
    assert "--shape" not in found.hint


@pytest.mark.parametrize("name", NAMES)
def test_a_shape_that_is_not_known(name: str) -> None:
    made = helper.make_node("Squeeze", ["x", "a"], ["r"])
    model = _model(made, "a", a=[1])
    model.graph.node.append(helper.make_node("Softmax", ["r"], ["y"], name=name))
    found = _refusal(model)
    assert found.reason is Reason.UNKNOWN_SHAPE
    assert "--shape" in found.hint


@pytest.mark.parametrize("name", NAMES)
def test_a_node_that_fits_no_size_is_named(name: str) -> None:
    node = helper.make_node("MatMul", ["x", "x"], ["y"], name=name)
    model = _model(node)
    del model.graph.input[0].type.tensor_type.shape.dim[:]
    for size in (3, 8):
        model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = size
    source = read(model)
    with pytest.raises(ModelError, match=f"node '{name}' is not valid"):
        checked(source, Analysis(source).model)


def test_a_row_that_takes_no_axis_works_across() -> None:
    node = helper.make_node("BeamSearch", ["x"], ["y"], domain="com.microsoft", name="shape")
    model = _model(node)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert _refusal(model).reason is Reason.ACROSS
