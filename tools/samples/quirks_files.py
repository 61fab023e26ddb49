"""Sample models, one per way in which a file itself is odd: where weights lie, names, order, If."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from tools.samples.graph_builder import (
    BOOL,
    FLOAT,
    Net,
    quirk,
    rename_tensors,
    reverse_nodes,
    uniform,
    weights_to_constants,
    weights_to_inputs,
)


def _small_cnn(name: str, opset: int = 17, ir: int = 8) -> Net:
    """Conv-BN-Relu, residual, pool, Gemm: the body for quirks that lie in the file."""
    net = Net(name, opset=opset, ir=ir)
    h = net.conv_bn_relu(net.input("x", "N", 3, "H", "W"), "conv1", 3, 8)
    h = net.op("Relu", net.op("Add", h, net.conv(h, "conv2", 8, 8)))
    return net.head(h, 8)


@quirk
def constant_nodes() -> onnx.ModelProto:
    """Every weight a Constant node; no initializer at all."""
    return weights_to_constants(_small_cnn("constant_nodes").model())


@quirk
def paddle_style() -> onnx.ModelProto:
    """Paddle2ONNX: Constant nodes, bias as [1,C,1,1] Add, h-swish as Add-Clip-Mul-Div."""
    net = Net("paddle_style", opset=11, ir=7)
    h = net.input("x", "N", 3, "H", "W")
    three, zero, six = (
        net.const(f"auto.constant.{k}", v, np.float32) for k, v in enumerate((3.0, 0.0, 6.0))
    )
    channels = 3
    for k, width in enumerate([8, 12]):
        h = net.bn(
            net.conv(h, f"conv2d_{k}", channels, width, bias=False), f"batch_norm_{k}", width
        )
        h = net.op("Identity", net.op("Add", h, net.draw(f"p2o.bias.{k}", 1, width, 1, 1)))
        clip = net.op("Clip", net.op("Add", h, three), zero, six)
        h = net.op("Div", net.op("Mul", h, clip), six)
        h = net.op("Mul", h, net.draw(f"lab_{k}.scale", 1, low=0.5, high=1.5))
        channels = width
    return weights_to_constants(net.head(h, 12).model())


@quirk
def identity_bias() -> onnx.ModelProto:
    """One bias shared by three Convs, twice through an Identity, as exporters de-duplicate it."""
    net = Net("identity_bias")
    h = net.input("x", "N", 3, "H", "W")
    shared = net.draw("conv0.bias", 8)
    for k, channels in enumerate([3, 8, 8]):
        w = net.weight(f"conv{k}.weight", 8, channels, 3, 3, fan_in=channels * 9)
        bias = net.op("Identity", shared) if k else shared
        h = net.op("Relu", net.op("Conv", h, w, bias, at=f"conv{k}", pads=[1] * 4))
    return net.head(h, 8).model()


@quirk
def weights_behind_nodes() -> onnx.ModelProto:
    """Weights behind Identity, Transpose, Cast (from float16) and Reshape."""
    net = Net("weights_behind_nodes")
    x = net.input("x", "N", 3, "H", "W")
    w = net.weight("conv1.weight", 3, 3, 3, 8, fan_in=27)
    w = net.op("Transpose", net.op("Identity", w), perm=[3, 2, 0, 1])
    h = net.op("Relu", net.op("Conv", x, w, net.draw("conv1.bias", 8), at="conv1", pads=[1] * 4))
    values = uniform("weights_behind_nodes/conv2.weight", (10, 8, 3, 3), -0.3, 0.3)
    half = net.const("conv2.weight", values, np.float16)
    w = net.op("Cast", half, to=FLOAT)
    h = net.op("Relu", net.op("Conv", h, w, at="conv2", pads=[1] * 4))
    flat = net.weight("conv3.weight", 9, 10 * 9, fan_in=90)
    w = net.op("Reshape", flat, net.const("conv3.shape", [9, 10, 3, 3]))
    h = net.op("Relu", net.op("Conv", h, w, at="conv3", pads=[1] * 4))
    h = net.op("Flatten", net.op("GlobalAveragePool", h))
    w = net.op("Transpose", net.weight("fc1.weight", 12, 9, fan_in=9), perm=[1, 0])
    h = net.op("Relu", net.op("Add", net.op("MatMul", h, w, at="fc1"), net.draw("fc1.bias", 12)))
    return net.output("logits", net.gemm(h, "fc", 12, 5), "N", 5).model()


@quirk
def zero_bias_computed() -> onnx.ModelProto:
    """dynamo without optimisation: a zero bias computed from the weight's own Shape by Expand."""
    net = Net("zero_bias_computed", opset=18)
    h = net.input("x", "N", 3, "H", "W")
    for k, (a, b) in enumerate([(3, 8), (8, 10)]):
        w = net.weight(f"conv{k}.weight", b, a, 3, 3, fan_in=a * 9)
        size = net.op("Shape", w, start=0, end=1)
        zero = net.op("CastLike", net.op("Expand", net.const("zero", 0.0, np.float32), size), h)
        bias = net.op("Expand", zero, size)
        h = net.op("Relu", net.op("Conv", h, w, bias, at=f"conv{k}", pads=[1] * 4))
    return net.head(h, 10).model()


@quirk
def inputs_ir3() -> onnx.ModelProto:
    """IR version 3, opset 8: every initializer is a graph input as well."""
    return weights_to_inputs(_small_cnn("inputs_ir3", opset=8, ir=3).model())


@quirk
def unsorted_nodes() -> onnx.ModelProto:
    """Nodes stand in reverse order; onnxruntime accepts it, the checker does not."""
    return reverse_nodes(_small_cnn("unsorted_nodes").model())


@quirk
def unnamed_nodes() -> onnx.ModelProto:
    """No node has a name, and tensors are called by bare numbers."""
    model = _small_cnn("unnamed_nodes").model()
    for node in model.graph.node:
        node.ClearField("name")
    tensors = [name for node in model.graph.node for name in node.output]
    numbers = {name: str(100 + k) for k, name in enumerate(tensors) if name != "logits"}
    return rename_tensors(model, numbers)


@quirk
def odd_names() -> onnx.ModelProto:
    """Names with spaces, colons, quotes, unicode and prefixes of each other; a JSON output name."""
    model = _small_cnn("odd_names").model()
    for node in model.graph.node:
        node.name = node.name.replace("/", "layer:")
    names = {
        "x": "input:0",
        "logits": '{"1": "five classes"}',
        "conv1.conv.weight": "scope / first conv:weight [8×3×3×3]",
        "conv2.weight": 'second.conv\'s "weight"',
        "fc.bias": "42",
    }
    return rename_tensors(model, names)


@quirk
def if_captured() -> onnx.ModelProto:
    """An If whose branches capture the outer weights and activation by name."""
    net = Net("if_captured")
    x = net.input("x", "N", 3, "H", "W")
    flag = net.input("flag", kind=BOOL)
    h = net.conv_bn_relu(x, "conv1", 3, 8)
    w, b = net.weight("conv2.weight", 10, 8, 3, 3, fan_in=72), net.draw("conv2.bias", 10)
    branches = {}
    for key, inner in (("then_branch", "Relu"), ("else_branch", "Tanh")):
        nodes = [
            helper.make_node("Conv", [h, w, b], [f"{key}/c"], name=f"/{key}/Conv", pads=[1] * 4),
            helper.make_node(inner, [f"{key}/c"], [f"{key}/y"], name=f"/{key}/{inner}"),
        ]
        result = helper.make_tensor_value_info(f"{key}/y", FLOAT, ["N", 10, "H", "W"])
        branches[key] = helper.make_graph(nodes, key, [], [result])
    return net.head(net.op("If", flag, **branches), 10).model()


@quirk
def stale_metadata() -> onnx.ModelProto:
    """value_info for inner tensors, metadata_props, doc strings and an unused opset import."""
    model = _small_cnn("stale_metadata").model()
    model = onnx.shape_inference.infer_shapes(model)
    helper.set_model_props(model, {"author": "onnx-net2net", "note": "to be kept"})
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model.graph.node[0].doc_string = "first convolution"
    model.graph.initializer[0].doc_string = "its weight"
    return model


@quirk
def fixed_batch() -> onnx.ModelProto:
    """All dimensions fixed, with the batch size baked into a Reshape."""
    net = Net("fixed_batch")
    h = net.conv_bn_relu(net.input("x", 2, 3, 8, 8), "conv1", 3, 8)
    h = net.op("Reshape", h, net.const("shape", [2, 8, 64]))
    h = net.op("ReduceMean", h, axes=[2], keepdims=0)
    return net.output("logits", net.gemm(h, "fc", 8, 5), 2, 5).model()
