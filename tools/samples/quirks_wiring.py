"""Sample models, one per wiring: shared weights, residuals, dense blocks, attention."""

from __future__ import annotations

import numpy as np
import onnx

from tools.samples.graph_builder import Net, quirk, uniform


@quirk
def siamese() -> onnx.ModelProto:
    """Two inputs through the same weights, joined by Sub, Abs and Concat."""
    net = Net("siamese")
    towers = []
    for side in ("left", "right"):
        h = net.input(side, "N", 3, "H", "W")
        h = net.op("Relu", net.conv(h, "conv1", 3, 8))
        h = net.op("Relu", net.conv(h, "conv2", 8, 10))
        towers.append(net.gemm(net.op("Flatten", net.op("GlobalAveragePool", h)), "embed", 10, 12))
    gap = net.op("Abs", net.op("Sub", *towers))
    h = net.op("Concat", gap, net.op("Mul", *towers), axis=1)
    return net.output("score", net.op("Sigmoid", net.gemm(h, "score", 24, 1)), "N", 1).model()


@quirk
def recurrent_conv() -> onnx.ModelProto:
    """One Conv weight used three times in a row: its input and output axis are the same axis."""
    net = Net("recurrent_conv")
    x = net.input("x", "N", 3, "H", "W")
    h = net.conv_bn_relu(x, "stem", 3, 8)
    for _ in range(3):
        h = net.op("Add", net.op("Tanh", net.conv(h, "cell", 8, 8)), h)
    return net.head(h, 8).model()


@quirk
def residual_stage() -> onnx.ModelProto:
    """Two stages of basic blocks with a strided 1x1 shortcut: one width for a whole stage."""
    net = Net("residual_stage")
    h = net.conv_bn_relu(net.input("x", "N", 3, "H", "W"), "stem", 3, 8)
    channels = 8
    for k, (width, stride) in enumerate([(8, 1), (8, 1), (12, 2), (12, 1)]):
        at = f"layer{1 + k // 2}.{k % 2}"
        y = net.conv_bn_relu(h, f"{at}.a", channels, width, strides=[stride, stride])
        y = net.bn(net.conv(y, f"{at}.conv2", width, width, bias=False), f"{at}.bn2", width)
        if channels != width:
            h = net.conv(
                h, f"{at}.downsample.0", channels, width, 1, bias=False, strides=[stride] * 2
            )
            h = net.bn(h, f"{at}.downsample.1", width)
        h, channels = net.op("Relu", net.op("Add", y, h), at=at.replace(".", "/")), width
    return net.head(h, 12).model()


@quirk
def dense_block() -> onnx.ModelProto:
    """DenseNet block: growing Concats, BN and Relu before each Conv."""
    net = Net("dense_block")
    parts = [net.conv(net.input("x", "N", 3, "H", "W"), "conv0", 3, 8, bias=False)]
    for k in range(3):
        width = 8 + 4 * k
        h = net.op("Concat", *parts, axis=1) if k else parts[0]
        h = net.op("Relu", net.bn(h, f"denselayer{k}.norm1", width))
        h = net.conv_bn_relu(h, f"denselayer{k}", width, 6, 1)
        parts.append(net.conv(h, f"denselayer{k}.conv2", 6, 4, bias=False))
    h = net.op("Relu", net.bn(net.op("Concat", *parts, axis=1), "norm5", 20))
    h = net.op(
        "AveragePool", net.conv(h, "transition", 20, 10, 1), kernel_shape=[2, 2], strides=[2, 2]
    )
    return net.head(h, 10).model()


@quirk
def two_outputs() -> onnx.ModelProto:
    """Two outputs, one of them an inner feature map whose width is the model's own interface."""
    net = Net("two_outputs")
    x = net.input("x", "N", 3, "H", "W")
    features = net.conv_bn_relu(net.conv_bn_relu(x, "conv1", 3, 8), "conv2", 8, 6)
    net.output("features", features, "N", 6, "H", "W")
    return net.head(net.conv_bn_relu(features, "conv3", 6, 10), 10).model()


@quirk
def transformer_block() -> onnx.ModelProto:
    """A transformer block on an embedding: LayerNormalization, Softmax attention, two residuals."""
    net = Net("transformer_block")
    tokens = net.input("tokens", "N", "S", kind=onnx.TensorProto.INT64)
    h = net.op("Gather", net.draw("embed.weight", 20, 16, low=-1, high=1), tokens, at="embed")

    def linear(x: str, at: str, a: int, b: int) -> str:
        y = net.op("MatMul", x, net.weight(f"{at}.weight", a, b, fan_in=2 * a), at=at)
        result: str = net.op("Add", net.draw(f"{at}.bias", b), y, at=at)
        return result

    def norm(x: str, at: str) -> str:
        scale, bias = net.draw(f"{at}.weight", 16, low=0.5, high=1.5), net.draw(f"{at}.bias", 16)
        result: str = net.op("LayerNormalization", x, scale, bias, at=at, axis=-1)
        return result

    x = norm(h, "norm1")
    heads = net.const("heads", [0, 0, 2, 8])
    q, k, v = (net.op("Reshape", linear(x, name, 16, 16), heads) for name in "qkv")
    q, v = (net.op("Transpose", t, perm=[0, 2, 1, 3]) for t in (q, v))
    scores = net.op("MatMul", q, net.op("Transpose", k, perm=[0, 2, 3, 1]))
    scores = net.op("Mul", scores, net.const("scale", 8**-0.5, np.float32))
    mixed = net.op("MatMul", net.op("Softmax", scores, axis=-1), v)
    mixed = net.op("Transpose", mixed, perm=[0, 2, 1, 3])
    mixed = net.op("Reshape", mixed, net.const("join", [0, 0, 16]))
    h = net.op("Add", h, linear(mixed, "out", 16, 16))
    y = net.op("Relu", linear(norm(h, "norm2"), "ff1", 16, 24))
    h = norm(net.op("Add", h, linear(y, "ff2", 24, 16)), "norm3")
    return net.output("logits", linear(h, "head", 16, 20), "N", "S", 20).model()


@quirk
def packed_qkv() -> onnx.ModelProto:
    """Self-attention with queries, keys and values in one MatMul; the scale comes from a shape."""
    net = Net("packed_qkv")
    x = net.input("x", "N", "S", 12)
    packed = net.op("MatMul", x, net.weight("qkv.weight", 12, 36, fan_in=24), at="qkv")
    packed = net.op("Add", net.draw("qkv.bias", 36), packed, at="qkv")
    q, k, v = net.op("Split", packed, net.const("parts", [12, 12, 12]), n=3, axis=-1)
    heads = net.const("heads", [0, 0, 3, 4])
    q, k, v = (net.op("Reshape", t, heads) for t in (q, k, v))
    width = net.op("Gather", net.op("Shape", q), net.const("last", -1))
    scale = net.op("Sqrt", net.op("Cast", width, to=onnx.TensorProto.FLOAT))
    q, v = (net.op("Transpose", t, perm=[0, 2, 1, 3]) for t in (q, v))
    scores = net.op("MatMul", q, net.op("Transpose", k, perm=[0, 2, 3, 1]))
    mixed = net.op("MatMul", net.op("Softmax", net.op("Div", scores, scale), axis=-1), v)
    mixed = net.op("Transpose", mixed, perm=[0, 2, 1, 3])
    mixed = net.op("Reshape", mixed, net.const("join", [0, 0, 12]))
    y = net.op("MatMul", mixed, net.weight("out.weight", 12, 5, fan_in=12), at="out")
    return net.output("y", y, "N", "S", 5).model()


@quirk
def dft_front_end() -> onnx.ModelProto:
    """A fixed Conv filter bank as front end (as in speech models), Mul, Log, then a Conv."""
    net = Net("dft_front_end")
    x = net.input("x", "N", 1, "T")
    bank = uniform("dft_front_end/phase", (12, 1, 1), 0.0, 6.28)
    angle = 2 * np.pi * np.arange(1, 13).reshape(12, 1, 1) * np.arange(16) / 32 + bank
    w = net.const("filters", np.round(np.cos(angle), 6), np.float32)
    h = net.op("Conv", x, w, at="stft", strides=[4], kernel_shape=[16])
    power = net.op("Add", net.op("Mul", h, h), net.const("eps", 1e-3, np.float32))
    h = net.conv_bn_relu(net.op("Log", power), "conv1", 12, 10, dims=1)
    return net.head(h, 10).model()
