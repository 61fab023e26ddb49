"""`to_graphsurgeon`: the graph, and what it says is lost against what an export really lacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

import onnx_net2net as n2n
from onnx_net2net.files.graphsurgeon import Lost, to_graphsurgeon
from onnx_net2net.files.output_form import ExternalData, LinkedToTeacher

MODELS = Path(__file__).parents[2] / "models"
TEXT = """<ir_version: 10, opset_import: ["" : 18, "own" : 1]>
g (float[N, 2] x) => (float[N, 2] y) <float[N, 2] h, float[2] w = {1.0, 2.0}>
{ h = Mul (x, w)  y = own.Twice (h) }
<domain: "own", opset_import: ["" : 18]>
Twice (a) => (b) { c = Elu <alpha: float = 2.0> (a)  b = Add (c, c) }"""


def model() -> ModelProto:
    return onnx.parser.parse_model(TEXT)


def fields(m: ModelProto) -> set[str]:
    return {one.field for one in to_graphsurgeon(m).lost}


def test_what_it_carries_is_not_said_to_be_lost() -> None:
    graph, lost = to_graphsurgeon(model())
    assert lost == ()
    assert [n.op for n in graph.nodes] == ["Mul", "Twice"]
    onnx.checker.check_model(gs.export_onnx(graph), full_check=True)


def overload(m: ModelProto) -> None:
    m.functions[0].overload = m.graph.node[1].overload = "float"


def unused(m: ModelProto) -> None:
    m.graph.initializer.append(numpy_helper.from_array(np.zeros(2, np.float32), "unused"))


def also_input(m: ModelProto) -> None:
    m.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [2]))


def props(of: Callable[[ModelProto], Any]) -> Callable[[ModelProto], Any]:
    return lambda m: of(m).metadata_props.add(key="author", value="me")


def doc(of: Callable[[ModelProto], Any]) -> Callable[[ModelProto], Any]:
    return lambda m: setattr(of(m), "doc_string", "why")


LOSSES: dict[str, Callable[[ModelProto], Any]] = {
    "doc_string": doc(lambda m: m),
    "domain": lambda m: setattr(m, "domain", "org.example"),
    "model_version": lambda m: setattr(m, "model_version", 3),
    "metadata_props": props(lambda m: m),
    "training_info": lambda m: m.training_info.add(),
    "graph.metadata_props": props(lambda m: m.graph),
    "graph.quantization_annotation": lambda m: m.graph.quantization_annotation.add(tensor_name="w"),
    "graph.node.doc_string": doc(lambda m: m.graph.node[0]),
    "graph.node.metadata_props": props(lambda m: m.graph.node[0]),
    "graph.node.overload": overload,
    "graph.input.doc_string": doc(lambda m: m.graph.input[0]),
    "graph.input.metadata_props": props(lambda m: m.graph.input[0]),
    "graph.output.doc_string": doc(lambda m: m.graph.output[0]),
    "graph.value_info.doc_string": doc(lambda m: m.graph.value_info[0]),
    "graph.input.type.denotation": lambda m: setattr(m.graph.input[0].type, "denotation", "IMAGE"),
    "graph.input.type.tensor_type.shape.dim.denotation": lambda m: setattr(
        m.graph.input[0].type.tensor_type.shape.dim[0], "denotation", "DATA_BATCH"
    ),
    "graph.initializer": unused,
    "graph.input": also_input,
    "functions": overload,
    "functions.metadata_props": props(lambda m: m.functions[0]),
    "functions.node.doc_string": doc(lambda m: m.functions[0].node[0]),
    "functions.node.attribute.doc_string": doc(lambda m: m.functions[0].node[0].attribute[0]),
    "functions.value_info": lambda m: m.functions[0].value_info.add(name="c"),
}


@pytest.mark.parametrize("field", LOSSES)
def test_what_an_export_lacks_is_said(field: str) -> None:
    m = model()
    LOSSES[field](m)
    before = m.SerializeToString(deterministic=True)
    graph, lost = to_graphsurgeon(m)
    overloaded = {"functions", "graph.node.overload"}
    assert {one.field for one in lost} == (overloaded if field in overloaded else {field})
    assert m.SerializeToString(deterministic=True) == before
    back = gs.export_onnx(graph)
    *path, last = field.split(".")
    for old, new in zip(elements(m, path), elements(back, path), strict=False):
        if getattr(old, last) != getattr(new, last):
            return
    pytest.fail(f"{field} is there after all")


def elements(message: Any, path: list[str]) -> list[Any]:
    """All messages at a path of fields."""
    for name in path[:1]:
        found = getattr(message, name)
        inner = [found] if hasattr(found, "DESCRIPTOR") else list(found)
        return [e for i in inner for e in elements(i, path[1:])]
    return [message]


def test_weights_that_only_branches_read_move_there() -> None:
    (found,) = [one for one in n2n.to_graphsurgeon(MODELS / "if_captured.onnx").lost if one.where]
    assert found == Lost("graph.initializer", ("conv2.weight", "conv2.bias"))


def test_a_nan_is_no_loss() -> None:
    m = model()
    m.functions[0].node[0].attribute[0].f = float("nan")
    assert fields(m) == set()


def typed(kind: int, **data: Any) -> ModelProto:
    w = TensorProto(name="w", data_type=kind, dims=[2], **data)
    node = helper.make_node("Identity", ["w"], ["y"])
    out = helper.make_tensor_value_info("y", kind, [2])
    return helper.make_model(helper.make_graph([node], "g", [], [out], [w]), ir_version=11)


@pytest.mark.parametrize(
    ("kind", "data", "kept"),
    [
        (TensorProto.FLOAT, {"float_data": [1, float("nan")]}, True),
        (TensorProto.BFLOAT16, {"raw_data": b"\x80\x3f\x80\x3f"}, True),
        (TensorProto.FLOAT8E4M3FN, {"raw_data": b"\x38\x39"}, True),
        (TensorProto.FLOAT8E4M3FNUZ, {"raw_data": b"\x38\x39"}, False),
        (TensorProto.INT4, {"raw_data": b"\x21"}, False),
        (TensorProto.STRING, {"string_data": [b"a", b"b"]}, False),
    ],
)
def test_types_that_do_not_bear_reading(kind: int, data: dict[str, Any], kept: bool) -> None:
    m = typed(kind, **data)
    graph, lost = to_graphsurgeon(m)
    assert lost == (() if kept else (Lost("graph.initializer", ("w",), once_read=True),))
    assert gs.export_onnx(graph).graph.initializer[0] == m.graph.initializer[0]  # unread: as it was


def test_what_a_weight_says_of_itself_goes_once_it_is_read() -> None:
    m = model()
    m.graph.initializer[0].doc_string = "learned"
    graph, lost = to_graphsurgeon(m)
    assert lost == (Lost("graph.initializer.doc_string", ("w",), once_read=True),)
    assert str(lost[0]) == "graph.initializer.doc_string once .values is read: w"
    assert gs.export_onnx(graph).graph.initializer[0].doc_string == "learned"
    assert graph.tensors()["w"].values.shape == (2,)
    assert not gs.export_onnx(graph).graph.initializer[0].doc_string


def test_what_it_cannot_hold_at_all_is_an_error() -> None:
    m = model()
    m.graph.node[0].attribute.add(name="tag", type=onnx.AttributeProto.STRING, s=b"\xff")
    with pytest.raises(n2n.ModelError, match="edit its ModelProto instead"):
        to_graphsurgeon(m)


def test_weights_come_along_from_wherever_they_lie(tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.onnx"
    teacher.write_bytes((MODELS / "digits_cnn.onnx").read_bytes())
    made = n2n.plan(teacher, [{"node": "conv1", "ratio": 1.5}])
    inside = gs.export_onnx(to_graphsurgeon(made.apply()).graph)
    outside = ExternalData(tmp_path / "outside.onnx")
    linked = LinkedToTeacher(tmp_path / "linked.onnx", made.source)
    for form in (outside, linked):
        found = gs.export_onnx(to_graphsurgeon(made.apply(form, verify="off")).graph)
        assert found.graph.initializer == inside.graph.initializer
    assert n2n.verify(teacher, to_graphsurgeon(made.pieces).graph)
