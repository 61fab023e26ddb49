"""Edits of a model: names, constants, nodes, declared shapes, and what lies inside what."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import NodeProto

from onnx_net2net.files.patch import Insert, Splice, apply
from onnx_net2net.files.reader import read
from onnx_net2net.graph.editor import Editor, after
from onnx_net2net.graph.messages import edit_message
from onnx_net2net.graph.model import Model

TWO = """<ir_version: {ir}, opset_import: ["" : 13]> g (float[N, 2] x{more}) => (float[N, 2] y)
<float[N, 2] h, float[2] w = {{1.0, 2.0}}>
{{ h = Mul (x, w)  y = Relu (h) }}"""


def editor(ir: int = 8) -> Editor:
    text = TWO.format(ir=ir, more=", float[2] w" if ir < 4 else "")
    return Editor(Model(onnx.parser.parse_model(text)))


def edited(e: Editor) -> onnx.ModelProto:
    return apply(read(e.model.proto), e.patch()).to_proto()


@pytest.mark.parametrize("ir", [3, 8])
def test_a_new_constant_is_an_input_too_where_initializers_were(ir: int) -> None:
    e = editor(ir)
    name = e.constant(np.float32([3, 4]), "w")
    e.node(e.model.nodes[0]).input[1] = name
    made = edited(e)
    assert [t.name for t in made.graph.initializer] == ["w", "w_2"]
    listed = ["x", "w", "w_2"] if ir < 4 else ["x"]
    assert [i.name for i in made.graph.input] == listed
    onnx.checker.check_model(made, full_check=True)


def test_names_are_new_whatever_has_them() -> None:
    e = editor()
    assert [e.fresh(n) for n in ("y", "y", "h", "new")] == ["y_2", "y_3", "h_2", "new"]


def test_what_is_declared_follows_a_new_size() -> None:
    e = editor()
    e.replace(e.model.leaves["w"], np.float32([1, 2, 3]))
    for tensor in ("x", "h", "y"):
        e.resize(tensor, {1: 3})
    made = edited(e)
    onnx.checker.check_model(made, full_check=True)
    for info in (*made.graph.input, *made.graph.value_info, *made.graph.output):
        first, second = info.type.tensor_type.shape.dim
        assert (first.dim_param, second.dim_value) == ("N", 3)


def test_what_nobody_reads_any_more_is_left_out() -> None:
    e = editor()
    first, second = e.model.nodes
    e.drop_unread([first])
    assert [n.op_type for n in edited(e).graph.node] == ["Mul", "Relu"]
    e.node(second).input[0] = "x"
    e.drop_unread([first, second])  # the second makes the model's output
    assert [n.op_type for n in edited(e).graph.node] == ["Relu"]


def test_nodes_stand_where_they_are_put_in_order() -> None:
    e = editor()
    first, _ = e.model.nodes
    for k, path in enumerate((first.path, after(first.path), first.path)):
        e.insert(path, NodeProto(op_type="Neg", name=str(k), input=["x"], output=[f"n{k}"]))
    e.node(first).name = "first"
    assert [n.name for n in edited(e).graph.node] == ["0", "2", "first", "1", ""]


def test_several_edits_of_one_body_count_in_it_as_it_was() -> None:
    body = onnx.parser.parse_graph("b () => (float[1] z) { a = Neg (x)  c = Abs (a)  z = Exp (c) }")
    node = onnx.helper.make_node("If", ["p"], ["y"], then_branch=body)
    at = ("attribute", 0, "g", "node")
    new = [NodeProto(op_type="Sin"), NodeProto(op_type="Cos")]
    edits = [Insert((*at, 0), (new[0],)), Splice((*at, 1), (new[1],)), Splice((*at, 2))]
    edit_message(node, [(e.path, e) for e in edits])
    assert [n.op_type for n in node.attribute[0].g.node] == ["Sin", "Neg", "Cos"]
