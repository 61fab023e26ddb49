"""Sample models, one per kind of control flow: branches, loops, sequences, functions."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from tools.samples.graph_builder import BOOL, FLOAT, INT64, Net, quirk


def _body(net: Net, *inputs: tuple[str, int, tuple[int | str, ...]]) -> Net:
    """A graph inside `net`: it draws weights of its own and reads those outside by name."""
    inner = Net(f"{net.name}_body", net.opset)
    inner.inputs = [helper.make_tensor_value_info(n, kind, shape) for n, kind, shape in inputs]
    return inner


def _ends(body: Net, *outputs: tuple[str, int, tuple[int | str, ...]]) -> onnx.GraphProto:
    body.outputs = [helper.make_tensor_value_info(n, kind, shape) for n, kind, shape in outputs]
    return body.graph()


def _linear(net: Net, x: str, at: str, a: int, b: int) -> str:
    y = net.op("MatMul", x, net.weight(f"{at}.weight", a, b, fan_in=2 * a), at=at)
    result: str = net.op("Add", y, net.draw(f"{at}.bias", b), at=at)
    return result


@quirk
def if_two_branches() -> onnx.ModelProto:
    """An If whose branches own weights or read them from outside, and return one width."""
    net = Net("if_two_branches")
    x = net.input("x", "N", 3, "H", "W")
    fast = net.input("fast", kind=BOOL)
    h = net.conv_bn_relu(x, "stem", 3, 8)
    shared = net.weight("shared.weight", 10, 8, 3, 3, fan_in=72)
    graphs = []
    for name in ("then", "else"):
        body = _body(net)
        if name == "then":
            y = body.op("Conv", h, shared, at=name, kernel_shape=[3, 3], pads=[1] * 4)
        else:
            wide = body.op("Relu", body.conv(h, "else.wide", 8, 12), at=name)
            y = body.conv(wide, "else.narrow", 12, 10, 1)
        y = body.op("Relu", y, at=f"{name}/out")
        graphs.append(_ends(body, (y, FLOAT, ("N", 10, "H", "W"))))
    y = net.op("If", fast, then_branch=graphs[0], else_branch=graphs[1])
    return net.head(net.conv_bn_relu(y, "after", 10, 6), 6).model()


@quirk
def loop_state() -> onnx.ModelProto:
    """A Loop that carries a hidden state and, as state that never changes, its weight."""
    net = Net("loop_state")
    x = net.input("x", "N", 5)
    h = net.op("Tanh", net.gemm(x, "start", 5, 8), at="start")
    w = net.weight("cell.weight", 8, 8, fan_in=16)
    body = _body(
        net, ("i", INT64, ()), ("go", BOOL, ()), ("state", FLOAT, ("N", 8)),
        ("held_weight", FLOAT, (8, 8)),
    )  # fmt: skip
    y = body.op("MatMul", "state", "held_weight", at="cell")
    y = body.op("Tanh", body.op("Add", y, body.draw("cell.bias", 8), at="cell"), at="cell")
    seen = _linear(body, y, "readout", 8, 4)
    on, kept = body.op("Identity", "go", at="cell"), body.op("Identity", "held_weight", at="cell")
    graph = _ends(
        body, (on, BOOL, ()), (y, FLOAT, ("N", 8)), (kept, FLOAT, (8, 8)), (seen, FLOAT, ("N", 4))
    )
    turns, yes = net.const("turns", 4), net.const("yes", True, np.bool_)
    last, _, steps = net.op("Loop", turns, yes, h, w, n=3, body=graph)
    scores = net.gemm(last, "fc", 8, 5)
    net.output("steps", net.op("Relu", _linear(net, steps, "stacked", 4, 3)), "T", "N", 3)
    return net.output("logits", scores, "N", 5).model()


@quirk
def scan_rnn_cell() -> onnx.ModelProto:
    """A Scan over time with the cell's weights outside its body and an initial state of zeros."""
    net = Net("scan_rnn_cell")
    x = net.input("x", "T", "N", 6)
    w_in = net.weight("cell.weight_ih", 6, 8, fan_in=12)
    w_back = net.weight("cell.weight_hh", 8, 8, fan_in=16)
    bias = net.draw("cell.bias", 8)
    body = _body(net, ("before", FLOAT, ("N", 8)), ("x_t", FLOAT, ("N", 6)))
    total = body.op("Add", body.op("MatMul", "x_t", w_in, at="cell/ih"), bias, at="cell")
    total = body.op("Add", total, body.op("MatMul", "before", w_back, at="cell/hh"), at="cell")
    h = body.op("Tanh", total, at="cell")
    again = body.op("Identity", h, at="cell")
    graph = _ends(body, (h, FLOAT, ("N", 8)), (again, FLOAT, ("N", 8)))
    size = net.op("Concat", net.dim(x, 1), net.const("width", [8]), axis=0)
    zeros = net.op("ConstantOfShape", size)
    last, states = net.op("Scan", zeros, x, n=2, num_scan_inputs=1, body=graph)
    every = _linear(net, states, "every", 8, 4)
    net.output("frames", every, "T", "N", 4)
    return net.output("logits", net.gemm(last, "fc", 8, 5), "N", 5).model()


@quirk
def sequence_split() -> onnx.ModelProto:
    """SplitToSequence and SequenceAt as torch writes chunk, and a sequence built and joined."""
    net = Net("sequence_split")
    h = net.conv_bn_relu(net.input("x", "N", 3, "H", "W"), "stem", 3, 12)
    parts = net.op("SplitToSequence", h, net.const("six", 6), axis=1)
    a, b = (
        net.op("SequenceAt", parts, net.const(f"at_{k}", k)) for k in (0, -1)
    )  # fmt: skip
    gated = net.op("Mul", net.op("Sigmoid", a), b)
    left, right = net.conv(gated, "left", 6, 5), net.conv(gated, "right", 6, 7)
    built = net.op("SequenceConstruct", left, right)
    joined = net.op("Relu", net.op("ConcatFromSequence", built, axis=1))
    return net.head(net.conv(joined, "after", 12, 6), 6).model()


def _function(
    name: str, inputs: list[str], outputs: list[str], nodes: list[onnx.NodeProto],
    attributes: list[str] | None = None,
) -> onnx.FunctionProto:  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    return helper.make_function(
        "local", name, inputs, outputs, nodes, opsets, attributes=attributes or []
    )


@quirk
def function_calls() -> onnx.ModelProto:
    """Local functions: called twice, nested, with attributes, with a weight of their own."""
    net = Net("function_calls")
    x = net.input("x", "N", 3, "H", "W")
    leak = helper.make_node("LeakyRelu", ["a"], ["b"], name="leak")
    leak.attribute.append(
        onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    )
    conv = helper.make_node("Conv", ["a", "w"], ["c"], name="conv", pads=[1] * 4)
    act = helper.make_node("act", ["c"], ["d"], name="act", domain="local", slope=0.1)
    inner = Net("function_calls")
    inner.weight("mix.weight", 8, 8, 1, 1, fan_in=8)
    mix_w = helper.make_node("Constant", [], ["m"], value=inner.weights["mix.weight"])
    mix = helper.make_node("Conv", ["a", "m"], ["b"], name="mix")
    functions = [
        _function("act", ["a"], ["b"], [leak], ["slope"]),
        _function("block", ["a", "w"], ["d"], [conv, act]),
        _function("mixed", ["a"], ["b"], [mix_w, mix]),
    ]
    h = net.op("block", x, net.weight("block1.weight", 8, 3, 3, 3, fan_in=27), at="block1",
               domain="local")  # fmt: skip
    h = net.op("mixed", h, at="mix1", domain="local")
    h = net.op("act", h, at="act1", domain="local", slope=0.3)
    h = net.op("mixed", h, at="mix2", domain="local")
    h = net.op("block", h, net.weight("block2.weight", 10, 8, 3, 3, fan_in=72), at="block2",
               domain="local")  # fmt: skip
    model = net.head(h, 10).model()
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.functions.extend(functions)
    return model
