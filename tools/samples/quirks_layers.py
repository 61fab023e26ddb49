"""Sample models, one per layer type: fully connected, convolutions, norms, activations, pools."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import ml_dtypes
import numpy as np
import onnx

from tools.samples.graph_builder import Net, quirk


@quirk
def mlp_gemm() -> onnx.ModelProto:
    """Gemm with transB 0 and 1, transA, alpha and beta, no bias, scalar and row bias."""
    net = Net("mlp_gemm")
    x = net.input("x", "N", 12)
    h = net.op("Relu", net.gemm(x, "fc1", 12, 20))
    w2 = net.weight("fc2.weight", 20, 16, fan_in=20)
    b2 = net.draw("fc2.bias", 1, 16)
    h = net.op("Tanh", net.op("Gemm", h, w2, b2, at="fc2", alpha=0.5, beta=2.0))
    w3 = net.weight("fc3.weight", 14, 16, fan_in=16)
    h = net.op("LeakyRelu", net.op("Gemm", h, w3, at="fc3", transB=1, alpha=1.5), alpha=0.1)
    h = net.op("Transpose", h, perm=[1, 0])
    w4 = net.weight("fc4.weight", 14, 10, fan_in=14)
    h = net.op("Sigmoid", net.op("Gemm", h, w4, net.draw("fc4.bias", 1), at="fc4", transA=1))
    return net.output("y", net.gemm(h, "fc5", 10, 4), "N", 4).model()


@quirk
def gemm_weight_left() -> onnx.ModelProto:
    """Gemm with its constant as the first operand (transA 0 and 1), units on rows."""
    net = Net("gemm_weight_left")
    x = net.input("x", 6, "N")
    w1 = net.weight("fc1.weight", 10, 6, fan_in=6)
    h = net.op("Relu", net.op("Gemm", w1, x, net.draw("fc1.bias", 10, 1), at="fc1"))
    w2 = net.weight("fc2.weight", 10, 4, fan_in=10)
    y = net.op("Gemm", w2, h, net.draw("fc2.bias", 4, 1), at="fc2", transA=1)
    return net.output("y", y, 4, "N").model()


@quirk
def mlp_tied_transpose() -> onnx.ModelProto:
    """One weight in two Gemms, once with transB=1 and once without: its axes swap roles."""
    net = Net("mlp_tied_transpose")
    x = net.input("x", "N", 12)
    h = net.op("Relu", net.gemm(x, "encoder", 12, 18))
    y = net.op("Gemm", h, "encoder.weight", net.draw("decoder.bias", 12), at="decoder")
    return net.output("y", y, "N", 12).model()


@quirk
def matmul_right() -> onnx.ModelProto:
    """Linear on rank 3: MatMul with the constant on the right, the bias as first operand of Add."""
    net = Net("matmul_right")
    h = net.input("x", "N", "S", 10)
    sizes = [10, 16, 12, 6]
    for k, (a, b) in enumerate(pairwise(sizes)):
        w = net.weight(f"onnx::MatMul_{10 + k}", a, b, fan_in=a)
        h = net.op(
            "Add", net.draw(f"fc{k}.bias", b), net.op("MatMul", h, w, at=f"fc{k}"), at=f"fc{k}"
        )
        if b != 6:
            h = net.op("Softplus", h)
    return net.output("y", h, "N", "S", 6).model()


@quirk
def matmul_left() -> onnx.ModelProto:
    """MatMul with the constant on the left: units lie on the axis before the last."""
    net = Net("matmul_left")
    x = net.input("x", "N", 10, "S")
    w1 = net.weight("mix1.weight", 14, 10, fan_in=10)
    h = net.op("Add", net.op("MatMul", w1, x, at="mix1"), net.draw("mix1.bias", 14, 1))
    w2 = net.weight("mix2.weight", 6, 14, fan_in=14)
    y = net.op("MatMul", w2, net.op("Relu", h), at="mix2")
    return net.output("y", y, "N", 6, "S").model()


@quirk
def conv1d() -> onnx.ModelProto:
    """Conv1d with dilation, strides and auto_pad, MaxPool over time, open length."""
    net = Net("conv1d")
    x = net.input("x", "N", 4, "T")
    h = net.conv_bn_relu(x, "block0", 4, 10, dims=1)
    h = net.conv_bn_relu(h, "block1", 10, 12, dims=1, dilations=[2], pads=[2, 2])
    h = net.op("MaxPool", h, kernel_shape=[2], strides=[2])
    w = net.weight("same.weight", 8, 12, 4, fan_in=48)
    h = net.op("Relu", net.op("Conv", h, w, at="same", auto_pad="SAME_UPPER", strides=[2]))
    return net.head(h, 8).model()


@quirk
def conv3d() -> onnx.ModelProto:
    """Conv3d with BatchNormalization and a 3-D average pool."""
    net = Net("conv3d")
    x = net.input("x", "N", 2, "D", 8, 8)
    h = net.conv_bn_relu(x, "block0", 2, 6, dims=3)
    h = net.op("AveragePool", h, kernel_shape=[1, 2, 2], strides=[1, 2, 2])
    h = net.conv_bn_relu(h, "block1", 6, 8, dims=3)
    return net.head(h, 8).model()


@quirk
def conv_grouped() -> onnx.ModelProto:
    """Grouped convolutions (group 2 and 4) between 1x1 convolutions, ResNeXt-like."""
    net = Net("conv_grouped")
    x = net.input("x", "N", 3, "H", "W")
    h = net.conv_bn_relu(x, "stem", 3, 8)
    h = net.conv_bn_relu(h, "grouped4", 8, 16, group=4)
    h = net.conv_bn_relu(h, "mix", 16, 12, 1)
    h = net.op("Relu", net.conv(h, "grouped2", 12, 8, group=2))
    return net.head(h, 8).model()


@quirk
def conv_depthwise() -> onnx.ModelProto:
    """Inverted residual with depthwise convolutions, multiplier 1 and 2, Relu6 as Clip."""
    net = Net("conv_depthwise")
    x = net.input("x", "N", 3, "H", "W")
    low, high = net.const("zero", 0, np.float32), net.const("six", 6, np.float32)
    stem = net.conv_bn_relu(x, "stem", 3, 8)
    h = net.op("Clip", net.bn(net.conv(stem, "expand", 8, 24, 1, bias=False), "bn1", 24), low, high)
    h = net.bn(net.conv(h, "depthwise", 24, 24, group=24, bias=False), "bn2", 24)
    h = net.conv(net.op("Clip", h, low, high), "project", 24, 8, 1)
    h = net.op("Add", stem, h)
    h = net.op("Relu", net.conv(h, "multiplier", 8, 16, group=8))
    return net.head(h, 16).model()


@quirk
def conv_transpose() -> onnx.ModelProto:
    """ConvTranspose, one plain with BatchNormalization and one grouped, into an image."""
    net = Net("conv_transpose")
    z = net.input("z", "N", 6, "H", "W")
    w1 = net.weight("up1.weight", 6, 12, 4, 4, fan_in=24)
    up: dict[str, Any] = {"kernel_shape": [4, 4], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    h = net.op("ConvTranspose", z, w1, at="up1", **up)
    h = net.op("Relu", net.bn(h, "up1.bn", 12))
    w2 = net.weight("up2.weight", 12, 4, 4, 4, fan_in=24)
    h = net.op("ConvTranspose", h, w2, net.draw("up2.bias", 8), at="up2", group=2, **up)
    y = net.op("Tanh", net.conv(net.op("Relu", h), "to_rgb", 8, 3))
    return net.output("image", y, "N", 3, "H4", "W4").model()


@quirk
def prelu() -> onnx.ModelProto:
    """PRelu with one slope per channel ([C,1,1] and [1,C,1,1]), with one for all, and on rank 2."""
    net = Net("prelu")
    x = net.input("x", "N", 3, "H", "W")
    h = net.conv(x, "conv1", 3, 8)
    h = net.op("PRelu", h, net.draw("act1.slope", 8, 1, 1, low=0.05, high=0.6))
    h = net.conv(h, "conv2", 8, 10)
    h = net.op("PRelu", h, net.draw("act2.slope", 1, 1, 1, low=0.05, high=0.6))
    h = net.conv(h, "conv3", 10, 12)
    h = net.op("PRelu", h, net.draw("act3.slope", 1, 12, 1, 1, low=0.05, high=0.6))
    h = net.gemm(net.op("Flatten", net.op("GlobalAveragePool", h)), "fc1", 12, 9)
    h = net.op("PRelu", h, net.draw("act4.slope", 9, low=0.05, high=0.6))
    return net.output("logits", net.gemm(h, "fc2", 9, 5), "N", 5).model()


@quirk
def instance_norm() -> onnx.ModelProto:
    """InstanceNormalization with its own scale and bias per channel."""
    net = Net("instance_norm")
    x = net.input("x", "N", 3, "H", "W")
    h, channels = x, 3
    for k, width in enumerate([8, 12]):
        h = net.conv(h, f"conv{k}", channels, width, bias=False)
        scale = net.draw(f"norm{k}.weight", width, low=0.5, high=1.5)
        h = net.op("InstanceNormalization", h, scale, net.draw(f"norm{k}.bias", width))
        h, channels = net.op("Relu", h), width
    return net.head(h, 12).model()


@quirk
def group_norm() -> onnx.ModelProto:
    """GroupNorm as Reshape, InstanceNormalization over the groups, Reshape, Mul and Add."""
    net = Net("group_norm")
    x = net.input("x", "N", 3, "H", "W")
    h = net.conv(x, "conv1", 3, 12)
    groups = net.op("Reshape", h, net.const("groups", [0, 4, -1]))
    ones, zeros = (
        net.const("ones", [1.0] * 4, np.float32),
        net.const("zeros", [0.0] * 4, np.float32),
    )
    groups = net.op("InstanceNormalization", groups, ones, zeros)
    h = net.op("Reshape", groups, net.op("Shape", h))
    h = net.op("Mul", h, net.draw("onnx::Mul_20", 12, 1, 1, low=0.5, high=1.5))
    h = net.op("Relu", net.op("Add", h, net.draw("onnx::Add_21", 12, 1, 1)))
    return net.head(net.conv(h, "conv2", 12, 8), 8).model()


@quirk
def squeeze_excite() -> onnx.ModelProto:
    """SE gates, one with 1x1 convolutions, one with Gemm behind Reshape; HardSigmoid and SiLU."""
    net = Net("squeeze_excite")
    x = net.input("x", "N", 3, "H", "W")
    h = net.conv_bn_relu(x, "stem", 3, 16)
    gate = net.op("ReduceMean", h, axes=[2, 3], keepdims=1)
    gate = net.op("Relu", net.conv(gate, "se1.fc1", 16, 4, 1))
    gate = net.op("HardSigmoid", net.conv(gate, "se1.fc2", 4, 16, 1), alpha=1 / 6)
    h = net.op("Mul", h, gate)
    h = net.conv(h, "conv2", 16, 12)
    h = net.op("Mul", h, net.op("Sigmoid", h))
    flat = net.op("Reshape", net.op("GlobalAveragePool", h), net.const("flat", [-1, 12]))
    gate = net.gemm(net.op("Relu", net.gemm(flat, "se2.fc1", 12, 5)), "se2.fc2", 5, 12)
    gate = net.op("Reshape", net.op("Sigmoid", gate), net.const("map", [-1, 12, 1, 1]))
    return net.head(net.op("Mul", gate, h), 12).model()


@quirk
def bn_anywhere() -> onnx.ModelProto:
    """BatchNormalization on the input, after Relu, Concat, Add, pooling and on rank 2."""
    net = Net("bn_anywhere")
    x = net.bn(net.input("x", "N", 3, "H", "W"), "bn_input", 3)
    a = net.bn(net.op("Relu", net.conv(x, "conv_a", 3, 6)), "bn_relu", 6)
    b = net.conv(x, "conv_b", 3, 4)
    h = net.op("Relu", net.bn(net.op("Concat", a, b, axis=1), "bn_concat", 10))
    h = net.op("Relu", net.bn(net.op("Add", h, net.conv(h, "conv_c", 10, 10)), "bn_add", 10))
    h = net.bn(net.op("MaxPool", h, kernel_shape=[2, 2], strides=[2, 2]), "bn_pool", 10)
    h = net.op("Flatten", net.op("GlobalAveragePool", net.conv(h, "conv_d", 10, 12)))
    h = net.op("Relu", net.bn(net.gemm(h, "fc1", 12, 14), "bn_gemm", 14))
    return net.output("logits", net.gemm(h, "fc2", 14, 5), "N", 5).model()


@quirk
def pools_and_reduces() -> onnx.ModelProto:
    """LpPool, AveragePool, GlobalMaxPool, ReduceMax and ReduceMean with and without kept axes."""
    net = Net("pools_and_reduces", opset=18)
    x = net.input("x", "N", 3, "H", "W")
    h = net.conv_bn_relu(x, "conv1", 3, 10)
    h = net.op("LpPool", h, kernel_shape=[2, 2], strides=[1, 1])
    h = net.op("AveragePool", h, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)
    h = net.conv_bn_relu(h, "conv2", 10, 12)
    space = net.const("space", [2, 3])
    parts = [
        net.op("ReduceMean", h, space, keepdims=0),
        net.op("ReduceMax", h, net.const("space_back", [-1, -2]), keepdims=0),
        net.op("Flatten", net.op("GlobalMaxPool", h)),
        net.op("Squeeze", net.op("ReduceL2", h, space), space),
    ]
    y = net.gemm(net.op("Concat", *parts, axis=1), "fc", 48, 5)
    return net.output("logits", y, "N", 5).model()


@quirk
def elementwise_chain() -> onnx.ModelProto:
    """Broadcasts with constants of every rank on either side, Where, Max, Pow, Erf, Clip, Not."""
    net = Net("elementwise_chain")
    x = net.input("x", "N", 3, "H", "W")
    h = net.conv(x, "conv1", 3, 8)
    h = net.op("Sub", net.draw("offset", 1, 8, 1, 1), h)
    h = net.op("Div", h, net.draw("scale", 8, 1, 1, low=0.5, high=2.0))
    h = net.op("Mul", h, net.const("half", 0.5, np.float32))
    h = net.op("Max", h, net.const("floor", [[[[-0.4]]]], np.float32), net.draw("floors", 8, 1, 1))
    gelu = net.op("Erf", net.op("Div", h, net.const("sqrt2", 2**0.5, np.float32)))
    h = net.op("Mul", h, net.op("Add", gelu, net.const("one", 1.0, np.float32)))
    low = net.op("Not", net.op("Less", h, net.draw("limit", 8, 1, 1)))
    h = net.op("Where", low, h, net.op("Neg", net.op("Abs", h)))
    h = net.op("Pow", h, net.const("two", 2.0, np.float32))
    h = net.op("HardSwish", net.op("Sqrt", net.op("Add", h, net.const("eps", [1e-3], np.float32))))
    return net.head(net.conv(h, "conv2", 8, 6), 6).model()


@quirk
def cnn_float16() -> onnx.ModelProto:
    """Weights and activations in float16, Conv, BatchNormalization, residual Add and Gemm."""
    return _typed_cnn("cnn_float16", np.float16)


@quirk
def cnn_bfloat16() -> onnx.ModelProto:
    """The same in bfloat16, which onnxruntime cannot run on a CPU."""
    return _typed_cnn("cnn_bfloat16", ml_dtypes.bfloat16, opset=22, ir=10)


def _typed_cnn(name: str, dtype: object, opset: int = 17, ir: int = 8) -> onnx.ModelProto:
    net = Net(name, opset, ir, dtype)
    x = net.input("x", "N", 3, "H", "W")
    h = net.conv_bn_relu(x, "conv1", 3, 8)
    h = net.op("Relu", net.op("Add", h, net.conv(h, "conv2", 8, 8)))
    return net.head(h, 8).model()


@quirk
def mlp_float64() -> onnx.ModelProto:
    """Weights and activations in float64: Gemm, BatchNormalization on rank 2, MatMul."""
    net = Net("mlp_float64", dtype=np.float64)
    x = net.input("x", "N", 10)
    h = net.op("Relu", net.bn(net.gemm(x, "fc1", 10, 16), "bn1", 16))
    w = net.weight("fc2.weight", 16, 12, fan_in=16)
    h = net.op("Tanh", net.op("Add", net.op("MatMul", h, w, at="fc2"), net.draw("fc2.bias", 12)))
    return net.output("y", net.gemm(h, "fc3", 12, 4), "N", 4).model()
