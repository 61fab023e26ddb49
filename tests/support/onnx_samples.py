"""Models in all the forms that a file can have, for the tests of reading and writing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_net2net.files.protobuf import varint

RNG = np.random.default_rng(0)
BIG = RNG.standard_normal((40, 40)).astype(np.float32)
RELU = helper.make_node("Relu", ["x"], ["y"], name="new")
W = numpy_helper.from_array(BIG, "w")


def graph_of(*nodes: onnx.NodeProto, weights: tuple[TensorProto, ...] = (W,)) -> onnx.GraphProto:
    value = helper.make_tensor_value_info
    infos = [value(f"v{i}", TensorProto.FLOAT, [i]) for i in range(4)]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:2], weights, value_info=infos)
    graph.metadata_props.add(key="k", value="v")
    return graph


def model_of(*nodes: onnx.NodeProto, weights: tuple[TensorProto, ...] = (W,)) -> ModelProto:
    model = helper.make_model(graph_of(*nodes, weights=weights))
    model.metadata_props.add(key="author", value="someone")
    return model


def plain() -> bytes:
    nodes = [helper.make_node("MatMul", [f"v{i}", "w"], [f"v{i + 1}"]) for i in range(5)]
    return model_of(
        *nodes, weights=(W, numpy_helper.from_array(BIG[:3], "small"), W)
    ).SerializeToString()


def nested() -> bytes:
    constant = helper.make_node("Constant", [], ["c"], value=W)
    inner = graph_of(constant, RELU)
    loop = helper.make_node("Loop", ["n", "c"], ["o"], body=graph_of(constant))
    branch = helper.make_node(
        "If", ["x"], ["y"], then_branch=inner, else_branch=graph_of(loop, RELU)
    )
    return model_of(RELU, branch, constant).SerializeToString()


def functions() -> bytes:
    model = model_of(RELU)
    constant = helper.make_node("Constant", [], ["c"], value=W)
    for name in ("f", "h"):
        opset = [helper.make_opsetid("", 20)]
        model.functions.append(helper.make_function("d", name, [], ["c"], [constant, RELU], opset))
    return model.SerializeToString()


def sparse() -> bytes:
    model = model_of(RELU)
    values = numpy_helper.from_array(BIG.ravel(), "s")
    indices = numpy_helper.from_array(np.arange(1600), "i")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [9999]))
    return model.SerializeToString()


def typed_fields() -> bytes:
    kinds = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
    weights = [helper.make_tensor(f"w{k}", k, BIG.shape, BIG.ravel().tolist()) for k in kinds]
    weights.append(helper.make_tensor("i", TensorProto.INT64, [1800], range(-900, 900)))
    weights[0].data_location = TensorProto.DEFAULT
    return model_of(RELU, weights=tuple(weights)).SerializeToString()


def not_utf8() -> bytes:
    node = helper.make_node("Custom", [], ["y"], domain="d", s=b"\xff\xfe" * 600, t=W)
    node.attribute[0].strings.extend([b"\x80", b""])
    return model_of(node).SerializeToString()


def unknown_fields() -> bytes:
    unknown = varint(999 << 3 | 2) + varint(5) + b"12345" + varint(1000 << 3) + b"\x07"
    inside = unknown + field(5, W.SerializeToString()) + field(1, b"")
    group = varint(1001 << 3 | 3) + inside + varint(1001 << 3 | 4)
    tensor = field(5, W.SerializeToString() + unknown)
    node = field(1, RELU.SerializeToString() + group)
    graph = field(7, group + node + tensor + tensor + node)
    return b"\x08\x09" + unknown + graph + group


def unsorted() -> bytes:
    """Fields out of order, the graph in two parts, its length longer than it need be."""
    raw = field(9, W.raw_data) + b"\x08\x28" + b"\x10\x01" + b"\x08\x28" + field(8, b"w")
    node = field(1, RELU.SerializeToString())
    first = field(7, field(5, raw) + node + field(2, b"g") + field(5, raw) + node)
    second = b"\x3a" + bytes([len(node) | 0x80, 0x80, 0x00]) + node
    return first + b"\x08\x09" + second + field(8, b"\x10\x14")


def field(number: int, body: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(body)) + body


MODELS: dict[str, Callable[[], bytes]] = {
    function.__name__: function
    for function in (
        plain,
        nested,
        functions,
        sparse,
        typed_fields,
        not_utf8,
        unknown_fields,
        unsorted,
    )
}
